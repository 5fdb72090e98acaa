//! Everything that crosses cores: mailboxes, connection counts, the drain state and the cluster budgets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;
use millrace_config::{Address, ClusterId, Listener, Snapshot};
use millrace_ring::{Socket, Waker};
use millrace_upstream::ClusterBudgets;

/// Messages that may wait for one shard.
const MAILBOX_MAX: usize = 4096;

/// A connection accepted on one shard and served on another.
#[derive(Debug)]
pub struct HandOver {
    /// The socket; the receiving shard owns it from now on.
    pub socket: Socket,
    /// Who connected.
    pub peer: Address,
    /// Our end.
    pub local: Address,
    /// The listener, by name.
    pub listener: Arc<str>,
}

/// What a shard is told from outside.
#[derive(Debug)]
pub enum Message {
    /// Serve this connection.
    Connection(HandOver),
    /// Serve this configuration from now on.
    Snapshot(Arc<Snapshot>),
    /// Serve this listener's connections, and accept on the socket if there is one for this shard.
    Listen(Arc<Listener>, Option<Socket>),
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
    mailbox: ArrayQueue<Message>,
    waker: OnceLock<Waker>,
}

impl Door {
    /// Downstream connections that this shard serves or is about to.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
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

/// One per process, shared by all shards and the control thread.
#[derive(Debug)]
pub struct Shared {
    doors: Box<[Door]>,
    draining: AtomicU8,
    failing_health_checks: AtomicBool,
    budgets: Mutex<BTreeMap<ClusterId, Arc<ClusterBudgets>>>,
}

impl Shared {
    /// Doors for `shards` shards.
    pub fn new(shards: usize) -> Self {
        let door = |_| Door {
            connections: AtomicU32::new(0),
            mailbox: ArrayQueue::new(MAILBOX_MAX),
            waker: OnceLock::new(),
        };
        Self {
            doors: (0..shards).map(door).collect(),
            draining: AtomicU8::new(Draining::Nothing as u8),
            failing_health_checks: AtomicBool::new(false),
            budgets: Mutex::default(),
        }
    }

    /// All doors, by shard index.
    pub fn doors(&self) -> &[Door] {
        &self.doors
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
        let budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = [0; 4];
        for budget in budgets.values().flat_map(|b| [&b.default, &b.high]) {
            let parts = [&budget.connections, &budget.pending, &budget.requests, &budget.retries];
            for (sum, part) in used.iter_mut().zip(parts) {
                *sum += part.used();
            }
        }
        used
    }

    /// The circuit breakers of a cluster, the same for every shard. Slow path: asked once per shard and
    /// cluster, at its first use.
    pub(crate) fn budgets(&self, cluster: ClusterId) -> Arc<ClusterBudgets> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.entry(cluster).or_default().clone()
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
