//! The HTTP filters that shape, refuse and rewrite: what is configured of them.

mod buffer;
mod cors;
mod csrf;
mod fault;
mod header_mutation;
mod health_check;
mod rate_limit;
mod rate_limit_actions;

pub use buffer::BufferFilter;
pub use cors::{CorsFilter, CorsPolicy};
pub use csrf::{CsrfFilter, CsrfPolicy};
pub use fault::{Fault, FaultAbort, FaultDelay, FaultFilter, FaultRate};
pub use header_mutation::{HeaderMutationFilter, HeaderMutationStep, MutationLists, QueryMutation};
pub use health_check::{HealthCheckCache, HealthCheckFilter};
pub use rate_limit::{
    BucketRef, DescriptorLimit, LocalRateLimit, LocalRateLimiter, RateVerdict, TokenBucketConfig,
    VirtualHostRateLimits,
};
pub use rate_limit_actions::{RateLimitAction, RateLimitPolicy};
