//! What a shard remembers of the buckets of `local_ratelimit` that all shards share, so that no request locks them.

use std::collections::HashMap;
use std::sync::Arc;

use millrace_base::Time;
use millrace_config::{DynamicBucket, DynamicBuckets};

/// Most buckets that a shard remembers, of all limits; the next one has it forget them all.
const KNOWN_MAX: usize = 4096;

/// The buckets that requests of this shard have used.
#[derive(Debug, Default)]
pub(crate) struct KnownBuckets {
    /// By the id of the limit's buckets, and the values behind it.
    by_key: HashMap<Box<[u8]>, Arc<DynamicBucket>>,
}

impl KnownBuckets {
    /// The bucket of `values`; only one that is not remembered, or was given up, is asked of `buckets`.
    pub(crate) fn bucket(
        &mut self,
        buckets: &DynamicBuckets,
        values: &[u8],
        now: Time,
        scratch: &mut Vec<u8>,
    ) -> Arc<DynamicBucket> {
        scratch.clear();
        scratch.extend_from_slice(&buckets.id().to_le_bytes());
        scratch.extend_from_slice(values);
        if let Some(known) = self.by_key.get(&**scratch).filter(|known| known.touch(now)) {
            return Arc::clone(known);
        }
        let bucket = buckets.bucket(values, now);
        if self.by_key.len() >= KNOWN_MAX {
            self.by_key.clear();
        }
        self.by_key.insert(scratch.as_slice().into(), Arc::clone(&bucket));
        bucket
    }
}
