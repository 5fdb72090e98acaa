//! Endpoints of clusters that ask for it (`track_cluster_stats.per_endpoint_stats`). As in Envoy, `usedonly` does not
//! concern them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::registry::printable;
use super::prometheus::escape;
use super::select::{Selection, StatType};

/// What one endpoint has counted.
#[derive(Clone, Debug)]
pub struct EndpointStats {
    /// The cluster, by its name in statistics.
    pub cluster: String,
    /// Where it listens.
    pub address: String,
    /// By name.
    pub counters: Vec<(&'static str, u64)>,
    /// By name.
    pub gauges: Vec<(&'static str, u64)>,
}

impl EndpointStats {
    fn wanted<'a>(
        &'a self,
        selection: &'a Selection<'_>,
        ty: StatType,
    ) -> impl Iterator<Item = (String, &'static str, u64)> + 'a {
        let prefix = format!("cluster.{}.endpoint.{}", printable(&self.cluster), printable(&self.address));
        let list = if ty == StatType::Counters { &self.counters } else { &self.gauges };
        let list = list.iter().filter(move |_| selection.wants_type(ty));
        let named = list.map(move |(stat, value)| (format!("{prefix}.{stat}"), *stat, *value));
        named.filter(|(name, ..)| (selection.wants)(name))
    }
}

/// Calls `each` for every figure that is wanted, until it returns false.
pub(super) fn each(selection: &Selection<'_>, mut each: impl FnMut(&str, u64) -> bool) -> bool {
    selection.endpoints.iter().all(|endpoint| {
        let counters = endpoint.wanted(selection, StatType::Counters);
        counters
            .chain(endpoint.wanted(selection, StatType::Gauges))
            .all(|(name, _, value)| each(&name, value))
    })
}

/// Appends them as samples, metric by metric.
pub(super) fn prometheus(selection: &Selection<'_>, out: &mut String) {
    for (ty, word) in [(StatType::Counters, "counter"), (StatType::Gauges, "gauge")] {
        let mut metrics: BTreeMap<&'static str, Vec<(String, u64)>> = BTreeMap::new();
        for endpoint in selection.endpoints {
            let cluster = printable(&endpoint.cluster);
            let labels = format!(
                "envoy_cluster_name=\"{}\",envoy_endpoint_address=\"{}\"",
                escape(&cluster),
                escape(&endpoint.address)
            );
            for (_, stat, value) in endpoint.wanted(selection, ty) {
                metrics.entry(stat).or_default().push((labels.clone(), value));
            }
        }
        for (stat, mut samples) in metrics {
            samples.sort();
            let _ = writeln!(out, "# TYPE envoy_cluster_endpoint_{stat} {word}");
            for (labels, value) in samples {
                let _ = writeln!(out, "envoy_cluster_endpoint_{stat}{{{labels}}} {value}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::registry::Registry;
    use super::super::{render_json, render_prometheus, render_text};
    use super::*;

    /// As Envoy 1.40 printed them.
    #[test]
    fn endpoints_stand_behind_counters_and_gauges() {
        let endpoint = |address: &str, total| EndpointStats {
            cluster: "a:b".into(),
            address: address.into(),
            counters: vec![("rq_total", total)],
            gauges: vec![("cx_active", 1), ("healthy", 0)],
        };
        let endpoints = [endpoint("[::1]:80", 2), endpoint("/run/x", 0)];
        let selection = Selection { used_only: true, endpoints: &endpoints, ..Selection::ALL };
        let (registry, mut out) = (Registry::new(), String::new());
        assert!(render_text(&registry, &selection, &mut out));
        assert_eq!(
            out,
            "cluster.a_b.endpoint.[__1]_80.rq_total: 2\ncluster.a_b.endpoint.[__1]_80.cx_active: 1\n\
             cluster.a_b.endpoint.[__1]_80.healthy: 0\ncluster.a_b.endpoint./run/x.rq_total: 0\n\
             cluster.a_b.endpoint./run/x.cx_active: 1\ncluster.a_b.endpoint./run/x.healthy: 0\n"
        );
        out.clear();
        let gauges = Selection { wants: &|name| name.ends_with("healthy"), ..selection };
        assert!(render_json(&registry, &gauges, &mut out));
        assert_eq!(
            out,
            "{\"stats\":[{\"name\":\"cluster.a_b.endpoint.[__1]_80.healthy\",\"value\":0},\
             {\"name\":\"cluster.a_b.endpoint./run/x.healthy\",\"value\":0}]}"
        );
        out.clear();
        assert!(render_prometheus(
            &registry,
            &Selection { only: Some(StatType::Counters), ..selection },
            &mut out
        ));
        let line = |address: &str, value| {
            let labels = format!("envoy_cluster_name=\"a_b\",envoy_endpoint_address=\"{address}\"");
            format!("envoy_cluster_endpoint_rq_total{{{labels}}} {value}\n")
        };
        let lines = [line("/run/x", 0), line("[::1]:80", 2)].concat();
        assert_eq!(out, format!("# TYPE envoy_cluster_endpoint_rq_total counter\n{lines}"));
    }
}
