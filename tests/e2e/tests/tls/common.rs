//! What the suites share: certificates that are right, proxies that terminate or originate TLS, and neighbours.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw;
use millrace_support::subject::Subject;
use millrace_support::tls::context::certificate;
use millrace_support::tls::{Authority, Client, Context, Identity, Leaf, Link, authority};
use millrace_support::upstream::Upstream;
use millrace_support::wait;

/// Names the statistics of a listener `listener.main`, since its port is not known.
pub(crate) const STAT_PREFIX: &str = "stat_prefix: main\n";

/// The authority of everything that is right.
pub(crate) fn root() -> Arc<Authority> {
    authority::shared()
}

fn cached(cell: &'static OnceLock<Identity>, leaf: impl FnOnce() -> Leaf) -> &'static Identity {
    cell.get_or_init(|| root().issue(&leaf()))
}

/// The certificate that proxies show: `proxy.test` and a SPIFFE name.
pub(crate) fn proxy_identity() -> &'static Identity {
    static CELL: OnceLock<Identity> = OnceLock::new();
    cached(&CELL, || Leaf::dns("proxy.test").uri("spiffe://test/ns/default/sa/proxy"))
}

/// The certificate that clients show: a SPIFFE name alone.
pub(crate) fn client_identity() -> &'static Identity {
    static CELL: OnceLock<Identity> = OnceLock::new();
    cached(&CELL, || Leaf::spiffe("spiffe://test/ns/default/sa/client"))
}

/// The certificate that TLS upstreams show.
pub(crate) fn server_identity() -> &'static Identity {
    static CELL: OnceLock<Identity> = OnceLock::new();
    cached(&CELL, || Leaf::dns("server.test").uri("spiffe://test/ns/default/sa/server"))
}

/// A context that shows [`proxy_identity`].
pub(crate) fn plain_tls() -> Context {
    Context::new().certificate(proxy_identity())
}

/// A context that demands a certificate of [`root`], too.
pub(crate) fn mutual_tls() -> Context {
    plain_tls().trusts(&root()).required()
}

/// A client that shows [`client_identity`].
pub(crate) fn mutual_client() -> Client {
    Client::new().identity(client_identity())
}

/// A proxy that terminates TLS with this context and forwards to one cleartext HTTP/1.1 endpoint.
#[track_caller]
pub(crate) fn terminate(subject: &Subject, context: &Context, endpoint: SocketAddr) -> Proxy {
    terminate_http(subject, Http::to("up"), context, endpoint)
}

/// As [`terminate`] with more about the connection manager.
#[track_caller]
pub(crate) fn terminate_http(
    subject: &Subject,
    http: Http,
    context: &Context,
    endpoint: SocketAddr,
) -> Proxy {
    let http = http.listener(STAT_PREFIX).chain(&context.downstream());
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[endpoint], ""))
}

/// A proxy that takes clear text and originates TLS with this context; `cluster` are more fields of the cluster.
#[track_caller]
pub(crate) fn originate(subject: &Subject, context: &Context, cluster: &str, endpoint: SocketAddr) -> Proxy {
    let fields = format!("{cluster}\n{}", context.upstream());
    Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[endpoint], &fields))
}

/// A connection that stays open while others misbehave, and must be served at the end.
pub(crate) struct Neighbour {
    client: raw::Client,
    _link: Option<Link>,
}

impl Neighbour {
    /// Connects over TLS and makes a first request.
    #[track_caller]
    pub(crate) fn over_tls(client: &Client, address: SocketAddr) -> Self {
        let link = client.connect(address);
        let mut client = link.raw();
        assert_eq!(client.get("/first").status, 200);
        Self { client, _link: Some(link) }
    }

    /// Connects in clear text and makes a first request.
    #[track_caller]
    pub(crate) fn in_the_clear(address: SocketAddr) -> Self {
        let mut client = raw::Client::connect(address);
        assert_eq!(client.get("/first").status, 200);
        Self { client, _link: None }
    }

    /// Makes another request on the same connection.
    #[track_caller]
    pub(crate) fn is_served(&mut self) {
        assert_eq!(self.client.get("/again").status, 200);
    }
}

/// An upstream that says `hello`.
pub(crate) fn hello() -> Upstream {
    Upstream::fixed("hello")
}

/// A `Secret` with a pair, as flow YAML.
pub(crate) fn pair(name: &str, identity: &Identity) -> String {
    format!("{{name: {name}, tls_certificate: {}}}", certificate(identity))
}

/// Another certificate of the proxy.
pub(crate) fn next() -> Identity {
    root().issue(&Leaf::dns("proxy.test").uri("spiffe://test/ns/default/sa/proxy"))
}

/// Fails unless new connections are shown this certificate, soon.
#[track_caller]
pub(crate) fn wait_shown(proxy: &Proxy, client: &Client, identity: &Identity) {
    let address = proxy.listener("main");
    wait::for_true("the new certificate", || {
        let Ok(link) = client.try_connect(address) else { return false };
        // With TLS 1.3 a refusal may still come.
        let mut raw = link.raw();
        raw.request("GET", "/", &[("host", "a")], b"");
        link.facts.peer[0].as_slice() == &*identity.chain[0]
            && raw.response("GET").is_ok_and(|r| r.status == 200)
    });
}
