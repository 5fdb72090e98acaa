//! `typed_per_filter_config`: configuration of HTTP filters for one route or virtual host.

use std::collections::HashMap;
use std::sync::Arc;

use millrace_config::PerFilterConfig;
use millrace_config::PerFilterConfigs;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3::FilterConfig;
use millrace_proto::pb::google::protobuf::Any;

use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, http};

/// Entries sorted by filter name.
pub(crate) fn configs(
    entries: &HashMap<String, Any>,
    path: &Path,
    cx: &mut Context,
) -> Result<PerFilterConfigs, Rejection> {
    let mut names: Vec<&String> = entries.keys().collect();
    names.sort();
    let mut out: PerFilterConfigs = Vec::with_capacity(names.len());
    for name in names {
        let mut path = path.join("typed_per_filter_config");
        path.key(name);
        if let Some(config) = entries.get(name).map(|any| config(name, any, &path, cx)).transpose()?.flatten()
        {
            out.push((Arc::from(name.as_str()), config));
        }
    }
    Ok(out)
}

fn config(
    name: &str,
    any: &Any,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<PerFilterConfig>, Rejection> {
    if let Some(config) = http::of_route(any, path, cx)? {
        return Ok(Some(config));
    }
    if extension::type_of(any) != "envoy.config.route.v3.FilterConfig" {
        return Err(refused(name, any, path));
    }
    let config: FilterConfig = extension::open(any, path)?;
    match &config.config {
        // Envoy does not read what is switched off, nor what may be missing.
        _ if config.disabled => Ok(Some(PerFilterConfig::Disabled(true))),
        Some(inner) => {
            let path = path.join("config");
            match http::of_route(inner, &path, cx)? {
                None if inner.type_url.is_empty() || config.is_optional => {
                    Ok(Some(PerFilterConfig::Disabled(false)))
                }
                None => Err(refused(name, inner, &path)),
                served => Ok(served),
            }
        }
        None => {
            let why = format!("Empty route/virtual host per filter configuration for {name} filter");
            Err(Rejection::new(&path.join("config"), why))
        }
    }
}

fn refused(name: &str, any: &Any, path: &Path) -> Rejection {
    if http::WITHOUT_ROUTE_CONFIGURATION.contains(&extension::type_of(any).as_str()) {
        let why = format!("The filter {name} doesn't support virtual host or route specific configurations");
        return Rejection::new(path, why);
    }
    extension::not_served("HTTP filter", name, Some(any), path)
}
