//! `extensions.filters.http.set_metadata.v3.Config`.

use std::sync::Arc;

use millrace_config::SetMetadata;
use millrace_proto::pb::envoy::extensions::filters::http::set_metadata::v3 as pb;

use crate::metadata;

pub(super) const TYPE: &str = "envoy.extensions.filters.http.set_metadata.v3.Config";

/// The deprecated single entry, which always overwrites, comes first.
pub(super) fn entries(config: &pb::Config) -> Arc<[SetMetadata]> {
    #[expect(deprecated, reason = "Envoy still reads them")]
    let (namespace, single) = (&config.metadata_namespace, &config.value);
    let single = single.as_ref().filter(|_| !namespace.is_empty()).map(|value| SetMetadata {
        namespace: namespace.as_str().into(),
        value: metadata::tree(value),
        overwrite: true,
    });
    let listed = config.metadata.iter().map(|entry| SetMetadata {
        namespace: entry.metadata_namespace.as_str().into(),
        value: entry.value.as_ref().map(metadata::tree).unwrap_or_default(),
        overwrite: entry.allow_overwrite,
    });
    single.into_iter().chain(listed).collect()
}
