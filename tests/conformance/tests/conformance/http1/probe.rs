//! http11probe and the Transfer-Encoding gadgets of smuggler: JSON lines with the bytes of each step.

use millrace_conformance::corpus;
use millrace_conformance::table::{Case, Wanted, check};
use millrace_http::h1::ParseOptions;
use serde_json::Value;

use super::{exchange, oracle};

/// Bytes above 0x7f stand in the corpus as the code points of Latin-1.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// A step is text, or a long text as `{pre, unit, count, post}`.
fn step(step: &Value) -> Vec<u8> {
    let part = |name: &str| latin1(step[name].as_str().unwrap_or_default());
    match (step.as_str(), step["count"].as_u64()) {
        (Some(text), _) => latin1(text),
        (None, Some(count)) => [part("pre"), part("unit").repeat(count as usize), part("post")].concat(),
        (None, None) => unreachable!("neither text nor a repetition: {step}"),
    }
}

fn replay(file: &str, table: &str, wanted: fn(&Value) -> Wanted) {
    let Some(path) = corpus(file) else { return };
    let text = std::fs::read_to_string(path).expect("the corpus is readable");
    let mut forwarded = 0;
    let cases: Vec<Case> = text
        .lines()
        .map(|line| {
            let case: Value = serde_json::from_str(line).expect("a JSON line");
            let id = case["id"].as_str().expect("an id").to_owned();
            let steps = case["steps"].as_array().expect("steps");
            let bytes: Vec<u8> = steps.iter().flat_map(step).collect();
            let outcome = exchange::requests(&bytes, &ParseOptions::default());
            for (wire, _) in &outcome.forwarded {
                oracle::unambiguous(&id, wire);
                forwarded += 1;
            }
            Case::judged(id, outcome.verdict(), outcome.good(), wanted(&case))
        })
        .collect();
    println!("{table}: {} cases, {forwarded} forwarded requests", check(table, &cases));
}

#[test]
fn http11probe() {
    replay("http1/http11probe/cases.jsonl", "http11probe", |case| {
        let expected = case["expected"].as_str().unwrap_or_default();
        let rejects =
            ["400", "405", "431", "501", "close", "Reject", "!101"].iter().any(|s| expected.contains(s));
        match (rejects, case["may_accept"] == true) {
            (true, true) => Wanted::Either,
            (true, false) => Wanted::Reject,
            (false, _) => Wanted::Accept,
        }
    });
}

#[test]
fn smuggler_te() {
    // Each gadget comes with a Content-Length: whoever accepts it has to be right about one of the two.
    replay("http1/smuggler-te/gadgets.jsonl", "smuggler-te", |_| Wanted::Reject);
}
