//! Which statistics a reader wants.

use millrace_config::StringMatcher;

use super::endpoints::EndpointStats;

/// `/stats?type=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the query")]
pub enum StatType {
    Counters,
    Gauges,
    Histograms,
    TextReadouts,
}

/// `/stats?histogram_buckets=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the query")]
pub enum HistogramBuckets {
    /// Not asked for: quantiles in text and JSON, cumulative buckets in Prometheus.
    #[default]
    Unset,
    Cumulative,
    Disjoint,
    Detailed,
    Summary,
}

/// A reader's wishes.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// `usedonly`: leave out what was never written.
    pub used_only: bool,
    /// True for the raw (dotted) names that shall be printed.
    pub wants: &'a dyn Fn(&str) -> bool,
    /// `type`; `None` for all.
    pub only: Option<StatType>,
    /// `histogram_buckets`.
    pub buckets: HistogramBuckets,
    /// `text_readouts` (Prometheus only): print them as gauges with the value 0.
    pub text_readouts: bool,
    /// Endpoints that are printed one by one.
    pub endpoints: &'a [EndpointStats],
    /// Output stops, and the renderer returns false, when it would exceed this many bytes.
    pub max_bytes: usize,
}

impl Selection<'_> {
    /// Everything, up to 256 MiB.
    pub const ALL: Selection<'static> = Selection {
        used_only: false,
        wants: &|_| true,
        only: None,
        buckets: HistogramBuckets::Unset,
        text_readouts: false,
        endpoints: &[],
        max_bytes: 256 << 20,
    };

    pub(super) fn wants_type(&self, ty: StatType) -> bool {
        self.only.is_none_or(|only| only == ty)
    }
}

/// `envoy.config.metrics.v3.StatsMatcher`, on raw names.
#[derive(Clone, Debug, Default)]
pub enum StatsMatcher {
    /// `reject_all: false` or absent.
    #[default]
    AcceptAll,
    /// `reject_all: true`.
    RejectAll,
    /// `exclusion_list`.
    Exclusion(Vec<StringMatcher>),
    /// `inclusion_list`.
    Inclusion(Vec<StringMatcher>),
}

impl StatsMatcher {
    /// True when a statistic of this name exists.
    pub fn accepts(&self, name: &str) -> bool {
        let any = |list: &[StringMatcher]| list.iter().any(|m| m.matches(name.as_bytes()));
        match self {
            Self::AcceptAll => true,
            Self::RejectAll => false,
            Self::Exclusion(list) => !any(list),
            Self::Inclusion(list) => any(list),
        }
    }
}
