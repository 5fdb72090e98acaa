//! `extensions.filters.http.cors.v3`.

use std::sync::Arc;

use crate::{Fraction, ScopeId, StringMatcher};

/// `CorsPolicy`. Every setting is looked up on its own: the first level that has it decides.
#[derive(Clone, Debug)]
pub struct CorsPolicy {
    /// `allow_origin_string_match`.
    pub allow_origins: Vec<StringMatcher>,
    /// `allow_methods`; empty when not given, as the next four.
    pub allow_methods: Arc<[u8]>,
    /// `allow_headers`.
    pub allow_headers: Arc<[u8]>,
    /// `expose_headers`.
    pub expose_headers: Arc<[u8]>,
    /// `max_age`.
    pub max_age: Arc<[u8]>,
    /// `allow_credentials`.
    pub allow_credentials: Option<bool>,
    /// `allow_private_network_access`.
    pub allow_private_network: Option<bool>,
    /// `forward_not_matching_preflights`.
    pub forward_not_matching: Option<bool>,
    /// `filter_enabled`; for all requests by default.
    pub enabled: Fraction,
    /// `shadow_enabled`; for none by default.
    pub shadow: Fraction,
}

/// `Cors`: it has nothing but statistics of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorsFilter {
    /// Statistics scope `http.<prefix>.cors.`.
    pub scope: ScopeId,
}
