//! Token buckets that filters share by the `share_key` of the network filter `local_ratelimit`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use millrace_base::TokenBucket;
use millrace_config::TokenBucketConfig;

/// The buckets that some filter uses, by `share_key` and `token_bucket`.
#[derive(Debug, Default)]
pub(crate) struct SharedBuckets {
    by_key: HashMap<(Box<str>, TokenBucketConfig), Weak<TokenBucket>>,
}

impl SharedBuckets {
    /// The bucket of this key and size, full if nobody uses it yet. Without a key it is nobody else's.
    pub(crate) fn bucket(&mut self, share_key: &str, config: TokenBucketConfig) -> Arc<TokenBucket> {
        if share_key.is_empty() {
            return Arc::new(config.bucket());
        }
        self.by_key.retain(|_, bucket| bucket.strong_count() > 0);
        let known = self.by_key.entry((share_key.into(), config)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let made = Arc::new(config.bucket());
            *known = Arc::downgrade(&made);
            made
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_and_a_size_have_one_bucket_while_it_is_used() {
        let size = |max_tokens| TokenBucketConfig {
            max_tokens,
            tokens_per_fill: 1,
            fill_interval: Duration::from_secs(1),
        };
        let mut shared = SharedBuckets::default();
        let first = shared.bucket("a", size(1));
        assert!(Arc::ptr_eq(&first, &shared.bucket("a", size(1))));
        assert!(!Arc::ptr_eq(&first, &shared.bucket("b", size(1))));
        assert!(!Arc::ptr_eq(&first, &shared.bucket("a", size(2))));
        assert!(!Arc::ptr_eq(&shared.bucket("", size(1)), &shared.bucket("", size(1))));
        assert_eq!(shared.by_key.len(), 2);
        drop(first);
        shared.bucket("c", size(1));
        assert!(!shared.by_key.contains_key(&("a".into(), size(1))));
    }
}
