//! What of a request decides its endpoint (`RouteAction.HashPolicy`).

use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

/// One entry of `hash_policy`.
#[derive(Clone, Debug, PartialEq)]
pub struct HashPolicy {
    /// What is hashed.
    pub method: HashMethod,
    /// `terminal`: once there is a hash the rest of the list is skipped.
    pub terminal: bool,
}

/// `RouteAction.HashPolicy.policy_specifier`.
#[derive(Clone, Debug, PartialEq)]
pub enum HashMethod {
    /// `header`: all values of a field, sorted.
    Header {
        /// `header_name`, lower case.
        name: Arc<[u8]>,
        /// `regex_rewrite`, applied to each value.
        rewrite: Option<Box<RegexRewrite>>,
    },
    /// `cookie`.
    Cookie(Box<HashCookie>),
    /// `connection_properties.source_ip`.
    SourceIp,
    /// `query_parameter.name`.
    QueryParameter(Arc<[u8]>),
    /// `filter_state.key`.
    FilterState(Arc<str>),
}

/// `RouteAction.HashPolicy.Cookie`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCookie {
    /// `name`.
    pub name: Arc<[u8]>,
    /// `path`, may be empty.
    pub path: Arc<str>,
    /// `ttl` in whole seconds; without one no cookie is made, with zero one of the session.
    pub ttl: Option<Duration>,
    /// `attributes`.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
}

/// `RegexMatchAndSubstitute`: every match of the pattern is replaced.
#[derive(Clone, Debug)]
pub struct RegexRewrite {
    /// The pattern.
    pub pattern: Regex,
    /// The substitution in the regex crate's syntax.
    pub substitution: Arc<[u8]>,
}

impl PartialEq for RegexRewrite {
    fn eq(&self, other: &Self) -> bool {
        self.pattern.as_str() == other.pattern.as_str() && self.substitution == other.substitution
    }
}
