//! FIN without close_notify: the end of a message counts, not the end of the connection, unless nothing else can tell.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, listener, tcp_chain};
use millrace_support::process::Proxy;
use millrace_support::raw::End;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::tls::server::Options;
use millrace_support::tls::{Client, Context, Finish, Server, Version};
use millrace_support::upstream::{Reply, Then, Upstream};
use millrace_support::wire::Fault;

use crate::common::{Neighbour, hello, originate, plain_tls, server_identity, terminate};

pub(crate) const CASES: &[Case] = &[
    case!(of_a_response_by_length),
    case!(of_a_chunked_response),
    case!(of_a_response_until_close),
    case!(between_responses),
    case!(of_a_request),
    case!(of_an_idle_client),
    case!(of_a_tunnel),
    case!(of_a_handshake),
];

/// What a client gets from a server that says this, then FIN without close_notify (or with it).
#[track_caller]
fn response(subject: &Subject, reply: &Reply, version: Version, finish: Finish) -> Result<String, Fault> {
    let reply = reply.clone().then(Then::Close);
    let upstream = Upstream::start(move |_| reply.clone());
    let options = Options::new(server_identity(), upstream.address()).versions(&[version]);
    let server = Server::start(options.finish(finish));
    let params = "tls_params: {tls_maximum_protocol_version: TLSv1_3}";
    let proxy = originate(subject, &Context::new().common(params), "", server.address());
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    client.response("GET").map(|r| format!("{} {}", r.status, r.text()))
}

fn of_a_response_by_length(subject: &Subject) {
    let whole = Reply::with(200, &[], b"part");
    let cut = Reply::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
    for version in Version::BOTH {
        for finish in [Finish::Clean, Finish::Truncate] {
            assert_eq!(response(subject, &whole, version, finish), Ok("200 part".into()));
            let got = response(subject, &cut, version, finish);
            assert!(matches!(got, Err(Fault::Truncated(_) | Fault::Reset)), "{version:?} {finish:?} {got:?}");
        }
    }
}

fn of_a_chunked_response(subject: &Subject) {
    let cut = Reply::raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n");
    for version in Version::BOTH {
        for finish in [Finish::Clean, Finish::Truncate] {
            let got = response(subject, &cut, version, finish);
            assert!(matches!(got, Err(Fault::Truncated(_) | Fault::Reset)), "{version:?} {finish:?} {got:?}");
        }
    }
}

/// Envoy takes FIN for the end. We do not: nothing says that the body is whole (RFC 9112 9.8).
fn of_a_response_until_close(subject: &Subject) {
    let reply = Reply::until_close(b"part");
    for version in Version::BOTH {
        assert_eq!(response(subject, &reply, version, Finish::Clean), Ok("200 part".into()));
        let got = response(subject, &reply, version, Finish::Truncate);
        if subject.is_envoy() {
            assert_eq!(got, Ok("200 part".into()), "{version:?}");
        } else {
            assert!(matches!(got, Err(Fault::Truncated(_) | Fault::Reset)), "{version:?} {got:?}");
        }
    }
}

/// A kept connection that ends without close_notify costs no request.
fn between_responses(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("hello").then(Then::Close));
    let options = Options::new(server_identity(), upstream.address()).finish(Finish::Truncate);
    let server = Server::start(options);
    let proxy = originate(subject, &Context::new(), "", server.address());
    for n in 0..5 {
        assert_eq!(proxy.client().get("/").status, 200);
        proxy.wait_stat("cluster.up.upstream_cx_destroy", n + 1);
    }
    assert_eq!(upstream.requests().len(), 5);
}

fn of_a_request(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    for version in Version::BOTH {
        for head in ["content-length: 100", "transfer-encoding: chunked"] {
            let link = Client::new().versions(&[version]).connect(proxy.listener("main"));
            link.finish_with(Finish::Truncate);
            let mut client = link.raw();
            client.send(format!("POST /cut HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n4\r\npart\r\n").as_bytes());
            client.finish_sending();
            assert!(!matches!(client.end(), End::Open), "{version:?} {head}");
            neighbour.is_served();
        }
    }
    assert!(upstream.requests().iter().all(|r| r.target != "/cut"));
    proxy.wait_stat("http.main.downstream_rq_active", 0);
}

fn of_an_idle_client(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        let link = Client::new().versions(&[version]).connect(proxy.listener("main"));
        link.finish_with(Finish::Truncate);
        assert_eq!(link.raw().get("/").status, 200);
        link.raw().finish_sending();
        link.wait_ending();
    }
    proxy.wait_stat("http.main.downstream_cx_active", 0);
}

fn of_a_tunnel(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Sink);
    let chain = tcp_chain("main", "cluster: up", &plain_tls().downstream(), "");
    let bootstrap = Bootstrap::new().listener(&listener("main", "", &chain));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[upstream.address()], ""));
    for version in Version::BOTH {
        let link = Client::new().versions(&[version]).connect(proxy.listener("main"));
        link.finish_with(Finish::Truncate);
        let mut client = link.raw();
        client.send(b"bytes");
        client.finish_sending();
        link.wait_ending();
    }
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    assert_eq!(upstream.received(), 10);
}

/// The client goes in the middle of its handshake, by FIN or RST.
fn of_a_handshake(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    let bytes = millrace_support::tls::hello::Hello::v13().bytes();
    for part in [&bytes[..0], &bytes[..10], &bytes] {
        let mut client = proxy.client();
        client.send(part);
        client.finish_sending();
        assert!(client.end() != End::Open);
        let mut client = proxy.client();
        client.send(part);
        client.reset();
        neighbour.is_served();
    }
    proxy.wait_stat("http.main.downstream_cx_active", 1);
}
