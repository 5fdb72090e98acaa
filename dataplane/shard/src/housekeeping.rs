//! What a shard does once a second, and what it does about clusters that are gone.

use std::time::Duration;

use millrace_base::Key;
use millrace_config::ClusterId;
use millrace_upstream::Dropped;

use crate::choose::count_dropped;
use crate::shard::Shard;
use crate::token::Kind;

/// How often logs are handed over and idle upstream connections looked at.
pub(crate) const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);

impl Shard {
    /// Once a second: idle upstream connections, clusters that are gone, retired statistics, log lines.
    pub(crate) fn housekeeping(&mut self) {
        let now = self.io.now;
        for id in self.clusters.ids() {
            self.clusters.expire(id, &self.snapshot, now, &mut self.actions);
            self.run_pool_actions(id);
            self.look_at_outliers(id);
            self.clean_up_cluster(id);
            self.leave_failed(id);
            self.forget_cluster_if_gone(id);
        }
        if self.io.held.is_pressed() {
            self.end_stuck_streams();
        }
        if std::mem::take(&mut self.sweeps) {
            self.stats.sweep();
            self.scopes.forget();
        }
        self.logs.flush_due(now);
        let token = Kind::Housekeeping.token(Key { slot: 0, generation: 0 });
        self.wheel.insert(now + HOUSEKEEPING_EVERY, token.0);
    }

    /// Endpoints that were made on demand and that nobody uses any more.
    fn clean_up_cluster(&mut self, id: ClusterId) {
        let Some(state) = self.clusters.get_mut(id).filter(|state| state.original_dst().is_some()) else {
            return;
        };
        let mut dropped = Dropped::default();
        state.clean_up(self.io.now, &mut dropped);
        let scope = state.config().scope;
        count_dropped(&mut self.stats, scope, dropped);
        // Other shards retire scopes, too.
        self.sweeps = true;
    }

    pub(crate) fn forget_cluster_if_gone(&mut self, id: ClusterId) {
        let dropped = self.clusters.forget_if_gone(id, &self.snapshot, &self.shared);
        dropped.scopes.into_iter().for_each(|scope| self.stats.registry().retire(scope));
        if self.snapshot.cluster(id).is_none() {
            self.tls.forget(id);
        }
    }
}
