//! Checks over TLS: which transport socket, which protocols are offered, and what a failed handshake tells.

use std::net::SocketAddr;

use super::endpoint::Endpoint;
use super::{bootstrap, checked, stat, wait_flags, wait_for_more};
use millrace_e2e::{Case, case};
use millrace_support::any::{Answer, Origin, Version, http2_cluster};
use millrace_support::h2;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::tls::server::Options;
use millrace_support::tls::{Authority, Context, Identity, Leaf, Server, authority};

pub(crate) const CASES: &[Case] = &[
    case!(the_transport_socket_of_the_cluster_is_used),
    case!(protocols_are_offered_as_asked),
    case!(criteria_choose_a_socket_for_checks_alone),
    case!(http2_is_checked_over_tls),
    case!(grpc_is_checked_over_tls),
    case!(handshakes_that_hang_are_late),
    case!(an_endpoint_without_tls_fails),
];

const HTTP: &str = "http_health_check: {path: /hc}";

fn identity() -> Identity {
    authority::shared().issue(&Leaf::dns("checked.test"))
}

/// Believes the shared authority and asks for `checked.test`; sessions are not resumed.
fn context() -> Context {
    Context::new().trusts(&authority::shared()).field("sni: checked.test, max_session_keys: 0")
}

/// A TLS server in front of an endpoint; `protocols` are those that it agrees upon.
fn secure(endpoint: SocketAddr, protocols: &[&str]) -> Server {
    Server::start(Options::new(&identity(), endpoint).alpn(protocols))
}

fn the_transport_socket_of_the_cluster_is_used(subject: &Subject) {
    let endpoint = Endpoint::new();
    let server = secure(endpoint.address(), &[]);
    let check = format!("{HTTP}, reuse_connection: false");
    let proxy = checked(subject, &[server.address()], &check, &context().upstream());
    wait_flags(&proxy, server.address(), "healthy");
    assert_eq!(server.wait_seen(0).name.as_deref(), Some("checked.test"));
    assert!(proxy.stat("cluster.up.ssl.handshake") > Some(0));
    // Whoever shows the wrong certificate fails as one whose connections fail.
    server.rotate(&Authority::root("stranger").issue(&Leaf::dns("checked.test")));
    wait_flags(&proxy, server.address(), "/failed_active_hc");
    assert!(stat(&proxy, "network_failure") >= 2);
    assert!(proxy.stat("cluster.up.ssl.fail_verify_error") > Some(0));
    server.rotate(&identity());
    wait_flags(&proxy, server.address(), "healthy");
}

fn protocols_are_offered_as_asked(subject: &Subject) {
    let options = ", tls_options: {alpn_protocols: [one, two]}";
    for (context, options, offered) in [
        (context(), options, &["one", "two"][..]),
        (context().alpn(&["own"]), options, &["one", "two"]),
        (context().alpn(&["own"]), "", &["own"]),
        (context(), "", &[]),
    ] {
        let endpoint = Endpoint::new();
        let server = secure(endpoint.address(), &[]);
        let check = format!("{HTTP}{options}");
        let proxy = checked(subject, &[server.address()], &check, &context.upstream());
        wait_flags(&proxy, server.address(), "healthy");
        assert_eq!(server.wait_seen(0).offered, offered, "{options}");
    }
}

fn criteria_choose_a_socket_for_checks_alone(subject: &Subject) {
    let endpoint = Endpoint::new();
    let server = secure(endpoint.address(), &[]);
    let sockets = format!(
        "transport_socket_matches:\n- {{name: secure, match: {{checks: secure}}, transport_socket: {}}}\n",
        context().socket("UpstreamTlsContext")
    );
    let load = format!(
        "load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n    - endpoint: {{address: {{socket_address: \
         {{address: 127.0.0.1, port_value: {}}}}}, health_check_config: {{port_value: {}}}}}\n",
        endpoint.address().port(),
        server.address().port()
    );
    let check = format!("{HTTP}, transport_socket_match_criteria: {{checks: secure}}");
    let proxy = Proxy::start(subject, &bootstrap(&[], &check, &format!("{sockets}{load}")));
    wait_flags(&proxy, endpoint.address(), "healthy");
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!((endpoint.served(), server.seen().len()), (1, 1), "traffic goes in the clear");
    assert_eq!(server.wait_seen(0).name.as_deref(), Some("checked.test"));
}

fn http2_is_checked_over_tls(subject: &Subject) {
    let origin = Origin::start(Version::Http2, |_| Answer { status: 200, ..Answer::default() });
    let check = "http_health_check: {path: /hc, codec_client_type: HTTP2}";
    for protocols in [&["h2"][..], &[]] {
        let server = secure(origin.address(), protocols);
        let context = if protocols.is_empty() { context() } else { context().alpn(&["h2"]) };
        let proxy = checked(subject, &[server.address()], check, &context.upstream());
        wait_flags(&proxy, server.address(), "healthy");
        wait_for_more(&proxy, "success", 3);
        // A check that was late under load has cost its connection, and no other has.
        let connections = server.seen().len() as u64;
        assert!(connections <= 1 + stat(&proxy, "failure"), "{connections} connections");
    }
    let asked = origin.requests();
    assert!(asked.iter().all(|one| (&*one.path, &*one.authority) == ("/hc", "up")), "{:?}", asked.first());
}

fn grpc_is_checked_over_tls(subject: &Subject) {
    let origin = h2::Upstream::start(|_| {
        h2::Reply::default()
            .head(200, &[("content-type", "application/grpc")], false)
            .data(&[0, 0, 0, 0, 2, 8, 1], false)
            .trailers(&[("grpc-status", "0")])
    });
    let server = secure(origin.address(), &["h2"]);
    let more = format!("{}{}", context().alpn(&["h2"]).upstream(), http2_cluster(""));
    let proxy = checked(subject, &[server.address()], "grpc_health_check: {service_name: s}", &more);
    wait_flags(&proxy, server.address(), "healthy");
    assert_eq!(origin.heads()[0].get(":scheme"), "https");
}

fn handshakes_that_hang_are_late(subject: &Subject) {
    let silent = TcpUpstream::start(Role::Silent);
    let proxy = checked(subject, &[silent.address()], HTTP, &context().upstream());
    wait_flags(&proxy, silent.address(), "/failed_active_hc/active_hc_timeout");
    let before = silent.connections();
    wait_for_more(&proxy, "failure", 2);
    assert!(silent.connections() > before, "each check has a connection of its own");
}

fn an_endpoint_without_tls_fails(subject: &Subject) {
    let endpoint = Endpoint::new();
    let proxy = checked(subject, &[endpoint.address()], HTTP, &context().upstream());
    wait_flags(&proxy, endpoint.address(), "/failed_active_hc");
    assert!(stat(&proxy, "network_failure") > 0);
    assert!(endpoint.checks().is_empty());
}
