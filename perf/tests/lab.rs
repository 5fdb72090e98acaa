//! The lab as a user calls it, with no proxy between client and origin: that needs nothing but this crate.

use std::process::{Command, Output};

fn perf(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_perf")).args(arguments).output().expect("perf starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn turn(scenario: &str, more: &[&str]) -> serde_json::Value {
    let fixed = [
        "turn",
        "--scenario",
        scenario,
        "--peer",
        "direct",
        "--point",
        "0",
        "--seconds",
        "0.5",
        "--rate",
        "200",
    ];
    let out = perf(&[&fixed[..], more].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("a turn prints JSON")
}

#[test]
fn an_open_loop_counts_every_request_that_was_due() {
    let sample = turn("http1-latency", &[]);
    assert_eq!(sample["operations"], 100.0, "200 a second for half a second");
    assert_eq!(sample["errors"], 0);
    let of = |name: &str| sample["latency"][name].as_f64().unwrap();
    assert!(of("p50_us") > 0.0 && of("p50_us") <= of("p99_us") && of("p99_us") <= of("max_us"), "{sample}");
    assert!(sample["latency"]["curve"].as_array().unwrap().len() >= 8, "{sample}");
}

#[test]
fn messages_and_streams_come_through() {
    let echo = turn("tcp-small", &[]);
    assert!(echo["operations"].as_f64().unwrap() > 10.0 && echo["errors"] == 0, "{echo}");
    let stream = turn("tcp-bulk", &[]);
    assert!(stream["operations"].as_f64().unwrap() > 1.0 && stream["errors"] == 0, "{stream}");
}

#[test]
fn http2_requests_and_streams_are_all_answered() {
    if Command::new("h2load").arg("--version").output().is_err() {
        eprintln!("not checked: h2load is missing (apt-get install nghttp2-client)");
        return;
    }
    for scenario in ["h2-8x8", "h2-1m", "grpc-unary"] {
        let sample = turn(scenario, &[]);
        assert!(
            sample["operations"].as_f64().unwrap() > 10.0 && sample["errors"] == 0,
            "{scenario}: {sample}"
        );
    }
    // The origin answers none of them before it has all.
    let held = turn("h2-streams", &[]);
    assert!(held["operations"] == 10_000.0 && held["errors"] == 0, "{held}");
}

#[test]
fn client_and_origin_speak_mutual_tls() {
    for scenario in ["mtls-http1-small", "mtls-http1-small-rsa", "mtls-h2-8x8", "mtls-http1-1m"] {
        let sample = turn(scenario, &[]);
        assert!(
            sample["operations"].as_f64().unwrap() > 10.0 && sample["errors"] == 0,
            "{scenario}: {sample}"
        );
    }
    for scenario in ["tls-handshakes", "tls-resumed"] {
        let sample = turn(scenario, &[]);
        assert!(
            sample["operations"].as_f64().unwrap() > 1.0 && sample["errors"] == 0,
            "{scenario}: {sample}"
        );
    }
}

#[test]
fn idle_connections_are_held() {
    let sample = turn("idle-memory", &[]);
    assert_eq!(sample["operations"], 0.0, "the first point has none");
    assert_eq!(sample["errors"], 0);
}

#[test]
fn the_list_names_what_is_there_and_how_to_get_the_rest() {
    let out = perf(&["list"]);
    let said = text(&out.stdout);
    assert!(out.status.success());
    for word in ["http1-small", "h2-8x8", "tcp-bulk", "envoy", "nginx", "no proxy"] {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[test]
fn what_does_not_exist_is_named() {
    for (arguments, word) in [
        (&["run", "no-such-scenario", "--no-save", "--peers", "direct"][..], "no-such-scenario"),
        (&["run", "--peers", "no-such-peer", "--no-save"], "no-such-peer"),
        (&["run", "--rounds", "0"], "at least one round"),
        (&["ab", "/no/such/binary", "/bin/true", "http1-small"], "/no/such/binary"),
    ] {
        let out = perf(arguments);
        let said = text(&out.stderr);
        assert!(!out.status.success(), "{arguments:?}");
        // Without `wrk` that is what is said first.
        assert!(said.contains(word) || said.contains("wrk is missing"), "{arguments:?}: {said}");
    }
}
