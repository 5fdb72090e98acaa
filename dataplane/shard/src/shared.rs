//! Everything that crosses cores: mailboxes, connection counts, the drain state and what shards share of clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;
use millrace_config::{Address, ClusterId, HostNews, HostQuestion, Listener, OverloadLevels, Update};
use millrace_ring::{Socket, Waker};
use millrace_tls::CertificateRules;
use millrace_upstream::{ClusterHealth, ClusterShared, LoadBook, MetricBooks, OnDemandBook, TableShape};

pub use crate::admission::{Admission, ConnectionCount};

/// Messages that may wait for one shard.
const MAILBOX_MAX: usize = 4096;

/// Hosts that the control thread was asked for and has not looked at yet.
const QUESTIONS_MAX: usize = 4096;

/// One listener from its start to the end of its last connection, whatever its configuration is meanwhile.
/// It is told by identity: a listener that was removed and a later one of the same name are two.
#[derive(Debug)]
pub struct ListenerHandle {
    name: Arc<str>,
    /// Its connections, where the runtime bounds them.
    bounded: ConnectionCount,
}

impl ListenerHandle {
    /// A new listener; its maker keeps the handle for as long as it wants to ask about it.
    pub fn new(name: &Arc<str>) -> Arc<Self> {
        Arc::new(Self { name: name.clone(), bounded: ConnectionCount::default() })
    }

    /// `Listener.name`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn bounded(&self) -> &ConnectionCount {
        &self.bounded
    }

    /// True while a shard, or a message on its way to one, still has to do with the listener. Only exact for
    /// a caller that holds the one handle outside of the shards.
    pub fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }
}

/// A connection accepted on one shard and served on another.
#[derive(Debug)]
pub struct HandOver {
    /// The socket; the receiving shard owns it from now on.
    pub socket: Socket,
    /// Who connected.
    pub peer: Address,
    /// Our end.
    pub local: Address,
    /// The listener.
    pub listener: Arc<ListenerHandle>,
    /// Its place under the bounds that all shards share.
    pub admission: Admission,
}

/// What a shard is told from outside.
#[derive(Debug)]
pub enum Message {
    /// Serve this connection.
    Connection(HandOver),
    /// Apply this to the configuration at hand.
    Update(Arc<Update>),
    /// Serve the connections of this new listener from now on. Every shard must have this message in its
    /// mailbox before any shard gets a socket of the listener: what one accepts another may have to serve.
    Know(Arc<ListenerHandle>, Arc<Listener>),
    /// Endpoints of this cluster have failed: connections to them are left.
    HealthChanged(ClusterId),
    /// Traffic to this endpoint, which the shard checks, told that it shall get nothing more.
    FailHealthCheck(ClusterId, Address),
    /// A host that requests name was resolved, or dropped.
    Host(Arc<HostNews>),
    /// Accept on this socket. If the listener has gone or was told to stop meanwhile, the socket is closed.
    Listen(Arc<ListenerHandle>, Socket),
    /// Stop accepting on the listeners for which the flag is true (all when `inbound_only` is false).
    StopListening {
        /// Only listeners whose `traffic_direction` is INBOUND.
        inbound_only: bool,
    },
    /// Close whatever is idle now and everything else as soon as its request ends.
    Drain {
        /// Only connections of listeners whose `traffic_direction` is INBOUND.
        inbound_only: bool,
    },
    /// How hard the process is pressed from now on. Comes again while streams that hold much memory shall be reset.
    Overload(OverloadLevels),
    /// Hand over all log lines.
    FlushLogs,
    /// Close everything and return from the loop.
    Stop,
}

/// Which downstream connections are asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Draining {
    /// None.
    Nothing = 0,
    /// Those of listeners whose `traffic_direction` is INBOUND.
    Inbound = 1,
    /// All.
    Everything = 2,
}

/// The outside of one shard. A cache line of its own, because every accept reads the counts.
#[derive(Debug)]
#[repr(align(64))]
pub struct Door {
    connections: AtomicU32,
    draining: AtomicU32,
    version: AtomicU64,
    mailbox: ArrayQueue<Message>,
    waker: OnceLock<Waker>,
}

impl Door {
    /// Downstream connections that this shard serves or is about to.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Downstream connections of this shard whose listener, or filter chain, was removed or replaced.
    pub fn draining_connections(&self) -> u32 {
        self.draining.load(Ordering::Relaxed)
    }

    /// The version of the configuration that the shard serves.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Puts a message into the mailbox and wakes the shard.
    ///
    /// # Errors
    /// The message, when the mailbox is full.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        self.mailbox.push(message)?;
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
        Ok(())
    }
}

/// Called by any shard.
struct WakeControl(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for WakeControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WakeControl")
    }
}

/// One per process, shared by all shards and the control thread.
#[derive(Debug)]
pub struct Shared {
    doors: Box<[Door]>,
    draining: AtomicU8,
    failing_health_checks: AtomicBool,
    clusters: Mutex<BTreeMap<ClusterId, Arc<ClusterShared>>>,
    /// Clusters whose health the control thread shall look at.
    notices: Mutex<BTreeSet<ClusterId>>,
    /// Hosts that the control thread shall resolve.
    questions: Mutex<Vec<HostQuestion>>,
    wake_control: OnceLock<WakeControl>,
    connections: Arc<ConnectionCount>,
    /// What session tickets of all shards have in common.
    pub(crate) tls: Arc<millrace_tls::Shared>,
}

impl Shared {
    /// Doors for `shards` shards; peers' certificates are held to the default rules.
    pub fn new(shards: usize) -> Self {
        Self::with_rules(shards, CertificateRules::default())
    }

    /// Doors for `shards` shards; peers' certificates are held to `rules`.
    pub fn with_rules(shards: usize, rules: CertificateRules) -> Self {
        let door = |_| Door {
            connections: AtomicU32::new(0),
            draining: AtomicU32::new(0),
            version: AtomicU64::new(0),
            mailbox: ArrayQueue::new(MAILBOX_MAX),
            waker: OnceLock::new(),
        };
        Self {
            doors: (0..shards).map(door).collect(),
            draining: AtomicU8::new(Draining::Nothing as u8),
            failing_health_checks: AtomicBool::new(false),
            clusters: Mutex::default(),
            notices: Mutex::default(),
            questions: Mutex::default(),
            wake_control: OnceLock::new(),
            connections: Arc::default(),
            tls: millrace_tls::Shared::random(rules),
        }
    }

    /// All doors, by shard index.
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// The bound on downstream connections of all shards.
    pub fn connections(&self) -> &Arc<ConnectionCount> {
        &self.connections
    }

    /// Makes a shard reachable; called once on its own thread.
    pub(crate) fn open(&self, index: usize, waker: Waker) {
        let first = self.doors[index].waker.set(waker).is_ok();
        debug_assert!(first, "a shard opens its door once");
    }

    pub(crate) fn receive(&self, index: usize) -> Option<Message> {
        self.doors[index].mailbox.pop()
    }

    /// Picks the shard with the fewest connections and counts the new one there. `own` wins ties, so an
    /// accept on the right shard costs no hand-over. Two shards that choose at the same moment notice it by
    /// the count they got and one of them looks again.
    pub(crate) fn assign(&self, own: usize) -> usize {
        let mut chosen = own;
        for _ in 0..4 {
            let mut least = self.doors[own].connections();
            chosen = own;
            for (index, door) in self.doors.iter().enumerate() {
                if door.connections() < least {
                    (least, chosen) = (door.connections(), index);
                }
            }
            let before = self.doors[chosen].connections.fetch_add(1, Ordering::Relaxed);
            if before <= least {
                return chosen;
            }
            self.doors[chosen].connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.doors[chosen].connections.fetch_add(1, Ordering::Relaxed);
        chosen
    }

    /// Counts a connection that stays where it was accepted although another shard was chosen.
    pub(crate) fn count_here(&self, index: usize) {
        self.doors[index].connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of the shard is gone.
    pub(crate) fn unassign(&self, index: usize) {
        self.doors[index].connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A shard serves this version from now on.
    pub(crate) fn set_version(&self, index: usize, version: u64) {
        self.doors[index].version.store(version, Ordering::Release);
    }

    /// The version that every shard serves at least: what was removed by it, no request finds any more.
    pub fn applied_version(&self) -> u64 {
        self.doors.iter().map(Door::version).min().unwrap_or(0)
    }

    /// So many more connections of a shard drain because of a change of configuration.
    pub(crate) fn add_draining(&self, index: usize, more: u32) {
        self.doors[index].draining.fetch_add(more, Ordering::Relaxed);
    }

    /// One of them is gone.
    pub(crate) fn end_draining(&self, index: usize) {
        self.doors[index].draining.fetch_sub(1, Ordering::Relaxed);
    }

    /// Downstream connections of all shards whose listener or filter chain is gone.
    pub fn draining_connections(&self) -> u64 {
        self.doors.iter().map(|door| u64::from(door.draining_connections())).sum()
    }

    /// What is being drained: responses of these connections carry `connection: close`.
    pub fn draining(&self) -> Draining {
        match self.draining.load(Ordering::Relaxed) {
            0 => Draining::Nothing,
            1 => Draining::Inbound,
            _ => Draining::Everything,
        }
    }

    /// Begins or ends draining.
    pub fn set_draining(&self, draining: Draining) {
        self.draining.store(draining as u8, Ordering::Relaxed);
    }

    /// True after POST `/healthcheck/fail`.
    pub fn is_failing_health_checks(&self) -> bool {
        self.failing_health_checks.load(Ordering::Relaxed)
    }

    /// POST `/healthcheck/fail` and `/healthcheck/ok`.
    pub fn set_failing_health_checks(&self, failing: bool) {
        self.failing_health_checks.store(failing, Ordering::Relaxed);
    }

    /// Units taken of all clusters' circuit breakers: connections, pending, requests, retries. For tests.
    #[doc(hidden)]
    pub fn budgets_used(&self) -> [u32; 4] {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = [0; 4];
        for budget in clusters.values().flat_map(|b| [&b.default, &b.high]) {
            let (connections, pending) = (budget.connections.used(), budget.pending.used());
            let parts = [connections, pending, budget.requests.used(), budget.retries.used()];
            used.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
        used
    }

    /// The circuit breakers of a cluster, the same for every shard. Slow path: asked once per shard and
    /// cluster, at its first use.
    pub(crate) fn cluster(&self, cluster: ClusterId) -> Arc<ClusterShared> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.entry(cluster).or_default().clone()
    }

    /// A shard has forgotten a cluster that left the configuration. The last one takes its circuit breakers
    /// along.
    pub(crate) fn forget_cluster(&self, cluster: ClusterId) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock nobody can take another reference.
        if clusters.get(&cluster).is_some_and(|budget| Arc::strong_count(budget) == 1) {
            clusters.remove(&cluster);
        }
    }

    /// How the control thread hears that [`Self::take_notices`] has something; set once.
    pub fn on_notice(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let first = self.wake_control.set(WakeControl(wake)).is_ok();
        debug_assert!(first, "there is one control thread");
    }

    /// Clusters whose checks told something since the last call that configuration follows from: all first results are
    /// there, or an endpoint that discovery has dropped fails.
    pub fn take_notices(&self) -> BTreeSet<ClusterId> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The control thread shall look at the health of a cluster.
    pub(crate) fn tell_control(&self, cluster: ClusterId) {
        let news = self.notices.lock().unwrap_or_else(PoisonError::into_inner).insert(cluster);
        if let Some(wake) = self.wake_control.get().filter(|_| news) {
            (wake.0)();
        }
    }

    /// Hosts that shards want resolved since the last call.
    pub fn take_questions(&self) -> Vec<HostQuestion> {
        std::mem::take(&mut *self.questions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The control thread shall resolve a host. False when too many are waiting for it.
    pub(crate) fn ask_control(&self, question: HostQuestion) -> bool {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        if questions.len() >= QUESTIONS_MAX {
            return false;
        }
        questions.push(question);
        let first = questions.len() == 1;
        drop(questions);
        if let Some(wake) = self.wake_control.get().filter(|_| first) {
            (wake.0)();
        }
        true
    }

    /// What shards share of a cluster's circuit breakers; `None` while no shard uses it.
    pub fn breakers<R>(&self, cluster: ClusterId, look: impl FnOnce(&ClusterShared) -> R) -> Option<R> {
        self.known(cluster, look)
    }

    /// What outlier detection and checks know of a cluster's endpoints; `None` while no shard has used the cluster.
    /// Slow path: for the admin interface.
    pub fn health<R>(&self, cluster: ClusterId, look: impl FnOnce(&ClusterHealth) -> R) -> Option<R> {
        self.known(cluster, |shared| look(&shared.health))
    }

    /// What endpoints of a cluster report on streams of their own; `None` while no shard has used it. For tests.
    #[doc(hidden)]
    pub fn load_book<R>(&self, cluster: ClusterId, look: impl FnOnce(&LoadBook) -> R) -> Option<R> {
        self.known(cluster, |shared| look(&shared.load_book))
    }

    /// What endpoints of a cluster reported with their responses for load reports; `None` while no shard has used it.
    pub fn load_metrics<R>(&self, cluster: ClusterId, look: impl FnOnce(&MetricBooks) -> R) -> Option<R> {
        self.known(cluster, |shared| look(&shared.load_metrics))
    }

    /// The endpoints that requests to a cluster named; `None` while no shard has used it. Slow path as well.
    pub fn on_demand<R>(&self, cluster: ClusterId, look: impl FnOnce(&OnDemandBook) -> R) -> Option<R> {
        self.known(cluster, |shared| look(&shared.on_demand))
    }

    /// How the last ring or table of a cluster that hashes was divided. Slow path as well.
    pub fn table_shape(&self, cluster: ClusterId) -> Option<TableShape> {
        self.known(cluster, |shared| shared.tables.newest())
    }

    fn known<R>(&self, cluster: ClusterId, look: impl FnOnce(&ClusterShared) -> R) -> Option<R> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = clusters.get(&cluster).map(Arc::clone);
        drop(clusters);
        shared.map(|shared| look(&shared))
    }

    /// True while a shard has state of this cluster: connections, requests, or none of them but the
    /// configuration. One that was removed is over when this says false.
    pub fn is_cluster_in_use(&self, cluster: ClusterId) -> bool {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.contains_key(&cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_spread_evenly_whoever_accepts_them() {
        let shared = Shared::new(2);
        for accepted_on in [0, 0, 0, 0, 0, 0, 1, 0, 1, 1] {
            shared.assign(accepted_on);
        }
        assert_eq!((shared.doors[0].connections(), shared.doors[1].connections()), (5, 5));
        shared.unassign(0);
        assert_eq!(shared.assign(1), 0);
    }

    #[test]
    fn circuit_breakers_go_with_the_last_shard_that_forgets_their_cluster() {
        let shared = Shared::new(2);
        let (first, second) = (shared.cluster(ClusterId(7)), shared.cluster(ClusterId(7)));
        drop(first);
        shared.forget_cluster(ClusterId(7));
        assert!(shared.is_cluster_in_use(ClusterId(7)));
        drop(second);
        shared.forget_cluster(ClusterId(7));
        assert!(!shared.is_cluster_in_use(ClusterId(7)));
    }

    #[test]
    fn a_handle_tells_whether_anybody_else_has_it() {
        let handle = ListenerHandle::new(&"ingress".into());
        let other = handle.clone();
        assert!(handle.is_in_use() && &**other.name() == "ingress");
        drop(other);
        assert!(!handle.is_in_use());
    }

    #[test]
    fn concurrent_accepts_stay_within_one_of_even() {
        let shared = Shared::new(4);
        std::thread::scope(|scope| {
            for own in 0..4 {
                let shared = &shared;
                scope.spawn(move || {
                    for _ in 0..1000 {
                        shared.assign(own);
                    }
                });
            }
        });
        let counts: Vec<u32> = shared.doors.iter().map(Door::connections).collect();
        assert_eq!(counts.iter().sum::<u32>(), 4000);
        assert!(counts.iter().all(|c| (996..=1004).contains(c)), "{counts:?}");
    }
}
