//! What the admin endpoints read of the process, and what they may ask of it.

use std::time::Duration;

use millrace_admin::{
    AdminCommand, AdminState, ClusterStatus, ConfigSection, HistogramBuckets, HostStats, ListenerStatus,
    LoggerStatus, Memory, RuntimeEntry, RuntimeView, ServerState, StatType, StatsFormat, StatsQuery,
};
use millrace_observe::stats::{self, Selection, host as metric};
use millrace_translate::RawResource;
use serde_json::{Value, json};

use super::control::Control;
use super::process;
use crate::cli;

const BOOTSTRAP: &str = "type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
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
        let host = |endpoint: &millrace_config::Endpoint| {
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
        let clusters = self.snapshot.clusters.iter().flatten();
        clusters.map(|cluster| ClusterStatus::from_config(cluster, false, host)).collect()
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
        let selection = Selection {
            used_only: query.used_only,
            wants: &wants,
            only: query.only.map(stat_type),
            buckets: buckets(query.histogram_buckets),
            text_readouts: query.text_readouts,
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
        let updated = self.loaded_at();
        let list = |type_url: &str, field: &str, resources: &[RawResource]| -> Vec<Value> {
            let one = |raw: &RawResource| {
                let mut value = to_json(type_url, &raw.bytes);
                if let Some(object) = value.as_object_mut() {
                    object.shift_insert(0, "@type".to_owned(), json!(type_url));
                }
                json!({ field: value, "last_updated": updated })
            };
            resources.iter().map(one).collect()
        };
        match section {
            ConfigSection::Bootstrap => {
                Some(json!({ "bootstrap": self.bootstrap_json(), "last_updated": updated }))
            }
            ConfigSection::Clusters => {
                let clusters = list(CLUSTER, "cluster", &self.compiled.static_clusters);
                Some(if clusters.is_empty() { json!({}) } else { json!({ "static_clusters": clusters }) })
            }
            ConfigSection::Listeners => {
                let listeners = list(LISTENER, "listener", &self.compiled.static_listeners);
                Some(if listeners.is_empty() { json!({}) } else { json!({ "static_listeners": listeners }) })
            }
            ConfigSection::Routes => Some(self.routes_dump(&updated)),
            ConfigSection::Endpoints => Some(self.endpoints_dump()),
            ConfigSection::ScopedRoutes => Some(json!({})),
            ConfigSection::Secrets => Some(json!({})),
            ConfigSection::Ecds => Some(json!({})),
        }
    }

    fn runtime(&self) -> RuntimeView {
        let configured = &self.compiled.runtime.layers;
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
        Vec::new()
    }

    fn unready_targets(&self) -> Vec<String> {
        let name = |id| self.snapshot.cluster(id).map(|cluster| format!("Cluster {}", cluster.name));
        self.unresolved.iter().filter_map(|id| name(*id)).collect()
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
    fn bootstrap_json(&self) -> Value {
        to_json(BOOTSTRAP, &self.compiled.bootstrap)
    }

    /// When the static configuration was taken, as proto3 JSON writes a timestamp.
    fn loaded_at(&self) -> String {
        let wall = std::time::SystemTime::now() - self.started.elapsed();
        let since = wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut out = Vec::new();
        let wall = millrace_base::WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        millrace_observe::format::push_iso8601(wall, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Inline route configurations, as their listeners hold them.
    fn routes_dump(&self, updated: &str) -> Value {
        let mut routes = Vec::new();
        for raw in &self.compiled.static_listeners {
            collect_routes(&to_json(LISTENER, &raw.bytes), updated, &mut routes);
        }
        if routes.is_empty() { json!({}) } else { json!({ "static_route_configs": routes }) }
    }

    fn endpoints_dump(&self) -> Value {
        let endpoints: Vec<Value> = self
            .compiled
            .static_clusters
            .iter()
            .filter_map(|raw| {
                let cluster = to_json(CLUSTER, &raw.bytes);
                let assignment = cluster.get("load_assignment")?.clone();
                let type_url = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
                let mut value = assignment;
                value.as_object_mut()?.shift_insert(0, "@type".to_owned(), json!(type_url));
                Some(json!({ "endpoint_config": value }))
            })
            .collect();
        if endpoints.is_empty() { json!({}) } else { json!({ "static_endpoint_configs": endpoints }) }
    }
}

/// Finds every `route_config` of a listener's connection managers.
fn collect_routes(value: &Value, updated: &str, out: &mut Vec<Value>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                if key == "route_config" && inner.is_object() {
                    let type_url = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
                    let mut config = inner.clone();
                    if let Some(fields) = config.as_object_mut() {
                        fields.shift_insert(0, "@type".to_owned(), json!(type_url));
                    }
                    out.push(json!({ "route_config": config, "last_updated": updated }));
                } else {
                    collect_routes(inner, updated, out);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_routes(inner, updated, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A resource that was accepted prints; what does not is shown as such rather than left out.
fn to_json(type_url: &str, bytes: &[u8]) -> Value {
    millrace_proto::to_json(type_url, bytes).unwrap_or_else(|error| json!({ "error": error.to_string() }))
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
