//! Trusted roots, read once for all contexts of a shard that hold the same bundle.

/// Roots of bundles that some context of this shard still holds.
#[derive(Debug, Default)]
pub struct TrustCache {}
