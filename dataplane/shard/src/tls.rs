//! TLS contexts of this shard: compiled at their first use, and again once a secret they are made of has changed.
//!
//! A context that cannot be made (its secret has not come) fails closed: the handshake does not begin.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use millrace_base::WallTime;
use millrace_config::{ClusterId, DownstreamTls, SecretId, Snapshot, UpstreamTls};
use millrace_tls::{ClientContext, ContextError, Local, ServerContext, Shared};

use crate::handshakes::Handshakes;

/// A compiled context, and how new the secrets in it are.
#[derive(Debug)]
pub(crate) struct Compiled<C, T> {
    config: Arc<C>,
    stamp: u64,
    context: Rc<T>,
}

/// What a filter chain keeps.
pub(crate) type CompiledServer = Compiled<DownstreamTls, ServerContext>;

/// All that TLS shares on a shard.
#[derive(Debug)]
pub(crate) struct Contexts {
    local: Rc<Local>,
    /// What HTTP pools offer where the context names no protocols.
    pub(crate) offers: Offers,
    pub(crate) handshakes: Handshakes,
    /// Counts up with every change of a secret.
    changes: u64,
    /// By [`SecretId`]: when it changed last.
    stamps: Vec<u64>,
    /// By cluster and position of the transport socket: 0 is the cluster's own, then `transport_socket_matches`.
    clients: BTreeMap<(ClusterId, usize), Compiled<UpstreamTls, ClientContext>>,
}

/// Lists for ALPN.
#[derive(Debug)]
pub(crate) struct Offers {
    pub(crate) http1: [Arc<[u8]>; 1],
    pub(crate) http2: [Arc<[u8]>; 1],
    pub(crate) either: [Arc<[u8]>; 2],
}

impl Offers {
    fn new() -> Self {
        let (http1, http2): (Arc<[u8]>, Arc<[u8]>) = (b"http/1.1"[..].into(), b"h2"[..].into());
        Self { either: [http2.clone(), http1.clone()], http1: [http1], http2: [http2] }
    }
}

impl Contexts {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            local: Local::new(shared),
            offers: Offers::new(),
            handshakes: Handshakes::default(),
            changes: 0,
            stamps: Vec::new(),
            clients: BTreeMap::new(),
        }
    }

    /// Certificates are judged by this clock.
    pub(crate) fn set_wall(&self, wall: WallTime) {
        self.local.set_wall(wall);
    }

    /// A secret came, changed or went: contexts with it are made anew for the next handshake.
    pub(crate) fn secret_changed(&mut self, id: SecretId) {
        self.changes += 1;
        let at = id.0 as usize;
        if self.stamps.len() <= at {
            self.stamps.resize(at + 1, 0);
        }
        self.stamps[at] = self.changes;
    }

    fn stamp(&self, secrets: impl Iterator<Item = SecretId>) -> u64 {
        secrets.filter_map(|id| self.stamps.get(id.0 as usize).copied()).max().unwrap_or(0)
    }

    /// The context of a filter chain; `known` is where the chain keeps it.
    pub(crate) fn server(
        &self,
        config: &Arc<DownstreamTls>,
        known: &mut Option<CompiledServer>,
        snapshot: &Snapshot,
    ) -> Result<Rc<ServerContext>, ContextError> {
        let stamp = self.stamp(config.secrets());
        if let Some(known) = known.as_ref().filter(|k| k.stamp == stamp && Arc::ptr_eq(&k.config, config)) {
            return Ok(known.context.clone());
        }
        let secret = |id| snapshot.secret(id).cloned();
        let context = Rc::new(ServerContext::new(config, &secret, &self.local)?);
        *known = Some(Compiled { config: config.clone(), stamp, context: context.clone() });
        Ok(context)
    }

    /// The context towards the endpoints of a cluster.
    pub(crate) fn client(
        &mut self,
        at: (ClusterId, usize),
        config: &Arc<UpstreamTls>,
        snapshot: &Snapshot,
    ) -> Result<Rc<ClientContext>, ContextError> {
        let stamp = self.stamp(config.common.secrets());
        let known = self.clients.get(&at);
        if let Some(known) = known.filter(|k| k.stamp == stamp && Arc::ptr_eq(&k.config, config)) {
            return Ok(known.context.clone());
        }
        let secret = |id| snapshot.secret(id).cloned();
        let context = Rc::new(ClientContext::new(config, &secret, &self.local)?);
        self.clients.insert(at, Compiled { config: config.clone(), stamp, context: context.clone() });
        Ok(context)
    }

    /// The cluster is gone.
    pub(crate) fn forget(&mut self, cluster: ClusterId) {
        self.clients.retain(|(of, _), _| *of != cluster);
    }
}
