//! `typed_per_filter_config`: configuration of HTTP filters for one route or virtual host.

use std::collections::HashMap;
use std::sync::Arc;

use millrace_config::PerFilterConfig;
use millrace_config::PerFilterConfigs;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3::FilterConfig;
use millrace_proto::pb::google::protobuf::Any;

use crate::error::Rejection;
use crate::extension;

/// Entries sorted by filter name.
pub(crate) fn configs(entries: &HashMap<String, Any>, path: &Path) -> Result<PerFilterConfigs, Rejection> {
    let mut names: Vec<&String> = entries.keys().collect();
    names.sort();
    let mut out: PerFilterConfigs = Vec::with_capacity(names.len());
    for name in names {
        let mut path = path.join("typed_per_filter_config");
        path.key(name);
        if let Some(config) = entries.get(name).map(|any| config(name, any, &path)).transpose()?.flatten() {
            out.push((Arc::from(name.as_str()), config));
        }
    }
    Ok(out)
}

fn config(name: &str, any: &Any, path: &Path) -> Result<Option<PerFilterConfig>, Rejection> {
    if extension::type_of(any) != "envoy.config.route.v3.FilterConfig" {
        return Err(extension::not_served("HTTP filter", name, Some(any), path));
    }
    let config: FilterConfig = extension::open(any, path)?;
    match &config.config {
        // Settings of a filter that may be missing need not be understood.
        Some(_) if config.is_optional => Ok(Some(PerFilterConfig::Disabled(config.disabled))),
        Some(inner) => Err(extension::not_served("HTTP filter", name, Some(inner), &path.join("config"))),
        None => Ok(Some(PerFilterConfig::Disabled(config.disabled))),
    }
}
