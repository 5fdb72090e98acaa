//! The golden files of Consul, Kuma, Envoy Gateway, Istio and Envoy, sent to one proxy scenario after scenario: what it
//! accepts, refuses and has in force is what translation says of each resource, and what Envoy says of the whole where
//! this build has all that it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use millrace_conformance::corpora;
use millrace_e2e::{Case, case};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Options, Type};
use millrace_xds_tests::corpora::{Batch, JUDGED, Verdicts, judge, of_corpus, of_istio};
use millrace_xds_tests::dump;

pub(crate) const CASES: &[Case] = &[
    case!(in_state_of_the_world, not_envoy: "compared with our own translation"),
    case!(in_delta, not_envoy: "compared with our own translation"),
];

const KINDS: [Type; 4] = [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route];

fn in_state_of_the_world(subject: &Subject) {
    replay(subject, Flavor::AdsSotw);
}

fn in_delta(subject: &Subject) {
    replay(subject, Flavor::AdsDelta);
}

/// Golden files with placeholders where certificates stand; they were judged by Envoy with real ones.
const PLACEHOLDERS: [&str; 3] = ["kuma/2-envoy-config#0", "kuma/cluster-add#0", "kuma/label-scope#0"];

/// What came of one corpus.
#[derive(Default)]
struct Counts {
    batches: usize,
    accepted: BTreeMap<Type, usize>,
    refused: BTreeMap<Type, usize>,
    not_asked: usize,
    unsendable: usize,
    as_envoy: usize,
    lacking: usize,
}

impl Counts {
    fn add(&mut self, batch: &Batch, verdicts: &Verdicts) {
        self.batches += 1;
        self.unsendable += batch.unsendable;
        for key in &batch.original {
            match verdicts.expected.get(key) {
                Some(Ok(())) => *self.accepted.entry(key.0).or_default() += 1,
                Some(Err(_)) => *self.refused.entry(key.0).or_default() += 1,
                None => self.not_asked += 1,
            }
        }
        match batch.envoy {
            Some(_) if verdicts.lacks() || batch.unsendable > 0 => self.lacking += 1,
            Some(_) => self.as_envoy += 1,
            None => {}
        }
    }

    fn print(&self, corpus: &str, flavor: Flavor) {
        println!(
            "{corpus} over {flavor:?}: {} batches; accepted {:?}; refused {:?}; nobody asks for {}; unsendable {}; \
             {} batches as Envoy, {} ask for what this build lacks",
            self.batches,
            self.accepted,
            self.refused,
            self.not_asked,
            self.unsendable,
            self.as_envoy,
            self.lacking
        );
    }
}

fn replay(subject: &Subject, flavor: Flavor) {
    let Some(root) = corpora() else { return };
    let plane = ControlPlane::start(Options::default());
    let bootstrap = yaml::bootstrap(&plane, flavor);
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "1", "--drain-time-s", "0"]);
    let text = bootstrap.yaml();
    let mut complaints = Vec::new();
    let every = JUDGED.into_iter().chain(["istio"]);
    for corpus in every {
        let mut counts = Counts::default();
        for mut batch in batches(&root, corpus) {
            let verdicts = judge(&mut batch, &text);
            counts.add(&batch, &verdicts);
            complaints.extend(
                send(&plane, &proxy, &batch, &verdicts).into_iter().map(|c| format!("{}: {c}", batch.id)),
            );
        }
        assert!(counts.batches > 0, "{corpus} is empty");
        counts.print(corpus, flavor);
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn batches(root: &Path, corpus: &str) -> Vec<Batch> {
    if corpus == "istio" { of_istio(root) } else { of_corpus(root, corpus) }
}

/// Sends a batch to a proxy that has nothing, judges what comes of it, and takes it away again.
fn send(plane: &ControlPlane, proxy: &Proxy, batch: &Batch, verdicts: &Verdicts) -> Vec<String> {
    let mark = plane.mark();
    plane.update(|change| {
        for resource in batch.resources.values() {
            change.set(resource.clone());
        }
    });
    let mut complaints = Vec::new();
    if wait::until(wait::PATIENCE, || settled(plane, mark, verdicts).then_some(())).is_none() {
        complaints.push(format!("not all was answered\n{}", plane.transcript(mark)));
    }
    let refused = KINDS.into_iter().any(|ty| !refusals(plane, mark, ty).is_empty());
    for ty in KINDS {
        complaints.extend(compare(&refusals(plane, mark, ty), ty, verdicts));
    }
    complaints.extend(in_force(proxy, verdicts));
    let comparable = !verdicts.lacks() && batch.unsendable == 0 && !PLACEHOLDERS.contains(&&*batch.id);
    if let Some(accepted) = batch.envoy.filter(|_| comparable)
        && accepted == refused
    {
        complaints.push(format!("Envoy accepts: {accepted}, we refuse: {refused}"));
    }
    let mark = plane.mark();
    plane.update(|change| {
        for ty in KINDS {
            change.clear(ty);
        }
    });
    let nothing = Verdicts::default();
    let gone = || (settled(plane, mark, &nothing) && in_force(proxy, &nothing).is_empty()).then_some(());
    if wait::until(wait::PATIENCE, gone).is_none() {
        complaints.push(format!(
            "not all of it went: {:?}\n{}",
            in_force(proxy, &nothing),
            plane.transcript(mark)
        ));
    }
    complaints
}

/// True when all that is expected was sent, and all that was sent was answered.
fn settled(plane: &ControlPlane, mark: usize, verdicts: &Verdicts) -> bool {
    let (mut sent, mut open) = (BTreeSet::new(), BTreeSet::new());
    for entry in plane.record_since(mark) {
        if let Some(response) = entry.response() {
            open.insert(response.nonce.clone());
            sent.extend(
                response.ty.into_iter().flat_map(|ty| response.names.iter().map(move |n| (ty, n.clone()))),
            );
        }
        if let Some(request) = entry.request().filter(|r| r.is_ack() || r.is_nack()) {
            open.remove(&request.nonce);
        }
    }
    open.is_empty() && verdicts.expected.keys().all(|key| sent.contains(key))
}

/// The texts of all refusals of a kind.
fn refusals(plane: &ControlPlane, mark: usize, ty: Type) -> String {
    let nacks = plane.requests_since(mark).into_iter().filter(|r| r.is(ty) && r.is_nack());
    nacks.map(|r| r.reason().to_owned()).collect::<Vec<_>>().join("\n")
}

/// The refusals name exactly what is to be refused, each with its reason.
fn compare(text: &str, ty: Type, verdicts: &Verdicts) -> Vec<String> {
    let mut complaints = Vec::new();
    // A text has a bound; what is behind it shows in the dump only.
    let cut = text.contains("... and ");
    for (name, rejection) in verdicts.refused(ty) {
        let reason: String = rejection.to_string().chars().take(200).collect();
        if !cut && !text.contains(&format!("{name}: {reason}")) {
            complaints.push(format!("{ty:?} {name} is to be refused ({reason}), not: {text}"));
        }
    }
    if verdicts.refused(ty).next().is_none() && !text.is_empty() {
        complaints.push(format!("{ty:?} is to be accepted: {text}"));
    }
    complaints
}

/// Exactly the accepted clusters and listeners are in force, and at least the accepted route tables: those of listeners
/// that drain stay for a while.
fn in_force(proxy: &Proxy, verdicts: &Verdicts) -> Vec<String> {
    let mut complaints = Vec::new();
    let clusters = names(proxy, "ClustersConfigDump", "dynamic_active_clusters", "/cluster/name");
    let listeners = names(proxy, "ListenersConfigDump", "dynamic_listeners", "/active_state/listener/name");
    for (ty, found) in [(Type::Cluster, clusters), (Type::Listener, listeners)] {
        let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        let wanted = verdicts.accepted(ty);
        if found != wanted {
            let (more, less) = (found.difference(&wanted), wanted.difference(&found));
            complaints.push(format!(
                "{ty:?} in force besides {:?}, not in force {:?}",
                more.collect::<Vec<_>>(),
                less.collect::<Vec<_>>()
            ));
        }
    }
    let tables = names(proxy, "RoutesConfigDump", "dynamic_route_configs", "/route_config/name");
    for name in verdicts.accepted(Type::Route) {
        if !tables.contains(name) {
            complaints.push(format!("the route table {name} is not in force"));
        }
    }
    complaints
}

fn names(proxy: &Proxy, section: &str, list: &str, pointer: &str) -> BTreeSet<String> {
    let dumped = dump(proxy, section);
    let found = dumped[list].as_array().into_iter().flatten();
    found.filter_map(|v| v.pointer(pointer)?.as_str()).map(str::to_owned).collect()
}
