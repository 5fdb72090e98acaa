//! What the admin endpoints read of the process, and what they may ask of it.

use std::sync::Arc;
use std::time::Duration;

use millrace_admin::{
    AdminCommand, AdminState, ClusterStatus, ConfigSection, HistogramBuckets, HostStats, HostStatus,
    ListenerStatus, LoggerStatus, Memory, RuntimeEntry, RuntimeView, ServerState, StatType, StatsFormat,
    StatsQuery,
};
use millrace_config::{Cluster, LocalityEndpoints};
use millrace_observe::stats::{self, EndpointStats, Selection, host as metric};
use millrace_shard::shared::Shared;
use serde_json::{Value, json};

use super::control::Control;
use super::{health, named_hosts, process};
use crate::cli;

/// Largest `/stats` answer.
const STATS_BYTES_MAX: usize = 256 << 20;

impl AdminState for Control {
    fn server_state(&self) -> ServerState {
        self.lifecycle.server_state()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn version(&self) -> String {
        cli::version()
    }

    fn hot_restart_version(&self) -> String {
        "disabled".to_owned()
    }

    fn command_line_options(&self) -> Value {
        self.options.to_json(u32::try_from(self.workers.shared.doors().len()).unwrap_or(u32::MAX))
    }

    fn node(&self) -> Value {
        let bootstrap = self.bootstrap_json();
        bootstrap.get("node").cloned().unwrap_or_else(|| json!({}))
    }

    fn memory(&self) -> Memory {
        process::memory()
    }

    fn clusters(&mut self) -> Vec<ClusterStatus> {
        let registry = &self.registry;
        let shared = &self.workers.shared;
        let counts = |endpoint: &millrace_config::Endpoint| {
            let scope = endpoint.scope;
            HostStats {
                cx_active: registry.gauge(scope, metric::CX_ACTIVE),
                cx_connect_fail: registry.counter(scope, metric::CX_CONNECT_FAIL),
                cx_total: registry.counter(scope, metric::CX_TOTAL),
                rq_active: registry.gauge(scope, metric::RQ_ACTIVE),
                rq_error: registry.counter(scope, metric::RQ_ERROR),
                rq_pending_active: 0,
                rq_success: registry.counter(scope, metric::RQ_SUCCESS),
                rq_timeout: registry.counter(scope, metric::RQ_TIMEOUT),
                rq_total: registry.counter(scope, metric::RQ_TOTAL),
            }
        };
        let none = millrace_config::ScopeId(u32::MAX);
        let assembly = &self.xds.assembly;
        let clusters = assembly.snapshot().clusters.iter().flatten().chain(assembly.control_clusters());
        let status = |cluster: &Arc<Cluster>| {
            let added_via_api = assembly.is_dynamic_cluster(&cluster.name);
            let checks =
                |endpoint: &millrace_config::Endpoint| health::host_checks(cluster, endpoint, shared);
            let demanded = match cluster.discovery.forward_proxy() {
                Some(_) => named_hosts::with_hosts(cluster, &self.hosts, shared, none),
                None => with_demanded(cluster, shared),
            };
            let cluster = demanded.as_ref().unwrap_or(cluster);
            let mut status = ClusterStatus::from_config(cluster, added_via_api, |endpoint| {
                (counts(endpoint), checks(endpoint))
            });
            if let Some(rates) = &mut status.success_rates {
                *rates = shared.health(cluster.id, |health| health.averages()).unwrap_or_default();
            }
            status
        };
        clusters.map(status).collect()
    }

    fn listeners(&self) -> Vec<ListenerStatus> {
        let status = |bound: &super::listeners::Bound| {
            let (first, rest) = bound.addresses.split_first()?;
            Some(ListenerStatus {
                name: bound.listener.name.to_string(),
                local_address: first.clone(),
                additional_addresses: rest.to_vec(),
            })
        };
        self.bound.iter().filter_map(status).collect()
    }

    fn stats(&mut self, query: &StatsQuery) -> Vec<u8> {
        self.refresh_stats();
        let wants = |name: &str| query.wants_name(name);
        let endpoints = self.endpoint_stats();
        let selection = Selection {
            used_only: query.used_only,
            wants: &wants,
            only: query.only.map(stat_type),
            buckets: buckets(query.histogram_buckets),
            text_readouts: query.text_readouts,
            endpoints: &endpoints,
            max_bytes: STATS_BYTES_MAX,
        };
        let mut out = String::new();
        let complete = match query.format {
            StatsFormat::Text => stats::render_text(&self.registry, &selection, &mut out),
            StatsFormat::Json => stats::render_json(&self.registry, &selection, &mut out),
            StatsFormat::Prometheus => stats::render_prometheus(&self.registry, &selection, &mut out),
        };
        if !complete {
            let message = format_args!("a statistics answer was cut at {STATS_BYTES_MAX} bytes");
            self.logger.log(crate::logging::Component::ADMIN, crate::logging::Level::Warning, message);
        }
        out.into_bytes()
    }

    fn config_dump(&mut self, section: ConfigSection) -> Option<Value> {
        Some(self.dump_section(section))
    }

    fn runtime(&self) -> RuntimeView {
        let configured = &self.xds.assembly.context().runtime.layers;
        let layers: Vec<String> = configured.iter().map(|layer| layer.name.clone()).collect();
        let mut keys: Vec<&String> = configured.iter().flat_map(|layer| layer.values.keys()).collect();
        keys.extend(self.runtime_overrides.keys());
        keys.sort();
        keys.dedup();
        let entry = |key: &String| {
            let value = |layer: &millrace_translate::RuntimeLayer| match layer.admin {
                true => self.runtime_overrides.get(key).cloned().unwrap_or_default(),
                false => {
                    layer.values.get(key).map(millrace_translate::RuntimeValue::text).unwrap_or_default()
                }
            };
            let layer_values: Vec<String> = configured.iter().map(value).collect();
            let last = layer_values.iter().rev().find(|v| !v.is_empty());
            RuntimeEntry { key: key.clone(), final_value: last.cloned().unwrap_or_default(), layer_values }
        };
        RuntimeView {
            layers,
            entries: keys.into_iter().map(entry).collect(),
            has_admin_layer: configured.iter().any(|layer| layer.admin),
        }
    }

    fn certificates(&self) -> Vec<Value> {
        super::certificates::certificates(self.xds.assembly.snapshot(), super::stats::unix_seconds())
    }

    fn unready_targets(&self) -> Vec<String> {
        self.xds.assembly.unready()
    }

    fn loggers(&self) -> Vec<LoggerStatus> {
        let levels = self.logger.levels();
        levels.map(|(name, level)| LoggerStatus { name, level }).collect()
    }

    fn execute(&mut self, command: AdminCommand) {
        self.execute_command(command);
    }
}

impl Control {
    /// Of clusters with `per_endpoint_stats`.
    fn endpoint_stats(&mut self) -> Vec<EndpointStats> {
        let clusters = self.xds.assembly.snapshot().clusters.iter().flatten();
        let asking = clusters.filter(|cluster| cluster.tracked.as_ref().is_some_and(|t| t.per_endpoint));
        let asking: Vec<Arc<str>> = asking.map(|cluster| Arc::clone(&cluster.name)).collect();
        if asking.is_empty() {
            return Vec::new();
        }
        let of_host = |cluster: &ClusterStatus, host: &HostStatus| EndpointStats {
            cluster: cluster.observability_name.clone(),
            address: host.address.to_string(),
            counters: host.stats.counters().to_vec(),
            gauges: host
                .stats
                .gauges()
                .into_iter()
                .chain([("healthy", u64::from(host.is_healthy()))])
                .collect(),
        };
        let clusters = self.clusters();
        let asking = clusters.iter().filter(|cluster| asking.iter().any(|name| **name == *cluster.name));
        asking.flat_map(|cluster| cluster.hosts.iter().map(|host| of_host(cluster, host))).collect()
    }
}

fn stat_type(ty: StatType) -> stats::StatType {
    match ty {
        StatType::Counters => stats::StatType::Counters,
        StatType::Gauges => stats::StatType::Gauges,
        StatType::Histograms => stats::StatType::Histograms,
        StatType::TextReadouts => stats::StatType::TextReadouts,
    }
}

fn buckets(buckets: HistogramBuckets) -> stats::HistogramBuckets {
    match buckets {
        HistogramBuckets::Unset => stats::HistogramBuckets::Unset,
        HistogramBuckets::Cumulative => stats::HistogramBuckets::Cumulative,
        HistogramBuckets::Disjoint => stats::HistogramBuckets::Disjoint,
        HistogramBuckets::Detailed => stats::HistogramBuckets::Detailed,
        HistogramBuckets::Summary => stats::HistogramBuckets::Summary,
    }
}

/// A cluster whose endpoints requests name, with those that there are now.
fn with_demanded(cluster: &Arc<Cluster>, shared: &Shared) -> Option<Arc<Cluster>> {
    if !cluster.discovery.is_on_demand() {
        return None;
    }
    let endpoints = shared.on_demand(cluster.id, |book| book.endpoints())?;
    let localities = vec![LocalityEndpoints { endpoints, ..LocalityEndpoints::default() }];
    Some(Arc::new(Cluster { localities, ..Cluster::clone(cluster) }))
}
