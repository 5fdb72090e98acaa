//! Traffic Server's replay files: bodies that are given as escaped wire bytes.

use millrace_conformance::corpus;
use millrace_conformance::table::{Case, Wanted, check};
use millrace_http::h1::ParseOptions;

use super::exchange;

fn decode(text: &str) -> Vec<u8> {
    let mut pieces = text.split('%');
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        out.push(u8::from_str_radix(&piece[..2], 16).expect("two digits"));
        out.extend_from_slice(&piece.as_bytes()[2..]);
    }
    out
}

#[test]
fn chunked_bodies() {
    let Some(folder) = corpus("http1/trafficserver/chunked-replays") else { return };
    let mut cases = Vec::new();
    for file in ["malformed_chunked_header", "chunked_trailer_dropped", "chunked_trailer_proxied"] {
        let text = std::fs::read_to_string(folder.join(format!("{file}.replay.yaml"))).expect("text");
        let bodies =
            text.lines().filter_map(|l| l.trim().strip_prefix("data: ")).filter(|d| d.contains("%0"));
        for (number, data) in bodies.enumerate() {
            let mut wire = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            wire.extend(decode(data));
            let outcome = exchange::requests(&wire, &ParseOptions::default());
            let wanted = if file.starts_with("malformed") { Wanted::Reject } else { Wanted::Accept };
            let id = format!("{file}-{}", number + 1);
            cases.push(Case::judged(id, outcome.verdict(), outcome.good(), wanted));
        }
    }
    println!("trafficserver: {} cases", check("trafficserver", &cases));
}
