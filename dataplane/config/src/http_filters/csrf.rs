//! `extensions.filters.http.csrf.v3`.

use std::sync::Arc;

use crate::{Fraction, ScopeId, StringMatcher};

/// `CsrfPolicy`, of the filter or of a route.
#[derive(Clone, Debug)]
pub struct CsrfPolicy {
    /// `filter_enabled`.
    pub enabled: Fraction,
    /// `shadow_enabled`: counted, not refused.
    pub shadow: Fraction,
    /// `additional_origins`.
    pub additional_origins: Vec<StringMatcher>,
}

/// The filter of a chain.
#[derive(Clone, Debug)]
pub struct CsrfFilter {
    /// Its own policy.
    pub policy: Arc<CsrfPolicy>,
    /// Statistics scope `http.<prefix>.csrf.`.
    pub scope: ScopeId,
}
