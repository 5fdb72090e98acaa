//! Matchers on strings, headers and query parameters.

use std::sync::Arc;

use regex::bytes::Regex;

/// `envoy.type.matcher.v3.StringMatcher`. With `ignore_case` the pattern is stored in lower case.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum StringMatcher {
    Exact {
        value: Arc<[u8]>,
        ignore_case: bool,
    },
    Prefix {
        value: Arc<[u8]>,
        ignore_case: bool,
    },
    Suffix {
        value: Arc<[u8]>,
        ignore_case: bool,
    },
    Contains {
        value: Arc<[u8]>,
        ignore_case: bool,
    },
    /// `safe_regex`; always a full match (anchored when compiled).
    Regex(Regex),
}

impl StringMatcher {
    /// True when `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact { value, ignore_case } => eq(text, value, *ignore_case),
            Self::Prefix { value, ignore_case } => {
                text.get(..value.len()).is_some_and(|head| eq(head, value, *ignore_case))
            }
            Self::Suffix { value, ignore_case } => text
                .len()
                .checked_sub(value.len())
                .and_then(|at| text.get(at..))
                .is_some_and(|tail| eq(tail, value, *ignore_case)),
            Self::Contains { value, ignore_case } => {
                value.is_empty() || text.windows(value.len()).any(|window| eq(window, value, *ignore_case))
            }
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

fn eq(a: &[u8], b: &[u8], ignore_case: bool) -> bool {
    if ignore_case { a.eq_ignore_ascii_case(b) } else { a == b }
}

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    /// Lower-case field name, or `:method`, `:path`, `:authority`, `:scheme`.
    pub name: Arc<[u8]>,
    /// What must hold of a value; of several values with the name one is enough, and inversion comes after.
    pub kind: HeaderMatcherKind,
    /// `invert_match`.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub missing_as_empty: bool,
}

/// What a [`HeaderMatcher`] asks of the value.
#[derive(Clone, Debug)]
pub enum HeaderMatcherKind {
    /// `present_match`: the field is there (true) or not (false).
    Present(bool),
    /// `range_match`: a decimal integer in `start..end`.
    Range {
        /// Inclusive.
        start: i64,
        /// Exclusive.
        end: i64,
    },
    /// `string_match` and the deprecated forms.
    String(StringMatcher),
}

/// `envoy.config.route.v3.QueryParameterMatcher`.
#[derive(Clone, Debug)]
pub struct QueryMatcher {
    /// Parameter name, compared byte for byte.
    pub name: Arc<[u8]>,
    /// What must hold of its first value.
    pub kind: QueryMatcherKind,
}

/// What a [`QueryMatcher`] asks of the value.
#[derive(Clone, Debug)]
pub enum QueryMatcherKind {
    /// `present_match`.
    Present(bool),
    /// `string_match`.
    String(StringMatcher),
}
