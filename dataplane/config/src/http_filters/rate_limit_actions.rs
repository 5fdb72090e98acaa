//! `config.route.v3.RateLimit`: what of a request its limits are looked up by.

use std::sync::Arc;

use crate::format::Template;
use crate::{Cidr, HeaderMatcher, QueryMatcher};

/// Where a descriptor's value comes from (`MetaData.Source`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MetadataSource {
    #[default]
    Dynamic,
    Route,
}

/// One of `actions`: adds one entry to the descriptor, or none.
#[derive(Clone, Debug)]
pub enum RateLimitAction {
    /// `source_cluster`: `node.cluster`.
    SourceCluster,
    /// `destination_cluster`.
    DestinationCluster,
    /// `request_headers`.
    RequestHeader {
        /// `header_name`, lower case.
        header: Arc<[u8]>,
        /// `descriptor_key`.
        key: Arc<str>,
        /// `skip_if_absent`: without the field the entry is left out, not the whole descriptor.
        skip_if_absent: bool,
    },
    /// `query_parameters`.
    QueryParameter {
        /// `query_parameter_name`.
        parameter: Arc<[u8]>,
        /// `descriptor_key`.
        key: Arc<str>,
        /// `skip_if_absent`.
        skip_if_absent: bool,
    },
    /// `remote_address`.
    RemoteAddress,
    /// `masked_remote_address`: prefix lengths.
    MaskedRemoteAddress {
        /// `v4_prefix_mask_len`, default 32.
        v4: u8,
        /// `v6_prefix_mask_len`, default 128.
        v6: u8,
    },
    /// `metadata`, and `dynamic_metadata`, its older form.
    Metadata {
        /// `source`.
        source: MetadataSource,
        /// `metadata_key.key`.
        namespace: Box<str>,
        /// `metadata_key.path`.
        path: Vec<Box<str>>,
        /// `descriptor_key`.
        key: Arc<str>,
        /// `default_value`, where there is no text; `None` when empty.
        default: Option<Arc<str>>,
        /// `skip_if_absent`.
        skip_if_absent: bool,
    },
    /// `remote_address_match`: only of clients of these ranges.
    RemoteAddressMatch {
        /// `descriptor_key`, default `remote_address_match`.
        key: Arc<str>,
        /// `descriptor_value`.
        value: Arc<str>,
        /// `address_matcher.ranges`.
        ranges: Vec<Cidr>,
        /// `address_matcher.invert_match`.
        invert: bool,
    },
    /// `generic_key`.
    GenericKey {
        /// `descriptor_key`, default `generic_key`.
        key: Arc<str>,
        /// `descriptor_value`.
        value: Arc<str>,
    },
    /// `header_value_match`.
    HeaderMatch {
        /// `descriptor_key`, default `header_match`.
        key: Arc<str>,
        /// `descriptor_value`.
        value: Arc<str>,
        /// `expect_match`, default true.
        expect: bool,
        /// `headers`.
        headers: Vec<HeaderMatcher>,
    },
    /// `query_parameter_value_match`.
    QueryMatch {
        /// `descriptor_key`, default `query_match`.
        key: Arc<str>,
        /// `descriptor_value`.
        value: Arc<str>,
        /// `expect_match`, default true.
        expect: bool,
        /// `query_parameters`.
        parameters: Vec<QueryMatcher>,
    },
}

/// `RateLimit.HitsAddend`: what a request costs the bucket of its descriptor.
#[derive(Clone, Debug)]
pub enum HitsAddend {
    /// `number`.
    Number(u64),
    /// `format`, evaluated for each request; without a number there is no descriptor.
    Format(Template),
}

/// `x_ratelimit_option`: whether a client is told of the limit by `x-ratelimit-*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateLimitHeaders {
    /// As `enable_x_ratelimit_headers` of the filter has it.
    #[default]
    Unspecified,
    /// It is not.
    Off,
    /// It is.
    Draft03,
}

/// One of `rate_limits`: makes one descriptor, or none.
#[derive(Clone, Debug)]
pub struct RateLimitPolicy {
    /// `stage`.
    pub stage: u32,
    /// `disable_key` is set: filters that limit locally pass over it.
    pub disable_key: bool,
    /// `hits_addend`; one without it.
    pub hits: Option<HitsAddend>,
    /// `hits_addend.is_negative_hits`: the request gives them back.
    pub gives_back: bool,
    /// `apply_on_stream_done`: among its own policies the filter that limits locally passes over it, among those of
    /// routes it does not, as in Envoy 1.40.
    pub on_stream_done: bool,
    /// `x_ratelimit_option`.
    pub headers: RateLimitHeaders,
    /// In order.
    pub actions: Vec<RateLimitAction>,
}
