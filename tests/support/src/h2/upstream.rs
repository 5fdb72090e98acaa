//! A recording HTTP/2 upstream with prior knowledge: it judges every request by [`super::rules`], keeps it, and
//! answers as its script says. It never repairs anything.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::reply::Reply;
use super::serve;
use crate::strict::Fields;
use crate::wait;

/// A request as received.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Pseudo and regular fields in wire order.
    pub fields: Fields,
    /// All of DATA.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
    /// END_STREAM has come.
    pub ended: bool,
    /// Its stream.
    pub stream: u32,
    /// Number of its connection, from 0.
    pub connection: usize,
}

impl Asked {
    /// The value of a field that occurs exactly once, `""` otherwise.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_default()
    }
}

type OnHead = dyn Fn(&Asked) -> Option<Reply> + Send + Sync;
type OnRequest = dyn Fn(&Asked) -> Reply + Send + Sync;

#[derive(Default)]
pub(super) struct Log {
    pub heads: Vec<Asked>,
    pub requests: Vec<Asked>,
    pub violations: Vec<String>,
    /// Connection, stream, code.
    pub resets: Vec<(usize, u32, u32)>,
    /// Connection, last stream, code.
    pub goaways: Vec<(usize, u32, u32)>,
    /// Most open streams of each connection.
    pub peaks: Vec<usize>,
    /// Octets of DATA received.
    pub octets: usize,
}

pub(super) struct Shared {
    log: Mutex<Log>,
    pub stop: AtomicBool,
    accepted: AtomicUsize,
    active: AtomicUsize,
    pub settings: Vec<(u16, u32)>,
    pub on_head: Box<OnHead>,
    pub on_request: Box<OnRequest>,
}

impl Shared {
    pub fn log(&self) -> MutexGuard<'_, Log> {
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
    pub fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(&[], |_| None, script)
    }

    /// Answers 200 with this body.
    pub fn fixed(body: &str) -> Self {
        let body = body.to_owned();
        Self::start(move |_| Reply::ok(&body))
    }

    /// Announces these settings; `on_head` may answer before the request is complete, and does so instead of `script`.
    pub fn with(
        settings: &[(u16, u32)],
        on_head: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind an ephemeral port");
        let address = listener.local_addr().expect("address of a bound socket");
        let shared = Arc::new(Shared {
            log: Mutex::default(),
            stop: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            settings: settings.to_vec(),
            on_head: Box::new(on_head),
            on_request: Box::new(script),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every complete request so far.
    pub fn requests(&self) -> Vec<Asked> {
        self.shared.log().requests.clone()
    }

    /// Every head so far, complete or not.
    pub fn heads(&self) -> Vec<Asked> {
        self.shared.log().heads.clone()
    }

    /// The only request there was.
    ///
    /// # Panics
    /// When there was none, or more than one.
    #[track_caller]
    pub fn only_request(&self) -> Asked {
        let mut all = self.requests();
        assert_eq!(all.len(), 1, "requests at the upstream: {all:?}");
        all.remove(0)
    }

    /// Waits until `n` heads have come.
    #[track_caller]
    pub fn wait_heads(&self, n: usize) {
        wait::for_true(&format!("{n} heads at the upstream"), || self.shared.log().heads.len() >= n);
    }

    /// RST_STREAMs of the proxy: connection, stream, code.
    pub fn resets(&self) -> Vec<(usize, u32, u32)> {
        self.shared.log().resets.clone()
    }

    /// GOAWAYs of the proxy: connection, last stream, code.
    pub fn goaways(&self) -> Vec<(usize, u32, u32)> {
        self.shared.log().goaways.clone()
    }

    /// Most streams that each connection had open at a time.
    pub fn peaks(&self) -> Vec<usize> {
        self.shared.log().peaks.clone()
    }

    /// Octets of DATA so far.
    pub fn octets(&self) -> usize {
        self.shared.log().octets
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn active(&self) -> usize {
        self.shared.active.load(Ordering::SeqCst)
    }

    /// What the proxy did against the rules.
    pub fn violations(&self) -> Vec<String> {
        self.shared.log().violations.clone()
    }

    /// Fails the test when there was any violation.
    #[track_caller]
    pub fn assert_strict(&self) {
        assert!(self.violations().is_empty(), "the upstream received: {:#?}", self.violations());
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
