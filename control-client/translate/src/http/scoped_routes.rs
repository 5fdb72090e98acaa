//! `ScopedRoutes` of the connection manager: a key of header fields, and scopes of which each has a route table.

use std::sync::Arc;

use millrace_config::{Extract, KeyFragment, Scope, ScopeRoutes, ScopeSource, ScopeTable, ScopedRoutes};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as routes;
use millrace_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use pb::scoped_routes::ConfigSpecifier;
use pb::scoped_routes::scope_key_builder::fragment_builder::header_value_extractor::ExtractType;
use pb::scoped_routes::scope_key_builder::{FragmentBuilder, fragment_builder::Type};

use crate::context::Context;
use crate::error::Rejection;
use crate::interned::ScopeTableInfo;
use crate::route::{route_configuration, scope_key};
use crate::{source, value};

pub(super) fn scoped_routes(
    config: &pb::ScopedRoutes,
    path: &Path,
    cx: &mut Context,
) -> Result<ScopedRoutes, Rejection> {
    let fragments =
        config.scope_key_builder.as_ref().map(|builder| &builder.fragments[..]).unwrap_or_default();
    let key_path = path.join("scope_key_builder").join("fragments");
    let mut key = Vec::with_capacity(fragments.len());
    for (i, fragment) in fragments.iter().enumerate() {
        key.push(key_fragment(fragment, &key_path.at(i))?);
    }
    let scopes = match &config.config_specifier {
        Some(ConfigSpecifier::ScopedRouteConfigurationsList(list)) => {
            let path = path.join("scoped_route_configurations_list").join("scoped_route_configurations");
            ScopeSource::Inline(Arc::new(inline(&list.scoped_route_configurations, &path, cx)?))
        }
        Some(ConfigSpecifier::ScopedRds(scoped)) => {
            let (from, tables) =
                (path.join("scoped_rds").join("scoped_rds_config_source"), path.join("rds_config_source"));
            let scopes = source::subscription(scoped.scoped_rds_config_source.as_ref(), &from, cx)?;
            let tables = source::subscription(config.rds_config_source.as_ref(), &tables, cx)?;
            let name = config.name.as_str().into();
            ScopeSource::Srds(cx.scope_tables.intern(ScopeTableInfo { name, scopes, tables }))
        }
        None => return Err(Rejection::new(&path.join("config_specifier"), "is required")),
    };
    Ok(ScopedRoutes { name: config.name.as_str().into(), key, scopes })
}

fn key_fragment(fragment: &FragmentBuilder, path: &Path) -> Result<KeyFragment, Rejection> {
    let Some(Type::HeaderValueExtractor(from)) = &fragment.r#type else {
        return Err(Rejection::new(&path.join("type"), "is required"));
    };
    let path = path.join("header_value_extractor");
    let extract = match &from.extract_type {
        Some(ExtractType::Index(index)) if *index > 0 && from.element_separator.is_empty() => {
            return Err(Rejection::new(&path, "Index > 0 for empty string element separator."));
        }
        Some(ExtractType::Index(index)) => Extract::Index(*index),
        Some(ExtractType::Element(element)) => {
            Extract::Element { separator: value::bytes(&element.separator), key: value::bytes(&element.key) }
        }
        None => return Err(Rejection::new(&path, "HeaderValueExtractor extract_type not set.")),
    };
    Ok(KeyFragment {
        header: value::lower_bytes(&from.name),
        separator: value::bytes(&from.element_separator),
        extract,
    })
}

/// Scopes that stand in the connection manager hold their tables. Of several with one name the last one counts, as in
/// Envoy.
fn inline(
    scopes: &[routes::ScopedRouteConfiguration],
    path: &Path,
    cx: &mut Context,
) -> Result<ScopeTable, Rejection> {
    use routes::ScopedRouteConfiguration as Config;
    let mut all: Vec<Arc<Scope>> = Vec::with_capacity(scopes.len());
    for (i, scope) in scopes.iter().enumerate() {
        let path = path.at(i);
        let Config { route_configuration: Some(table), .. } = scope else {
            let why = match scope.route_configuration_name.is_empty() {
                true => "You must specify a route_configuration with inline scoped routes.",
                false => {
                    "Fetching routes via RDS (route_configuration_name) is not supported with inline scoped routes."
                }
            };
            return Err(Rejection::new(&path, why));
        };
        let table = route_configuration(table, true, &path.join("route_configuration"), cx)?;
        all.push(Arc::new(Scope {
            name: scope.name.as_str().into(),
            key: scope_key(scope),
            routes: ScopeRoutes::Inline(Arc::new(table)),
        }));
    }
    let mut seen = std::collections::BTreeSet::new();
    all.reverse();
    all.retain(|scope| seen.insert(scope.name.clone()));
    all.reverse();
    Ok(ScopeTable::new(all))
}
