//! Traffic through the dynamic forward proxy: hosts that filter state names, retries, both versions of HTTP, several
//! workers, long answers, and a cluster that changes meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use millrace_e2e::{Case, case};
use millrace_support::any::protocol_options;
use millrace_support::bootstrap::{Bootstrap, Http, listener};
use millrace_support::dns::{NameServer, Say};
use millrace_support::h2;
use millrace_support::process::{Directory, Proxy};
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::tcp::Refused;
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;

use super::{ask, assert_stats, at, cluster, filters, good};

pub(crate) const CASES: &[Case] = &[
    case!(filter_state_names_the_host),
    case!(filter_state_names_the_host_of_a_connection),
    case!(retries_stay_with_their_host),
    case!(streams_wait_for_their_hosts),
    case!(hosts_that_speak_http2),
    case!(workers_share_what_is_known),
    case!(answers_with_a_thousand_addresses),
    case!(the_cluster_changes_under_traffic),
];

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions.filters";

/// `FilterStateValue`s of both objects, of these formats.
fn objects(host: &str, port: &str) -> String {
    let one = |key: &str, format: &str| {
        format!(
            "{{object_key: envoy.upstream.{key}, skip_if_empty: true, format_string: {{omit_empty_values: true, \
             text_format_source: {{inline_string: \"{format}\"}}}}}}"
        )
    };
    format!("[{}, {}]", one("dynamic_host", host), one("dynamic_port", port))
}

fn local(server: &NameServer, names: &[&str]) {
    for name in names {
        server.set_addresses(name, &["127.0.0.1"]);
    }
}

fn filter_state_names_the_host(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let address = upstream.address();
    local(&server, &["a.test", "b.test"]);
    let (own, port) = (at("a.test", &address), address.port().to_string());
    let other = at("b.test", &address);
    let state = format!(
        "http_filters:\n- name: state\n  typed_config: {{\"@type\": {EXTENSIONS}.http.set_filter_state.v3.Config, \
         on_request_headers: {}}}\n",
        objects("%REQ(x-host)%", "%REQ(x-port)%")
    );
    for reads in [true, false] {
        let cache = server.dns_cache("");
        let chain = filters(&format!("{cache}, allow_dynamic_host_from_filter_state: {reads}"));
        let http = Http::to("up")
            .hcm(&chain.replace("http_filters:\n", &state))
            .logs("named", "%FILTER_STATE(envoy.upstream.dynamic_host)%")
            .logs("port_of_state", "%FILTER_STATE(envoy.upstream.dynamic_port)%");
        let bootstrap = Bootstrap::new().http(http).cluster("up", &[], &cluster(&cache, ""));
        let proxy = Proxy::start(subject, &bootstrap);
        let by_filter = if reads { 200 } else { 503 };
        let unknown = if reads { "DF" } else { "UH" };
        let cases = [
            (own.as_str(), &[][..], 200, "-"),
            ("nobody.test:1", &[("x-host", other.as_str())], by_filter, if reads { "-" } else { "DF" }),
            ("a.test", &[("x-port", port.as_str())], 200, "-"),
            ("a.test", &[("x-host", "b.test"), ("x-port", port.as_str())], 200, "-"),
            (own.as_str(), &[("x-port", "0")], 200, "-"),
            (own.as_str(), &[("x-port", "65536")], 200, "-"),
            (own.as_str(), &[("x-port", "many")], 200, "-"),
            // A port of its own comes first.
            (own.as_str(), &[("x-port", "1")], 200, "-"),
            (own.as_str(), &[("x-host", "nobody.test:1")], 503, unknown),
        ];
        for (host, fields, status, _) in cases {
            let mut client = proxy.client();
            client.request("GET", "/", &[&[("host", host)][..], fields].concat(), b"");
            assert_eq!(
                client.response("GET").expect("a response").status,
                status,
                "{reads} {host} {fields:?}"
            );
        }
        for (n, (host, fields, _, flags)) in cases.iter().enumerate() {
            let line = proxy.log().line(n);
            assert_eq!(line.get("flags"), *flags, "{reads} {host} {fields:?} {line:?}");
        }
        let line = proxy.log().line(3);
        assert_eq!((line.get("named"), line.get("port_of_state")), ("\"b.test\"", port.as_str()));
        assert_eq!(proxy.log().line(6).get("port_of_state"), "-");
    }
}

fn filter_state_names_the_host_of_a_connection(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    local(&server, &["a.test"]);
    let (cache, port) = (server.dns_cache(""), upstream.address().port());
    let chain = |name: &str, host: &str, port: &str, own: u16| {
        let list = objects(host, port);
        let text = format!(
            "- filters:\n  - name: state\n    typed_config: {{\"@type\": {EXTENSIONS}.network.set_filter_state.v3.Config, \
             on_new_connection: {list}}}\n  - name: sni\n    typed_config: {{\"@type\": \
             {EXTENSIONS}.network.sni_dynamic_forward_proxy.v3.FilterConfig, port_value: {own}, {cache}}}\n  \
             - name: tcp\n    typed_config: {{\"@type\": {EXTENSIONS}.network.tcp_proxy.v3.TcpProxy, stat_prefix: {name}, \
             cluster: up}}\n"
        );
        listener(name, "", &text)
    };
    let bootstrap = Bootstrap::new()
        .listener(&chain("host", "a.test", "", port))
        .listener(&chain("both", "a.test", &port.to_string(), 1))
        .listener(&chain("whole", &at("a.test", &upstream.address()), "1", 1))
        .listener(&chain("nobody", "nobody.test", "", port))
        .cluster("up", &[], &cluster(&cache, ""));
    let proxy = Proxy::start(subject, &bootstrap);
    for name in ["host", "both", "whole"] {
        assert_eq!(Client::connect(proxy.listener(name)).get("/").text(), "x", "{name}");
    }
    assert!(Client::connect(proxy.listener("nobody")).end() != End::Open);
    assert_eq!(proxy.stat("cluster.up.membership_total"), Some(1));
}

/// A proxy whose requests are tried again on these conditions.
fn retrying(subject: &Subject, server: &NameServer, on: &str) -> Proxy {
    let cache = server.dns_cache("");
    let routes = format!(
        "- match: {{prefix: \"/\"}}\n  route: {{cluster: up, retry_policy: {{retry_on: \"{on}\", num_retries: 2, \
         retry_back_off: {{base_interval: 0.001s, max_interval: 0.002s}}}}}}\n"
    );
    let http = Http::routes(&routes).hcm(&filters(&cache));
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &cluster(&cache, "")))
}

fn retries_stay_with_their_host(subject: &Subject) {
    let (server, refused) = (NameServer::start(), Refused::new());
    local(&server, &["a.test", "b.test"]);
    let proxy = retrying(subject, &server, "connect-failure");
    assert_eq!(ask(&mut proxy.client(), &at("a.test", &refused.address()), "/").0, 503);
    assert_eq!(proxy.log().line(0).get("flags"), "URX,UF");
    assert_stats(
        &proxy,
        &[
            ("cluster.up.upstream_rq_retry", 2),
            ("cluster.up.upstream_rq_retry_limit_exceeded", 1),
            ("cluster.up.upstream_cx_connect_fail", 3),
            ("cluster.up.membership_total", 1),
            ("dns_cache.c.dns_query_attempt", 1),
        ],
    );
    let failures = AtomicUsize::new(2);
    let upstream = Upstream::start(move |_| {
        let fails = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if fails.is_ok() { Reply::status(503) } else { Reply::ok("x") }
    });
    let proxy = retrying(subject, &server, "5xx");
    // A name that cannot be resolved is the filter's answer, which nobody tries again.
    assert_eq!(ask(&mut proxy.client(), &at("nobody.test", &upstream.address()), "/").0, 503);
    assert_eq!(ask(&mut proxy.client(), &at("b.test", &upstream.address()), "/"), good());
    assert_stats(&proxy, &[("cluster.up.upstream_rq_retry", 2), ("cluster.up.upstream_rq_retry_success", 1)]);
}

fn streams_wait_for_their_hosts(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    for name in ["a.test", "b.test"] {
        server.set(name, Say::Silence);
    }
    let proxy = super::start(subject, &server, "dns_query_timeout: 60s, ");
    let mut client = h2::Client::connect(proxy.listener("main"));
    let (first, second) = (at("a.test", &upstream.address()), at("b.test", &upstream.address()));
    let ids: Vec<u32> = [&first, &second, &first, &second]
        .iter()
        .map(|host| client.request("GET", "/", &[(":authority", host.as_str())], b""))
        .collect();
    let asked = |name: &str| server.asked(name).0 > 0;
    wait::for_true("both questions", || asked("a.test") && asked("b.test"));
    // Whoever leaves is not waited for.
    client.reset(ids[3], h2::frame::code::CANCEL);
    local(&server, &["b.test", "a.test"]);
    for id in &ids[..3] {
        assert_eq!(client.response(*id).expect("a response").status, 200);
    }
    assert_stats(&proxy, &[("dns_cache.c.dns_query_attempt", 2), ("cluster.up.membership_total", 2)]);
    client.assert_strict();
}

fn hosts_that_speak_http2(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), h2::Upstream::start(|_| h2::Reply::ok("x")));
    local(&server, &["a.test", "b.test"]);
    let cache = server.dns_cache("");
    let options = protocol_options(
        "upstream_http_protocol_options: {auto_sni: true, auto_san_validation: true}, explicit_http_config: \
         {http2_protocol_options: {}}",
    );
    let http = Http::to("up").hcm(&filters(&cache));
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[], &cluster(&cache, &options));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = proxy.client();
    for name in ["a.test", "b.test", "a.test", "b.test"] {
        assert_eq!(ask(&mut client, &at(name, &upstream.address()), "/"), good(), "{name}");
    }
    // Each host has a connection of its own, though the address is the same.
    assert_eq!(upstream.connections(), 2);
    assert_stats(&proxy, &[("cluster.up.upstream_cx_http2_total", 2), ("cluster.up.membership_total", 2)]);
    upstream.assert_strict();
}

fn workers_share_what_is_known(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    local(&server, &["a.test"]);
    let cache = server.dns_cache("");
    let http = Http::to("up").hcm(&filters(&cache));
    let http = http.listener("connection_balance_config: {exact_balance: {}}");
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[], &cluster(&cache, ""));
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "3"]);
    let host = at("a.test", &upstream.address());
    let mut clients: Vec<Client> = (0..9).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.request("GET", "/", &[("host", &host)], b"");
    }
    for client in &mut clients {
        assert_eq!(client.response("GET").expect("a response").text(), "x");
    }
    assert_eq!(server.asked("a.test"), (1, 0));
    assert_stats(
        &proxy,
        &[
            ("dns_cache.c.dns_query_attempt", 1),
            ("dns_cache.c.num_hosts", 1),
            ("cluster.up.membership_total", 1),
            ("cluster.up.membership_change", 1),
            ("cluster.up.upstream_rq_total", 9),
        ],
    );
}

fn answers_with_a_thousand_addresses(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let more = (0..999u16).map(|n| [127, 77, n.to_be_bytes()[0], n.to_be_bytes()[1]].into());
    let all = [[127, 0, 0, 1].into()].into_iter().chain(more).collect();
    server.set("a.test", Say::Addresses(all, 60));
    let proxy = super::start(subject, &server, "");
    let host = at("a.test", &upstream.address());
    assert_eq!(ask(&mut proxy.client(), &host, "/"), good());
    // The answer does not fit a datagram.
    assert_eq!(server.asked("a.test"), (1, 1));
    assert_stats(&proxy, &[("cluster.up.membership_total", 1), ("dns_cache.c.host_address_changed", 1)]);
}

/// Writes version `n` of the cluster, or of none.
fn discover(directory: &Directory, n: u64, cluster: Option<&str>) {
    let kind = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let one = |fields: &str| {
        let fields: String = fields.lines().map(|line| format!("  {line}\n")).collect();
        format!("\n- \"@type\": {kind}\n  name: up\n  connect_timeout: {n}s\n{fields}")
    };
    let list = cluster.map_or_else(|| " []\n".to_owned(), one);
    let path = directory.write("next.yaml", &format!("version_info: \"{n}\"\nresources:{list}"));
    std::fs::rename(&path, path.with_file_name("cds.yaml")).expect("a file");
}

fn the_cluster_changes_under_traffic(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    local(&server, &["a.test"]);
    let (cache, directory) = (server.dns_cache(""), Directory::new());
    let fields = cluster(&cache, "");
    discover(&directory, 1, Some(&fields));
    let source = format!(
        "node: {{id: tested, cluster: tests}}\ndynamic_resources: {{cds_config: {{resource_api_version: V3, path_config_source: \
         {{path: \"{}/cds.yaml\"}}}}}}\n",
        directory.path().display()
    );
    let bootstrap = Bootstrap::new()
        .top(&source)
        .http(Http::to("up").route_config("validate_clusters: false").hcm(&filters(&cache)));
    let proxy = Proxy::start(subject, &bootstrap);
    let (host, over) = (at("a.test", &upstream.address()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let (mut client, mut bad) = (proxy.client(), 0);
            while !over.load(Ordering::SeqCst) {
                bad += usize::from(ask(&mut client, &host, "/") != good());
            }
            bad
        });
        for n in 2..=5 {
            discover(&directory, n, Some(&fields));
            proxy.wait_stat("cluster_manager.cluster_modified", n - 1);
        }
        over.store(true, Ordering::SeqCst);
        // Envoy may refuse a request at the moment of each change.
        let allowed = if subject.is_envoy() { 4 } else { 0 };
        let bad = traffic.join().expect("traffic");
        assert!(bad <= allowed, "{bad}");
    });
    let mut client = proxy.client();
    discover(&directory, 6, None);
    wait::for_true("no cluster", || ask(&mut client, &host, "/").0 == 503);
    discover(&directory, 7, Some(&fields));
    wait::for_true("the cluster again", || ask(&mut client, &host, "/") == good());
    // The filter keeps the cache.
    assert_eq!(server.asked("a.test"), (1, 0));
    assert_eq!(proxy.stat("cluster.up.membership_total"), Some(1));
}
