//! The network as clients and endpoints see it: the simulated one, with TLS in between where the run wants it.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use millrace_base::Time;
use millrace_ring::sim::{Peer, PeerListener, PeerRead, SimNet};
use millrace_ring::{IoError, SocketAddress};

use crate::setup::Setup;
use crate::tls::{Speaks, Tls, Wire};

/// The network of one run. What it does not do itself the simulated network does.
#[derive(Clone, Debug)]
pub struct Net {
    sim: SimNet,
    wire: Option<Rc<RefCell<Wire>>>,
}

impl Deref for Net {
    type Target = SimNet;

    fn deref(&self) -> &SimNet {
        &self.sim
    }
}

impl Net {
    /// With TLS where `tls` wants it; `speaks` is what goes on inside.
    pub(crate) fn new(sim: SimNet, tls: Tls, speaks: Speaks) -> Self {
        let wire = (!tls.is_off()).then(|| Rc::new(RefCell::new(Wire::new(tls, speaks))));
        Self { sim, wire }
    }

    /// The network of a run with a seed.
    pub(crate) fn of(setup: &Setup, seed: u64) -> Self {
        let net = Self::new(SimNet::new(seed, setup.plan.clone()), setup.tls, Speaks::of(setup));
        if let Some(mut wire) = net.wire() {
            wire.seeded(seed, setup);
        }
        net
    }

    /// The certificate that the proxy showed on this connection: which of its certificates it was.
    pub fn certificate(&self, peer: Peer) -> Option<u64> {
        self.wire()?.certificate(peer)
    }

    pub(crate) fn wire(&self) -> Option<std::cell::RefMut<'_, Wire>> {
        self.wire.as_ref().map(|wire| wire.borrow_mut())
    }

    /// A client connects to a shard's listener, and begins its handshake.
    ///
    /// # Errors
    /// Refused when nobody listens there.
    pub fn connect(&self, to: &SocketAddress) -> Result<Peer, IoError> {
        let peer = self.sim.connect(to)?;
        if let Some(mut wire) = self.wire() {
            wire.connected(&self.sim, peer);
        }
        Ok(peer)
    }

    /// A client connects and speaks for itself.
    ///
    /// # Errors
    /// Refused when nobody listens there.
    pub fn connect_in_clear(&self, to: &SocketAddress) -> Result<Peer, IoError> {
        self.sim.connect(to)
    }

    /// An endpoint starts to listen.
    ///
    /// # Errors
    /// The address is in use.
    pub fn listen_peer(&self, address: SocketAddress) -> Result<PeerListener, IoError> {
        let listener = self.sim.listen_peer(address)?;
        if let Some(mut wire) = self.wire() {
            wire.listeners.push(listener);
        }
        Ok(listener)
    }

    /// An endpoint takes the next connection.
    pub fn accept(&self, listener: PeerListener) -> Option<Peer> {
        let peer = self.sim.accept(listener)?;
        if let Some(mut wire) = self.wire() {
            wire.accepted(&self.sim, peer, listener);
        }
        Some(peer)
    }

    /// Writes as much as fits.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write(&self, peer: Peer, bytes: &[u8]) -> Result<usize, IoError> {
        let written = self.wire().and_then(|mut wire| wire.write(&self.sim, peer, bytes));
        written.unwrap_or_else(|| self.sim.write(peer, bytes))
    }

    /// Reads up to `room` bytes. A FIN that TLS did not announce is a reset.
    pub fn read(&self, peer: Peer, room: usize) -> PeerRead {
        let read = self.wire().and_then(|mut wire| wire.read(&self.sim, peer, room));
        read.unwrap_or_else(|| self.sim.read(peer, room))
    }

    /// Closes the write half.
    pub fn shutdown(&self, peer: Peer) {
        if !self.wire().is_some_and(|mut wire| wire.shutdown(&self.sim, peer)) {
            self.sim.shutdown(peer);
        }
    }

    /// Closes the write half so that over TLS it does not look like the end.
    pub fn truncate(&self, peer: Peer) {
        if !self.wire().is_some_and(|mut wire| wire.truncate(&self.sim, peer)) {
            self.sim.shutdown(peer);
        }
    }

    /// Closes the connection. The handle is used up.
    pub fn close(&self, peer: Peer) {
        if !self.wire().is_some_and(|mut wire| wire.close(&self.sim, peer)) {
            self.sim.close(peer);
        }
    }

    /// Resets the connection. The handle is used up.
    pub fn reset(&self, peer: Peer) {
        if let Some(mut wire) = self.wire() {
            wire.forget(peer);
        }
        self.sim.reset(peer);
    }

    /// True when TLS is spoken on this connection.
    pub fn is_secure(&self, peer: Peer) -> bool {
        self.wire().is_some_and(|wire| wire.is_secure(peer))
    }

    /// When the next thing arrives at this end, if anything is under way.
    pub fn next_arrival(&self, peer: Peer) -> Option<Time> {
        match self.wire() {
            Some(wire) => wire.next_arrival(&self.sim, peer),
            None => self.sim.next_arrival(peer),
        }
    }

    /// Handshakes go on. Returns what was found wrong.
    pub(crate) fn pump(&self) -> Vec<String> {
        self.wire().map(|mut wire| wire.pump(&self.sim)).unwrap_or_default()
    }

    /// When somebody has to pump again.
    pub(crate) fn wake(&self) -> Time {
        self.wire().map_or(Time::MAX, |wire| wire.wake(&self.sim))
    }
}
