//! A recording HTTP/1.1 upstream: it reads with the strict parser, keeps every request, counts every
//! breach of the grammar, and answers as its script says. It never repairs anything.

mod reply;
mod serve;

pub use reply::{Reply, Step, Then};

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::message::Request;
use crate::wait;

type OnHead = dyn Fn(&Request) -> Option<Reply> + Send + Sync;
type OnRequest = dyn Fn(&Request) -> Reply + Send + Sync;

/// Something the proxy sent that is not a strict HTTP/1.1 request.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The broken rule.
    pub rule: String,
    /// The bytes read so far, and those behind them.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    violations: Vec<Violation>,
    aborted: Vec<String>,
}

pub(crate) struct Shared {
    log: Mutex<Log>,
    stop: AtomicBool,
    accepted: AtomicUsize,
    active: AtomicUsize,
    on_head: Box<OnHead>,
    on_request: Box<OnRequest>,
    patience: Duration,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The upstream server; stops when dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Answers every complete request by `script`.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with_early(|_| None, script)
    }

    /// Answers 200 with this body.
    pub fn fixed(body: &str) -> Self {
        let body = body.to_owned();
        Self::start(move |_| Reply::ok(&body))
    }

    /// Answers 200 with the request's own body.
    pub fn echo() -> Self {
        Self::start(|request| Reply::bytes(200, &request.body))
    }

    /// As [`Upstream::start`], but `on_head` may answer before the body has been read.
    pub fn with_early(
        on_head: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
        on_request: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind an ephemeral port");
        let address = listener.local_addr().expect("address of a bound socket");
        let shared = Arc::new(Shared {
            log: Mutex::default(),
            stop: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            on_head: Box::new(on_head),
            on_request: Box::new(on_request),
            patience: Duration::from_secs(30),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every complete request so far, in the order of their last byte.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log().requests.clone()
    }

    /// The only request there was.
    ///
    /// # Panics
    /// When there was none, or more than one.
    #[track_caller]
    pub fn only_request(&self) -> Request {
        let mut all = self.requests();
        assert_eq!(all.len(), 1, "requests at the upstream: {all:?}");
        all.remove(0)
    }

    /// Waits until `n` requests are complete.
    #[track_caller]
    pub fn wait_for(&self, n: usize) {
        wait::for_true(&format!("{n} requests at the upstream"), || self.shared.log().requests.len() >= n);
    }

    /// Breaches of the grammar so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.log().violations.clone()
    }

    /// Requests that ended before their last byte, with the reason.
    pub fn aborted(&self) -> Vec<String> {
        self.shared.log().aborted.clone()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn active(&self) -> usize {
        self.shared.active.load(Ordering::SeqCst)
    }

    /// Fails the test when anything the proxy sent broke the grammar.
    #[track_caller]
    pub fn assert_strict(&self) {
        let violations = self.violations();
        let shown: Vec<String> =
            violations.iter().map(|v| format!("{}: {:?}", v.rule, crate::strict::latin1(&v.bytes))).collect();
        assert!(violations.is_empty(), "the upstream received malformed requests: {shown:#?}");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; when this fails the listener is already gone.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Some(stream) = crate::accept::next(listener) {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.active.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            serve::connection(stream, number, &shared);
            shared.active.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Client;
    use crate::wire::Fault;

    #[test]
    fn requests_are_recorded_and_answered_on_one_connection() {
        let upstream = Upstream::echo();
        let mut client = Client::connect(upstream.address());
        for n in 0..3 {
            let body = format!("body {n}");
            client.request("POST", "/", &[("host", "a")], body.as_bytes());
            assert_eq!(client.response("POST").unwrap().text(), body);
        }
        assert_eq!((upstream.requests().len(), upstream.connections()), (3, 1));
        upstream.assert_strict();
    }

    #[test]
    fn a_malformed_request_is_a_violation_and_is_not_answered() {
        let upstream = Upstream::fixed("x");
        let mut client = Client::connect(upstream.address());
        client.send(b"GET / HTTP/1.1\nHost: a\r\n\r\n");
        assert_eq!(client.response("GET").unwrap_err(), Fault::Closed);
        assert_eq!(upstream.violations().len(), 1);
    }

    #[test]
    fn a_second_request_before_the_first_response_is_a_violation() {
        let upstream = Upstream::fixed("x");
        let mut client = Client::connect(upstream.address());
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.response("GET").is_err());
        assert!(upstream.violations()[0].rule.contains("pipelined"));
    }

    #[test]
    fn an_early_reply_leaves_before_the_body() {
        let upstream =
            Upstream::with_early(|_| Some(Reply::status(413).then(Then::Close)), |_| Reply::ok(""));
        let mut client = Client::connect(upstream.address());
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart");
        assert_eq!(client.response("POST").unwrap().status, 413);
        assert!(upstream.requests().is_empty());
    }
}
