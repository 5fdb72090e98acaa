//! Clusters whose endpoints clients name (`ORIGINAL_DST`), and where connections to endpoints come from.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http, listener, tcp_chain};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(a_header_names_the_endpoint),
    case!(what_is_no_address_is_counted),
    case!(another_header_and_another_port),
    case!(endpoints_that_nobody_uses_are_dropped),
    case!(a_restored_address_is_the_endpoint),
    case!(metadata_names_the_endpoint),
    case!(tcp_connections_go_where_they_were_going),
    case!(connections_come_from_the_source_address),
    case!(a_source_address_of_nobody_is_an_error_of_the_bind),
    case!(a_socket_option_that_is_refused_fails_the_connection),
    case!(redirected_connections_go_on),
    case!(redirected_connections_are_handed_to_the_listener_of_their_address),
];

const HEADER: &str = "x-envoy-original-dst-host";

fn original_dst(fields: &str) -> String {
    format!("type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\n{fields}")
}

fn by_header(subject: &Subject, fields: &str) -> Proxy {
    let cluster = original_dst(fields);
    Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &cluster))
}

fn a_header_names_the_endpoint(subject: &Subject) {
    let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
    let proxy = by_header(subject, "original_dst_lb_config: {use_http_header: true}");
    let mut client = proxy.client();
    for (upstream, text) in [(&a, "a"), (&b, "b"), (&a, "a"), (&b, "b")] {
        let response = client.get_with("/", &[(HEADER, &upstream.address().to_string())]);
        assert_eq!((response.status, response.text().as_str()), (200, text));
    }
    assert_eq!((a.connections(), b.connections()), (1, 1));
    assert_eq!(a.requests()[0].fields.get(HEADER), Some(&*a.address().to_string()));
    proxy.wait_stat("cluster.up.membership_total", 2);
    proxy.wait_stat("cluster.up.membership_healthy", 2);
    proxy.wait_stat("cluster.up.membership_change", 2);
    let listed = proxy.admin_get("/clusters").text();
    assert!(listed.contains(&format!("up::{}::rq_total::2", a.address())), "{listed}");
    assert_eq!(proxy.log().line(1).get("host"), b.address().to_string());
}

fn what_is_no_address_is_counted(subject: &Subject) {
    let a = Upstream::fixed("a");
    let proxy = by_header(subject, "original_dst_lb_config: {use_http_header: true}");
    let address = a.address().to_string();
    let mut client = proxy.client();
    let mut get = |fields: &[(&str, &str)]| client.get_with("/", fields).status;
    let two = format!("{address},{address}");
    for wrong in ["", "localhost:80", "127.0.0.1", "127.0.0.1:99999", "::1:80", &two] {
        assert_eq!(get(&[(HEADER, wrong)]), 503, "{wrong:?}");
    }
    assert_eq!(get(&[]), 503);
    assert_eq!(get(&[(HEADER, &address), (HEADER, "nonsense")]), 200);
    proxy.wait_stat("cluster.up.original_dst_host_invalid", 6);
    proxy.wait_stat("cluster.up.upstream_cx_none_healthy", 7);
    let line = proxy.log().line(0);
    assert_eq!((line.get("flags"), line.get("details")), ("UH", "no_healthy_upstream"));
}

fn another_header_and_another_port(subject: &Subject) {
    let a = Upstream::fixed("a");
    let port = a.address().port();
    let config = format!(
        "original_dst_lb_config: {{use_http_header: true, http_header_name: x-where, upstream_port_override: {port}}}"
    );
    let proxy = by_header(subject, &config);
    let mut client = proxy.client();
    let response = client.get_with("/", &[("x-where", "127.0.0.1:1")]);
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
    assert_eq!(client.get_with("/", &[(HEADER, &a.address().to_string())]).status, 503);
}

fn endpoints_that_nobody_uses_are_dropped(subject: &Subject) {
    let kept = Upstream::fixed("kept");
    let brief = Upstream::start(|_| Reply::with(200, &[("connection", "close")], b"brief"));
    let proxy = by_header(subject, "cleanup_interval: 0.1s\noriginal_dst_lb_config: {use_http_header: true}");
    let mut client = proxy.client();
    for upstream in [&kept, &brief] {
        let fields = [(HEADER, &*upstream.address().to_string())];
        assert_eq!(client.get_with("/", &fields).status, 200);
    }
    // Asked for and, for one of them, connected; then the one without a connection goes.
    proxy.wait_stat("cluster.up.membership_change", 3);
    proxy.wait_stat("cluster.up.membership_total", 1);
    let listed = proxy.admin_get("/clusters").text();
    assert!(listed.contains(&format!("up::{}::", kept.address())), "{listed}");
    assert!(!listed.contains(&format!("up::{}::", brief.address())), "{listed}");
    let fields = [(HEADER, &*brief.address().to_string())];
    assert_eq!(client.get_with("/", &fields).text(), "brief");
}

const PROXY_PROTOCOL: &str =
    "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";

fn proxy_protocol(fields: &str) -> String {
    format!(
        "listener_filters:\n- {{name: envoy.filters.listener.proxy_protocol, typed_config: {{\"@type\": \
         {PROXY_PROTOCOL}{fields}}}}}\n"
    )
}

/// Tells over the PROXY protocol that the client wanted to go to `address`.
fn wanting(address: SocketAddr) -> Vec<u8> {
    format!("PROXY TCP4 1.2.3.4 {} 5 {}\r\n", address.ip(), address.port()).into_bytes()
}

fn a_restored_address_is_the_endpoint(subject: &Subject) {
    let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
    let http = Http::to("up")
        .listener(&proxy_protocol(""))
        .logs("local", "%DOWNSTREAM_LOCAL_ADDRESS%")
        .logs("direct", "%DOWNSTREAM_DIRECT_LOCAL_ADDRESS%");
    // A header names the endpoint first of all, when it may.
    let cluster = original_dst("original_dst_lb_config: {use_http_header: true}");
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &cluster));
    for (upstream, text) in [(&a, "a"), (&b, "b")] {
        let mut client = proxy.client();
        client.send(&wanting(upstream.address()));
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, text));
        let elsewhere = [(HEADER, &*a.address().to_string())];
        assert_eq!(client.get_with("/", &elsewhere).text(), "a");
    }
    let line = proxy.log().line(0);
    assert_eq!(line.get("local"), a.address().to_string());
    assert_eq!(line.get("direct"), proxy.listener("main").to_string());
    // An address that is that of the socket was not restored.
    let mut client = proxy.client();
    client.send(&wanting(proxy.listener("main")));
    assert_eq!(client.get("/").status, 503);
}

fn metadata_names_the_endpoint(subject: &Subject) {
    let a = Upstream::fixed("a");
    let rule = ", rules: [{tlv_type: 0xEA, on_tlv_present: {metadata_namespace: ns, key: where}}]";
    let cluster = original_dst("original_dst_lb_config: {metadata_key: {key: ns, path: [{key: where}]}}");
    let http = Http::to("up").listener(&proxy_protocol(&rule.replace("0xEA", "234")));
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &cluster));
    for (value, status) in [(a.address().to_string(), 200), ("nonsense".to_owned(), 503)] {
        let size = u8::try_from(value.len()).unwrap_or(u8::MAX);
        let length = [0, 12 + 3 + size];
        let addresses = [1, 2, 3, 4, 127, 0, 0, 1, 0, 5, 0, 1];
        let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length, &addresses, &[234, 0, size]].concat();
        let mut client = proxy.client();
        client.send(&header);
        client.send(value.as_bytes());
        // Without metadata the address of the header counts, where nobody listens.
        assert_eq!(client.get("/").status, status, "{value}");
    }
    proxy.wait_stat("cluster.up.original_dst_host_invalid", 1);
}

fn tcp_connections_go_where_they_were_going(subject: &Subject) {
    let a = Upstream::fixed("a");
    let chain = tcp_chain("main", "cluster: up", "", "");
    let bootstrap = Bootstrap::new()
        .listener(&listener("main", &proxy_protocol(", allow_requests_without_proxy_protocol: true"), &chain))
        .cluster("up", &[], &original_dst(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = proxy.client();
    client.send(&wanting(a.address()));
    assert_eq!(client.get("/").text(), "a");
    let mut lost = proxy.client();
    lost.send(b"GET / HTTP/1.1\r\n");
    assert!(matches!(lost.end(), End::Closed(_) | End::Reset));
    assert_eq!(proxy.log().line(0).get("flags"), "UH");
    proxy.wait_stat("cluster.up.upstream_cx_none_healthy", 1);
}

/// Answers every request with the address that its connection came from.
fn whoami() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let mut bytes = [0; 4096];
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => seen.extend_from_slice(&bytes[..count]),
                }
            }
            let ip = peer.ip().to_string();
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{ip}", ip.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

const SIX: &str = "source_address: {address: 127.0.0.6, port_value: 0}";

fn connections_come_from_the_source_address(subject: &Subject) {
    let extra = "extra_source_addresses: [{address: {address: \"::1\", port_value: 0}}]";
    let cluster = format!("upstream_bind_config: {{{SIX}, {extra}}}");
    let own = "upstream_bind_config: {source_address: {address: 127.0.0.7, port_value: 0}}";
    let top = format!("cluster_manager: {{upstream_bind_config: {{{SIX}}}}}");
    let address = whoami();
    for (cluster, top, source) in
        [(&*cluster, "", "127.0.0.6"), ("", &*top, "127.0.0.6"), (own, &*top, "127.0.0.7")]
    {
        let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[address], cluster).top(top);
        let proxy = Proxy::start(subject, &bootstrap);
        assert_eq!(proxy.client().get("/").text(), source, "{cluster} {top}");
    }
}

/// The access log's line of a request to an endpoint that cannot be connected to.
fn refused(subject: &Subject, bind: &str) -> Proxy {
    let a = Upstream::fixed("a");
    let cluster = format!("upstream_bind_config: {{{bind}}}");
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[a.address()], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(proxy.log().line(0).get("flags"), "UF");
    proxy.wait_stat("cluster.up.upstream_cx_connect_fail", 1);
    proxy
}

fn a_source_address_of_nobody_is_an_error_of_the_bind(subject: &Subject) {
    let proxy = refused(subject, "source_address: {address: 192.0.2.77, port_value: 0}");
    proxy.wait_stat("cluster.up.bind_errors", 1);
}

fn a_socket_option_that_is_refused_fails_the_connection(subject: &Subject) {
    refused(subject, "socket_options: [{level: 1, name: 9999, int_value: 1}]");
    refused(subject, &format!("{SIX}, socket_options: [{{level: 1, name: 9999, int_value: 1}}]"));
    // Only for sockets of the other family.
    let a = Upstream::fixed("a");
    let cluster = "upstream_bind_config: {socket_options: [{level: 1, name: 9999, int_value: 1, ip_version: \
                   SOCKET_IP_VERSION_IPV6}, {level: 1, name: 8, int_value: 65536}]}";
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[a.address()], cluster);
    assert_eq!(Proxy::start(subject, &bootstrap).client().get("/").status, 200);
}

/// Set in a process whose network is its own.
const INSIDE: &str = "MILLRACE_E2E_NAMESPACE";

/// True in a network of the test's own, which the case is called in again if this is not one. Without the means
/// to make one (root, `iptables`) the case says so and ends.
fn own_network(subject: &Subject, case: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let probe = "ip link set lo up && iptables -t nat -L OUTPUT";
    let can = Command::new("unshare").args(["--net", "sh", "-c", probe]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        println!("{case}: no network namespace with iptables can be had here");
        return false;
    }
    let kind = subject.kind.to_string();
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "e2e"])
        .arg(std::env::current_exe().expect("the path of this program"))
        .args(["--exact", &format!("{kind}::original_dst::{case}")])
        .env(INSIDE, "1")
        .env("MILLRACE_E2E_SUBJECT", &kind)
        .output()
        .expect("run this program in a network of its own");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Connections to this port of loopback go to the proxy, but for those that it makes itself.
fn redirect(port: u16, to: u16) {
    let rule = format!("-t nat -A OUTPUT -p tcp ! -s 127.0.0.6 --dport {port} -j REDIRECT --to-ports {to}");
    let done = Command::new("iptables").args(rule.split(' ')).status().expect("iptables");
    assert!(done.success());
}

const RESTORE: &str = "listener_filters:\n- {name: envoy.filters.listener.original_dst, typed_config: {\"@type\": \
                       type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}\n";

fn redirected_connections_go_on(subject: &Subject) {
    if !own_network(subject, "redirected_connections_go_on") {
        return;
    }
    let cluster = original_dst(&format!("upstream_bind_config: {{{SIX}}}"));
    let chain = tcp_chain("tcp", "cluster: up", "", "");
    let bootstrap = Bootstrap::new()
        .http(Http::to("up").listener(RESTORE).logs("local", "%DOWNSTREAM_LOCAL_ADDRESS%"))
        .listener(&listener("tcp", RESTORE, &chain))
        .cluster("up", &[], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    for name in ["main", "tcp"] {
        let address = whoami();
        redirect(address.port(), proxy.listener(name).port());
        let mut client = Client::connect(address);
        assert_eq!(client.get("/").text(), "127.0.0.6", "{name}");
        drop(client);
        if name == "main" {
            assert_eq!(proxy.log().line(0).get("local"), address.to_string());
        }
    }
    proxy.wait_stat("cluster.up.membership_total", 2);
}

fn redirected_connections_are_handed_to_the_listener_of_their_address(subject: &Subject) {
    if !own_network(subject, "redirected_connections_are_handed_to_the_listener_of_their_address") {
        return;
    }
    let says = |name: &str, address: &str, port: u16| {
        let reply = format!(
            "- match: {{prefix: \"/\"}}\n  direct_response: {{status: 200, body: {{inline_string: {name}}}}}\n"
        );
        let yaml = Http::routes(&reply).named(name).listener("bind_to_port: false\n").yaml();
        yaml.replace(
            "{address: 127.0.0.1, port_value: 0}",
            &format!("{{address: {address}, port_value: {port}}}"),
        )
    };
    let bootstrap = Bootstrap::new()
        .top("layered_runtime: {layers: [{name: s, static_layer: {\"envoy.deprecated_features:envoy.config.listener.v3.Listener.use_original_dst\": true}}]}")
        .listener(&says("exact", "127.0.0.1", 7001))
        .listener(&says("port", "0.0.0.0", 7002))
        .http(Http::routes("- match: {prefix: \"/\"}\n  direct_response: {status: 200, body: {inline_string: own}}\n").listener("use_original_dst: true\n"));
    let proxy = Proxy::start(subject, &bootstrap);
    let own = proxy.listener("main").port();
    for (port, text) in [(7001, "exact"), (7002, "port"), (7003, "own")] {
        redirect(port, own);
        assert_eq!(Client::connect(SocketAddr::from(([127, 0, 0, 1], port))).get("/").text(), text);
    }
    // Directly, it is for itself; what is not bound cannot be reached.
    assert_eq!(proxy.client().get("/").text(), "own");
    wait::for_true("all listeners to be listed", || proxy.bound("exact").is_some());
    proxy.wait_stat("http.exact.downstream_rq_2xx", 1);
    assert!(TcpStream::connect(("127.0.0.1", 7004)).is_err());
}
