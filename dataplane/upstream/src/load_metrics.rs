//! What endpoints report of themselves with their responses, summed for load reports (`lrs_report_endpoint_metrics`).
//!
//! Each shard sums in a book of its own, so that no lock is shared by requests; the control thread takes all of them when
//! a report is due.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use millrace_config::ScopeId;

use crate::ClusterState;
use crate::orca::LoadReport;

/// Names that are summed of one endpoint; what else it reports is left out.
pub const LOAD_METRICS_MAX: usize = 256;
/// Endpoints that one shard sums for between two reports; others are left out until the next.
pub const LOAD_METRIC_HOSTS_MAX: usize = 16_384;

/// Values of one metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MetricSum {
    /// Responses that had it.
    pub responses: u64,
    /// Sum of its values.
    pub total: f64,
}

/// The metrics of one endpoint, by the names that `lrs_report_endpoint_metrics` gives them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadMetrics(BTreeMap<String, MetricSum>);

impl LoadMetrics {
    /// Adds what another shard, or another interval, summed.
    pub fn merge(&mut self, more: &Self) {
        more.iter().for_each(|(name, sum)| self.add(name, sum));
    }

    /// Every metric with its sum, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, MetricSum)> {
        self.0.iter().map(|(name, sum)| (name.as_str(), *sum))
    }

    /// True when nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, name: &str, more: MetricSum) {
        if !self.0.contains_key(name) {
            if self.0.len() >= LOAD_METRICS_MAX {
                return;
            }
            self.0.insert(name.to_owned(), MetricSum::default());
        }
        if let Some(sum) = self.0.get_mut(name) {
            sum.responses += more.responses;
            sum.total += more.total;
        }
    }

    /// Adds what one response reported of the metrics that are wanted.
    fn take(&mut self, report: &LoadReport, wanted: &[Arc<str>]) {
        for name in wanted {
            report.each(name, |name, value| self.add(name, MetricSum { responses: 1, total: value }));
        }
    }
}

impl FromIterator<(String, MetricSum)> for LoadMetrics {
    fn from_iter<I: IntoIterator<Item = (String, MetricSum)>>(sums: I) -> Self {
        let mut metrics = Self::default();
        sums.into_iter().for_each(|(name, sum)| metrics.add(&name, sum));
        metrics
    }
}

/// The sums of one shard, by the statistics scope of the endpoint.
#[derive(Debug, Default)]
pub(crate) struct MetricBook(Mutex<BTreeMap<ScopeId, LoadMetrics>>);

impl MetricBook {
    fn add(&self, scope: ScopeId, report: &LoadReport, wanted: &[Arc<str>]) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() < LOAD_METRIC_HOSTS_MAX || hosts.contains_key(&scope) {
            hosts.entry(scope).or_default().take(report, wanted);
        }
    }

    fn take(&self) -> BTreeMap<ScopeId, LoadMetrics> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The books of all shards that use a cluster.
#[derive(Debug, Default)]
pub struct MetricBooks(Mutex<Vec<Arc<MetricBook>>>);

impl MetricBooks {
    fn open(&self) -> Arc<MetricBook> {
        let book = Arc::new(MetricBook::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&book));
        book
    }

    /// What was summed since the last call, by endpoint.
    pub fn take(&self) -> BTreeMap<ScopeId, LoadMetrics> {
        let mut all = BTreeMap::<_, LoadMetrics>::new();
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        books.retain(|book| {
            // Looked at before: a shard that leaves meanwhile may have said something more.
            let in_use = Arc::strong_count(book) > 1;
            for (scope, metrics) in book.take() {
                all.entry(scope).or_default().merge(&metrics);
            }
            in_use
        });
        all
    }
}

impl ClusterState {
    /// Sums what an endpoint reported, where load reports want it.
    pub(crate) fn sum_metrics(&mut self, scope: ScopeId, report: &LoadReport) {
        if !self.config.load_metrics.is_empty() {
            let book = self.metric_book.get_or_insert_with(|| self.budgets.load_metrics.open());
            book.add(scope, report, &self.config.load_metrics);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> LoadReport {
        let named = [("named_metrics.a", 1.0), ("named_metrics.b", 2.0), ("request_cost.a", 3.0)];
        let named = named.map(|(name, value)| (name.to_owned(), value)).to_vec();
        LoadReport { cpu: 0.5, named, ..LoadReport::default() }
    }

    fn summed(wanted: &[&str]) -> Vec<(String, u64, f64)> {
        let wanted: Vec<Arc<str>> = wanted.iter().map(|name| (*name).into()).collect();
        let mut metrics = LoadMetrics::default();
        metrics.take(&report(), &wanted);
        metrics.take(&report(), &wanted);
        metrics.iter().map(|(name, sum)| (name.to_owned(), sum.responses, sum.total)).collect()
    }

    #[test]
    fn what_is_wanted_is_summed() {
        assert_eq!(summed(&[]), []);
        let one = |name: &str, total| (name.to_owned(), 2, total);
        assert_eq!(summed(&["cpu_utilization"]), [one("cpu_utilization", 1.0)]);
        assert_eq!(summed(&["named_metrics.b"]), [one("named_metrics.b", 4.0)]);
        let both = [one("named_metrics.a", 2.0), one("named_metrics.b", 4.0)];
        assert_eq!(summed(&["named_metrics.*"]), both);
        assert_eq!(summed(&["request_cost.a"]), [one("request_cost.a", 6.0)]);
        assert_eq!(summed(&["named_metrics.c", "utilization.*", "unknown", "named_metrics"]), []);
        // A number that has no name of its own is there with every report.
        assert_eq!(summed(&["mem_utilization"]), [one("mem_utilization", 0.0)]);
    }

    #[test]
    fn names_and_endpoints_are_bounded() {
        let (books, wanted) = (MetricBooks::default(), ["named_metrics.*".into()]);
        let book = books.open();
        for n in 0..1000 {
            let named = vec![(format!("named_metrics.{n}"), 1.0)];
            book.add(ScopeId(1), &LoadReport { named, ..LoadReport::default() }, &wanted);
        }
        for n in 2..LOAD_METRIC_HOSTS_MAX as u32 + 100 {
            book.add(ScopeId(n), &report(), &wanted);
        }
        let taken = books.take();
        assert_eq!(
            (taken.len(), taken[&ScopeId(1)].iter().count()),
            (LOAD_METRIC_HOSTS_MAX, LOAD_METRICS_MAX)
        );
        assert!(books.take().is_empty());
    }

    #[test]
    fn shards_are_added_up_and_those_that_leave_are_let_go() {
        let (books, wanted) = (MetricBooks::default(), ["cpu_utilization".into()]);
        let (one, other) = (books.open(), books.open());
        one.add(ScopeId(1), &report(), &wanted);
        other.add(ScopeId(1), &report(), &wanted);
        drop(other);
        let sum = MetricSum { responses: 2, total: 1.0 };
        assert_eq!(books.take()[&ScopeId(1)].iter().collect::<Vec<_>>(), [("cpu_utilization", sum)]);
        assert_eq!(books.0.lock().unwrap().len(), 1);
    }
}
