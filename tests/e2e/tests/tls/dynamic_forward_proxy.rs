//! The dynamic forward proxy and TLS: endpoints prove that they are the host that was asked for, and connections go where
//! their server name says.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http, listener};
use millrace_support::dns::{NameServer, Say};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tls::server::Options;
use millrace_support::tls::{Client, Context, Server};
use millrace_support::wait;

use crate::common::{STAT_PREFIX, hello, root, server_identity};

pub(crate) const CASES: &[Case] = &[
    case!(endpoints_are_the_host_that_was_asked_for),
    case!(endpoints_may_be_anybody),
    case!(the_port_of_tls),
    case!(connections_go_where_their_server_name_says),
    case!(connections_whose_server_name_cannot_be_resolved),
    case!(connections_wait_for_room),
];

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

fn cluster(cache: &str, more: &str) -> String {
    format!(
        "lb_policy: CLUSTER_PROVIDED\ncluster_type: {{name: envoy.clusters.dynamic_forward_proxy, typed_config: {{\"@type\": \
         {EXTENSIONS}.clusters.dynamic_forward_proxy.v3.ClusterConfig, {cache}}}}}\n{more}"
    )
}

/// An HTTP listener in front of a TLS cluster that trusts [`root`].
fn forward(subject: &Subject, names: &NameServer, insecure: bool) -> Proxy {
    let cache = names.dns_cache("");
    let filters = format!(
        "http_filters:\n- name: dfp\n  typed_config: {{\"@type\": \
         {EXTENSIONS}.filters.http.dynamic_forward_proxy.v3.FilterConfig, {cache}}}\n- name: router\n  typed_config: {{\"@type\": \
         {EXTENSIONS}.filters.http.router.v3.Router}}\n"
    );
    let mut fields = cluster(&cache, &Context::new().trusts(&root()).upstream());
    if insecure {
        fields = cluster(
            &format!("allow_insecure_cluster_options: true, {cache}"),
            &format!("upstream_http_protocol_options: {{}}\n{}", Context::new().trusts(&root()).upstream()),
        );
    }
    Proxy::start(subject, &Bootstrap::new().http(Http::to("up").hcm(&filters)).cluster("up", &[], &fields))
}

fn ask(proxy: &Proxy, host: &str) -> u16 {
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", host)], b"");
    client.response("GET").expect("a response").status
}

fn endpoints_are_the_host_that_was_asked_for(subject: &Subject) {
    let (names, upstream) = (NameServer::start(), hello());
    let server = Server::start(Options::new(server_identity(), upstream.address()));
    let port = server.address().port();
    for name in ["server.test", "other.test"] {
        names.set_addresses(name, &["127.0.0.1"]);
    }
    let proxy = forward(subject, &names, false);
    assert_eq!(ask(&proxy, &format!("server.test:{port}")), 200);
    assert_eq!(server.wait_seen(0).name.as_deref(), Some("server.test"));
    assert_eq!(ask(&proxy, &format!("other.test:{port}")), 503);
    proxy.wait_stat("cluster.up.ssl.fail_verify_san", 1);
    // Another host at the same address: the connection of the first is not its own.
    assert_eq!(proxy.stat("cluster.up.upstream_cx_total"), Some(2));
    assert_eq!(ask(&proxy, &format!("127.0.0.1:{port}")), 503);
    proxy.wait_stat("cluster.up.ssl.fail_verify_san", 2);
}

fn endpoints_may_be_anybody(subject: &Subject) {
    let (names, upstream) = (NameServer::start(), hello());
    let server = Server::start(Options::new(server_identity(), upstream.address()));
    names.set_addresses("other.test", &["127.0.0.1"]);
    let proxy = forward(subject, &names, true);
    assert_eq!(ask(&proxy, &format!("other.test:{}", server.address().port())), 200);
    assert_eq!(server.wait_seen(0).name, None);
}

fn the_port_of_tls(subject: &Subject) {
    let names = NameServer::start();
    // Nobody listens there.
    names.set_addresses("a.test", &["127.77.77.77"]);
    let proxy = forward(subject, &names, false);
    assert_eq!(ask(&proxy, "a.test"), 503);
    let listed = proxy.admin_get("/clusters").text();
    assert!(listed.contains("up::127.77.77.77:443::hostname::a.test:443"), "{listed}");
}

/// A TCP proxy to the server name of each connection, at this port.
fn by_server_name(subject: &Subject, names: &NameServer, port: u16, more: &str) -> Proxy {
    let cache = names.dns_cache(more);
    let chain = format!(
        "- filters:\n  - name: sni\n    typed_config: {{\"@type\": \
         {EXTENSIONS}.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig, port_value: {port}, {cache}}}\n  - name: tcp\n    \
         typed_config: {{\"@type\": {EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: tcp, cluster: up}}\n"
    );
    let inspector = format!(
        "{STAT_PREFIX}listener_filters:\n- {{name: tls, typed_config: {{\"@type\": \
         {EXTENSIONS}.filters.listener.tls_inspector.v3.TlsInspector}}}}\n"
    );
    let text = listener("main", &inspector, &chain);
    Proxy::start(subject, &Bootstrap::new().listener(&text).cluster("up", &[], &cluster(&cache, "")))
}

fn connections_go_where_their_server_name_says(subject: &Subject) {
    let (names, upstream) = (NameServer::start(), hello());
    let server = Server::start(Options::new(server_identity(), upstream.address()));
    for name in ["a.test", "b.test"] {
        names.set_addresses(name, &["127.0.0.1"]);
    }
    let proxy = by_server_name(subject, &names, server.address().port(), "");
    for (n, name) in ["a.test", "b.test", "a.test"].iter().enumerate() {
        let link = Client::new().name(name).connect(proxy.listener("main"));
        assert_eq!(link.raw().get("/").text(), "hello");
        assert_eq!(server.wait_seen(n).name.as_deref(), Some(*name));
    }
    assert_eq!((names.asked("a.test"), names.asked("b.test")), ((1, 0), (1, 0)));
    for (stat, value) in [
        ("dns_cache.c.dns_query_success", 2),
        ("cluster.up.membership_total", 2),
        ("tcp.tcp.downstream_cx_total", 3),
        ("cluster.up.upstream_cx_total", 3),
    ] {
        assert_eq!(proxy.stat(stat), Some(value), "{stat}");
    }
}

fn connections_whose_server_name_cannot_be_resolved(subject: &Subject) {
    let names = NameServer::start();
    let proxy = by_server_name(subject, &names, 443, "");
    let address = proxy.listener("main");
    for _ in 0..2 {
        assert!(Client::new().name("nobody.test").try_connect(address).is_err());
    }
    proxy.wait_stat("cluster.up.upstream_cx_none_healthy", 2);
    assert_eq!(proxy.stat("dns_cache.c.dns_query_attempt"), Some(1));
    // Without a name there is no host.
    let mut plain = proxy.client();
    plain.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    assert!(plain.end() != millrace_support::raw::End::Open);
    assert_eq!(proxy.stat("cluster.up.upstream_cx_total"), Some(0));
}

fn connections_wait_for_room(subject: &Subject) {
    let (names, upstream) = (NameServer::start(), hello());
    let server = Server::start(Options::new(server_identity(), upstream.address()));
    names.set("silent.test", Say::Silence);
    let more = "dns_query_timeout: 60s, dns_cache_circuit_breaker: {max_pending_requests: 1}, ";
    let proxy = by_server_name(subject, &names, server.address().port(), more);
    let address = proxy.listener("main");
    let waiting = std::thread::spawn(move || {
        let link = Client::new().name("silent.test").connect(address);
        link.raw().get("/").text()
    });
    wait::for_true("a question", || names.asked("silent.test").0 > 0);
    assert!(Client::new().name("a.test").try_connect(address).is_err());
    proxy.wait_stat("dns_cache.c.dns_rq_pending_overflow", 1);
    // What was said meanwhile is not lost.
    names.set_addresses("silent.test", &["127.0.0.1"]);
    assert_eq!(waiting.join().expect("an exchange"), "hello");
}
