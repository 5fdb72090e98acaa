//! All TLS connections of the peers of a run, and what must be true of each of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_ring::IoError;
use millrace_ring::sim::{Peer, PeerListener, PeerRead, SimNet};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, HandshakeKind, ServerConnection};

use super::Tls;
use super::configs::{Clients, Servers, clients, servers};
use super::identity::{PROXY_NAME, number_of};
use super::session::{Fault, Session};
use crate::fixture::Mode;
use crate::setup::{Disturbance, Setup};

/// Longer than from a shard's connect to the endpoint's accept.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// What handshakes and faults came to.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Handshakes of clients, and of endpoints.
    pub handshakes: [u64; 2],
    /// Those that resumed a session.
    pub resumed: [u64; 2],
    /// Those that were asked for another key share first.
    pub retried: [u64; 2],
    /// What peers were told after which fault of theirs: alerts by name.
    pub alerts: BTreeSet<String>,
}

impl Seen {
    /// Adds what another run saw.
    pub fn add(&mut self, other: Self) {
        for side in 0..2 {
            self.handshakes[side] += other.handshakes[side];
            self.resumed[side] += other.resumed[side];
            self.retried[side] += other.retried[side];
        }
        self.alerts.extend(other.alerts);
    }
}

/// What peers speak inside, for ALPN; `None` for tunnels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaks {
    pub(crate) clients: Option<&'static [u8]>,
    pub(crate) endpoints: Option<&'static [u8]>,
}

impl Speaks {
    /// In a run.
    pub(crate) fn of(setup: &Setup) -> Self {
        let named = |http2: bool| -> Option<&'static [u8]> {
            (setup.mode != Mode::Tcp).then_some(if http2 { b"h2" } else { b"http/1.1" })
        };
        Self { clients: named(setup.http2.clients), endpoints: named(setup.http2.upstreams) }
    }
}

/// The TLS side of the network.
#[derive(Debug)]
pub(crate) struct Wire {
    tls: Tls,
    speaks: Speaks,
    rng: Rng,
    clients: Clients,
    servers: Servers,
    sessions: BTreeMap<Peer, Session>,
    /// Those of the endpoints, in their order.
    pub(crate) listeners: Vec<PeerListener>,
    violations: Vec<String>,
    /// An inspected listener serves clear text as well.
    clear: bool,
    /// Nothing goes wrong in this run.
    lossless: bool,
    body_max: usize,
    /// The proxy's certificates: from when on every shard had which, and the one published last.
    everywhere: VecDeque<(Time, u64)>,
    published: u64,
    seen: Seen,
}

impl Wire {
    pub(crate) fn new(tls: Tls, speaks: Speaks) -> Self {
        Self {
            clients: clients(&tls, speaks.clients),
            servers: servers(&tls, speaks.endpoints),
            tls,
            speaks,
            rng: Rng::new(1),
            sessions: BTreeMap::new(),
            listeners: Vec::new(),
            violations: Vec::new(),
            clear: true,
            lossless: true,
            body_max: 1_000,
            everywhere: VecDeque::new(),
            published: 0,
            seen: Seen::default(),
        }
    }

    /// For runs with a seed: what may go wrong, and how long bodies are.
    pub(crate) fn seeded(&mut self, seed: u64, setup: &Setup) {
        (self.rng, self.lossless, self.body_max) = (Rng::new(seed), setup.lossless, setup.body_max);
        // Churn chooses its filter chains by the client's port alone.
        self.clear = !matches!(setup.disturbance, Disturbance::Churn | Disturbance::ChurnHard);
    }

    /// What has come of it all.
    pub(crate) fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }

    /// The certificate that the proxy showed.
    pub(crate) fn certificate(&self, peer: Peer) -> Option<u64> {
        number_of(self.sessions.get(&peer)?.tls().peer_certificates()?.first()?)
    }

    /// The proxy got another certificate, which every shard has from `everywhere` on.
    pub(crate) fn rotated(&mut self, number: u64, everywhere: Time) {
        self.published = number;
        self.everywhere.push_back((everywhere, number));
    }

    /// The oldest certificate that a handshake which began at `since` may show.
    fn oldest(&self, since: Time) -> u64 {
        self.everywhere.iter().filter(|(at, _)| *at <= since).map(|(_, number)| *number).max().unwrap_or(0)
    }

    fn grain(&mut self) -> usize {
        let most = match self.tls.record_bytes_max {
            0 => usize::MAX,
            most => most,
        };
        let few = 1 + self.rng.below(100) as usize;
        let grain = [usize::MAX, usize::MAX, 1_000, few, 1][self.rng.below(5) as usize];
        grain.clamp(self.tls.record_bytes_min.max(1), most)
    }

    fn fault(&mut self, server: bool) -> Option<Fault> {
        let strikes = self.rng.chance(self.tls.faults, 1000);
        let fault = strikes.then(|| Fault::any(&mut self.rng, self.body_max))?;
        let strangers = if server { self.servers.strangers.len() } else { self.clients.strangers.len() };
        // Over clear text, bytes that are no TLS are somebody's bytes.
        let clear = !server && self.tls.inspected && self.speaks.clients.is_none();
        match fault {
            Fault::Stranger if strangers == 0 => None,
            Fault::Garbage if clear => None,
            fault => Some(fault),
        }
    }

    /// A client connected; nothing happens to clients of clear text.
    pub(crate) fn connected(&mut self, sim: &SimNet, peer: Peer) {
        if !self.tls.downstream || self.tls.inspected && self.clear && self.rng.chance(1, 2) {
            return;
        }
        let fault = self.fault(false);
        let configs = match fault {
            Some(Fault::Stranger) => &self.clients.strangers,
            _ => &self.clients.good,
        };
        let config = configs[self.rng.below(configs.len() as u64) as usize].clone();
        let name = ServerName::try_from(PROXY_NAME).expect("a name");
        let tls = ClientConnection::new(config, name).expect("a client");
        self.add(sim, peer, tls.into(), fault, sim.now());
    }

    /// An endpoint took a connection of the proxy.
    pub(crate) fn accepted(&mut self, sim: &SimNet, peer: Peer, listener: PeerListener) {
        let at = self.listeners.iter().position(|known| *known == listener).unwrap_or(0);
        if !self.tls.upstream || self.tls.some_endpoints && at % 2 == 1 {
            return;
        }
        let fault = self.fault(true);
        let configs = match fault {
            Some(Fault::Stranger) => &self.servers.strangers,
            _ => &self.servers.good,
        };
        let config = configs[self.rng.below(configs.len() as u64) as usize].clone();
        let tls = ServerConnection::new(config).expect("a server");
        let before = Time(sim.now().0.saturating_sub(CONNECT_TIME.as_nanos() as u64));
        self.add(sim, peer, tls.into(), fault, before);
    }

    fn add(&mut self, sim: &SimNet, peer: Peer, tls: Connection, fault: Option<Fault>, since: Time) {
        let grain = self.grain();
        let mut session = Session::new(peer, tls, fault, grain, &mut self.rng);
        session.since = self.oldest(since);
        session.drive(sim);
        self.sessions.insert(peer, session);
    }

    /// True when TLS is spoken on this connection.
    pub(crate) fn is_secure(&self, peer: Peer) -> bool {
        self.sessions.contains_key(&peer)
    }

    pub(crate) fn write(&mut self, sim: &SimNet, peer: Peer, bytes: &[u8]) -> Option<Result<usize, IoError>> {
        let session = self.sessions.get_mut(&peer)?;
        Some(session.write(sim, bytes, &mut self.rng))
    }

    pub(crate) fn read(&mut self, sim: &SimNet, peer: Peer, room: usize) -> Option<PeerRead> {
        let session = self.sessions.get_mut(&peer)?;
        Some(session.read(sim, room))
    }

    pub(crate) fn next_arrival(&self, sim: &SimNet, peer: Peer) -> Option<Time> {
        match self.sessions.get(&peer) {
            Some(session) if session.has_news() => Some(sim.now()),
            _ => sim.next_arrival(peer),
        }
    }

    /// Closes the write half; false where there is no TLS.
    pub(crate) fn shutdown(&mut self, sim: &SimNet, peer: Peer) -> bool {
        self.sessions.get_mut(&peer).map(|session| session.shutdown(sim)).is_some()
    }

    /// As [`Wire::shutdown`], without a word.
    pub(crate) fn truncate(&mut self, sim: &SimNet, peer: Peer) -> bool {
        self.sessions.get_mut(&peer).map(|session| session.truncate(sim)).is_some()
    }

    /// Closes the connection once everything has left; false where there is no TLS.
    pub(crate) fn close(&mut self, sim: &SimNet, peer: Peer) -> bool {
        let Some(session) = self.sessions.get_mut(&peer) else { return false };
        if session.close(sim) {
            self.remove(peer);
        }
        true
    }

    /// The connection is reset by its user.
    pub(crate) fn forget(&mut self, peer: Peer) {
        self.remove(peer);
    }

    fn remove(&mut self, peer: Peer) {
        if let Some(mut session) = self.sessions.remove(&peer) {
            self.judge(&mut session);
        }
    }

    /// Handshakes go on, and closes. Everything found wrong is given away.
    pub(crate) fn pump(&mut self, sim: &SimNet) -> Vec<String> {
        let mut sessions = std::mem::take(&mut self.sessions);
        sessions.retain(|_, session| {
            session.drive(sim);
            self.judge(session);
            !session.finish(sim)
        });
        self.sessions = sessions;
        std::mem::take(&mut self.violations)
    }

    /// When somebody has to pump again.
    pub(crate) fn wake(&self, sim: &SimNet) -> Time {
        let waiting = self.sessions.values().filter(|session| session.waits_for_handshake());
        waiting.filter_map(|session| sim.next_arrival(session.peer())).min().unwrap_or(Time::MAX)
    }

    /// Looks once at what a handshake agreed upon.
    fn judge(&mut self, session: &mut Session) {
        self.violations.append(&mut session.violations);
        self.seen.alerts.extend(session.told.take());
        if session.ended_unannounced() && self.lossless {
            self.violations.push(format!("a FIN without close_notify: {session:?}"));
        }
        if session.judged || !session.is_established() {
            return;
        }
        session.judged = true;
        let tls = session.tls();
        let server = matches!(tls, Connection::Server(_));
        let (side, kind) = (usize::from(server), tls.handshake_kind());
        self.seen.handshakes[side] += 1;
        self.seen.resumed[side] += u64::from(kind == Some(HandshakeKind::Resumed));
        self.seen.retried[side] += u64::from(kind == Some(HandshakeKind::FullWithHelloRetryRequest));
        let wanted = if server { self.speaks.endpoints } else { self.speaks.clients };
        let agreed = tls.alpn_protocol();
        // HTTP/1.1 needs no name.
        let fits = agreed == wanted || agreed.is_none() && !server && wanted == Some(b"http/1.1");
        if !fits {
            self.violations.push(format!("ALPN: {agreed:?} instead of {wanted:?}"));
        }
        if let Connection::Server(tls) = tls
            && tls.server_name() != Some(PROXY_NAME)
        {
            self.violations.push(format!("server name {:?}", tls.server_name()));
        }
        let shown = tls.peer_certificates().and_then(|chain| number_of(chain.first()?));
        let known = (session.since..=self.published).contains(&shown.unwrap_or(u64::MAX));
        let asked = !server || self.tls.mutual;
        if asked && !known {
            let range = session.since..=self.published;
            self.violations.push(format!("certificate {shown:?} was shown, {range:?} were in force"));
        }
    }
}
