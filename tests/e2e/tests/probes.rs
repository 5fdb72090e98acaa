//! Corpora of malformed and ambiguous requests, sent through the proxy to the strict upstream: nothing
//! ambiguous may reach it, and what must be rejected is rejected.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use serde_json::Value;

pub(crate) const CASES: &[Case] = &[
    case!(http11probe_forwards_nothing_ambiguous),
    case!(http11probe_rejects_what_must_be_rejected, not_envoy: "Envoy accepts some of these leniently"),
    case!(smuggler_forwards_nothing_ambiguous),
    case!(seeds_forward_nothing_ambiguous),
];

/// Rejected by an origin only, or about responses: a proxy that forwards these is right.
const NOT_FOR_PROXIES: &[&str] = &[
    "COMP-NO-CL-IN-204",
    "COMP-POST-CL-UNDERSEND",
    "COMP-UPGRADE-HTTP10",
    "COMP-UPGRADE-MISSING-CONN",
    "COMP-UPGRADE-UNKNOWN",
];

/// Rules of the strict upstream that Envoy 1.40 breaks when it forwards: it joins repeated hosts with
/// commas, passes empty hosts and user information, leading zeros of a length, and raw bytes in a
/// target. millrace must not.
const ENVOY_BREAKS: &[&str] = &["host \"", "content-length \"0", "target has forbidden bytes"];

struct Probe {
    id: String,
    steps: Vec<Vec<u8>>,
    must_reject: bool,
}

/// The folder of the corpora beside the repository; `None`, with a line, when it is not there.
fn corpus(path: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/http1").join(path);
    if !folder.exists() {
        assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{} is absent", folder.display());
        println!("0 cases of {path}: the corpus is absent");
        return None;
    }
    Some(folder)
}

fn json_lines(path: &str) -> Vec<Probe> {
    let text = corpus(path).map_or(String::new(), |p| std::fs::read_to_string(p).unwrap_or_default());
    text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).map(|case| probe(&case)).collect()
}

fn probe(case: &Value) -> Probe {
    let id = case["id"].as_str().unwrap_or("?").to_owned();
    let steps = case["steps"].as_array().map_or(Vec::new(), |steps| {
        steps.iter().filter_map(Value::as_str).map(|s| s.chars().map(|c| c as u8).collect()).collect()
    });
    let must_reject = case["level"] == "Must"
        && case["scored"] == true
        && case["may_accept"] == false
        && !NOT_FOR_PROXIES.contains(&id.as_str());
    Probe { id, steps, must_reject }
}

fn seeds(path: &str) -> Vec<Probe> {
    let Some(folder) = corpus(path) else { return Vec::new() };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_or(Vec::new(), |d| d.filter_map(|e| e.ok().map(|e| e.path())).collect());
    files.sort();
    files
        .into_iter()
        .filter_map(|f| {
            let id = f.file_name()?.to_string_lossy().into_owned();
            Some(Probe { id, steps: vec![std::fs::read(&f).ok()?], must_reject: false })
        })
        .collect()
}

/// What came back for a probe: the bytes, and the ids whose requests broke the upstream's grammar.
struct Outcome {
    id: String,
    answer: Vec<u8>,
    must_reject: bool,
    violations: Vec<String>,
}

/// Each worker has a proxy and an upstream of its own, so that a violation belongs to one probe.
fn send_all(subject: &Subject, probes: &[Probe]) -> Vec<Outcome> {
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let upstream = Upstream::fixed("reached the upstream");
                let http = Http::to("up").without_log();
                let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
                let proxy = Proxy::start(subject, &bootstrap);
                let target = proxy.listener("main");
                let mut known = 0;
                while let Some(probe) = probes.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let answer = send(target, probe);
                    let all = upstream.violations();
                    let violations = all[known..]
                        .iter()
                        .map(|v| format!("{}: {:?}", v.rule, String::from_utf8_lossy(&v.bytes)))
                        .collect();
                    known = all.len();
                    let outcome =
                        Outcome { id: probe.id.clone(), answer, must_reject: probe.must_reject, violations };
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
                assert_eq!(proxy.admin_get("/ready").status, 200);
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn send(target: std::net::SocketAddr, probe: &Probe) -> Vec<u8> {
    let mut client = Client::connect(target);
    let mut answer = Vec::new();
    for step in &probe.steps {
        if client.try_send(step).is_err() {
            break;
        }
        while let Ok(bytes) = read_for(&mut client, Duration::from_millis(120)) {
            if bytes.is_empty() {
                return answer;
            }
            answer.extend(bytes);
        }
    }
    answer
}

fn read_for(client: &mut Client, limit: Duration) -> Result<Vec<u8>, End> {
    // A failing option shows as a slow test.
    let _ = client.wire().stream().set_read_timeout(Some(limit));
    client.wire().some().map_err(|_| End::Open)
}

fn assert_none_ambiguous(subject: &Subject, outcomes: &[Outcome]) {
    let excused = |rule: &String| subject.is_envoy() && ENVOY_BREAKS.iter().any(|r| rule.starts_with(r));
    let forwarded: Vec<String> = outcomes
        .iter()
        .flat_map(|o| o.violations.iter().filter(|v| !excused(v)).map(move |v| format!("{}: {v}", o.id)))
        .collect();
    println!("{} cases sent", outcomes.len());
    assert!(forwarded.is_empty(), "reached the upstream: {forwarded:#?}");
}

fn http11probe_forwards_nothing_ambiguous(subject: &Subject) {
    assert_none_ambiguous(subject, &send_all(subject, &json_lines("http11probe/cases.jsonl")));
}

fn smuggler_forwards_nothing_ambiguous(subject: &Subject) {
    assert_none_ambiguous(subject, &send_all(subject, &json_lines("smuggler-te/gadgets.jsonl")));
}

fn seeds_forward_nothing_ambiguous(subject: &Subject) {
    assert_none_ambiguous(subject, &send_all(subject, &seeds("h2o")));
}

fn http11probe_rejects_what_must_be_rejected(subject: &Subject) {
    let outcomes = send_all(subject, &json_lines("http11probe/cases.jsonl"));
    let accepted: Vec<&str> = outcomes
        .iter()
        .filter(|o| {
            o.must_reject && (o.answer.starts_with(b"HTTP/1.1 2") || o.answer.starts_with(b"HTTP/1.1 1"))
        })
        .map(|o| o.id.as_str())
        .collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}
