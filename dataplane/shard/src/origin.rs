//! What a connection pins of the configuration: its filter chain, and what it needs of its listener.
//!
//! An [`Origin`] is one shared record for all connections of a chain, on this shard alone, so that nothing
//! here touches a counter that other cores see.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use millrace_base::{Limits, Time};
use millrace_config::{
    AccessLog, DrainType, FilterChain, Listener, NetworkFilter, RouteConfiguration, RouteSource,
    RouteTableId, ScopeId, Snapshot, TrafficDirection,
};

use crate::http::{HttpOptions, Scopes};
use crate::shared::{Draining, Shared};
use crate::tls::CompiledServer;

/// What connections read of their listener. They pin this instead of the listener, or the last connection of
/// an old configuration would keep all filter chains of it.
#[derive(Clone, Debug)]
pub(crate) struct ListenerFacts {
    pub(crate) scope: ScopeId,
    pub(crate) buffer_limit_bytes: usize,
    inbound: bool,
    drain_type: DrainType,
    /// `bypass_overload_manager`.
    pub(crate) bypasses_overload: bool,
    pub(crate) access_logs: Vec<Arc<AccessLog>>,
}

impl ListenerFacts {
    pub(crate) fn of(listener: &Listener) -> Self {
        Self {
            scope: listener.scope,
            buffer_limit_bytes: listener.buffer_limit_bytes as usize,
            inbound: listener.traffic_direction == TrafficDirection::Inbound,
            drain_type: listener.drain_type,
            bypasses_overload: listener.bypass_overload_manager,
            access_logs: listener.access_logs.clone(),
        }
    }

    /// True when no connection can tell the two apart.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let Self { scope, buffer_limit_bytes, inbound, drain_type, bypasses_overload, access_logs } = self;
        *scope == other.scope
            && *buffer_limit_bytes == other.buffer_limit_bytes
            && *inbound == other.inbound
            && *drain_type == other.drain_type
            && *bypasses_overload == other.bypasses_overload
            && access_logs.len() == other.access_logs.len()
            && access_logs.iter().zip(&other.access_logs).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// The filter chain of a connection as the configuration had it when the connection was accepted.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) listener: Rc<ListenerFacts>,
    pub(crate) chain: Arc<FilterChain>,
    /// Of a chain that ends in an HTTP connection manager. Replaced when its route table is: every request
    /// pins the options that it began with.
    http: RefCell<Option<Rc<HttpOptions>>>,
    /// The compiled `transport_socket`.
    pub(crate) tls: RefCell<Option<CompiledServer>>,
    /// Open connections.
    connections: Cell<u32>,
    /// The chain left the configuration: its connections end by this time. `Time::MAX` while it serves.
    drain_until: Cell<Time>,
}

impl Origin {
    pub(crate) fn new(
        listener: Rc<ListenerFacts>,
        chain: &Arc<FilterChain>,
        http: Option<Rc<HttpOptions>>,
        drain_until: Time,
    ) -> Self {
        Self {
            listener,
            chain: chain.clone(),
            http: RefCell::new(http),
            tls: RefCell::new(None),
            connections: Cell::new(0),
            drain_until: Cell::new(drain_until),
        }
    }

    /// What its connection manager follows from now on; `None` for TCP.
    #[inline]
    pub(crate) fn http(&self) -> Option<Rc<HttpOptions>> {
        self.http.borrow().clone()
    }

    /// Requests from now on look here for their route.
    pub(crate) fn set_routes(&self, routes: Option<&Arc<RouteConfiguration>>) {
        let mut http = self.http.borrow_mut();
        if let Some(options) = &*http {
            *http = Some(Rc::new(options.with_routes(routes.cloned())));
        }
    }

    /// The table that comes over RDS, if its connection manager uses one.
    pub(crate) fn route_table(&self) -> Option<RouteTableId> {
        match self.http.borrow().as_ref()?.hcm.routes {
            RouteSource::Rds(id) => Some(id),
            RouteSource::Inline(_) | RouteSource::Scoped(_) => None,
        }
    }

    /// Its requests find their tables by a key.
    pub(crate) fn has_scopes(&self) -> bool {
        self.http.borrow().as_ref().is_some_and(|options| options.scopes.is_some())
    }

    /// Requests from now on follow the scopes of this configuration.
    pub(crate) fn set_scopes(&self, snapshot: &Snapshot) {
        let mut http = self.http.borrow_mut();
        let Some(options) = &*http else { return };
        if let RouteSource::Scoped(scoped) = &options.hcm.routes {
            let next = Rc::new(options.with_scopes(Scopes::new(scoped, snapshot)));
            *http = Some(next);
        }
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.get()
    }

    pub(crate) fn opened(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// A connection is gone; so many are left.
    pub(crate) fn closed(&self) -> u32 {
        self.connections.set(self.connections.get() - 1);
        self.connections.get()
    }

    /// The chain left the configuration; returns how many connections drain because of it that did not before.
    pub(crate) fn drain(&self, until: Time) -> u32 {
        let before = self.drain_until.replace(until.min(self.drain_until.get()));
        if before == Time::MAX { self.connections.get() } else { 0 }
    }

    pub(crate) fn drain_until(&self) -> Time {
        self.drain_until.get()
    }

    /// True once the chain has left the configuration.
    pub(crate) fn is_replaced(&self) -> bool {
        self.drain_until.get() != Time::MAX
    }

    /// Towards the application (`Listener.traffic_direction`).
    pub(crate) fn is_inbound(&self) -> bool {
        self.listener.inbound
    }

    /// True when connections of this origin shall end with their current request.
    pub(crate) fn is_draining(&self, shared: &Shared) -> bool {
        let draining = match shared.draining() {
            Draining::Nothing => false,
            Draining::Inbound => self.is_inbound(),
            Draining::Everything => true,
        };
        draining
            || self.is_replaced()
            || (shared.is_failing_health_checks() && self.listener.drain_type == DrainType::Default)
    }
}

/// The options of a chain's connection manager, with the route table that is in force.
pub(crate) fn http_options(
    chain: &FilterChain,
    limits: &Limits,
    snapshot: &Snapshot,
) -> Option<Rc<HttpOptions>> {
    match chain.filters.last() {
        Some(NetworkFilter::HttpConnectionManager(hcm)) => {
            let routes = match &hcm.routes {
                RouteSource::Inline(table) => Some(table.clone()),
                RouteSource::Rds(id) => snapshot.route_table(*id).cloned(),
                RouteSource::Scoped(scoped) => {
                    let options = HttpOptions::new(hcm, limits, None);
                    return Some(Rc::new(options.with_scopes(Scopes::new(scoped, snapshot))));
                }
            };
            Some(Rc::new(HttpOptions::new(hcm, limits, routes)))
        }
        Some(NetworkFilter::TcpProxy(_)) | None => None,
    }
}
