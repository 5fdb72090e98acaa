//! The test's side of the simulated network: clients, upstreams, the clock.

use super::faults::FaultPlan;
use super::net::{Net, ReadResult};
use crate::sockets::SocketInfo;
use crate::{IoError, Socket, SocketAddress};
use millrace_base::Time;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The simulated network; a clone is the same one.
#[derive(Clone, Debug)]
pub struct SimNet(pub(super) Rc<RefCell<Net>>);

/// The test's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(i32);

/// The test's listener: an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerListener(i32);

/// What a [`SimNet::read`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRead {
    /// Nothing has arrived.
    Nothing,
    /// At least one byte.
    Bytes(Vec<u8>),
    /// The shard closed its write half, or its socket.
    Eof,
    /// The connection was reset.
    Reset,
}

impl SimNet {
    /// A network whose whole behaviour follows from `seed`. Its clock starts at one second.
    pub fn new(seed: u64, plan: FaultPlan) -> Self {
        Self(Rc::new(RefCell::new(Net::new(seed, plan))))
    }

    /// Virtual time.
    pub fn now(&self) -> Time {
        self.0.borrow().now
    }

    /// Lets time pass without looking at anything.
    pub fn advance(&self, duration: Duration) {
        let mut net = self.0.borrow_mut();
        net.now = net.now + duration;
    }

    /// Replaces the fault plan from now on.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.0.borrow_mut().plan = plan;
    }

    /// A listening socket for a shard.
    ///
    /// # Errors
    /// AddressInUse.
    pub fn listen(&self, address: SocketAddress) -> Result<Socket, IoError> {
        self.0.borrow_mut().listen(address).map(Socket::from_raw)
    }

    /// A client connects to a shard's listener.
    ///
    /// # Errors
    /// Refused when nobody listens there.
    pub fn connect(&self, to: &SocketAddress) -> Result<Peer, IoError> {
        self.0.borrow_mut().connect(to, None, None).map(Peer)
    }

    /// A client connects to `original` and is redirected to the listener `to`, as by iptables.
    ///
    /// # Errors
    /// Refused when nobody listens there.
    pub fn connect_redirected(&self, to: &SocketAddress, original: SocketAddress) -> Result<Peer, IoError> {
        self.0.borrow_mut().connect(to, None, Some(original)).map(Peer)
    }

    /// An upstream starts to listen.
    ///
    /// # Errors
    /// AddressInUse.
    pub fn listen_peer(&self, address: SocketAddress) -> Result<PeerListener, IoError> {
        self.0.borrow_mut().listen(address).map(PeerListener)
    }

    /// An upstream takes the next connection.
    pub fn accept(&self, listener: PeerListener) -> Option<Peer> {
        self.0.borrow_mut().backlog(listener.0)?.pop_front().map(Peer)
    }

    /// An upstream stops listening; connections not accepted yet are reset.
    pub fn close_listener(&self, listener: PeerListener) {
        self.0.borrow_mut().close(listener.0, false);
    }

    /// Writes as much as fits into the window.
    ///
    /// # Errors
    /// Pipe after a reset or an own [`shutdown`](Self::shutdown).
    pub fn write(&self, peer: Peer, bytes: &[u8]) -> Result<usize, IoError> {
        self.0.borrow_mut().write(peer.0, bytes)
    }

    /// Reads up to `room` bytes of what has arrived.
    pub fn read(&self, peer: Peer, room: usize) -> PeerRead {
        match self.0.borrow_mut().read(peer.0, room) {
            ReadResult::Nothing => PeerRead::Nothing,
            ReadResult::Bytes(bytes) => PeerRead::Bytes(bytes),
            ReadResult::Eof => PeerRead::Eof,
            ReadResult::Reset => PeerRead::Reset,
        }
    }

    /// Closes the write half.
    pub fn shutdown(&self, peer: Peer) {
        self.0.borrow_mut().shutdown(peer.0);
    }

    /// Closes the connection (a RST if bytes are unread). The handle is used up.
    pub fn close(&self, peer: Peer) {
        self.0.borrow_mut().close(peer.0, false);
    }

    /// Resets the connection. The handle is used up.
    pub fn reset(&self, peer: Peer) {
        self.0.borrow_mut().close(peer.0, true);
    }

    /// Closes a shard's socket that no operation is outstanding on (`sockets::close` of the simulation).
    pub fn close_socket(&self, socket: Socket) {
        self.0.borrow_mut().close(socket.raw(), false);
    }

    /// Open sockets and listeners on all sides: 0 when nothing leaked.
    pub fn open_count(&self) -> usize {
        self.0.borrow().open_count()
    }

    /// When the next thing arrives at this end, if anything is under way.
    pub fn next_arrival(&self, peer: Peer) -> Option<Time> {
        self.0.borrow().arrival(peer.0)
    }
}

impl SocketInfo for SimNet {
    fn local_address(&self, socket: Socket) -> Result<SocketAddress, IoError> {
        let net = self.0.borrow();
        let local = net.stream(socket.raw()).map(|endpoint| &endpoint.local);
        let found = local.or_else(|| net.listener_address(socket.raw())).cloned();
        found.ok_or(IoError::from_errno(libc::EBADF))
    }

    fn peer_address(&self, socket: Socket) -> Result<SocketAddress, IoError> {
        let net = self.0.borrow();
        let remote = net.stream(socket.raw()).map(|endpoint| endpoint.remote.clone());
        remote.ok_or(IoError::from_errno(libc::ENOTCONN))
    }

    fn original_dst(&self, socket: Socket) -> Result<SocketAddress, IoError> {
        let net = self.0.borrow();
        let original = net.stream(socket.raw()).and_then(|endpoint| endpoint.original.clone());
        original.ok_or(IoError::from_errno(libc::ENOENT))
    }
}
