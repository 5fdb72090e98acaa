//! Copies of requests.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::Http;
use millrace_support::h2;
use millrace_support::message::Response;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::tcp::Refused;
use millrace_support::upstream::{Reply, Upstream};

use super::{route, start, start_http};

pub(crate) const CASES: &[Case] = &[
    case!(a_copy_of_the_request),
    case!(heads_of_copies),
    case!(a_field_names_the_cluster),
    case!(levels_and_fractions),
    case!(policies_of_the_cluster),
    case!(nobody_waits_for_a_copy),
    case!(bodies_are_copied_as_they_come),
    case!(a_request_that_is_cut_cuts_its_copies),
    case!(requests_that_go_nowhere_are_not_copied),
    case!(a_copy_meets_the_breakers_of_its_cluster),
    case!(copies_over_http2),
    case!(a_copy_that_does_not_read_is_given_up, not_envoy: "Envoy slows the request down to the copy"),
];

const COPY: &str = "cluster: up, request_mirror_policies: [{cluster: copy}]";

/// A GET with all of its fields.
fn get(client: &mut Client, target: &str, fields: &[(&str, &str)]) -> Response {
    client.request("GET", target, fields, b"");
    client.response("GET").expect("a response")
}

fn pair() -> (Upstream, Upstream) {
    (Upstream::fixed("answer"), Upstream::fixed("thrown away"))
}

fn a_copy_of_the_request(subject: &Subject) {
    let (up, copy) = pair();
    let routes = route("/", &format!("{COPY}, prefix_rewrite: /new/, timeout: 3s"));
    let proxy = start(subject, &routes, &[("up", up.address(), ""), ("copy", copy.address(), "")]);
    let response = get(&mut proxy.client(), "/x?y", &[("host", "a:80"), ("x-mine", "1")]);
    assert_eq!((response.status, response.text()), (200, "answer".to_owned()));
    copy.wait_for(1);
    let (sent, copied) = (up.only_request(), copy.only_request());
    assert_eq!((copied.method.as_str(), copied.target.as_str()), ("GET", "/new/x?y"));
    assert_eq!((sent.fields.get("host"), copied.fields.get("host")), (Some("a:80"), Some("a-shadow:80")));
    for name in ["x-mine", "x-request-id", "x-envoy-expected-rq-timeout-ms", "x-envoy-original-path"] {
        assert!(sent.fields.has(name), "{name}");
        assert_eq!(copied.fields.get(name), sent.fields.get(name), "{name}");
    }
    assert_eq!((sent.fields.get("x-envoy-internal"), sent.fields.has("x-forwarded-for")), (None, false));
    assert_eq!(copied.fields.get("x-envoy-internal"), Some("true"));
    assert!(copied.fields.has("x-forwarded-for"));
    for name in ["upstream_rq_200", "internal.upstream_rq_200", "upstream_rq_completed", "upstream_rq_total"]
    {
        proxy.wait_stat(&format!("cluster.copy.{name}"), 1);
    }
    proxy.wait_stat("cluster.copy.upstream_rq_active", 0);
    assert_eq!(proxy.stat("http.main.rq_total"), Some(1));
    assert_eq!(proxy.stat("http.main.downstream_rq_total"), Some(1));
    // The connection serves the next copy.
    proxy.client().get("/");
    copy.wait_for(2);
    assert_eq!(copy.connections(), 1);
    copy.assert_strict();
}

fn heads_of_copies(subject: &Subject) {
    let (up, copy) = pair();
    let changed = "{cluster: copy, disable_shadow_host_suffix_append: true, request_headers_mutations: [{remove: x-a}, \
                   {append: {header: {key: x-b, value: \"%REQ(x-c)%-%PROTOCOL%\"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}]}";
    let policies = format!("[{changed}, {{cluster: copy, host_rewrite_literal: other.example}}]");
    let routes = route("/", &format!("cluster: up, request_mirror_policies: {policies}"));
    let proxy = start(subject, &routes, &[("up", up.address(), ""), ("copy", copy.address(), "")]);
    let fields =
        [("host", "a:80"), ("x-a", "1"), ("x-b", "2"), ("x-c", "3"), ("x-forwarded-for", "10.9.8.7")];
    assert_eq!(get(&mut proxy.client(), "/", &fields).status, 200);
    copy.wait_for(2);
    let seen = copy.requests();
    let of =
        |host: &str| seen.iter().find(|r| r.fields.get("host") == Some(host)).expect("a copy with the host");
    let (first, second) = (of("a:80"), of("other.example"));
    assert_eq!((first.fields.get("x-a"), first.fields.get("x-b")), (None, Some("3-HTTP/1.1")));
    assert_eq!((second.fields.get("x-a"), second.fields.get("x-b")), (Some("1"), Some("2")));
    let chain = first.fields.get("x-forwarded-for").unwrap_or_default();
    assert!(chain.starts_with("10.9.8.7,") && !chain.contains(' '), "{chain}");
    let sent = up.only_request();
    assert_eq!((sent.fields.get("x-a"), sent.fields.get("x-b")), (Some("1"), Some("2")));
}

fn a_field_names_the_cluster(subject: &Subject) {
    let (up, copy) = pair();
    let routes = route("/", "cluster: up, request_mirror_policies: [{cluster_header: X-Shadow}]");
    let proxy = start(subject, &routes, &[("up", up.address(), ""), ("copy", copy.address(), "")]);
    let mut client = proxy.client();
    for fields in [&[][..], &[("x-shadow", "")], &[("x-shadow", "nobody")], &[("x-shadow", "copy")]] {
        assert_eq!(client.get_with("/", fields).status, 200, "{fields:?}");
    }
    copy.wait_for(1);
    assert_eq!((up.requests().len(), copy.only_request().fields.get("x-shadow")), (4, Some("copy")));
}

fn levels_and_fractions(subject: &Subject) {
    let (up, copy) = pair();
    let never = "{cluster: copy, runtime_fraction: {default_value: {numerator: 0}}}";
    let hosts = format!(
        "- name: own\n  domains: [own]\n  request_mirror_policies: [{{cluster: copy, host_rewrite_literal: of-host}}]\n  routes:\n\
         \x20 - match: {{prefix: /never}}\n    route: {{cluster: up, request_mirror_policies: [{never}]}}\n\
         \x20 - match: {{prefix: /}}\n    route: {{cluster: up}}\n\
         - name: rest\n  domains: [\"*\"]\n  routes:\n  - match: {{prefix: /}}\n    route: {{cluster: up}}\n"
    );
    let table = "request_mirror_policies: [{cluster: copy, host_rewrite_literal: of-table}]";
    let http = Http::virtual_hosts(&hosts).route_config(table);
    let proxy = start_http(subject, http, &[("up", up.address(), ""), ("copy", copy.address(), "")]);
    for (host, path, copied) in
        [("own", "/", Some("of-host")), ("own", "/never", None), ("other", "/", Some("of-table"))]
    {
        let before = copy.requests().len();
        assert_eq!(get(&mut proxy.client(), path, &[("host", host)]).status, 200);
        if let Some(expected) = copied {
            copy.wait_for(before + 1);
            assert_eq!(copy.requests()[before].fields.get("host"), Some(expected));
        }
    }
    assert_eq!((up.requests().len(), copy.requests().len()), (3, 2));
}

/// They take the place of the route's.
fn policies_of_the_cluster(subject: &Subject) {
    let (up, copy) = pair();
    let options = millrace_support::any::protocol_options(
        "explicit_http_config: {http_protocol_options: {}}, \
         request_mirror_policies: [{cluster: copy, host_rewrite_literal: of-cluster}]",
    );
    let routes = [
        route(
            "/own",
            "cluster: up, request_mirror_policies: [{cluster: copy, host_rewrite_literal: of-route}]",
        ),
        route("/", "cluster: up"),
    ];
    let clusters = [("up", up.address(), &options[..]), ("copy", copy.address(), "")];
    let proxy = start(subject, &routes.concat(), &clusters);
    for (number, path) in ["/own", "/"].into_iter().enumerate() {
        assert_eq!(get(&mut proxy.client(), path, &[("host", "a")]).status, 200);
        copy.wait_for(number + 1);
        assert_eq!(copy.requests()[number].fields.get("host"), Some("of-cluster"), "{path}");
    }
}

fn nobody_waits_for_a_copy(subject: &Subject) {
    let (up, hole) = (Upstream::fixed("answer"), Upstream::start(|_| Reply::hang()));
    let nobody = Refused::new();
    let policies = "[{cluster: copy}, {cluster: nobody}]";
    let routes = route("/", &format!("cluster: up, timeout: 0.6s, request_mirror_policies: {policies}"));
    let clusters = [("up", up.address(), ""), ("copy", hole.address(), ""), ("nobody", nobody.address(), "")];
    let proxy = start(subject, &routes, &clusters);
    let began = Instant::now();
    assert_eq!(proxy.client().get("/").status, 200);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    proxy.wait_stat("cluster.copy.upstream_rq_timeout", 1);
    proxy.wait_stat("cluster.copy.internal.upstream_rq_504", 1);
    proxy.wait_stat("cluster.copy.upstream_rq_active", 0);
    proxy.wait_stat("cluster.nobody.internal.upstream_rq_503", 1);
    let line = proxy.log().line(0);
    assert_eq!(line.verdict(), ("200", "-", "via_upstream"));
}

fn bodies_are_copied_as_they_come(subject: &Subject) {
    let (up, copy) = (Upstream::echo(), Upstream::fixed("thrown away"));
    let routes = route("/", COPY);
    let proxy = start(subject, &routes, &[("up", up.address(), ""), ("copy", copy.address(), "")]);
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc");
    proxy.wait_stat("cluster.copy.upstream_rq_active", 1);
    client.send(b"def");
    assert_eq!(client.response("POST").map(|r| r.text()), Ok("abcdef".to_owned()));
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n");
    assert_eq!(client.response("POST").map(|r| r.text()), Ok("xyz".to_owned()));
    let long = "0123456789".repeat(60_000);
    assert_eq!(client.exchange("POST", "/", &[], long.as_bytes()).text(), long);
    copy.wait_for(3);
    let mut bodies: Vec<Vec<u8>> = copy.requests().into_iter().map(|r| r.body).collect();
    bodies.sort_by_key(Vec::len);
    assert!(bodies == [b"xyz".to_vec(), b"abcdef".to_vec(), long.into_bytes()]);
    copy.assert_strict();
    up.assert_strict();
}

fn a_request_that_is_cut_cuts_its_copies(subject: &Subject) {
    let (up, copy) = pair();
    let routes = route("/", COPY);
    let proxy = start(subject, &routes, &[("up", up.address(), ""), ("copy", copy.address(), "")]);
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc");
    proxy.wait_stat("cluster.copy.upstream_rq_active", 1);
    client.reset();
    proxy.wait_stat("cluster.copy.upstream_rq_active", 0);
    proxy.wait_stat("cluster.copy.upstream_cx_destroy_local_with_active_rq", 1);
    proxy.wait_stat("cluster.copy.upstream_cx_active", 0);
    assert_eq!(copy.requests().len(), 0);
}

fn requests_that_go_nowhere_are_not_copied(subject: &Subject) {
    let (up, copy) = pair();
    let mirrored = "request_mirror_policies: [{cluster: copy}]";
    let routes = [
        route("/none", &format!("cluster: none, {mirrored}")),
        route("/over", &format!("cluster: over, {mirrored}")),
        route("/", &format!("cluster: up, {mirrored}")),
    ]
    .concat();
    let full = "circuit_breakers: {thresholds: [{max_pending_requests: 0}]}";
    let bootstrap = millrace_support::bootstrap::Bootstrap::new()
        .http(Http::routes(&routes))
        .cluster("up", &[up.address()], "")
        .cluster("over", &[up.address()], full)
        .cluster("copy", &[copy.address()], "")
        .cluster("none", &[], "load_assignment: {cluster_name: none}");
    let proxy = millrace_support::process::Proxy::start(subject, &bootstrap);
    let mut client = proxy.client();
    assert_eq!((client.get("/none").status, client.get("/over").status), (503, 503));
    assert_eq!(client.get("/").status, 200);
    copy.wait_for(1);
    assert_eq!(copy.only_request().target, "/");
}

fn a_copy_meets_the_breakers_of_its_cluster(subject: &Subject) {
    let (up, copy) = pair();
    let full = "circuit_breakers: {thresholds: [{max_pending_requests: 0}]}";
    let routes = route("/", COPY);
    let proxy = start(subject, &routes, &[("up", up.address(), ""), ("copy", copy.address(), full)]);
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.get("x-envoy-overloaded")), (200, None));
    proxy.wait_stat("cluster.copy.upstream_rq_pending_overflow", 1);
    proxy.wait_stat("cluster.copy.internal.upstream_rq_503", 1);
    assert_eq!(copy.connections(), 0);
}

fn copies_over_http2(subject: &Subject) {
    let up = h2::upstream::Upstream::fixed("answer");
    let (copy, plain) = (h2::upstream::Upstream::fixed("thrown away"), Upstream::fixed("thrown away"));
    let policies = "[{cluster: copy}, {cluster: plain}]";
    let routes = route("/", &format!("cluster: up, request_mirror_policies: {policies}"));
    let http2 = http2_cluster("");
    let clusters =
        [("up", up.address(), &*http2), ("copy", copy.address(), &*http2), ("plain", plain.address(), "")];
    let proxy = start(subject, &routes, &clusters);
    let mut client = h2::client::Client::connect(proxy.listener("main"));
    let id = client.request("POST", "/", &[("x-mine", "1")], &b"0123456789".repeat(20_000));
    assert_eq!(client.response(id).map(|r| r.text()), Ok("answer".to_owned()));
    let id = client.head("POST", "/", &[], false);
    client.body(id, b"with", false);
    client.session().headers(id, &[("x-trailer", "t")], true);
    assert_eq!(client.response(id).map(|r| r.status), Ok(200));
    let id = client.request("GET", "/", &[], b"");
    assert_eq!(client.response(id).map(|r| r.status), Ok(200));
    plain.wait_for(3);
    millrace_support::wait::for_true("three copies", || copy.requests().len() == 3);
    let (mut sent, mut copied) = (up.requests(), copy.requests());
    sent.sort_by_key(|asked| asked.body.len());
    copied.sort_by_key(|asked| asked.body.len());
    for (sent, copied) in sent.iter().zip(&copied) {
        assert!(copied.body == sent.body, "{} bytes copied", copied.body.len());
        assert_eq!((copied.get(":authority"), copied.ended), ("test.local-shadow", true));
        assert_eq!(copied.trailers, sent.trailers);
    }
    assert_eq!(copied[1].trailers.get("x-trailer"), Some("t"));
    proxy.wait_stat("cluster.copy.upstream_rq_active", 0);
    assert_eq!(copy.connections(), 1);
    plain.assert_strict();
    copy.assert_strict();
}

fn a_copy_that_does_not_read_is_given_up(subject: &Subject) {
    // It accepts and never reads.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").expect("an ephemeral port");
    let up = Upstream::fixed("answer");
    let routes = route("/", COPY);
    let address = hole.local_addr().expect("the address of a bound socket");
    let proxy = start(subject, &routes, &[("up", up.address(), ""), ("copy", address, "")]);
    let body = vec![b'z'; 24 * 1024 * 1024];
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    client.send(&body[..1]);
    // A copy that is given up before it has its connection leaves that to the pool.
    proxy.wait_stat("cluster.copy.upstream_rq_active", 1);
    client.send(&body[1..]);
    assert_eq!(client.response("POST").map(|response| response.status), Ok(200));
    assert!(up.only_request().body == body);
    proxy.wait_stat("cluster.copy.retry_or_shadow_abandoned", 1);
    proxy.wait_stat("cluster.copy.upstream_cx_active", 0);
}
