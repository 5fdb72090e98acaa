//! Every xDS resource in the golden files of Consul, Kuma, Envoy Gateway, Istio and Envoy, translated as if a control
//! plane had sent it, with the verdict of Envoy 1.40 beside ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use millrace_observe::stats::Registry;
use millrace_proto::schema::Message;
use millrace_proto::{Format, LoadOptions, bootstrap_from_text, message_from_json, yaml};
use millrace_translate::{Context, Overrides, Rejection, RejectionKind, resource};

use crate::bootstrap::general;
use crate::resource_exceptions::{ACCEPTED, EXCEPTIONS, Exception};
use millrace_conformance::corpora;
use millrace_conformance::oracle::{Judged, files, judged, scenario};
use millrace_conformance::resource_files::{Found, resources};
use millrace_conformance::table::{self, Case, Wanted};

#[derive(Default)]
struct Counts {
    accepted: usize,
    invalid: usize,
    unreadable: usize,
    not_served: BTreeMap<String, usize>,
}

impl Counts {
    fn add(&mut self, verdict: &Result<(), Refusal>) {
        match verdict {
            Ok(()) => self.accepted += 1,
            Err(Refusal::Unreadable(why)) => {
                self.unreadable += 1;
                assert!(!why.is_empty(), "a reason");
            }
            Err(Refusal::Rejected(rejection)) => match rejection.kind {
                RejectionKind::Invalid => self.invalid += 1,
                RejectionKind::NotServed => {
                    *self.not_served.entry(general(&rejection.reason)).or_default() += 1;
                }
            },
        }
    }

    /// One line per outcome; `verdicts/resources.tsv` keeps them.
    fn cases(&self, plane: &str) -> Vec<Case> {
        let line = |what: &str, count: usize| {
            println!("{count:5} {plane}: {what}");
            Case::judged(format!("{plane}: {what}"), count.to_string(), true, Wanted::Either)
        };
        let mut cases = vec![
            line("accepted", self.accepted),
            line("invalid", self.invalid),
            line("with a type that no schema here has", self.unreadable),
        ];
        cases.extend(self.not_served.iter().map(|(reason, count)| line(reason, *count)));
        cases
    }
}

#[derive(Debug)]
enum Refusal {
    /// JSON that is no such message, in our schema.
    Unreadable(String),
    Rejected(Rejection),
}

fn context() -> Context {
    Context::new(Registry::new(), Overrides::default())
}

/// `complete` is false when clusters of the scenario are missing here, so that unknown ones are taken to exist.
fn verdict(found: &Found, cx: &mut Context, complete: bool) -> Result<(), Refusal> {
    let bytes = found.bytes.as_ref().map_err(|error| Refusal::Unreadable(error.clone()))?;
    loop {
        let rejection = match translate(found, bytes, cx) {
            Ok(()) => return Ok(()),
            Err(rejection) => rejection,
        };
        assert!(!rejection.to_string().contains('\n'), "one line: {rejection}");
        let unknown =
            rejection.reason.strip_prefix("route: unknown ").and_then(|rest| rest.split('\'').nth(1));
        match unknown.filter(|_| !complete) {
            Some(name) => cx.cluster_added(&name.into()),
            None => return Err(Refusal::Rejected(rejection)),
        }
    }
}

fn translate(found: &Found, bytes: &[u8], cx: &mut Context) -> Result<(), Rejection> {
    match found.type_url {
        resource::CLUSTER => resource::cluster(bytes, None, cx).map(drop),
        resource::LISTENER => resource::listener(bytes, None, cx).map(drop),
        resource::ROUTE_CONFIGURATION => resource::route_configuration(bytes, cx).map(drop),
        _ => {
            let cluster =
                resource::cluster(&eds_cluster(&found.name), None, cx).expect("an EDS cluster").value;
            resource::load_assignment(bytes, &cluster, cx).map(drop)
        }
    }
}

fn eds_cluster(service: &str) -> Vec<u8> {
    let mut tree =
        yaml::parse("{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}").expect("YAML");
    tree["eds_cluster_config"]["service_name"] = service.into();
    message_from_json(Message::by_type_url(resource::CLUSTER).expect("clusters"), &tree).expect("a cluster")
}

/// Names of the clusters of every scenario of a corpus.
fn scenarios(root: &Path, rows: &[Judged]) -> BTreeMap<String, BTreeSet<String>> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let names = resources(&root.join(&row.file)).into_iter();
        let names = names.filter(|found| found.type_url == resource::CLUSTER).map(|found| found.name);
        known.entry(scenario(&row.file).to_owned()).or_default().extend(names);
    }
    known
}

impl Refusal {
    /// True when we say that the resource is wrong, as opposed to not served. A type that no schema here has belongs to
    /// an extension of the control plane's own build of Envoy.
    fn is_invalid(&self) -> bool {
        match self {
            Self::Unreadable(why) => !why.contains("could not find @type"),
            Self::Rejected(rejection) => rejection.kind == RejectionKind::Invalid,
        }
    }
}

/// The verdicts of one file, counted.
fn judge(
    path: &Path,
    known: &BTreeSet<String>,
    complete: bool,
    counts: &mut Counts,
) -> Vec<(String, Refusal)> {
    let mut cx = context();
    // Sources may name clusters of the bootstrap, where there is one.
    let bootstrap = path.to_string_lossy().replace("config_dump", "bootstrap");
    if let Some(text) = std::fs::read(&bootstrap).ok().filter(|_| *bootstrap != *path.to_string_lossy()) {
        let parsed = bootstrap_from_text(Format::Json, &text, &LoadOptions::default()).expect("a bootstrap");
        millrace_translate::bootstrap(&parsed.bytes, &mut cx).expect("a bootstrap that is served");
    }
    known.iter().for_each(|name| cx.cluster_added(&name.as_str().into()));
    let mut refused = Vec::new();
    for found in resources(path) {
        let verdict = verdict(&found, &mut cx, complete);
        counts.add(&verdict);
        if let Err(refusal) = verdict {
            refused.push((found.name, refusal));
        }
    }
    refused
}

#[test]
fn resources_of_control_planes_agree_with_envoy() {
    let Some(root) = corpora() else { return };
    let (mut disagreements, mut cases) = (Vec::new(), Vec::new());
    let mut excepted: BTreeSet<&Exception> = BTreeSet::new();
    for corpus in ["consul", "kuma", "gateway", "envoy"] {
        let rows = judged(&root, corpus);
        let known = scenarios(&root, &rows);
        let mut counts = Counts::default();
        // Scenarios that Envoy refuses: whether we refuse one of their resources.
        let mut refused_by_envoy: BTreeMap<&str, bool> = BTreeMap::new();
        for row in &rows {
            let names = &known[scenario(&row.file)];
            let refused = judge(&root.join(&row.file), names, names.len() >= row.clusters, &mut counts);
            if !row.accepted {
                *refused_by_envoy.entry(scenario(&row.file)).or_default() |= !refused.is_empty();
            } else {
                for (name, refusal) in refused {
                    let wrong = refusal.is_invalid();
                    let exception =
                        EXCEPTIONS.iter().find(|e| row.file.contains(e.file) && e.resource == name);
                    match (wrong, exception) {
                        (true, None) => disagreements.push(format!("{} {name}: {refusal:?}", row.file)),
                        (true, Some(exception)) => _ = excepted.insert(exception),
                        (false, _) => {}
                    }
                }
            }
        }
        cases.extend(counts.cases(corpus));
        for (scenario, _) in refused_by_envoy.iter().filter(|(_, refused)| !**refused) {
            match ACCEPTED.iter().find(|accepted| accepted.scenario == *scenario) {
                None => disagreements.push(format!("{corpus}: {scenario} is refused by Envoy, not by us")),
                Some(accepted) => println!("excepted: {corpus} {scenario}: {}", accepted.why),
            }
        }
    }
    disagreements.extend(istio(&root, &mut cases));
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    table::check("resources", &cases);
    assert_eq!(excepted.len(), EXCEPTIONS.len(), "an exception is not needed any more");
}

/// Istio's goldens have no oracle; Envoy runs with all of them, so that none may be called wrong; these are
/// the ones that are.
fn istio(root: &Path, cases: &mut Vec<Case>) -> Vec<String> {
    let (mut counts, mut wrong) = (Counts::default(), Vec::new());
    for folder in ["istio/pilot/pkg/xds/testdata", "istio/istioctl", "envoy/transcripts"] {
        files(&root.join(folder), &mut |path| {
            // These dumps hold resources that the scripted server broke on purpose.
            if path.to_string_lossy().contains("failures") {
                return;
            }
            for (name, refusal) in judge(path, &BTreeSet::new(), false, &mut counts) {
                // Dumps print the weight of a locality that has none as 0, which no control plane may send.
                let printed =
                    matches!(&refusal, Refusal::Rejected(r) if r.path.ends_with("].load_balancing_weight"));
                // A dump holds its bootstrap, where this cluster stands, beside the resources.
                let elsewhere =
                    matches!(&refusal, Refusal::Rejected(r) if r.reason.contains("cluster: 'sds-grpc'"));
                let excused = (printed || elsewhere) && path.to_string_lossy().contains("dump");
                if refusal.is_invalid() && !excused {
                    wrong.push(format!("{} {name}: {refusal:?}", path.display()));
                }
            }
        });
    }
    cases.extend(counts.cases("istio"));
    wrong
}

#[test]
fn the_document_has_the_counts() {
    let read = |path: &str| {
        std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")))
            .expect("a file of the repository")
    };
    let mut planes: Vec<(String, [u64; 3])> = Vec::new();
    for line in read("verdicts/resources.tsv").lines() {
        let (plane, rest) = line.split_once(": ").expect("a plane");
        let mut columns = rest.split('\t');
        let what = columns.next().unwrap_or_default();
        let count: u64 = columns.next().and_then(|n| n.parse().ok()).expect("a count");
        if planes.last().is_none_or(|(name, _)| name != plane) {
            planes.push((plane.to_owned(), [0; 3]));
        }
        let column = match what {
            "accepted" => 0,
            "invalid" | "with a type that no schema here has" => 2,
            _ => 1,
        };
        planes.last_mut().expect("pushed above").1[column] += count;
    }
    let document = read("../../docs/configuration.md");
    assert_eq!(planes.len(), 5);
    for (plane, [accepted, not_served, refused]) in planes {
        let row = format!("| {plane} | {accepted} | {not_served} | {refused} |");
        assert!(document.contains(&row), "docs/configuration.md lacks: {row}");
    }
}
