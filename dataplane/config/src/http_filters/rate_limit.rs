//! `extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Time, TokenBucket};

use crate::{
    DynamicBucket, DynamicBuckets, Fraction, HeaderOption, RateLimitHeaders, RateLimitPolicy, ScopeId,
};

/// `type.v3.TokenBucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenBucketConfig {
    /// `max_tokens`.
    pub max_tokens: u32,
    /// `tokens_per_fill`, default 1.
    pub tokens_per_fill: u32,
    /// `fill_interval`, not zero.
    pub fill_interval: Duration,
}

impl TokenBucketConfig {
    /// A full bucket.
    pub fn bucket(&self) -> TokenBucket {
        TokenBucket::new(u64::from(self.max_tokens), u64::from(self.tokens_per_fill), self.fill_interval)
    }
}

/// `vh_rate_limits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum VirtualHostRateLimits {
    #[default]
    Override,
    Include,
    Ignore,
}

/// `LocalRateLimitDescriptor`: the limit of requests with exactly these entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// `entries`: key and value. An entry whose value is empty stands for all values, each with a bucket of its own.
    pub entries: Vec<(Arc<str>, Arc<str>)>,
    /// `token_bucket`.
    pub bucket: TokenBucketConfig,
    /// `shadow_mode`: counted, not enforced.
    pub shadow: bool,
}

impl DescriptorLimit {
    /// There is a bucket for each value of some entry.
    pub fn is_dynamic(&self) -> bool {
        self.entries.iter().any(|(_, value)| value.is_empty())
    }
}

/// A descriptor of a request that has a limit.
#[derive(Clone, Debug)]
pub struct MatchedLimit {
    /// Position in [`LocalRateLimit::descriptors`].
    pub at: usize,
    /// What the request does to its bucket.
    pub hits: Hits,
    /// `x_ratelimit_option` of what made the descriptor.
    pub headers: RateLimitHeaders,
    /// The values of a dynamic limit's entries.
    pub values: Vec<u8>,
    /// Their bucket, of a dynamic limit.
    pub bucket: Option<Arc<DynamicBucket>>,
}

/// Tokens that a request takes, or gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// All of them, or it is refused.
    Take(u64),
    /// As many as there is room for.
    Give(u64),
}

impl Hits {
    fn apply(self, bucket: &TokenBucket, now: Time) -> bool {
        match self {
            Self::Take(tokens) => bucket.take_all(tokens, now),
            Self::Give(tokens) => {
                bucket.give(tokens, now);
                true
            }
        }
    }
}

#[derive(Debug)]
enum DescriptorBuckets {
    One(TokenBucket),
    Each(DynamicBuckets),
}

/// The buckets of a [`LocalRateLimit`]: one set for the whole process, or one for each connection.
#[derive(Debug)]
pub struct LocalRateLimiter {
    default: Option<TokenBucket>,
    descriptors: Vec<DescriptorBuckets>,
}

/// What [`LocalRateLimiter::take`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateVerdict<'l> {
    /// The request may pass.
    pub allowed: bool,
    /// The bucket that decides what the client is told of the limit.
    pub bucket: Option<BucketRef<'l>>,
    /// A descriptor with `shadow_mode` had no token.
    pub shadowed: bool,
    /// What that bucket's descriptor says about the headers that tell of it.
    pub headers: RateLimitHeaders,
}

/// A bucket of a limiter, compared by identity.
#[derive(Clone, Copy, Debug)]
pub struct BucketRef<'l>(pub &'l TokenBucket);

impl PartialEq for BucketRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for BucketRef<'_> {}

impl LocalRateLimiter {
    fn new(default: Option<TokenBucketConfig>, descriptors: &[DescriptorLimit], max_dynamic: u32) -> Self {
        let buckets = |limit: &DescriptorLimit| match limit.is_dynamic() {
            true => DescriptorBuckets::Each(DynamicBuckets::new(limit.bucket, max_dynamic)),
            false => DescriptorBuckets::One(limit.bucket.bucket()),
        };
        Self {
            default: default.map(|config| config.bucket()),
            descriptors: descriptors.iter().map(buckets).collect(),
        }
    }

    /// The buckets of the descriptor at this position, if there is one for each value.
    pub fn dynamic(&self, at: usize) -> Option<&DynamicBuckets> {
        match self.descriptors.get(at)? {
            DescriptorBuckets::One(_) => None,
            DescriptorBuckets::Each(buckets) => Some(buckets),
        }
    }

    fn bucket<'l>(&'l self, matched: &'l MatchedLimit) -> Option<&'l TokenBucket> {
        match self.descriptors.get(matched.at)? {
            DescriptorBuckets::One(bucket) => Some(bucket),
            DescriptorBuckets::Each(_) => Some(&matched.bucket.as_deref()?.bucket),
        }
    }

    /// Takes tokens of every bucket in `matched` (the strictest first), and one of the default one. The first that has none refuses; what was taken before it is gone, as in Envoy.
    pub fn take<'l>(
        &'l self,
        limit: &LocalRateLimit,
        matched: &'l [MatchedLimit],
        now: Time,
    ) -> RateVerdict<'l> {
        let mut first = None;
        let mut headers = RateLimitHeaders::Unspecified;
        let mut shadowed = false;
        for one in matched {
            let Some(bucket) = self.bucket(one) else { continue };
            if first.is_none() {
                first = Some(BucketRef(bucket));
                headers = one.headers;
            }
            if one.hits.apply(bucket, now) {
                continue;
            }
            if limit.descriptors[one.at].shadow {
                shadowed = true;
                continue;
            }
            let bucket = Some(BucketRef(bucket));
            return RateVerdict { allowed: false, bucket, shadowed, headers: one.headers };
        }
        if let Some(default) = self.default.as_ref().filter(|_| first.is_none() || limit.always_default) {
            if !default.take_one(now) {
                let (bucket, headers) = (Some(BucketRef(default)), RateLimitHeaders::Unspecified);
                return RateVerdict { allowed: false, bucket, shadowed, headers };
            }
            first = first.or(Some(BucketRef(default)));
        }
        RateVerdict { allowed: true, bucket: first, shadowed, headers }
    }
}

/// `LocalRateLimit`, of the filter or of a route.
#[derive(Debug)]
pub struct LocalRateLimit {
    /// Statistics scope `<stat_prefix>.http_local_rate_limit.`.
    pub scope: ScopeId,
    /// `status`, default 429; less than 400 counts as 429.
    pub status: u16,
    /// `token_bucket`: without one, and without a matching descriptor, nothing is limited.
    pub bucket: Option<TokenBucketConfig>,
    /// `descriptors`.
    pub descriptors: Vec<DescriptorLimit>,
    /// `max_dynamic_descriptors`, default 20: values of each dynamic one that have a bucket at a time.
    pub max_dynamic: u32,
    /// `filter_enabled`; none by default.
    pub enabled: Fraction,
    /// `filter_enforced`; none by default.
    pub enforced: Fraction,
    /// `request_headers_to_add_when_not_enforced`.
    pub request_headers: Vec<HeaderOption>,
    /// `response_headers_to_add`, to the refusal.
    pub response_headers: Vec<HeaderOption>,
    /// `stage`.
    pub stage: u32,
    /// `local_rate_limit_per_downstream_connection`.
    pub per_connection: bool,
    /// `enable_x_ratelimit_headers: DRAFT_VERSION_03`.
    pub ratelimit_headers: bool,
    /// `enable_retry_after_header`.
    pub retry_after: bool,
    /// `vh_rate_limits`.
    pub virtual_host: VirtualHostRateLimits,
    /// `always_consume_default_token_bucket`, default true.
    pub always_default: bool,
    /// `rate_limited_as_resource_exhausted`.
    pub resource_exhausted: bool,
    /// `rate_limits`: the route's are looked at only without them.
    pub rate_limits: Vec<RateLimitPolicy>,
    /// The buckets of the whole process; [`LocalRateLimit::with_buckets`] makes them.
    pub shared: LocalRateLimiter,
}

impl LocalRateLimit {
    /// Fills the buckets that all shards share.
    #[must_use]
    pub fn with_buckets(mut self) -> Self {
        self.shared = self.limiter();
        self
    }

    /// Full buckets.
    pub fn limiter(&self) -> LocalRateLimiter {
        LocalRateLimiter::new(self.bucket, &self.descriptors, self.max_dynamic)
    }

    /// Limits nothing: what the fields are when they are not given.
    pub fn unlimited(scope: ScopeId) -> Self {
        let none = Fraction { numerator: 0, denominator: 100 };
        Self {
            scope,
            status: 429,
            bucket: None,
            descriptors: Vec::new(),
            max_dynamic: 20,
            enabled: none,
            enforced: none,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            stage: 0,
            per_connection: false,
            ratelimit_headers: false,
            retry_after: false,
            virtual_host: VirtualHostRateLimits::Override,
            always_default: true,
            resource_exhausted: false,
            rate_limits: Vec::new(),
            shared: LocalRateLimiter::new(None, &[], 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(max_tokens: u32) -> TokenBucketConfig {
        TokenBucketConfig { max_tokens, tokens_per_fill: 1, fill_interval: Duration::from_secs(10) }
    }

    fn limit() -> LocalRateLimit {
        let strict =
            DescriptorLimit { entries: vec![("k".into(), "v".into())], bucket: bucket(1), shadow: false };
        LocalRateLimit {
            bucket: Some(bucket(3)),
            descriptors: vec![strict],
            ..LocalRateLimit::unlimited(ScopeId(0))
        }
        .with_buckets()
    }

    fn matched(at: usize) -> MatchedLimit {
        MatchedLimit {
            at,
            hits: Hits::Take(1),
            headers: RateLimitHeaders::Off,
            values: Vec::new(),
            bucket: None,
        }
    }

    #[test]
    fn the_first_bucket_without_a_token_refuses() {
        let limit = limit();
        let take = |matched: &[MatchedLimit]| {
            let verdict = limit.shared.take(&limit, matched, Time(0));
            (verdict.allowed, verdict.bucket.map(|bucket| bucket.0.max_tokens()), verdict.headers)
        };
        let (own, none) = (RateLimitHeaders::Off, RateLimitHeaders::Unspecified);
        assert_eq!(take(&[matched(0)]), (true, Some(1), own));
        assert_eq!(take(&[matched(0)]), (false, Some(1), own));
        assert_eq!(take(&[]), (true, Some(3), none));
        assert_eq!(take(&[]), (true, Some(3), none));
        assert_eq!(take(&[]), (false, Some(3), none));
    }

    #[test]
    fn shadowed_descriptors_are_told_and_not_enforced() {
        let mut limit = limit();
        limit.descriptors[0].shadow = true;
        limit.always_default = false;
        for shadowed in [false, true] {
            let matched = [matched(0)];
            let verdict = limit.shared.take(&limit, &matched, Time(0));
            assert_eq!((verdict.allowed, verdict.shadowed), (true, shadowed));
        }
        assert!(LocalRateLimit::unlimited(ScopeId(0)).shared.take(&limit, &[], Time(0)).allowed);
    }
}
