//! The beginning of a connection that a pool wants.

use millrace_base::Key;
use millrace_config::ClusterId;
use millrace_observe::stats::{cluster as metric, host as host_metric};
use millrace_ring::Op;
use millrace_upstream::{ConnId, HostId, TransportKey};

use super::connect::connect_options;
use super::race::Race;
use super::{Carries, Upstream};
use crate::address::to_ring;
use crate::shard::Shard;
use crate::timers::ConnectionTimer;
use crate::token::Kind;

/// What a pool wants of a connection that is opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) carries: Carries,
    pub(crate) transport: TransportKey,
    pub(crate) automatic: bool,
}

impl Opening {
    /// With the cluster's defaults.
    pub(crate) fn of(carries: Carries) -> Self {
        Self { carries, transport: TransportKey::DEFAULT, automatic: false }
    }
}

impl Shard {
    /// Opens the connection that a pool asked for and tells the pool its key.
    pub(crate) fn open_upstream(
        &mut self,
        cluster: ClusterId,
        pool: ConnId,
        host: HostId,
        opening: Opening,
    ) -> Option<Key> {
        let Opening { carries, transport, automatic } = opening;
        let state = self.clusters.get_mut(cluster)?;
        let config = state.config().clone();
        let (address, others, host_scope) =
            state.host(host).map(|h| (h.address.clone(), h.additional_addresses.clone(), h.scope))?;
        self.connection_ids += 1;
        let (now, id) = (self.io.now, self.connection_ids);
        let connect_deadline = now + config.connect_timeout;
        let target = to_ring(&address)?;
        let race = others.map(|others| Box::new(Race::new(&address, &others, &config)));
        let key = self.upstreams.insert(Box::new(Upstream {
            link: None,
            cluster,
            pool,
            scope: config.scope,
            host_scope,
            address,
            local: None,
            id,
            began: now,
            connect_deadline,
            buffer_limit: config.buffer_limit_bytes as usize,
            timer: ConnectionTimer::default(),
            carries,
            transport,
            automatic,
            handshaking: false,
            race,
            won_race: false,
        }));
        self.clusters.get_mut(cluster)?.bind(pool, key);
        if config.health_check.is_some()
            && let Some(state) = self.clusters.get(cluster)
        {
            state.has_traffic();
        }
        if self.upstreams.get(key).is_some_and(|upstream| upstream.race.is_some()) {
            self.race_on(key);
        } else {
            let token = Kind::Upstream.token(key);
            let options = Box::new(connect_options(&config, &target));
            self.io.ops.push(Op::Connect { token, address: target, options });
        }
        self.stats.gauge_inc(config.scope, metric::UPSTREAM_CX_ACTIVE);
        self.stats.gauge_inc(host_scope, host_metric::CX_ACTIVE);
        self.stats.inc(host_scope, host_metric::CX_TOTAL);
        self.rearm_upstream(key);
        Some(key)
    }
}
