//! A scripted control plane: it serves every xDS service in both protocols from a store of resources, records
//! all that passes, and breaks any rule that a script tells it to break.
//!
//! It has a thread and a runtime of its own; tests drive it with blocking calls. Who is told what follows
//! go-control-plane and istiod: in state of the world, kinds with complete state are sent whole and the others as
//! far as they are subscribed; in delta what the client lacks is sent, and what is gone is named.

mod answer;
pub mod codec;
mod health;
mod loads;
mod record;
mod resource;
mod script;
mod serve;
mod session;
mod side;
mod state;
mod store;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod yaml;

pub use record::{Entry, Error, Event, Opened, Request, Response};
pub use resource::{Resource, Type, from_yaml, try_from_yaml};
pub use script::{Answer, Transport};
pub use store::Change;
pub use tls::Security;
pub use tonic::Code;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::wait;
use state::State;

/// Where a control plane listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A loopback port.
    Tcp(SocketAddr),
    /// A UNIX-domain socket.
    Unix(PathBuf),
}

/// How a control plane behaves, apart from scripts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub address: Address,
    /// Clear text, TLS or mTLS.
    pub security: Security,
    /// Delta: a subscribed name that does not exist is answered in `removed_resources`, as istiod does;
    /// otherwise there is silence, as in go-control-plane.
    pub missing_is_removed: bool,
    /// One response of a kind is on its way at a time, as in go-control-plane and Consul; istiod does not wait.
    pub wait_for_ack: bool,
    /// State of the world: EDS and RDS responses hold only what changed, as istiod's do.
    pub partial_updates: bool,
    /// Delta: every push holds all that is subscribed, changed or not, without versions, as istiod's do.
    pub unversioned: bool,
    /// State of the world: a request that changes nothing is answered again, as istiod does for the children of
    /// a changed parent.
    pub answer_repeats: bool,
    /// State of the world: a new stream that names the current version gets no answer, as in go-control-plane.
    pub trust_versions: bool,
    /// The order in which kinds of one change are sent.
    pub order: Vec<Type>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            security: Security::None,
            missing_is_removed: false,
            wait_for_ack: false,
            partial_updates: false,
            unversioned: false,
            answer_repeats: true,
            trust_versions: false,
            order: Type::ALL.to_vec(),
        }
    }
}

pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    tls: Option<TlsAcceptor>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the state and wakes whoever waits for a change.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.lock());
        self.changed.notify_all();
        result
    }
}

/// A control plane; ends when dropped.
pub struct ControlPlane {
    shared: Arc<Shared>,
    address: Address,
    runtime: Handle,
    quit: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
    acceptor: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl ControlPlane {
    /// Binds and serves.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub fn start(options: Options) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        let quit = Arc::new(Notify::new());
        let until = Arc::clone(&quit);
        let thread = std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime");
            // The other end waits for exactly this.
            let _ = sender.send(runtime.handle().clone());
            runtime.block_on(until.notified());
        });
        let runtime = receiver.recv().expect("the runtime's handle");
        let (address, security) = (options.address.clone(), options.security);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(options)),
            changed: Condvar::new(),
            tls: tls::acceptor(security),
        });
        let acceptor = Mutex::new(None);
        let mut plane = Self { shared, address, runtime, quit, thread: Some(thread), acceptor };
        plane.address = plane.listen();
        plane
    }

    fn listen(&self) -> Address {
        let _context = self.runtime.enter();
        let (listener, address) = match &self.address {
            Address::Tcp(at) => {
                let bound = wait::until(wait::PATIENCE, || std::net::TcpListener::bind(at).ok());
                let socket = bound.expect("bind the control plane");
                socket.set_nonblocking(true).expect("a non-blocking socket");
                let address = socket.local_addr().expect("address of a bound socket");
                let listener = tokio::net::TcpListener::from_std(socket).expect("a socket for the runtime");
                (serve::Listener::Tcp(listener), Address::Tcp(address))
            }
            Address::Unix(path) => {
                // A socket left behind by the last start.
                let _ = std::fs::remove_file(path);
                let listener = tokio::net::UnixListener::bind(path).expect("bind the control plane");
                (serve::Listener::Unix(listener), self.address.clone())
            }
        };
        let task = self.runtime.spawn(serve::accept(listener, Arc::clone(&self.shared)));
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        address
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How its connections are secured.
    pub fn security(&self) -> Security {
        self.shared.lock().options.security
    }

    /// The TCP address.
    ///
    /// # Panics
    /// When it listens on a UNIX-domain socket.
    pub fn tcp(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => unreachable!("listens on {}", path.display()),
        }
    }

    /// Adds or replaces one resource and sends it to whoever wants it.
    pub fn set(&self, resource: Resource) {
        self.update(|change| {
            change.set(resource);
        });
    }

    /// Takes one resource away.
    pub fn remove(&self, ty: Type, name: &str) {
        self.update(|change| {
            change.remove(ty, name);
        });
    }

    /// Changes any number of resources and sends each kind once.
    pub fn update(&self, changes: impl FnOnce(&mut Change<'_>)) {
        self.shared.with(|state| state.update(changes));
    }

    /// Sends all resources of a kind again, in state of the world under a new version.
    pub fn resend(&self, ty: Type) {
        self.shared.with(|state| {
            state.store.touch(ty);
            state.push_all(ty, true);
        });
    }

    /// Sends a resource to every stream that subscribed to its kind, whether it wants this one or not.
    pub fn send_unasked(&self, resource: Resource) {
        self.shared.with(|state| state.send_unasked(&resource));
    }

    /// Renews a resource's time to live.
    pub fn heartbeat(&self, ty: Type, name: &str) {
        self.shared.with(|state| state.heartbeat(ty, name));
    }

    /// Keeps back every response of this kind until [`Self::release`].
    pub fn hold(&self, ty: Type) {
        self.shared.with(|state| state.script.held.insert(ty));
    }

    /// Sends what was held back.
    pub fn release(&self, ty: Type) {
        self.shared.with(|state| state.release(ty));
    }

    /// The next response of this kind is this one.
    pub fn next_answer(&self, ty: Type, answer: Answer) {
        self.shared.with(|state| state.script.answers.entry(ty).or_default().push_back(answer));
    }

    /// Sends this to every subscriber of a kind at once.
    pub fn answer_now(&self, ty: Type, answer: Answer) {
        self.shared.with(|state| {
            let subscribed = |s: &&session::Session| s.kinds.contains_key(&ty);
            let count = state.streams.values().filter(subscribed).count();
            let queue = state.script.answers.entry(ty).or_default();
            queue.extend(std::iter::repeat_n(answer, count));
            state.push_all(ty, true);
        });
    }

    /// Answers every refusal of this kind with the same resources under a new version, for ever.
    pub fn insist(&self, ty: Type, on: bool) {
        self.shared.with(
            |state| {
                if on { state.script.insist.insert(ty) } else { state.script.insist.remove(&ty) }
            },
        );
    }

    /// Changes how new connections are treated.
    pub fn transport(&self, transport: Transport) {
        self.shared.with(|state| state.script.transport = transport);
    }

    /// Ends every stream with this status.
    pub fn end_streams(&self, code: Code, message: &str) {
        self.shared.with(|state| state.end_streams(code, message));
    }

    /// Closes every connection.
    pub fn drop_connections(&self) {
        self.shared.with(State::drop_connections);
    }

    /// Dies: closes every connection and stops listening, but keeps the resources.
    pub fn stop(&self) {
        let task = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            wait::for_true("the control plane's socket to close", || task.is_finished());
        }
        self.drop_connections();
    }

    /// Comes back at the same address.
    pub fn restart(&self) {
        self.stop();
        self.listen();
    }

    /// Everything that happened.
    pub fn record(&self) -> Vec<Entry> {
        self.shared.lock().log.clone()
    }

    /// Everything that happened after a mark.
    pub fn record_since(&self, mark: usize) -> Vec<Entry> {
        self.shared.lock().log.iter().skip(mark).cloned().collect()
    }

    /// Since it was started, on the clock of [`Entry::at`].
    pub fn now(&self) -> Duration {
        self.shared.lock().now()
    }

    /// Length of the record, to look only at what comes after; see [`Self::requests_since`].
    pub fn mark(&self) -> usize {
        self.shared.lock().log.len()
    }

    /// Every request.
    pub fn requests(&self) -> Vec<Request> {
        self.requests_since(0)
    }

    /// Every request after a mark.
    pub fn requests_since(&self, mark: usize) -> Vec<Request> {
        self.shared.lock().log.iter().skip(mark).filter_map(Entry::request).cloned().collect()
    }

    /// Every response.
    pub fn responses(&self) -> Vec<Response> {
        self.shared.lock().log.iter().filter_map(Entry::response).cloned().collect()
    }

    /// Every stream that was opened.
    pub fn streams(&self) -> Vec<Opened> {
        let opened = |entry: &Entry| match &entry.event {
            Event::Opened(opened) => Some(opened.clone()),
            _ => None,
        };
        self.shared.lock().log.iter().filter_map(opened).collect()
    }

    /// Requests that accept a response of this kind.
    pub fn acks(&self, ty: Type) -> Vec<Request> {
        self.requests().into_iter().filter(|r| r.is(ty) && r.is_ack()).collect()
    }

    /// Requests that refuse a response of this kind.
    pub fn nacks(&self, ty: Type) -> Vec<Request> {
        self.requests().into_iter().filter(|r| r.is(ty) && r.is_nack()).collect()
    }

    /// Waits until an entry after the mark yields a value; `None` once `limit` has passed.
    pub fn wait_within<T>(
        &self,
        mark: usize,
        limit: Duration,
        probe: impl Fn(&Entry) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        let (mut state, mut seen) = (self.shared.lock(), mark);
        loop {
            if let Some(found) = state.log.iter().skip(seen).find_map(&probe) {
                return Some(found);
            }
            seen = state.log.len().max(mark);
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for an entry after the mark.
    ///
    /// # Panics
    /// When patience runs out; `what` names the expectation, and the record since the mark is shown.
    #[track_caller]
    pub fn wait_entry(&self, mark: usize, what: &str, probe: impl Fn(&Entry) -> bool) -> Entry {
        let found = self.wait_within(mark, wait::PATIENCE, |entry| probe(entry).then(|| entry.clone()));
        if found.is_none() {
            eprintln!("{}", self.transcript(mark));
        }
        assert!(found.is_some(), "waited in vain for {what}");
        found.unwrap_or_else(|| unreachable!("asserted above"))
    }

    /// Waits for a request after the mark; see [`Self::wait_entry`].
    #[track_caller]
    pub fn wait_for(&self, mark: usize, what: &str, probe: impl Fn(&Request) -> bool) -> Request {
        let entry = self.wait_entry(mark, what, |entry| entry.request().is_some_and(&probe));
        entry.request().cloned().unwrap_or_default()
    }

    /// Waits for a request that accepts a response of this kind.
    #[track_caller]
    pub fn wait_ack(&self, mark: usize, ty: Type) -> Request {
        self.wait_for(mark, &format!("an ACK of {ty:?}"), |r| r.is(ty) && r.is_ack())
    }

    /// Waits for a request that refuses a response of this kind.
    #[track_caller]
    pub fn wait_nack(&self, mark: usize, ty: Type) -> Request {
        self.wait_for(mark, &format!("a NACK of {ty:?}"), |r| r.is(ty) && r.is_nack())
    }

    /// The record after a mark in one line an entry, for messages of failed tests.
    pub fn transcript(&self, mark: usize) -> String {
        self.shared.lock().log.iter().skip(mark).map(|entry| format!("{entry}\n")).collect()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- record of the control plane\n{}", self.transcript(0));
        }
        self.quit.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the runtime's thread has been printed already.
            let _ = thread.join();
        }
    }
}
