//! The HTTP filters that shape, refuse and rewrite: what is configured of them.

mod admission;
mod bandwidth;
mod buffer;
mod compression;
mod concurrency;
mod cors;
mod csrf;
mod custom_response;
mod dynamic_buckets;
mod fault;
mod header_mutation;
mod health_check;
mod json_to_metadata;
mod metadata;
mod rate_limit;
mod rate_limit_actions;
mod stateful_session;

pub use admission::{AdmissionControl, AdmissionId};
pub use bandwidth::BandwidthLimit;
pub use buffer::BufferFilter;
pub use compression::{
    BrotliCompressor, BrotliMode, Coding, CompressDirection, CompressResponses, CompressorFilter,
    CompressorLibrary, CompressorPerRoute, DecompressDirection, DecompressorFilter, DecompressorLibrary,
    GzipCompressor, GzipStrategy, ZstdCompressor,
};
pub use concurrency::{
    AdaptiveConcurrency, GradientConfig, GradientGauges, GradientState, GradientWindow, LATENCY_BINS, MinRtt,
};
pub use cors::{CorsFilter, CorsPolicy};
pub use csrf::{CsrfFilter, CsrfPolicy};
pub use custom_response::{
    CustomRedirectTo, CustomResponse, LocalResponsePolicy, RedirectPolicy, ResponseDetails, ResponsePolicy,
};
pub use dynamic_buckets::{DynamicBucket, DynamicBuckets};
pub use fault::{Fault, FaultAbort, FaultDelay, FaultFilter, FaultRate};
pub use header_mutation::{HeaderMutationFilter, HeaderMutationStep, MutationLists, QueryMutation};
pub use health_check::{HealthCheckCache, HealthCheckFilter};
pub use json_to_metadata::{JsonRule, JsonRules, JsonToMetadata, JsonWrite};
pub use metadata::{
    ConnectionState, HeaderToMetadata, MetadataRule, MetadataWrite, RuleSource, RuleValueType,
    SetFilterState, SetMetadata, StateValue,
};
pub use rate_limit::{
    BucketRef, DescriptorLimit, Hits, LocalRateLimit, LocalRateLimiter, MatchedLimit, RateVerdict,
    TokenBucketConfig, VirtualHostRateLimits,
};
pub use rate_limit_actions::{
    HitsAddend, MetadataSource, RateLimitAction, RateLimitHeaders, RateLimitPolicy,
};
pub use stateful_session::{SessionCookie, SessionState, StatefulSession, StatefulSessionFilter};
