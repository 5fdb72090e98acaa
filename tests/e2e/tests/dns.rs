//! Clusters that resolve names, against a name server of our own; and endpoints with several addresses.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config::with_file;
use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::dns::{NameServer, Say};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Blackhole, Refused};
use millrace_support::upstream::Upstream;
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(strict_clusters_follow_the_addresses_of_a_name),
    case!(failures_keep_the_endpoints_and_a_name_that_is_gone_does_not),
    case!(failed_questions_are_repeated_at_their_own_rate),
    case!(the_time_to_live_says_when_to_ask_again),
    case!(a_thousand_addresses),
    case!(names_are_asked_over_tcp),
    case!(the_resolver_of_the_bootstrap),
    case!(families),
    case!(logical_clusters_have_one_endpoint),
    case!(the_typed_cluster),
    case!(the_statistics_of_questions),
    case!(silent_name_servers_hold_nothing_up_for_ever),
    case!(rates_that_contradict_are_refused),
    case!(further_addresses_are_tried_after_a_refusal),
    case!(further_addresses_are_tried_after_silence),
    case!(all_addresses_fail),
    case!(the_preferred_family_is_tried_first),
];

const NAME: &str = "up.test";
/// Soon, so that tests need not wait.
const SOON: &str = "dns_refresh_rate: 0.05s\n";

/// A cluster of one name.
fn named(kind: &str, port: u16, fields: &str) -> String {
    let family = if fields.contains("dns_lookup_family") { "" } else { "dns_lookup_family: V4_ONLY\n" };
    format!(
        "type: {kind}\n{family}{fields}load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n    \
         - endpoint: {{address: {{socket_address: {{address: {NAME}, port_value: {port}}}}}}}\n"
    )
}

const OPTIONS: &str =
    ", dns_resolver_options: {no_default_search_domain: true}, query_tries: 1, query_timeout_seconds: 1";

fn start(subject: &Subject, server: &NameServer, kind: &str, port: u16, fields: &str) -> Proxy {
    let cluster = named(kind, port, &format!("{}{fields}", server.resolver(OPTIONS)));
    Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &cluster))
}

fn strict_clusters_follow_the_addresses_of_a_name(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let port = upstream.address().port();
    server.set_addresses(NAME, &["127.0.0.1", "127.0.0.9", "127.0.0.1"]);
    let proxy = start(subject, &server, "STRICT_DNS", port, SOON);
    proxy.wait_stat("cluster.up.membership_total", 2);
    server.set_addresses(NAME, &["127.0.0.9", "127.0.0.8", "127.0.0.7"]);
    proxy.wait_stat("cluster.up.membership_total", 3);
    server.set_addresses(NAME, &["127.0.0.1"]);
    proxy.wait_stat("cluster.up.membership_total", 1);
    assert_eq!(proxy.client().get("/").text(), "x");
    assert_eq!(proxy.stat("cluster.up.membership_change"), Some(3));
    let listed = proxy.admin_get("/clusters").text();
    assert!(listed.contains(&format!("up::127.0.0.1:{port}::hostname::{NAME}")), "{listed}");
    // The same addresses again are no change.
    wait::for_true("answers without a change", || {
        proxy.stat("cluster.up.update_no_rebuild").is_some_and(|count| count > 2)
    });
}

fn failures_keep_the_endpoints_and_a_name_that_is_gone_does_not(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set_addresses(NAME, &["127.0.0.1"]);
    let proxy = start(subject, &server, "STRICT_DNS", upstream.address().port(), SOON);
    proxy.wait_stat("cluster.up.membership_total", 1);
    server.set(NAME, Say::Failure);
    wait::for_true("failures", || proxy.stat("cluster.up.update_failure").is_some_and(|count| count >= 2));
    assert_eq!(proxy.client().get("/").text(), "x");
    assert_eq!(proxy.stat("cluster.up.membership_total"), Some(1));
    for gone in [Say::NoName, Say::Addresses(Vec::new(), 60)] {
        server.set(NAME, gone);
        proxy.wait_stat("cluster.up.membership_total", 0);
        assert_eq!(proxy.client().get("/").status, 503);
        server.set_addresses(NAME, &["127.0.0.1"]);
        proxy.wait_stat("cluster.up.membership_total", 1);
        assert_eq!(proxy.client().get("/").text(), "x");
    }
    assert_eq!(proxy.stat("cluster.up.update_empty"), Some(0));
}

fn failed_questions_are_repeated_at_their_own_rate(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set(NAME, Say::Failure);
    let rates =
        "dns_refresh_rate: 60s\ndns_failure_refresh_rate: {base_interval: 0.02s, max_interval: 0.1s}\n";
    let proxy = start(subject, &server, "STRICT_DNS", upstream.address().port(), rates);
    assert_eq!(proxy.client().get("/").status, 503);
    wait::for_true("failures", || proxy.stat("cluster.up.update_failure").is_some_and(|count| count >= 5));
    server.set_addresses(NAME, &["127.0.0.1"]);
    proxy.wait_stat("cluster.up.membership_total", 1);
    assert_eq!(proxy.client().get("/").text(), "x");
}

fn the_time_to_live_says_when_to_ask_again(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let one = |ip: [u8; 4]| Say::Addresses(vec![ip.into()], 1);
    server.set(NAME, one([127, 0, 0, 9]));
    let rates = "dns_refresh_rate: 60s\nrespect_dns_ttl: true\ndns_jitter: 0.1s\n";
    let proxy = start(subject, &server, "STRICT_DNS", upstream.address().port(), rates);
    proxy.wait_stat("cluster.up.membership_total", 1);
    server.set(NAME, one([127, 0, 0, 1]));
    proxy.wait_stat("cluster.up.membership_change", 2);
    assert_eq!(proxy.client().get("/").text(), "x");
}

fn a_thousand_addresses(subject: &Subject) {
    let server = NameServer::start();
    let addresses = (0..1000_u16).map(|n| [127, 1, (n >> 8) as u8, n as u8].into()).collect();
    server.set(NAME, Say::Addresses(addresses, 60));
    let proxy = start(subject, &server, "STRICT_DNS", 9, SOON);
    proxy.wait_stat("cluster.up.membership_total", 1000);
    // Too much for a datagram.
    assert!(server.asked(NAME).1 > 0);
    server.set_addresses(NAME, &["127.0.0.1"]);
    proxy.wait_stat("cluster.up.membership_total", 1);
}

fn names_are_asked_over_tcp(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set_addresses(NAME, &["127.0.0.1"]);
    let options = ", dns_resolver_options: {use_tcp_for_dns_lookups: true, no_default_search_domain: true}";
    let older = format!(
        "dns_resolution_config: {{resolvers: [{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}], \
         dns_resolver_options: {{use_tcp_for_dns_lookups: true, no_default_search_domain: true}}}}\n",
        server.address().port()
    );
    for resolver in [server.resolver(options), older] {
        let cluster = named("STRICT_DNS", upstream.address().port(), &resolver);
        let proxy =
            Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &cluster));
        assert_eq!(proxy.client().get("/").text(), "x");
    }
    let (udp, tcp) = server.asked(NAME);
    assert!(udp == 0 && tcp >= 2, "{udp} {tcp}");
}

fn the_resolver_of_the_bootstrap(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set_addresses(NAME, &["127.0.0.1"]);
    let cluster = named("STRICT_DNS", upstream.address().port(), "");
    let bootstrap =
        Bootstrap::new().top(&server.resolver(OPTIONS)).http(Http::to("up")).cluster("up", &[], &cluster);
    assert_eq!(Proxy::start(subject, &bootstrap).client().get("/").text(), "x");
}

fn families(subject: &Subject) {
    let server = NameServer::start();
    server.set_addresses(NAME, &["127.0.0.1", "127.0.0.2", "::1"]);
    for (family, total) in [("V4_ONLY", 2), ("V6_ONLY", 1), ("ALL", 3), ("V4_PREFERRED", 2), ("AUTO", 1)] {
        let fields = format!("dns_lookup_family: {family}\n");
        let proxy = start(subject, &server, "STRICT_DNS", 9, &fields);
        proxy.wait_stat("cluster.up.membership_total", total);
    }
}

fn logical_clusters_have_one_endpoint(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let port = upstream.address().port();
    server.set_addresses(NAME, &["127.0.0.1", "127.0.0.9"]);
    let proxy = start(subject, &server, "LOGICAL_DNS", port, SOON);
    proxy.wait_stat("cluster.up.membership_total", 1);
    assert_eq!(proxy.client().get("/").text(), "x");
    for bad in [Say::Failure, Say::NoName, Say::Addresses(Vec::new(), 60)] {
        let failures = proxy.stat("cluster.up.update_failure").unwrap_or(0);
        server.set(NAME, bad);
        wait::for_true("a failure", || {
            proxy.stat("cluster.up.update_failure").is_some_and(|count| count > failures + 1)
        });
        assert_eq!(proxy.stat("cluster.up.membership_total"), Some(1));
        assert_eq!(proxy.client().get("/").text(), "x");
    }
    // Nobody listens at the first address; the second one is tried then.
    server.set_addresses(NAME, &["127.0.0.9", "127.0.0.1"]);
    let first = format!("up::127.0.0.9:{port}::");
    wait::for_true("the new address", || proxy.admin_get("/clusters").text().contains(&first));
    assert_eq!(proxy.client().get("/").text(), "x");
    assert_eq!(proxy.stat("cluster.up.membership_total"), Some(1));
}

fn the_typed_cluster(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set(NAME, Say::Failure);
    let port = upstream.address().port();
    for (single, total) in [(false, 2), (true, 1)] {
        let text = format!(
            "cluster_type: {{name: envoy.clusters.dns, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster, all_addresses_in_single_endpoint: {single}, \
             dns_lookup_family: V4_ONLY, dns_refresh_rate: 60s, dns_failure_refresh_rate: {{base_interval: 0.02s, \
             max_interval: 0.1s}}, dns_min_refresh_rate: 1s, dns_jitter: 0.01s, {}}}}}\nload_assignment:\n  cluster_name: up\n  \
             endpoints:\n  - lb_endpoints:\n    - endpoint: {{address: {{socket_address: {{address: {NAME}, port_value: {port}}}}}}}\n",
            server.resolver(OPTIONS).trim_end()
        );
        server.set(NAME, Say::Failure);
        let proxy = Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &text));
        wait::for_true("failures", || {
            proxy.stat("cluster.up.update_failure").is_some_and(|count| count >= 2)
        });
        server.set_addresses(NAME, &["127.0.0.1", "127.0.0.9"]);
        proxy.wait_stat("cluster.up.membership_total", total);
    }
}

fn the_statistics_of_questions(subject: &Subject) {
    let server = NameServer::start();
    server.set_addresses(NAME, &["127.0.0.1"]);
    let proxy = start(subject, &server, "STRICT_DNS", 9, "dns_refresh_rate: 60s\n");
    proxy.wait_stat("cluster.up.update_success", 1);
    for (stat, value) in [
        ("cluster.up.update_attempt", 1),
        ("cluster.up.update_failure", 0),
        ("dns.cares.resolve_total", 1),
        ("dns.cares.not_found", 0),
        ("dns.cares.get_addr_failure", 0),
        ("dns.cares.pending_resolutions", 0),
    ] {
        assert_eq!(proxy.stat(stat), Some(value), "{stat}");
    }
    let proxy = start(subject, &NameServer::start(), "STRICT_DNS", 9, "dns_refresh_rate: 60s\n");
    proxy.wait_stat("dns.cares.not_found", 1);
    proxy.wait_stat("cluster.up.update_success", 1);
}

fn silent_name_servers_hold_nothing_up_for_ever(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set(NAME, Say::Silence);
    let proxy = start(subject, &server, "STRICT_DNS", upstream.address().port(), SOON);
    assert_eq!(proxy.client().get("/").status, 503);
    wait::for_true("a failure", || proxy.stat("cluster.up.update_failure").is_some_and(|count| count >= 1));
    server.set_addresses(NAME, &["127.0.0.1"]);
    proxy.wait_stat("cluster.up.membership_total", 1);
    assert_eq!(proxy.client().get("/").text(), "x");
}

fn rates_that_contradict_are_refused(subject: &Subject) {
    let rates = "dns_failure_refresh_rate: {base_interval: 5s, max_interval: 1s}\n";
    let cluster = named("STRICT_DNS", 9, rates);
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[], &cluster);
    let finished = with_file(subject, "dns.yaml", &bootstrap.yaml(), &["--mode", "validate"]);
    assert_ne!(finished.code, Some(0));
    let text = finished.stderr + &finished.stdout;
    assert!(text.contains("max_interval greater than or equal to the base_interval"), "{text}");
}

/// A cluster with one endpoint that has several addresses.
fn with_addresses(addresses: &[SocketAddr], fields: &str) -> String {
    let place = |address: &SocketAddr| {
        format!("{{socket_address: {{address: \"{}\", port_value: {}}}}}", address.ip(), address.port())
    };
    let more: Vec<String> =
        addresses[1..].iter().map(|address| format!("{{address: {}}}", place(address))).collect();
    format!(
        "{fields}load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n    - endpoint: {{address: {}, \
         additional_addresses: [{}]}}\n",
        place(&addresses[0]),
        more.join(", ")
    )
}

fn several(subject: &Subject, addresses: &[SocketAddr], fields: &str) -> Proxy {
    let cluster = with_addresses(addresses, fields);
    Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &cluster))
}

fn further_addresses_are_tried_after_a_refusal(subject: &Subject) {
    let (gone, also_gone, upstream) = (Refused::new(), Refused::new(), Upstream::fixed("x"));
    let addresses = [gone.address(), also_gone.address(), upstream.address()];
    let cluster = with_addresses(&addresses, "");
    let http = Http::to("up").logs("remote", "%UPSTREAM_REMOTE_ADDRESS%");
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &cluster));
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "x");
    }
    let line = proxy.log().line(2);
    let (first, winner) = (addresses[0].to_string(), addresses[2].to_string());
    assert_eq!((line.get("remote"), line.get("host")), (&winner[..], &first[..]));
    assert_eq!(upstream.connections(), 1);
    for (stat, value) in [
        ("cluster.up.membership_total", 1),
        ("cluster.up.upstream_cx_connect_fail", 0),
        ("cluster.up.upstream_rq_total", 3),
    ] {
        assert_eq!(proxy.stat(stat), Some(value), "{stat}");
    }
}

fn further_addresses_are_tried_after_silence(subject: &Subject) {
    let (silent, upstream) = (Blackhole::new(), Upstream::fixed("x"));
    let proxy = several(subject, &[silent.address(), upstream.address()], "connect_timeout: 20s\n");
    let began = Instant::now();
    assert_eq!(proxy.client().get("/").text(), "x");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(280) && took < Duration::from_secs(5), "{took:?}");
    proxy.wait_stat("cluster.up.upstream_cx_active", 1);
}

fn all_addresses_fail(subject: &Subject) {
    let (gone, also_gone) = (Refused::new(), Refused::new());
    let proxy = several(subject, &[gone.address(), also_gone.address()], "");
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(proxy.log().line(0).get("flags"), "UF");
    proxy.wait_stat("cluster.up.upstream_cx_connect_fail", 1);
    let silent = [Blackhole::new(), Blackhole::new()];
    let proxy = several(subject, &[silent[0].address(), silent[1].address()], "connect_timeout: 0.5s\n");
    assert_eq!(proxy.client().get("/").status, 503);
    proxy.wait_stat("cluster.up.upstream_cx_connect_timeout", 1);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
}

fn the_preferred_family_is_tried_first(subject: &Subject) {
    let (six, four) = (Refused::new(), Upstream::fixed("four"));
    let _held = six;
    let port = four.address().port();
    let addresses =
        [SocketAddr::new("::1".parse().expect("an address"), port), SocketAddr::from(([127, 0, 0, 1], port))];
    let fields = "upstream_connection_options: {happy_eyeballs_config: {first_address_family_version: V4, \
                  first_address_family_count: 1}}\n";
    let proxy = several(subject, &addresses, fields);
    assert_eq!(proxy.client().get("/").text(), "four");
    proxy.wait_stat("cluster.up.upstream_cx_total", 1);
}
