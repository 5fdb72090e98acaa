//! The network filters `local_ratelimit` and `connection_limit`.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http, listener};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

pub(crate) const CASES: &[Case] = &[
    case!(no_more_connections_than_allowed),
    case!(no_faster_than_allowed),
    case!(switched_off),
    case!(refused_with_a_delay),
    case!(shared_by_a_key),
];

/// An HTTP listener behind this network filter.
fn behind(subject: &Subject, upstream: &Upstream, kind: &str, fields: &str) -> Proxy {
    let gate = format!(
        "- name: gate\n  typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.network.{kind}, {fields}}}"
    );
    let chain = Http::to("up").filter_chain();
    let (first, rest) = chain.split_once('\n').expect("a list with one chain");
    let gate: String = gate.lines().map(|line| format!("  {line}\n")).collect();
    let yaml = listener("main", "", &format!("{first}\n{gate}{rest}"));
    let bootstrap = Bootstrap::new().listener(&yaml).cluster("up", &[upstream.address()], "");
    Proxy::start(subject, &bootstrap)
}

fn is_served(client: &mut Client) -> bool {
    client.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_ok() && client.response("GET").is_ok()
}

fn no_more_connections_than_allowed(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = behind(
        subject,
        &upstream,
        "connection_limit.v3.ConnectionLimit",
        "stat_prefix: cl, max_connections: 2",
    );
    let (mut first, mut second) = (proxy.client(), proxy.client());
    assert!(is_served(&mut first) && is_served(&mut second));
    proxy.wait_stat("connection_limit.cl.active_connections", 2);
    let mut third = proxy.client();
    assert!(!is_served(&mut third));
    proxy.wait_stat("connection_limit.cl.limited_connections", 1);
    drop(first);
    proxy.wait_stat("connection_limit.cl.active_connections", 1);
    assert!(is_served(&mut proxy.client()) && is_served(&mut second));
}

fn no_faster_than_allowed(subject: &Subject) {
    let fields = "stat_prefix: rl, token_bucket: {max_tokens: 2, fill_interval: 600s}";
    let upstream = Upstream::fixed("x");
    let proxy = behind(subject, &upstream, "local_ratelimit.v3.LocalRateLimit", fields);
    let served: Vec<bool> = (0..4).map(|_| is_served(&mut proxy.client())).collect();
    assert_eq!(served, [true, true, false, false]);
    proxy.wait_stat("local_rate_limit.rl.rate_limited", 2);
    assert!(proxy.client().end_within(Duration::from_secs(5)) != End::Open);
}

fn switched_off(subject: &Subject) {
    let off = "runtime_enabled: {default_value: false, runtime_key: gate.on}";
    let upstream = Upstream::fixed("x");
    for (kind, fields) in [
        ("connection_limit.v3.ConnectionLimit", "stat_prefix: g, max_connections: 1"),
        (
            "local_ratelimit.v3.LocalRateLimit",
            "stat_prefix: g, token_bucket: {max_tokens: 0, fill_interval: 600s}",
        ),
    ] {
        let proxy = behind(subject, &upstream, kind, &format!("{fields}, {off}"));
        let mut clients = [proxy.client(), proxy.client()];
        assert!(clients.iter_mut().all(is_served), "{kind}");
    }
}

fn refused_with_a_delay(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = |delay: &str| {
        let fields = format!("stat_prefix: cl, max_connections: 1, delay: {delay}");
        behind(subject, &upstream, "connection_limit.v3.ConnectionLimit", &fields)
    };
    let counts = |proxy: &Proxy, active: u64, limited: u64| {
        proxy.wait_stat("connection_limit.cl.active_connections", active);
        proxy.wait_stat("connection_limit.cl.limited_connections", limited);
    };
    let kept = proxy("600s");
    let mut first = kept.client();
    assert!(is_served(&mut first));
    let mut second = kept.client();
    second.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    counts(&kept, 2, 1);
    assert!(is_served(&mut first));
    drop(first);
    counts(&kept, 1, 1);
    // What waits to be closed takes a place.
    let third = kept.client();
    counts(&kept, 2, 2);
    assert_eq!(second.end_within(Duration::from_millis(50)), End::Open);
    drop((second, third));
    counts(&kept, 0, 2);
    assert!(is_served(&mut kept.client()));

    let closed = proxy("0.3s");
    let mut first = closed.client();
    assert!(is_served(&mut first));
    let mut second = closed.client();
    assert_ne!(second.end_within(Duration::from_secs(5)), End::Open);
    counts(&closed, 1, 1);
}

fn shared_by_a_key(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    for (keys, expected) in [(["one", "one"], [true, false, false]), (["one", "two"], [true, true, false])] {
        let fields = |key: &str| {
            format!("stat_prefix: rl, share_key: {key}, token_bucket: {{max_tokens: 2, fill_interval: 600s}}")
        };
        let kind = "local_ratelimit.v3.LocalRateLimit";
        let second = format!(
            "}}\n- name: second\n  typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.network.{kind}, {}",
            fields(keys[1])
        );
        let proxy = behind(subject, &upstream, kind, &format!("{}{second}", fields(keys[0])));
        let served: Vec<bool> = (0..3).map(|_| is_served(&mut proxy.client())).collect();
        assert_eq!(served, expected, "{keys:?}");
    }
}
