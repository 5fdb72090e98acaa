//! `dynamic_resources`: which resources come from where.

use millrace_ads::source::GrpcSource;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::bootstrap::v3::bootstrap::DynamicResources;

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
}

/// Resources that are named one by one are asked for where they are named.
pub(crate) fn dynamic(resources: Option<&DynamicResources>, cx: &mut Context) -> Result<Dynamic, Rejection> {
    let Some(resources) = resources else {
        return Ok(Dynamic::default());
    };
    let path = Path::from("dynamic_resources");
    let ads = match &resources.ads_config {
        Some(config) => Some(source::ads(config, &path.join("ads_config"), cx)?),
        None => None,
    };
    let mut of = |config: Option<&_>, name: &'static str| match config {
        Some(_) => source::subscription(config, &path.join(name), cx).map(Some),
        None => Ok(None),
    };
    Ok(Dynamic {
        ads,
        cds: of(resources.cds_config.as_ref(), "cds_config")?,
        lds: of(resources.lds_config.as_ref(), "lds_config")?,
    })
}
