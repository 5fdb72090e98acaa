//! h2spec in strict mode against a listener.

use std::process::Command;

use millrace_e2e::{Case, case, tools};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

pub(crate) const CASES: &[Case] = &[
    case!(strict_in_front_of_an_upstream, not_envoy: "Envoy 1.40 passes 134 of 147"),
    case!(strict_in_front_of_an_http2_upstream, not_envoy: "Envoy 1.40 passes 134 of 147"),
];

/// The strict cases of v2.2.1; v2.6.0 has one more.
const CASES_AT_LEAST: usize = 146;

/// A listener that also speaks HTTP/1.1 answers a broken preface in HTTP/1.1, which h2spec does not understand.
const HTTP2: &str = "codec_type: HTTP2";

#[track_caller]
fn strict(proxy: &Proxy) {
    let Some(h2spec) = tools::prepared("h2spec") else { return };
    let port = proxy.listener("main").port().to_string();
    let report = proxy.directory().join("h2spec.xml");
    let mut failed = Vec::new();
    let mut total = 0;
    for group in ["generic", "http2", "hpack"] {
        let mut command = Command::new(&h2spec);
        command.args([group, "-S", "-o", "3", "-h", "127.0.0.1", "-p", &port, "-j"]).arg(&report);
        let output = command.output().expect("run h2spec");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let xml = std::fs::read_to_string(&report).unwrap_or_default();
        total += xml.matches("<testcase ").count();
        if !output.status.success() || text.contains("×") {
            failed.push(text[text.find("Failures").unwrap_or(0)..].to_owned());
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(total >= CASES_AT_LEAST, "only {total} cases");
    println!("h2spec: {total} of {total}");
}

fn strict_in_front_of_an_upstream(subject: &Subject) {
    let upstream = Upstream::fixed("a body that is longer than a few octets");
    let http = Http::to("up").hcm(HTTP2);
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    strict(&proxy);
    upstream.assert_strict();
}

fn strict_in_front_of_an_http2_upstream(subject: &Subject) {
    let upstream = h2::Upstream::fixed("a body that is longer than a few octets");
    let http = Http::to("up").hcm(HTTP2);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], &http2_cluster(""));
    strict(&Proxy::start(subject, &bootstrap));
    upstream.assert_strict();
}
