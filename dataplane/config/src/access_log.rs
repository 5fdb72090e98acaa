//! Access logs (`envoy.config.accesslog.v3.AccessLog`).

use std::sync::Arc;

use crate::format::Template;
use crate::{HeaderMatcher, MetadataMatcher};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogSink {
    /// `envoy.access_loggers.file`.
    File(Arc<str>),
    /// `envoy.access_loggers.stdout`.
    Stdout,
    /// `envoy.access_loggers.stderr`.
    Stderr,
}

/// A value of a JSON format.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum JsonValue {
    /// A string with operators; a lone operator keeps its type (numbers stay numbers).
    Template(Template),
    Number(f64),
    Bool(bool),
    Null,
    /// Keys sorted, as Envoy prints a `Struct`.
    Object(Vec<(Arc<str>, JsonValue)>),
    List(Vec<JsonValue>),
}

/// How a line looks.
#[derive(Clone, Debug)]
pub enum AccessLogFormat {
    /// `text_format_source`, the deprecated `format`, or Envoy's default.
    Text(Template),
    /// `json_format`: keys sorted unless `json_format_options.sort_properties` says otherwise.
    Json {
        /// The object.
        fields: Vec<(Arc<str>, JsonValue)>,
        /// `omit_empty_values`.
        omit_empty: bool,
    },
}

/// `ComparisonFilter.op` with its value after the runtime was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    Equal(u32),
    GreaterOrEqual(u32),
    LessOrEqual(u32),
    NotEqual(u32),
}

impl Comparison {
    /// True when `value` compares so.
    pub fn holds(self, value: u64) -> bool {
        match self {
            Self::Equal(v) => value == u64::from(v),
            Self::GreaterOrEqual(v) => value >= u64::from(v),
            Self::LessOrEqual(v) => value <= u64::from(v),
            Self::NotEqual(v) => value != u64::from(v),
        }
    }
}

/// `AccessLogFilter`.
#[derive(Clone, Debug)]
pub enum AccessLogFilter {
    /// `status_code_filter`.
    StatusCode(Comparison),
    /// `duration_filter`, milliseconds.
    Duration(Comparison),
    /// `not_health_check_filter`.
    NotHealthCheck,
    /// `traceable_filter`.
    Traceable,
    /// `runtime_filter`: `(numerator, denominator, use_independent_randomness)`.
    Runtime(crate::Fraction, bool),
    /// `header_filter`.
    Header(HeaderMatcher),
    /// `response_flag_filter`: short names; empty means any flag.
    ResponseFlag(Vec<millrace_base::ResponseFlag>),
    /// `metadata_filter`; as in Envoy `invert` counts for nothing here.
    Metadata {
        /// `matcher`; `None` without one.
        matcher: Option<MetadataMatcher>,
        /// `match_if_key_not_found`, default true.
        if_missing: bool,
    },
    /// `and_filter`.
    And(Vec<AccessLogFilter>),
    /// `or_filter`.
    Or(Vec<AccessLogFilter>),
}

/// One access logger.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: AccessLogSink,
    /// How they look.
    pub format: AccessLogFormat,
    /// Which requests are logged; `None` for all.
    pub filter: Option<AccessLogFilter>,
}
