//! `scoped_routes` on this shard: each request is given the options of its scope.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millrace_config::{RouteConfiguration, ScopeRoutes, ScopeSource, ScopeTable, ScopedRoutes, Snapshot};
use millrace_http::RequestHead;

use super::HttpOptions;

/// The scopes of a connection manager as one version of the configuration has them.
#[derive(Debug)]
pub(crate) struct Scopes {
    config: Arc<ScopedRoutes>,
    /// `None` while they have not come over SRDS.
    table: Option<Arc<ScopeTable>>,
    /// Options of the scopes that a request has met, by their position.
    options: RefCell<Vec<Option<Rc<HttpOptions>>>>,
}

impl Scopes {
    pub(crate) fn new(config: &Arc<ScopedRoutes>, snapshot: &Snapshot) -> Self {
        let table = match &config.scopes {
            ScopeSource::Inline(table) => Some(table.clone()),
            ScopeSource::Srds(id) => snapshot.scope_table(*id).cloned(),
        };
        Self { config: config.clone(), table, options: RefCell::default() }
    }

    /// What a request follows; `base`, which has no routes, when it belongs to no scope.
    pub(crate) fn choose(
        &self,
        base: &Rc<HttpOptions>,
        head: &RequestHead,
        snapshot: &Snapshot,
    ) -> Rc<HttpOptions> {
        let Some(table) = &self.table else { return base.clone() };
        let Some(at) = millrace_route::scope(&self.config.key, table, head) else { return base.clone() };
        let mut known = self.options.borrow_mut();
        if known.len() <= at {
            known.resize(table.scopes().len(), None);
        }
        let Some(slot) = known.get_mut(at) else { return base.clone() };
        slot.get_or_insert_with(|| {
            let routes = table.scopes().get(at).and_then(|scope| routes(&scope.routes, snapshot));
            // Without the scopes, or they would keep each other.
            Rc::new(HttpOptions { scopes: None, ..base.with_routes(routes) })
        })
        .clone()
    }
}

fn routes(of: &ScopeRoutes, snapshot: &Snapshot) -> Option<Arc<RouteConfiguration>> {
    match of {
        ScopeRoutes::Inline(table) => Some(table.clone()),
        ScopeRoutes::Rds(id) => snapshot.route_table(*id).cloned(),
    }
}
