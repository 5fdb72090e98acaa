//! llhttp's Markdown cases: fenced `http` input, fenced `log` with the events or the error that llhttp reports.

use std::path::Path;

use millrace_conformance::corpus;
use millrace_conformance::table::{Case, Wanted, check};
use millrace_http::h1::{ParseOptions, RequestInfo};

use super::exchange::Outcome;
use super::{exchange, oracle};

struct Example {
    id: String,
    kind: String,
    input: Vec<u8>,
    fails: bool,
    /// llhttp saw the end of the last message.
    complete: bool,
}

/// Undoes the notation: lines end in CRLF, a backslash at a line's end joins lines, `\r \n \t \f \xHH` are bytes.
fn unescape(text: &str) -> Vec<u8> {
    let text = text.replace("\\\n", "").replace('\n', "\r\n");
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let (byte, used) = match (first, after) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'f', ..]) => (0x0c, 2),
            (b'\\', [b'x', a, b, ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                let digit = |d: u8| (d as char).to_digit(16).unwrap_or(0) as u8;
                (digit(*a) << 4 | digit(*b), 4)
            }
            _ => (*first, 1),
        };
        out.push(byte);
        rest = &rest[used..];
    }
    out
}

fn examples(folder: &Path, kind: &str) -> Vec<Example> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join(kind))
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .collect();
    files.sort();
    let mut examples = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        let stem = file.file_stem().and_then(|s| s.to_str()).expect("a name");
        let pieces = text.split("\n```http\n").collect::<Vec<_>>();
        for (number, pair) in pieces.windows(2).enumerate() {
            let meta = pair[0].lines().rev().find(|l| l.starts_with("<!-- meta")).unwrap_or_default();
            let kind = meta.split("\"type\"").nth(1).and_then(|m| m.split('"').nth(1)).unwrap_or(kind);
            let Some((input, after)) = pair[1].split_once("\n```") else { continue };
            let log = after.split("```log\n").nth(1).and_then(|l| l.split("```").next()).unwrap_or_default();
            examples.push(Example {
                id: format!("{stem}-{}", number + 1),
                kind: kind.to_owned(),
                input: unescape(input),
                complete: log.trim_end().ends_with("message complete"),
                fails: log.contains("error code=")
                    && !log.contains("error code=21")
                    && !log.contains("error code=22"),
            });
        }
    }
    examples
}

/// llhttp leaves `Host` to its users; without one none of its cases would reach the rule that it is about.
fn with_host(input: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    let has_host = input.windows(6).any(|w| w.eq_ignore_ascii_case(b"\nhost:"));
    let start = input.iter().position(|b| !b"\r\n".contains(b)).unwrap_or(0);
    if let (false, Some(at)) = (has_host, input[start..].windows(2).position(|w| w == b"\r\n")) {
        out.splice(start + at + 2..start + at + 2, *b"Host: h\r\n");
    }
    out
}

fn wanted(example: &Example) -> Wanted {
    let other_rules = example.kind.contains("lenient") || example.kind.contains("finish");
    match (example.fails, other_rules) {
        (true, _) => Wanted::Reject,
        (false, false) => Wanted::Accept,
        (false, true) => Wanted::Either,
    }
}

fn judge(example: &Example, outcome: &Outcome) -> Case {
    // Where llhttp itself waits for more, waiting is agreement.
    let accepted = if example.complete || example.fails { outcome.good() } else { !outcome.refused() };
    Case::judged(&example.id, outcome.verdict(), accepted, wanted(example))
}

#[test]
fn requests() {
    let Some(folder) = corpus("http1/llhttp/test") else { return };
    let opts = ParseOptions { accept_http_10: true, ..ParseOptions::default() };
    let cases: Vec<Case> = examples(&folder, "request")
        .iter()
        .map(|example| {
            let outcome = exchange::requests(&with_host(&example.input), &opts);
            outcome.forwarded.iter().for_each(|(wire, _)| oracle::unambiguous(&example.id, wire));
            judge(example, &outcome)
        })
        .collect();
    println!("llhttp requests: {} cases", check("llhttp-request", &cases));
}

#[test]
fn responses() {
    let Some(folder) = corpus("http1/llhttp/test") else { return };
    let cases: Vec<Case> = examples(&folder, "response")
        .iter()
        .map(|example| {
            let outcome = exchange::responses(&example.input, &RequestInfo::default());
            judge(example, &outcome)
        })
        .collect();
    println!("llhttp responses: {} cases", check("llhttp-response", &cases));
}
