//! What Envoy 1.40 forwarded for the same configuration and request; `ID` stands for a generated request id.

use std::sync::Arc;

use millrace_config::{Cidr, Node, RouteConfiguration};

use millrace_config::ForwardClientCertDetails;

use super::*;
use crate::http::test::{bytes, hcm, head, lines, text};

/// Everything that a client could try.
const FORGED: [(&str, &str); 24] = [
    ("x-envoy-retry-on", "1"),
    ("x-envoy-retry-grpc-on", "1"),
    ("x-envoy-max-retries", "1"),
    ("x-envoy-retriable-status-codes", "1"),
    ("x-envoy-retriable-header-names", "1"),
    ("x-envoy-upstream-alt-stat-name", "1"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
    ("x-envoy-upstream-rq-timeout-alt-response", "1"),
    ("x-envoy-expected-rq-timeout-ms", "1"),
    ("x-envoy-force-trace", "1"),
    ("x-envoy-ip-tags", "1"),
    ("x-envoy-original-url", "1"),
    ("x-envoy-hedge-on-per-try-timeout", "1"),
    ("x-envoy-original-path", "1"),
    ("x-envoy-original-host", "1"),
    ("x-envoy-is-timeout-retry", "1"),
    ("x-envoy-decorator-operation", "1"),
    ("x-envoy-downstream-service-cluster", "1"),
    ("x-envoy-downstream-service-node", "1"),
    ("x-envoy-internal", "1"),
    ("x-envoy-external-address", "1"),
    ("x-forwarded-client-cert", "1"),
    ("x-secret", "1"),
];

struct Case {
    hcm: HttpConnectionManager,
    peer: Option<&'static str>,
    accepted: Option<Accepted>,
}

impl Case {
    fn new(change: impl FnOnce(&mut HttpConnectionManager)) -> Self {
        let mut hcm = hcm();
        change(&mut hcm);
        Self { hcm, peer: Some("127.0.0.1:4711"), accepted: None }
    }

    fn forwarded(&mut self, list: &[(&str, &str)]) -> String {
        let node = Node { id: "nodeid".into(), cluster: "svc".into(), zone: "".into() };
        let downstream = Downstream {
            peer: self.peer.map(|peer| peer.parse().unwrap()),
            local: Some("127.0.0.1:51339".parse().unwrap()),
            tls: None,
            host_address: Some("192.0.2.2".parse().unwrap()),
            node: &node,
        };
        let mut head = head("/", list);
        head.set_scheme(b"");
        let (mut rng, mut scratch) = (Rng::new(1), Vec::new());
        self.accepted = Some(mutate(
            &self.hcm,
            self.hcm.routes.inline().map(|table| &**table),
            &downstream,
            &mut head,
            &mut rng,
            &mut scratch,
        ));
        assert!(matches!(head.scheme(), b"http" | b"https"));
        let id = text(head.headers.get(HeaderId::XRequestId).unwrap_or_default());
        let given = list.iter().any(|(n, v)| *n == "x-request-id" && *v == id);
        if given || id.is_empty() { lines(&head.headers) } else { lines(&head.headers).replace(&id, "ID") }
    }

    fn remote(&self) -> String {
        self.accepted.and_then(|a| a.remote).map(|r| r.to_string()).unwrap_or_default()
    }
}

fn internal(hcm: &mut HttpConnectionManager) {
    let net = |ip: &str, len| Cidr::new(ip.parse().unwrap(), len).unwrap();
    hcm.internal_addresses = Some(vec![net("127.0.0.0", 8), net("10.0.0.0", 8)]);
}

#[test]
fn defaults() {
    let mut case = Case::new(|_| {});
    assert_eq!(case.forwarded(&[]), "x-forwarded-proto: http | x-request-id: ID");
    assert_eq!(case.remote(), "127.0.0.1:4711");
    let kept = "x-envoy-original-path: 1 | x-envoy-original-host: 1 | x-envoy-is-timeout-retry: 1 | \
                x-envoy-decorator-operation: 1 | x-envoy-downstream-service-cluster: 1 | \
                x-envoy-downstream-service-node: 1 | x-envoy-external-address: 1 | x-secret: 1 | \
                x-forwarded-proto: http | x-request-id: ID";
    assert_eq!(case.forwarded(&FORGED), kept);
    let two = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8"), ("x-request-id", "short")];
    let expected = "x-forwarded-for: 1.2.3.4,5.6.7.8 | x-request-id: short | x-forwarded-proto: http";
    assert_eq!(case.forwarded(&two), expected);
    assert_eq!(case.remote(), "5.6.7.8:0");
    case.forwarded(&[("x-forwarded-for", "bogus")]);
    assert_eq!(case.remote(), "127.0.0.1:4711");
    case.forwarded(&[("x-forwarded-for", "1.2.3.4, 10.1.1.1")]);
    assert_eq!((case.remote().as_str(), case.accepted.unwrap().internal), ("10.1.1.1:0", false));
}

#[test]
fn an_edge_proxy_with_everything_on() {
    let mut case = Case::new(|hcm| {
        (hcm.use_remote_address, hcm.append_x_forwarded_port, hcm.add_user_agent) = (true, true, true);
        hcm.via = "viaproxy".into();
    });
    let expected = "x-forwarded-for: 192.0.2.2 | x-forwarded-proto: http | x-forwarded-port: 51339 | \
                    x-envoy-downstream-service-cluster: svc | user-agent: svc | \
                    x-envoy-downstream-service-node: nodeid | via: viaproxy | \
                    x-envoy-external-address: 127.0.0.1 | x-request-id: ID";
    assert_eq!(case.forwarded(&[]), expected);
    let forged = "x-envoy-is-timeout-retry: 1 | x-envoy-external-address: 127.0.0.1 | x-secret: 1 | \
                  x-forwarded-for: 192.0.2.2 | x-forwarded-proto: http | x-forwarded-port: 51339 | \
                  x-envoy-downstream-service-cluster: svc | user-agent: svc | \
                  x-envoy-downstream-service-node: nodeid | via: viaproxy | x-request-id: ID";
    assert_eq!(case.forwarded(&FORGED), forged);
    let sent = [
        ("x-forwarded-for", "1.2.3.4, 10.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "7b674932-635d-9ceb-b907-12674f8c7267"),
        ("via", "1.1 a"),
        ("user-agent", "ua"),
    ];
    let expected = "x-forwarded-for: 1.2.3.4, 10.1.1.1,192.0.2.2 | x-forwarded-proto: http | \
                    x-request-id: ID | via: 1.1 a, viaproxy | user-agent: ua | x-forwarded-port: 51339 | \
                    x-envoy-downstream-service-cluster: svc | x-envoy-downstream-service-node: nodeid | \
                    x-envoy-external-address: 127.0.0.1";
    assert_eq!(case.forwarded(&sent), expected);
    assert_eq!(case.remote(), "127.0.0.1:4711");
    case.peer = Some("203.0.113.9:1");
    assert!(case.forwarded(&[]).starts_with("x-forwarded-for: 203.0.113.9 | "));
    case.peer = None;
    assert!(!case.forwarded(&[]).contains("x-forwarded-for"));
}

#[test]
fn internal_requests_keep_what_steers_the_proxy() {
    let mut case = Case::new(internal);
    let mut with = FORGED.to_vec();
    with.insert(0, ("x-forwarded-for", "10.1.1.1"));
    let forwarded = case.forwarded(&with);
    assert!(forwarded.ends_with("x-forwarded-proto: http | x-envoy-internal: true | x-request-id: ID"));
    assert!(forwarded.contains("x-envoy-retry-on: 1") && forwarded.contains("x-envoy-force-trace: 1"));
    assert!(case.accepted.unwrap().internal);
    // Without the field the peer is not asked, and a list is never internal.
    assert!(!case.forwarded(&[]).contains("x-envoy-internal"));
    assert!(!case.forwarded(&[("x-forwarded-for", "1.2.3.4, 10.1.1.1")]).contains("x-envoy-internal"));
    let mut edge = Case::new(|hcm| {
        internal(hcm);
        hcm.use_remote_address = true;
    });
    let expected = "x-forwarded-for: 192.0.2.2 | x-forwarded-proto: http | x-envoy-internal: true | \
                    x-request-id: ID";
    assert_eq!(edge.forwarded(&[]), expected);
    let expected = "x-forwarded-for: 10.1.1.1,192.0.2.2 | x-forwarded-proto: http | \
                    x-envoy-external-address: 127.0.0.1 | x-request-id: ID";
    assert_eq!(edge.forwarded(&[("x-forwarded-for", "10.1.1.1")]), expected);
}

#[test]
fn trusted_hops_and_preserved_ids() {
    let mut case = Case::new(|hcm| {
        (hcm.use_remote_address, hcm.xff_num_trusted_hops, hcm.preserve_external_request_id) =
            (true, 1, true);
    });
    let sent = [
        ("x-forwarded-for", "1.2.3.4, 10.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "7b674932-635d-9ceb-b907-12674f8c7267"),
    ];
    let expected = "x-forwarded-for: 1.2.3.4, 10.1.1.1,192.0.2.2 | x-forwarded-proto: https | \
                    x-request-id: 7b674932-635d-4ceb-b907-12674f8c7267 | x-envoy-external-address: 10.1.1.1";
    assert_eq!(case.forwarded(&sent).replace("ID", "7b674932-635d-4ceb-b907-12674f8c7267"), expected);
    assert_eq!(case.remote(), "10.1.1.1:0");
    let bad = case.forwarded(&[("x-forwarded-for", "bogus")]);
    assert!(bad.contains("x-forwarded-for: bogus,192.0.2.2") && bad.contains("external-address: 127.0.0.1"));
    let mut behind = Case::new(|hcm| hcm.xff_num_trusted_hops = 2);
    behind.forwarded(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2,3.3.3.3")]);
    assert_eq!(behind.remote(), "1.1.1.1:0");
    behind.forwarded(&[("x-forwarded-for", "2.2.2.2,3.3.3.3")]);
    assert_eq!(behind.remote(), "127.0.0.1:4711");
    let mut quiet = Case::new(|hcm| {
        (hcm.use_remote_address, hcm.skip_xff_append, hcm.generate_request_id) = (true, true, false);
    });
    let expected =
        "x-forwarded-for: 10.1.1.1 | x-forwarded-proto: http | x-envoy-external-address: 127.0.0.1";
    assert_eq!(quiet.forwarded(&[("x-forwarded-for", "10.1.1.1")]), expected);
}

#[test]
fn internal_only_headers_and_certificates() {
    let mut case = Case::new(|hcm| {
        let mut config = RouteConfiguration::default();
        config.internal_only_headers.push(bytes("x-secret"));
        hcm.routes = millrace_config::RouteSource::Inline(Arc::new(config));
        hcm.forward_client_cert = ForwardClientCertDetails::AlwaysForwardOnly;
    });
    let sent = [("x-secret", "1"), ("x-forwarded-client-cert", "By=x")];
    let expected = "x-forwarded-client-cert: By=x | x-forwarded-proto: http | x-request-id: ID";
    assert_eq!(case.forwarded(&sent), expected);
}

#[test]
fn referers_that_envoy_dropped() {
    for (referer, kept) in [
        ("http://a/b", true),
        ("http://a/b#c", false),
        ("/rel", true),
        ("//x", true),
        ("http://u:p@h/", false),
        ("ftp://x", true),
        ("foo", true),
        ("http://", false),
        ("", true),
        ("about:blank", false),
        ("https://h?x", true),
    ] {
        let mut headers = HeaderMap::new();
        headers.append_id(HeaderId::Referer, referer.as_bytes());
        sanitize_referer(&mut headers);
        assert_eq!(headers.contains(HeaderId::Referer), kept, "{referer}");
    }
    let mut headers = HeaderMap::new();
    headers.append_id(HeaderId::Referer, b"/a");
    headers.append_id(HeaderId::Referer, b"/b");
    sanitize_referer(&mut headers);
    assert!(headers.is_empty());
}

#[test]
fn paths_that_are_refused() {
    let details = |method: &str, path: &str| {
        let mut head = head(path, &[]);
        head.set_method(method.as_bytes());
        validate(&head).err().map(|reply| (reply.status, reply.details.into_owned()))
    };
    assert_eq!(details("GET", "/"), None);
    assert_eq!(details("CONNECT", ""), None);
    assert_eq!(details("OPTIONS", "*"), Some((404, "absolute_path_rejected".into())));
    assert_eq!(details("GET", "foo"), Some((404, "absolute_path_rejected".into())));
    assert_eq!(details("GET", ""), Some((404, "missing_path_rejected".into())));
}
