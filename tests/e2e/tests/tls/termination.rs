//! TLS ends at the proxy: versions, protocols, bodies, ends of connections, and more than one certificate.

use millrace_e2e::{Case, case};
use millrace_support::any::{Body, Question, Version as HttpVersion};
use millrace_support::bootstrap::{Bootstrap, Http, listener, tcp_chain};
use millrace_support::process::Proxy;
use millrace_support::raw::End;
use millrace_support::rng::{BodyHash, Rng};
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::tls::{Algorithm, Client, Context, Ending, Leaf, Version};
use millrace_support::upstream::{Reply, Upstream};

use crate::common::{hello, plain_tls, proxy_identity, root, terminate};

pub(crate) const CASES: &[Case] = &[
    case!(versions_and_protocols),
    case!(bodies_both_ways),
    case!(many_requests_on_one_connection),
    case!(tcp_proxy),
    case!(tcp_proxy_half_close),
    case!(the_end_of_a_response_until_close_is_clean),
    case!(a_client_that_closes_costs_nothing),
    case!(certificates_by_server_name),
    case!(
        certificates_by_what_the_client_understands,
        not_envoy: "Envoy takes a client of TLS 1.2 that sends supported_versions, as rustls does, for one of TLS 1.3, and looks at its signatures only; tls::interop has OpenSSL, which does not"
    ),
    case!(several_listeners_share_nothing),
];

fn versions_and_protocols(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls().alpn(&["h2", "http/1.1"]), upstream.address());
    for version in Version::BOTH {
        for (offer, http) in [("h2", HttpVersion::Http2), ("http/1.1", HttpVersion::Http1)] {
            let client = Client::new().versions(&[version]).alpn(&[offer]).name("proxy.test");
            let link = client.connect(proxy.listener("main"));
            let question = Question { method: "GET", path: "/p".into(), ..Question::default() };
            let got = link.caller(http).ask(&question).expect("an answer");
            assert_eq!((got.status, &got.body[..]), (200, &b"hello"[..]), "{version:?} {offer}");
            assert_eq!(link.facts.version.replace('_', "."), version.name());
            assert_eq!(link.facts.alpn.as_deref(), Some(offer));
            assert_eq!(link.facts.peer[0].as_slice(), &*proxy_identity().chain[0]);
        }
    }
    upstream.assert_strict();
    proxy.wait_stat("http.main.downstream_cx_ssl_total", 4);
    proxy.wait_stat("http.main.downstream_cx_http2_total", 2);
}

fn bodies_both_ways(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = terminate(subject, &plain_tls().alpn(&["h2", "http/1.1"]), upstream.address());
    for version in Version::BOTH {
        for (offer, http) in [("h2", HttpVersion::Http2), ("http/1.1", HttpVersion::Http1)] {
            let link = Client::new().versions(&[version]).alpn(&[offer]).connect(proxy.listener("main"));
            let mut caller = link.caller(http);
            for size in [1, 1000, 16_384, 16_385, 100_000, 3 << 20] {
                let bytes = Rng::new(size as u64).bytes(size);
                let question = Question {
                    method: "POST",
                    path: "/".into(),
                    body: Body::Length(bytes.clone()),
                    ..Question::default()
                };
                let got = caller.ask(&question).expect("an answer");
                assert!(got.body == bytes, "{version:?} {offer} {size}: {} octets", got.body.len());
            }
        }
    }
    upstream.assert_strict();
}

fn many_requests_on_one_connection(subject: &Subject) {
    let upstream = Upstream::start(|request| Reply::ok(&request.target));
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let link = Client::new().connect(proxy.listener("main"));
    let mut client = link.raw();
    for n in 0..200 {
        let target = format!("/{n}");
        assert_eq!(client.get(&target).text(), target);
    }
    assert_eq!(upstream.connections(), 1);
    proxy.wait_stat("http.main.downstream_cx_total", 1);
}

/// A TCP proxy behind TLS.
fn tcp(subject: &Subject, upstream: &TcpUpstream) -> Proxy {
    let chain = tcp_chain("main", "cluster: up", &plain_tls().downstream(), "");
    let bootstrap = Bootstrap::new().listener(&listener("main", "", &chain));
    Proxy::start(subject, &bootstrap.cluster("up", &[upstream.address()], ""))
}

fn tcp_proxy(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let proxy = tcp(subject, &upstream);
    for version in Version::BOTH {
        let link = Client::new().versions(&[version]).connect(proxy.listener("main"));
        let mut client = link.raw();
        for size in [1, 100, 16_384, 50_000] {
            let bytes = Rng::new(size as u64).bytes(size);
            client.send(&bytes);
            assert_eq!(client.wire().exact(size, "echo"), Ok(bytes));
        }
        client.finish_sending();
        assert_eq!(client.end(), End::Closed(Vec::new()));
        assert_eq!(link.wait_ending(), Ending::Clean, "{version:?}");
    }
}

fn tcp_proxy_half_close(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Sink);
    let proxy = tcp(subject, &upstream);
    for version in Version::BOTH {
        let link = Client::new().versions(&[version]).connect(proxy.listener("main"));
        let mut client = link.raw();
        let bytes = Rng::new(8).bytes(200_000);
        client.send(&bytes);
        client.finish_sending();
        let hash = BodyHash::of(&bytes).hex().into_bytes();
        assert_eq!(client.end(), End::Closed(hash), "{version:?}");
    }
}

fn the_end_of_a_response_until_close_is_clean(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        let link = Client::new().versions(&[version]).connect(proxy.listener("main"));
        assert!(link.raw().get_with("/", &[("connection", "close")]).closes());
        assert_eq!(link.wait_ending(), Ending::Clean, "{version:?}");
    }
}

fn a_client_that_closes_costs_nothing(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for _ in 0..10 {
        let link = Client::new().connect(proxy.listener("main"));
        assert_eq!(link.raw().get("/").status, 200);
    }
    proxy.wait_stat("http.main.downstream_cx_active", 0);
    proxy.wait_stat("http.main.downstream_cx_ssl_active", 0);
    assert_eq!(proxy.stat("http.main.downstream_cx_total"), Some(10));
}

fn certificates_by_server_name(subject: &Subject) {
    let upstream = hello();
    let issue = |name: &str| root().issue(&Leaf::dns(name));
    let (first, exact, wild) = (issue("first.test"), issue("exact.test"), issue("*.wild.test"));
    let context = Context::new().certificate(&first).certificate(&exact).certificate(&wild);
    let proxy = terminate(subject, &context, upstream.address());
    for (name, shown) in [
        (Some("exact.test"), &exact),
        (Some("a.wild.test"), &wild),
        (Some("first.test"), &first),
        (Some("other.test"), &first),
        (Some("a.b.wild.test"), &first),
        (None, &first),
    ] {
        for version in Version::BOTH {
            let mut client = Client::new().versions(&[version]);
            if let Some(name) = name {
                client = client.name(name);
            }
            let link = client.connect(proxy.listener("main"));
            assert!(link.facts.peer[0].as_slice() == &*shown.chain[0], "{name:?} {version:?}");
            assert_eq!(link.raw().get("/").status, 200);
        }
    }
}

fn certificates_by_what_the_client_understands(subject: &Subject) {
    let upstream = hello();
    let rsa = root().issue(&Leaf::dns("a.test").algorithm(Algorithm::Rsa2048));
    let ecdsa = root().issue(&Leaf::dns("a.test"));
    let context = Context::new().certificate(&rsa).certificate(&ecdsa);
    let proxy = terminate(subject, &context, upstream.address());
    let client = Client::new().versions(&[Version::V12]).name("a.test");
    for (suite, shown) in
        [("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", &rsa), ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", &ecdsa)]
    {
        let link = client.clone().suites(&[suite]).connect(proxy.listener("main"));
        assert_eq!(link.facts.cipher, suite);
        assert!(link.facts.peer[0].as_slice() == &*shown.chain[0], "{suite}");
    }
    let link = Client::new().name("a.test").connect(proxy.listener("main"));
    assert!(link.facts.peer[0].as_slice() == &*ecdsa.chain[0], "ECDSA is preferred");
}

/// Sessions and identities of one listener mean nothing to another.
fn several_listeners_share_nothing(subject: &Subject) {
    let upstream = hello();
    let other = root().issue(&Leaf::dns("other.test"));
    let bootstrap = Bootstrap::new()
        .http(Http::to("up").chain(&plain_tls().downstream()))
        .http(Http::to("up").named("second").chain(&Context::new().certificate(&other).downstream()))
        .cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let client = Client::new().name("any.test");
    for _ in 0..3 {
        for (listener, shown) in [("main", proxy_identity()), ("second", &other)] {
            let link = client.connect(proxy.listener(listener));
            assert_eq!(link.raw().get("/").status, 200);
            assert!(link.facts.peer[0].as_slice() == &*shown.chain[0], "{listener}");
        }
    }
}
