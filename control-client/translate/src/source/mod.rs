//! `core.v3.ConfigSource`: where configuration comes from, resolved so far that a transport needs nothing else.

mod api;
mod google;
mod grpc;
mod statics;
mod tls;
mod upstream;

use std::time::Duration;

use millrace_ads::source::{ConfigSource, PathSource, Variant};
use millrace_config::SourceId;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier as By;

use crate::context::{Context, Source};
use crate::error::Rejection;
use crate::interned::Sources;
use crate::value;

pub(crate) use api::{ads, one_service};
pub(crate) use statics::{StaticResources, cluster_path};
pub(crate) use upstream::upstream;

const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// A reference to a source, and how long what needs it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscription {
    /// The source.
    pub source: SourceId,
    /// `initial_fetch_timeout`, default 15 s; `None` (0 s) waits for ever.
    pub initial_fetch_timeout: Option<Duration>,
}

/// Translates and interns a source; the field at `path` is required.
pub(crate) fn subscription(
    config: Option<&pb::ConfigSource>,
    path: &Path,
    cx: &mut Context,
) -> Result<Subscription, Rejection> {
    let Some((config, by)) = config.and_then(|c| Some((c, c.config_source_specifier.as_ref()?))) else {
        let why = "Missing config source specifier in envoy.config.core.v3.ConfigSource";
        return Err(Rejection::new(path, why));
    };
    if config.resource_api_version() == pb::ApiVersion::V2 {
        let path = path.join("resource_api_version");
        return Err(Rejection::new(&path, "resources of the v2 API are not served, by Envoy neither"));
    }
    let built = match by {
        By::Ads(_) => {
            if !cx.statics.has_ads {
                cx.report(&path.join("ads"), "there is no dynamic_resources.ads_config; nothing arrives");
            }
            ConfigSource::Ads
        }
        By::Self_(same) => same_as_parent(same, &path.join("self"), cx)?,
        By::ApiConfigSource(api) => api::api(api, &path.join("api_config_source"), cx)?,
        By::PathConfigSource(file) => {
            ConfigSource::Path(path_source(file, &path.join("path_config_source"))?)
        }
        By::Path(name) => {
            let file = pb::PathConfigSource { path: name.clone(), ..Default::default() };
            ConfigSource::Path(path_source(&file, path)?)
        }
    };
    let source = cx.sources.intern(built).ok_or_else(|| {
        Rejection::new(path, format!("more than {} different config sources", Sources::MAX))
    })?;
    let initial_fetch_timeout = value::limit_or(config.initial_fetch_timeout.as_ref(), INITIAL_FETCH_TIMEOUT);
    Ok(Subscription { source, initial_fetch_timeout })
}

/// As [`subscription`] for virtual hosts, which only the incremental variant knows.
pub(crate) fn delta_subscription(
    config: Option<&pb::ConfigSource>,
    path: &Path,
    cx: &mut Context,
) -> Result<Subscription, Rejection> {
    let from = subscription(config, path, cx)?;
    let why = match cx.sources.get(from.source) {
        Some(ConfigSource::Grpc(grpc)) if grpc.variant == Variant::Delta => return Ok(from),
        Some(ConfigSource::Ads) if cx.statics.ads_is_delta || !cx.statics.has_ads => return Ok(from),
        Some(ConfigSource::Ads) => "vhds: ADS must use DELTA_GRPC api_type when used as VHDS config source.",
        _ => "vhds: only 'DELTA_GRPC' or 'ADS' (which uses Delta xDS) is supported as a config source.",
    };
    Err(Rejection::new(path, why))
}

fn same_as_parent(same: &pb::SelfConfigSource, path: &Path, cx: &Context) -> Result<ConfigSource, Rejection> {
    match cx.source {
        Source::Dynamic => {
            api::version(same.transport_api_version(), &path.join("transport_api_version"))?;
            Ok(ConfigSource::SameAsParent)
        }
        Source::Static => {
            Err(Rejection::new(path, "the bootstrap comes from no control plane that self could stand for"))
        }
    }
}

/// Names of the new kind belong to federated control planes.
pub(crate) fn refuse_locator(name: &str, path: &Path) -> Result<(), Rejection> {
    match name.starts_with("xdstp:") {
        true => Err(Rejection::not_served(path, "xdstp: names are not served by this build")),
        false => Ok(()),
    }
}

/// A file, which must exist as in Envoy.
pub(crate) fn path_source(file: &pb::PathConfigSource, path: &Path) -> Result<PathSource, Rejection> {
    if !std::path::Path::new(&file.path).exists() {
        let why =
            format!("paths must refer to an existing path in the system: '{}' does not exist", file.path);
        return Err(Rejection::new(&path.join("path"), why));
    }
    Ok(PathSource {
        path: file.path.as_str().into(),
        watched_directory: file.watched_directory.as_ref().map(|watched| watched.path.as_str().into()),
    })
}

#[cfg(test)]
mod tests;
