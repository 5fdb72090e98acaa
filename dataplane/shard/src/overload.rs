//! The overload manager's actions as a shard carries them out. The control thread decides how hard the process is pressed
//! ([`OverloadLevels`]) and says so whenever it changes; while all is calm a request costs one comparison here.

use std::time::Duration;

use millrace_base::{Key, Rng};
use millrace_config::{
    Listener, OverloadLevels, OverloadManager, ScaledTimer, ScopeId, ShedPoint, TimerMinimum,
};
use millrace_observe::stats::{ShardStats, load_shed_point as metric};
use millrace_upstream::PoolAction;

use crate::downstream::Protocol;
use crate::origin::Origin;
use crate::shard::Shard;

/// What is asked of this shard.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// Nothing is asked.
    calm: bool,
    levels: OverloadLevels,
    /// By [`ScaledTimer`].
    minimums: [Option<TimerMinimum>; ScaledTimer::COUNT],
    /// By [`ShedPoint`].
    points: [Option<ScopeId>; ShedPoint::COUNT],
    /// Streams below two to this power of bytes are never reset.
    account_power: Option<u8>,
}

impl Overload {
    pub(crate) fn new(manager: Option<&OverloadManager>) -> Self {
        let Some(manager) = manager else { return Self { calm: true, ..Self::default() } };
        Self {
            calm: true,
            levels: OverloadLevels::default(),
            minimums: manager.timer_minimums(),
            points: manager.point_scopes(),
            account_power: manager.account_power,
        }
    }

    /// True while nothing is asked of anybody.
    #[inline]
    pub(crate) fn is_calm(&self) -> bool {
        self.calm
    }

    pub(crate) fn levels(&self) -> &OverloadLevels {
        &self.levels
    }

    /// Streams below two to this power of bytes are never reset; `None`: none is.
    pub(crate) fn account_power(&self) -> Option<u8> {
        self.account_power
    }

    /// True when the listener shall leave its connections in the kernel's queue.
    pub(crate) fn pauses(&self, listener: &Listener) -> bool {
        self.levels.stop_connections.is_saturated() && !listener.bypass_overload_manager
    }

    /// A timeout as it is now.
    #[inline]
    pub(crate) fn scale(&self, timer: ScaledTimer, whole: Option<Duration>) -> Option<Duration> {
        if self.calm { whole } else { self.scaled(timer, whole) }
    }

    fn scaled(&self, timer: ScaledTimer, whole: Option<Duration>) -> Option<Duration> {
        let level = self.levels.timers[timer as usize];
        match self.minimums[timer as usize].filter(|_| !level.is_off()) {
            Some(minimum) => whole.map(|whole| level.scale(whole, minimum)),
            None => whole,
        }
    }

    /// Whether load is shed at this point, this time; counts it.
    pub(crate) fn sheds(&self, point: ShedPoint, rng: &mut Rng, stats: &mut ShardStats) -> bool {
        if self.calm || !self.levels.point(point).strikes(rng) {
            return false;
        }
        if let Some(scope) = self.points[point as usize] {
            stats.inc(scope, metric::SHED_LOAD_COUNT);
        }
        true
    }

    /// Whether a request that needs a new connection to an endpoint goes without.
    pub(crate) fn sheds_new(&self, actions: &[PoolAction], rng: &mut Rng, stats: &mut ShardStats) -> bool {
        !self.calm
            && actions.iter().any(|action| matches!(action, PoolAction::Connect { .. }))
            && self.sheds(ShedPoint::PoolNewConnection, rng, stats)
    }
}

impl Shard {
    /// Goes by other levels from now on.
    pub(crate) fn set_overload(&mut self, levels: OverloadLevels) {
        let before = std::mem::replace(&mut self.overload.levels, levels);
        self.overload.calm = levels.is_calm();
        if before.stop_connections != levels.stop_connections {
            self.pause_all_acceptors();
        }
        if before.timers != levels.timers {
            self.rescale_timers();
        }
        if !levels.reset_streams.is_off() {
            self.reset_large_streams();
        }
    }

    /// Deadlines that follow from scaled timeouts have moved.
    fn rescale_timers(&mut self) {
        for (_, stream) in self.streams.iter_mut() {
            stream.idle_timeout = self.overload.scale(ScaledTimer::StreamIdle, stream.idle_whole);
        }
        let keys: Vec<Key> = self.downstreams.keys().collect();
        for key in keys {
            let Some(downstream) = self.downstreams.get(key) else { continue };
            if matches!(downstream.protocol, Protocol::Securing(_)) {
                let by = downstream.opened + self.handshake_limit(&downstream.origin);
                if let Some(downstream) = self.downstreams.get_mut(key) {
                    downstream.protocol = Protocol::Securing(by);
                }
            }
            self.rearm_downstream(key);
        }
    }

    /// `transport_socket_connect_timeout`, or what takes its place.
    pub(crate) fn handshake_limit(&self, origin: &Origin) -> Duration {
        let whole = origin.chain.transport_socket_connect_timeout;
        let whole = whole.unwrap_or(self.limits.tls_handshake_timeout);
        match origin.listener.bypasses_overload {
            true => whole,
            false => self.overload.scale(ScaledTimer::TransportSocketConnect, Some(whole)).unwrap_or(whole),
        }
    }

    /// Whether a connection that was just accepted is closed at once.
    pub(crate) fn refuses_connection(&mut self, listener: &Listener) -> bool {
        if self.overload.calm || listener.bypass_overload_manager {
            return false;
        }
        self.overload.levels.reject_connections.strikes(&mut self.rng)
            || self.overload.sheds(ShedPoint::TcpListenerAccept, &mut self.rng, &mut self.stats)
    }

    /// As [`Overload::sheds`], for a downstream connection.
    pub(crate) fn sheds_of(&mut self, key: Key, point: ShedPoint) -> bool {
        if self.overload.calm {
            return false;
        }
        let bypasses = self.downstreams.get(key).is_some_and(|d| d.origin.listener.bypasses_overload);
        !bypasses && self.overload.sheds(point, &mut self.rng, &mut self.stats)
    }

    /// As [`Overload::sheds`], for what no listener has a part in.
    pub(crate) fn sheds(&mut self, point: ShedPoint) -> bool {
        self.overload.sheds(point, &mut self.rng, &mut self.stats)
    }
}
