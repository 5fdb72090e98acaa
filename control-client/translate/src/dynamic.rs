//! `dynamic_resources`, `cluster_manager.load_stats_config` and `hds_config`: what comes from where, and who is told of
//! the load and of health.

use millrace_ads::source::{GrpcService, GrpcSource};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::bootstrap::v3::Bootstrap;

use crate::context::Context;
use crate::error::Rejection;
use crate::source::{self, Subscription};

/// What the bootstrap says about control planes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// `ads_config`: what the source [`Sources::ADS`](crate::Sources::ADS) stands for.
    pub ads: Option<GrpcSource>,
    /// `cds_config`.
    pub cds: Option<Subscription>,
    /// `lds_config`.
    pub lds: Option<Subscription>,
    /// `cluster_manager.load_stats_config`: who is told how much is sent where (LRS).
    pub load_stats: Option<GrpcService>,
    /// `hds_config`: who says what is to be checked and is told what was found (HDS).
    pub health_discovery: Option<GrpcService>,
}

/// Resources that are named one by one are asked for where they are named.
pub(crate) fn dynamic(bootstrap: &Bootstrap, cx: &mut Context) -> Result<Dynamic, Rejection> {
    let mut dynamic = Dynamic::default();
    if let Some(resources) = &bootstrap.dynamic_resources {
        let path = Path::from("dynamic_resources");
        if let Some(config) = &resources.ads_config {
            dynamic.ads = Some(source::ads(config, &path.join("ads_config"), cx)?);
        }
        let mut of = |config: Option<&_>, name: &'static str| match config {
            Some(_) => source::subscription(config, &path.join(name), cx).map(Some),
            None => Ok(None),
        };
        dynamic.cds = of(resources.cds_config.as_ref(), "cds_config")?;
        dynamic.lds = of(resources.lds_config.as_ref(), "lds_config")?;
    }
    if let Some(config) = bootstrap.cluster_manager.as_ref().and_then(|m| m.load_stats_config.as_ref()) {
        let path = Path::from("cluster_manager").join("load_stats_config");
        dynamic.load_stats = Some(source::one_service(config, &path, cx)?);
    }
    if let Some(config) = &bootstrap.hds_config {
        dynamic.health_discovery = Some(source::one_service(config, &Path::from("hds_config"), cx)?);
    }
    Ok(dynamic)
}
