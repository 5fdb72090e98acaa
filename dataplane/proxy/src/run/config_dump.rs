//! `/config_dump`: every section, with resources exactly as they came.

use millrace_admin::ConfigSection;
use millrace_assembly::{DumpEntry, Failure, Stored};
use millrace_base::WallTime;
use millrace_config::{Cluster, ClusterDiscovery, HealthStatus, LocalityEndpoints};
use millrace_translate::RawResource;
use serde_json::{Map, Value, json};

use super::control::Control;
use super::redact::redact;

const BOOTSTRAP: &str = "type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
const SCOPE: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const ASSIGNMENT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

impl Control {
    pub(super) fn dump_section(&self, section: ConfigSection) -> Value {
        let updated = self.loaded_at();
        match section {
            ConfigSection::Bootstrap => {
                json!({ "bootstrap": self.bootstrap_json(), "last_updated": updated })
            }
            ConfigSection::Clusters => self.clusters_dump(&updated),
            ConfigSection::Listeners => self.listeners_dump(&updated),
            ConfigSection::Routes => self.routes_dump(&updated),
            ConfigSection::Endpoints => self.endpoints_dump(),
            ConfigSection::ScopedRoutes => self.scopes_dump(&updated),
            ConfigSection::Secrets => self.secrets_dump(),
            ConfigSection::Ecds => json!({}),
        }
    }

    pub(super) fn bootstrap_json(&self) -> Value {
        to_json(BOOTSTRAP, &self.compiled.bootstrap)
    }

    /// When the static configuration was taken.
    fn loaded_at(&self) -> String {
        let wall = std::time::SystemTime::now() - self.started.elapsed();
        let since = wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        timestamp(WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn clusters_dump(&self, updated: &str) -> Value {
        let assembly = &self.xds.assembly;
        let mut out = Map::new();
        put_version(&mut out, assembly.clusters_version());
        put_list(
            &mut out,
            "static_clusters",
            statics(CLUSTER, "cluster", &self.compiled.static_clusters, updated),
        );
        let active = assembly.dynamic_clusters().filter_map(|entry| {
            let stored = entry.active?;
            Some(with_failure(state("cluster", CLUSTER, stored), entry.failure, CLUSTER))
        });
        put_list(&mut out, "dynamic_active_clusters", active.collect());
        let warming = assembly
            .dynamic_clusters()
            .filter_map(|entry| Some(Value::Object(state("cluster", CLUSTER, entry.warming?))));
        put_list(&mut out, "dynamic_warming_clusters", warming.collect());
        Value::Object(out)
    }

    fn listeners_dump(&self, updated: &str) -> Value {
        let assembly = &self.xds.assembly;
        let mut out = Map::new();
        put_version(&mut out, assembly.listeners_version());
        put_list(
            &mut out,
            "static_listeners",
            statics(LISTENER, "listener", &self.compiled.static_listeners, updated),
        );
        let one = |entry: DumpEntry<'_>| {
            let mut value = Map::new();
            value.insert("name".to_owned(), json!(entry.name));
            for (field, stored) in [("active_state", entry.active), ("warming_state", entry.warming)] {
                if let Some(stored) = stored {
                    value.insert(field.to_owned(), Value::Object(state("listener", LISTENER, stored)));
                }
            }
            with_failure(value, entry.failure, LISTENER)
        };
        put_list(&mut out, "dynamic_listeners", assembly.dynamic_listeners().map(one).collect());
        Value::Object(out)
    }

    /// Every listener in force as JSON, and when it came.
    fn listeners_json(&self, updated: &str) -> Vec<(Value, String)> {
        let fixed = self.compiled.static_listeners.iter();
        let fixed = fixed.map(|raw| (to_json(LISTENER, &raw.bytes), updated.to_owned()));
        let dynamic = self.xds.assembly.dynamic_listeners().filter_map(|entry| entry.active);
        let dynamic = dynamic.map(|of| (to_json(LISTENER, &of.body.bytes()), timestamp(of.updated)));
        fixed.chain(dynamic).collect()
    }

    /// Inline scopes as their listeners hold them, and those of SRDS.
    fn scopes_dump(&self, updated: &str) -> Value {
        let mut inline = Vec::new();
        for (listener, updated) in self.listeners_json(updated) {
            collect_scopes(&listener, &updated, &mut inline);
        }
        let one = |(name, version, updated, scopes): (&str, &str, WallTime, _)| {
            let mut fields = Map::new();
            fields.insert("name".to_owned(), json!(name));
            put_version(&mut fields, version);
            put_list(&mut fields, "scoped_route_configs", typed_all(SCOPE, scopes));
            fields.insert("last_updated".to_owned(), json!(timestamp(updated)));
            Value::Object(fields)
        };
        let mut out = Map::new();
        put_list(&mut out, "inline_scoped_route_configs", inline);
        let dynamic = self.xds.assembly.dynamic_scopes().map(one).collect();
        put_list(&mut out, "dynamic_scoped_route_configs", dynamic);
        Value::Object(out)
    }

    /// Inline tables as their listeners hold them, and those of RDS.
    fn routes_dump(&self, updated: &str) -> Value {
        let mut statics = Vec::new();
        for (listener, updated) in self.listeners_json(updated) {
            collect_routes(&listener, &updated, &mut statics);
        }
        let mut out = Map::new();
        put_list(&mut out, "static_route_configs", statics);
        let assembly = &self.xds.assembly;
        let dynamic = assembly.dynamic_routes().zip(assembly.dynamic_virtual_hosts());
        let dynamic = dynamic.filter_map(|(entry, hosts)| {
            let fields = entry.active.map(|stored| {
                let mut fields = state("route_config", ROUTES, stored);
                add_virtual_hosts(&mut fields, hosts);
                fields
            });
            (fields.is_some() || entry.failure.is_some())
                .then(|| with_failure(fields.unwrap_or_default(), entry.failure, ROUTES))
        });
        put_list(&mut out, "dynamic_route_configs", dynamic.collect());
        Value::Object(out)
    }

    /// Secrets without their keys; those of the bootstrap by kind, as in Envoy.
    fn secrets_dump(&self) -> Value {
        let bootstrap = self.bootstrap_json();
        let fixed = bootstrap.pointer("/static_resources/secrets").and_then(Value::as_array);
        let mut fixed: Vec<&Value> = fixed.into_iter().flatten().collect();
        let kinds = ["tls_certificate", "validation_context", "session_ticket_keys", "generic_secret"];
        fixed.sort_by_key(|secret| kinds.iter().position(|kind| secret.get(kind).is_some()));
        let fixed = fixed
            .into_iter()
            .map(|secret| json!({ "name": secret.get("name"), "secret": with_type(secret.clone(), SECRET) }));
        let mut out = Map::new();
        put_list(&mut out, "static_secrets", fixed.collect());
        let one = |name: &str, stored: &Stored| {
            let mut fields = Map::new();
            fields.insert("name".to_owned(), json!(name));
            put_version(&mut fields, &stored.version);
            fields.insert("last_updated".to_owned(), json!(timestamp(stored.updated)));
            let mut secret = typed(SECRET, &stored.body.bytes());
            if let Some(secret) = secret.as_object_mut() {
                secret.entry("name").or_insert_with(|| json!(name));
            }
            fields.insert("secret".to_owned(), secret);
            fields
        };
        let assembly = &self.xds.assembly;
        let active = assembly
            .dynamic_secrets()
            .filter_map(|entry| Some(with_failure(one(entry.name, entry.active?), entry.failure, SECRET)));
        put_list(&mut out, "dynamic_active_secrets", active.collect());
        let warming = assembly
            .dynamic_secrets()
            .filter_map(|entry| Some(with_failure(one(entry.name, entry.warming?), entry.failure, SECRET)));
        put_list(&mut out, "dynamic_warming_secrets", warming.collect());
        Value::Object(out)
    }

    /// The endpoints in force, as Envoy prints them: from its hosts, not from what was sent.
    fn endpoints_dump(&self) -> Value {
        let assembly = &self.xds.assembly;
        let (mut statics, mut dynamics) = (Vec::new(), Vec::new());
        for cluster in assembly.snapshot().clusters.iter().flatten().chain(assembly.control_clusters()) {
            let list = if assembly.is_dynamic_cluster(&cluster.name) { &mut dynamics } else { &mut statics };
            list.push(json!({ "endpoint_config": endpoints(cluster) }));
        }
        let mut out = Map::new();
        put_list(&mut out, "static_endpoint_configs", statics);
        put_list(&mut out, "dynamic_endpoint_configs", dynamics);
        Value::Object(out)
    }
}

/// `version_info`, the resource and `last_updated`, in Envoy's order.
fn state(field: &str, type_url: &str, stored: &Stored) -> Map<String, Value> {
    let mut out = Map::new();
    put_version(&mut out, &stored.version);
    out.insert(field.to_owned(), typed(type_url, &stored.body.bytes()));
    out.insert("last_updated".to_owned(), json!(timestamp(stored.updated)));
    out
}

fn typed_all<'a>(type_url: &str, of: impl Iterator<Item = &'a Stored>) -> Vec<Value> {
    of.map(|stored| typed(type_url, &stored.body.bytes())).collect()
}

/// Behind those of the table, as Envoy shows them.
fn add_virtual_hosts<'a>(fields: &mut Map<String, Value>, hosts: impl Iterator<Item = &'a Stored>) {
    let mut hosts = hosts.map(|stored| to_json(VIRTUAL_HOST, &stored.body.bytes())).peekable();
    let Some(table) = fields.get_mut("route_config").and_then(Value::as_object_mut) else { return };
    if hosts.peek().is_some()
        && let Some(list) =
            table.entry("virtual_hosts").or_insert_with(|| Value::Array(Vec::new())).as_array_mut()
    {
        list.extend(hosts);
    }
}

/// `error_state` (`admin.v3.UpdateFailureState`).
fn with_failure(mut fields: Map<String, Value>, failure: Option<&Failure>, type_url: &str) -> Value {
    if let Some(failure) = failure {
        let mut state = Map::new();
        state.insert("failed_configuration".to_owned(), typed(type_url, &failure.resource.body.bytes()));
        state.insert("last_update_attempt".to_owned(), json!(timestamp(failure.resource.updated)));
        state.insert("details".to_owned(), json!(failure.details));
        put_version(&mut state, &failure.resource.version);
        fields.insert("error_state".to_owned(), Value::Object(state));
    }
    Value::Object(fields)
}

fn put_version(out: &mut Map<String, Value>, version: &str) {
    if !version.is_empty() {
        out.insert("version_info".to_owned(), json!(version));
    }
}

fn put_list(out: &mut Map<String, Value>, field: &str, list: Vec<Value>) {
    if !list.is_empty() {
        out.insert(field.to_owned(), Value::Array(list));
    }
}

fn statics(type_url: &str, field: &str, resources: &[RawResource], updated: &str) -> Vec<Value> {
    let one = |raw: &RawResource| json!({ field: typed(type_url, &raw.bytes), "last_updated": updated });
    resources.iter().map(one).collect()
}

fn endpoints(cluster: &Cluster) -> Value {
    let localities: Vec<Value> = cluster.localities.iter().map(locality).collect();
    let mut out = Map::new();
    out.insert("@type".to_owned(), json!(ASSIGNMENT));
    let name = match &cluster.discovery {
        ClusterDiscovery::Eds { service_name, .. } => service_name,
        _ => &cluster.name,
    };
    out.insert("cluster_name".to_owned(), json!(**name));
    put_list(&mut out, "endpoints", localities);
    let mut policy = Map::new();
    let drops = cluster.drop_overload.iter().map(|drops| {
        let share = json!({ "numerator": drops.per_million, "denominator": "MILLION" });
        json!({ "category": *drops.category, "drop_percentage": share })
    });
    put_list(&mut policy, "drop_overloads", drops.collect());
    policy.insert("overprovisioning_factor".to_owned(), json!(cluster.overprovisioning_factor));
    out.insert("policy".to_owned(), Value::Object(policy));
    Value::Object(out)
}

fn locality(from: &LocalityEndpoints) -> Value {
    let mut name = Map::new();
    let (region, zone, sub_zone) = &from.locality;
    for (field, text) in [("region", region), ("zone", zone), ("sub_zone", sub_zone)] {
        if !text.is_empty() {
            name.insert(field.to_owned(), json!(**text));
        }
    }
    let hosts: Vec<Value> = from.endpoints.iter().map(host).collect();
    let mut out = Map::new();
    out.insert("locality".to_owned(), Value::Object(name));
    put_list(&mut out, "lb_endpoints", hosts);
    out.insert("load_balancing_weight".to_owned(), json!(from.weight));
    if from.priority > 0 {
        out.insert("priority".to_owned(), json!(from.priority));
    }
    Value::Object(out)
}

fn host(endpoint: &millrace_config::Endpoint) -> Value {
    let address = match &endpoint.address {
        millrace_config::Address::Inet(socket) => {
            json!({ "socket_address": { "address": socket.ip().to_string(), "port_value": socket.port() } })
        }
        millrace_config::Address::Pipe { path, .. } => json!({ "pipe": { "path": **path } }),
    };
    let mut inner = Map::new();
    inner.insert("address".to_owned(), address);
    inner.insert("health_check_config".to_owned(), json!({}));
    if !endpoint.hostname.is_empty() {
        inner.insert("hostname".to_owned(), json!(*endpoint.hostname));
    }
    // Envoy says what it makes of the health, not what it was told.
    let health = match endpoint.health {
        HealthStatus::Unknown | HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
        HealthStatus::Timeout => "TIMEOUT",
        HealthStatus::Degraded => "DEGRADED",
    };
    json!({ "endpoint": inner, "health_status": health, "load_balancing_weight": endpoint.weight })
}

/// Finds the inline scopes of a listener's connection managers.
fn collect_scopes(value: &Value, updated: &str, out: &mut Vec<Value>) {
    match value {
        Value::Object(object) => {
            let list = object.get("scoped_route_configurations_list");
            let list = list.and_then(|list| list.get("scoped_route_configurations")?.as_array());
            if let (Some(list), Some(name)) = (list, object.get("name")) {
                let typed = list.iter().cloned().map(|scope| with_type(scope, SCOPE));
                let configs: Vec<Value> = typed.collect();
                out.push(json!({ "name": name, "scoped_route_configs": configs, "last_updated": updated }));
            }
            object.values().for_each(|inner| collect_scopes(inner, updated, out));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_scopes(inner, updated, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn with_type(mut value: Value, type_url: &str) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.shift_insert(0, "@type".to_owned(), json!(type_url));
    }
    value
}

/// Finds every `route_config` of a listener's connection managers; those of inline scopes stand with their scopes.
fn collect_routes(value: &Value, updated: &str, out: &mut Vec<Value>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                if key == "route_config" && inner.is_object() {
                    let config = with_type(inner.clone(), ROUTES);
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

fn typed(type_url: &str, bytes: &[u8]) -> Value {
    with_type(to_json(type_url, bytes), type_url)
}

/// A resource that was accepted prints; what does not is shown as such rather than left out.
fn to_json(type_url: &str, bytes: &[u8]) -> Value {
    match millrace_proto::to_json(type_url, bytes) {
        Ok(mut value) => {
            redact(&mut value);
            value
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// As proto3 JSON writes a timestamp.
pub(super) fn timestamp(wall: WallTime) -> String {
    let mut out = Vec::new();
    millrace_observe::format::push_iso8601(wall, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
