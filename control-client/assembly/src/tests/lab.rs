//! An assembly on a bench: resources as YAML, time by hand, every action recorded.

use std::sync::Arc;
use std::time::Duration;

use millrace_ads::{Interest, Resource, ResourceType, Update, UpdateId, Verdict};
use millrace_base::{Time, WallTime};
use millrace_config::{Listener, SourceId};
use millrace_observe::stats::{ControlStats, Registry};
use millrace_proto::{LoadOptions, bootstrap_from_yaml, message_from_json, schema, yaml};
use millrace_translate::{Context, Overrides, Sources};

use crate::{Action, Assembly, Host, Turn};

/// The control plane's own cluster, ADS for everything.
pub(super) const BOOTSTRAP: &str = r#"
node: { id: node, cluster: cluster }
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{ envoy_grpc: { cluster_name: xds } }]
  cds_config: { ads: {}, resource_api_version: V3 }
  lds_config: { ads: {}, resource_api_version: V3 }
static_resources:
  clusters:
  - name: xds
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } }
"#;

/// Pretends to bind; ports in `taken` are refused.
#[derive(Default)]
pub(super) struct FakeHost {
    pub(super) taken: Vec<u16>,
    pub(super) log: Vec<String>,
    /// Endpoints still wait for their first check.
    pub(super) unchecked: bool,
    /// Ports of endpoints that pass their checks.
    pub(super) passing: Vec<u16>,
}

impl Host for FakeHost {
    fn bind(&mut self, listener: &Arc<Listener>) -> Result<(), String> {
        let port = |address: &millrace_config::Address| match address {
            millrace_config::Address::Inet(socket) => socket.port(),
            millrace_config::Address::Pipe { .. } => 0,
        };
        if listener.addresses.iter().any(|address| self.taken.contains(&port(address))) {
            return Err("cannot bind: Address already in use".to_owned());
        }
        self.log.push(format!("bind {}", listener.name));
        Ok(())
    }

    fn replace(&mut self, listener: &Arc<Listener>) {
        self.log.push(format!("replace {}", listener.name));
    }

    fn unbind(&mut self, listener: &Arc<Listener>) {
        self.log.push(format!("unbind {}", listener.name));
    }

    fn is_checked(&self, _cluster: &millrace_config::Cluster) -> bool {
        !self.unchecked
    }

    fn passes_checks(
        &self,
        _cluster: millrace_config::ClusterId,
        endpoint: &millrace_config::Address,
    ) -> bool {
        matches!(endpoint, millrace_config::Address::Inet(inet) if self.passing.contains(&inet.port()))
    }
}

pub(super) struct Lab {
    pub(super) assembly: Assembly,
    pub(super) registry: Registry,
    pub(super) host: FakeHost,
    pub(super) now: Time,
    stats: ControlStats,
    ids: u64,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(BOOTSTRAP)
    }

    pub(super) fn with(bootstrap: &str) -> Self {
        let registry = Registry::new();
        let mut cx = Context::new(registry.clone(), Overrides::default());
        let parsed = bootstrap_from_yaml(bootstrap, &LoadOptions::default()).unwrap();
        let compiled = millrace_translate::bootstrap(&parsed.bytes, &mut cx).unwrap();
        let assembly = Assembly::new(&compiled, cx, Duration::from_secs(600));
        let stats = registry.attach_control();
        Self { assembly, registry, host: FakeHost::default(), now: Time::ZERO, stats, ids: 0 }
    }

    pub(super) fn work(&mut self, work: impl FnOnce(&mut Assembly, &mut Turn<'_>)) -> Vec<Action> {
        let wall = WallTime(self.now.0);
        let mut turn = Turn { now: self.now, wall, stats: &mut self.stats, host: &mut self.host };
        work(&mut self.assembly, &mut turn);
        self.assembly.take_actions()
    }

    pub(super) fn start(&mut self) -> Vec<Action> {
        self.work(Assembly::start)
    }

    pub(super) fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now = self.now + time;
        self.work(Assembly::tick)
    }

    /// An incremental response over ADS.
    pub(super) fn say(&mut self, ty: ResourceType, changed: &[String], removed: &[&str]) -> Vec<Action> {
        self.say_from(Sources::ADS, ty, changed, removed)
    }

    /// The same from another source.
    pub(super) fn say_from(
        &mut self,
        source: SourceId,
        ty: ResourceType,
        changed: &[String],
        removed: &[&str],
    ) -> Vec<Action> {
        self.ids += 1;
        let update = Update {
            id: UpdateId(self.ids),
            resource_type: ty,
            version: self.ids.to_string().into(),
            changed: changed.iter().map(|yaml| resource(ty, yaml, self.ids)).collect(),
            removed: removed.iter().map(|name| Arc::from(*name)).collect(),
            unchanged: Vec::new(),
            broken: Vec::new(),
        };
        self.work(|assembly, turn| assembly.update(turn, source, source == Sources::ADS, update))
    }

    /// A load assignment over ADS with the bytes of the one before.
    pub(super) fn again(&mut self, name: &str) -> Vec<Action> {
        self.ids += 1;
        let update = Update {
            id: UpdateId(self.ids),
            resource_type: ResourceType::Endpoint,
            version: self.ids.to_string().into(),
            changed: Vec::new(),
            removed: Vec::new(),
            unchanged: vec![name.into()],
            broken: Vec::new(),
        };
        self.work(|assembly, turn| assembly.update(turn, Sources::ADS, true, update))
    }

    /// Started, with CDS and LDS answered by nothing.
    pub(super) fn serving() -> Self {
        let mut lab = Self::new();
        lab.start();
        lab.say(ResourceType::Cluster, &[], &[]);
        lab.say(ResourceType::Listener, &[], &[]);
        assert_eq!(lab.assembly.phase(), crate::Phase::Done);
        lab
    }
}

fn resource(ty: ResourceType, text: &str, version: u64) -> Resource {
    let tree = yaml::parse(text).unwrap();
    let message = schema::Message::by_name(ty.message_name()).unwrap();
    let body = message_from_json(message, &tree).unwrap();
    let name = tree.get("name").or_else(|| tree.get("cluster_name")).and_then(|name| name.as_str());
    Resource { name: name.unwrap_or_default().into(), version: version.to_string().into(), body: body.into() }
}

pub(super) fn eds_cluster(name: &str) -> String {
    format!(
        "{{ name: {name}, type: EDS, connect_timeout: 1s, \
         eds_cluster_config: {{ eds_config: {{ ads: {{}}, resource_api_version: V3 }} }} }}"
    )
}

pub(super) fn static_cluster(name: &str, port: u16) -> String {
    format!("{{ name: {name}, connect_timeout: 1s, load_assignment: {} }}", assignment(name, &[port]))
}

pub(super) fn assignment(name: &str, ports: &[u16]) -> String {
    let one = |port: &u16| {
        format!(
            "{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}"
        )
    };
    let endpoints: Vec<String> = ports.iter().map(one).collect();
    format!("{{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{}] }}] }}", endpoints.join(", "))
}

pub(super) fn rds_listener(name: &str, port: u16, table: &str) -> String {
    let rds = format!(
        "rds: {{ route_config_name: {table}, config_source: {{ ads: {{}}, resource_api_version: V3 }} }}"
    );
    listener(name, port, &chain("", &rds))
}

pub(super) fn listener(name: &str, port: u16, chains: &str) -> String {
    format!(
        "{{ name: {name}, address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}, \
         filter_chains: [{chains}] }}"
    )
}

/// A filter chain; `by` is its `filter_chain_match` or empty, `routes` what the connection manager routes by.
pub(super) fn chain(by: &str, routes: &str) -> String {
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let by = if by.is_empty() { String::new() } else { format!("filter_chain_match: {by}, ") };
    format!(
        "{{ {by}filters: [{{ name: hcm, typed_config: {{ '@type': {manager}, stat_prefix: s, {routes}, \
         http_filters: [{{ name: r, typed_config: {{ '@type': {router} }} }}] }} }}] }}"
    )
}

pub(super) fn table(name: &str, cluster: &str) -> String {
    format!(
        "{{ name: {name}, virtual_hosts: [{{ name: v, domains: ['*'], \
         routes: [{{ match: {{ prefix: / }}, route: {{ cluster: {cluster} }} }}] }}] }}"
    )
}

/// Names that are subscribed to.
pub(super) fn subscribed(actions: &[Action], ty: ResourceType) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Subscribe(_, of, Interest::Name(name)) if *of == ty => Some(name.to_string()),
        Action::Subscribe(_, of, Interest::Wildcard) if *of == ty => Some("*".to_owned()),
        _ => None,
    };
    actions.iter().filter_map(name).collect()
}

/// The verdicts, in order.
pub(super) fn verdicts(actions: &[Action]) -> Vec<Verdict> {
    let verdict = |action: &Action| match action {
        Action::Verdict(_, _, verdict) => Some(verdict.clone()),
        _ => None,
    };
    actions.iter().filter_map(verdict).collect()
}

/// Positions of the first publication and the first verdict.
pub(super) fn published(actions: &[Action]) -> Vec<Arc<millrace_config::Update>> {
    let update = |action: &Action| match action {
        Action::Publish(update) => Some(update.clone()),
        _ => None,
    };
    actions.iter().filter_map(update).collect()
}
