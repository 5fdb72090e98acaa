//! `config.route.v3.ScopedRouteConfiguration`.

use std::sync::Arc;

use millrace_config::{Scope, ScopeRoutes};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as pb;
use pb::scoped_route_configuration::key::fragment::Type;

use super::route_configuration;
use crate::context::Context;
use crate::error::Rejection;
use crate::interned::RouteTableInfo;
use crate::source::{self, Subscription};
use crate::value;

/// A scope that came over SRDS; `tables` is where the tables come from that scopes name.
pub(crate) fn scope(
    config: &pb::ScopedRouteConfiguration,
    tables: Subscription,
    cx: &mut Context,
) -> Result<Scope, Rejection> {
    let root = Path::default();
    let routes = match (&config.route_configuration, config.route_configuration_name.as_str()) {
        (Some(table), "") => {
            let table = route_configuration(table, true, &root.join("route_configuration"), cx)?;
            ScopeRoutes::Inline(Arc::new(table))
        }
        (None, "") => {
            return Err(Rejection::new(&root, "route_configuration_name is empty."));
        }
        (None, name) => {
            source::refuse_locator(name, &root.join("route_configuration_name"))?;
            ScopeRoutes::Rds(cx.route_tables.intern(RouteTableInfo {
                name: name.into(),
                source: tables.source,
                initial_fetch_timeout: tables.initial_fetch_timeout,
            }))
        }
        (Some(_), _) => {
            let why = "only one of route_configuration_name and route_configuration can be set";
            return Err(Rejection::new(&root, why));
        }
    };
    Ok(Scope { name: config.name.as_str().into(), key: scope_key(config), routes })
}

pub(crate) fn scope_key(config: &pb::ScopedRouteConfiguration) -> Vec<Arc<[u8]>> {
    let fragments = config.key.iter().flat_map(|key| &key.fragments);
    let text = |fragment: &pb::scoped_route_configuration::key::Fragment| match &fragment.r#type {
        Some(Type::StringKey(text)) => value::bytes(text),
        None => value::bytes(""),
    };
    fragments.map(text).collect()
}
