//! What a change of endpoints costs on its way from a control plane's bytes to the shards' balancers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use millrace_ads::{Resource, ResourceType, Update, UpdateId};
use millrace_assembly::{Action, Assembly, Host, Turn};
use millrace_base::{Time, WallTime};
use millrace_config::Listener;
use millrace_observe::stats::{ControlStats, Registry};
use millrace_proto::pb::envoy::config::core::v3::{self as core, address, socket_address};
use millrace_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use millrace_proto::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use millrace_proto::{LoadOptions, Message, bootstrap_from_yaml, message_from_json, schema, yaml};
use millrace_translate::{Context, Overrides, Sources};

use crate::{Bench, Routine, repeat};

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new(
        "endpoints/push_one",
        "control thread: 10,000 endpoints are sent, one of them is other",
        || push(1),
    ),
    Bench::new(
        "endpoints/push_hundred",
        "control thread: 10,000 endpoints are sent, a hundred of them are others",
        || push(100),
    ),
];

const ENDPOINTS: u32 = 10_000;

const BOOTSTRAP: &str = r#"
node: { id: node, cluster: cluster }
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{ envoy_grpc: { cluster_name: xds } }]
  cds_config: { ads: {}, resource_api_version: V3 }
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

const CLUSTER: &str = "{ name: service, type: EDS, connect_timeout: 1s, \
    eds_cluster_config: { eds_config: { ads: {}, resource_api_version: V3 } } }";

/// Opens nothing.
struct NoHost;

impl Host for NoHost {
    fn bind(&mut self, _: &Arc<Listener>) -> Result<(), String> {
        Ok(())
    }

    fn replace(&mut self, _: &Arc<Listener>) {}

    fn unbind(&mut self, _: &Arc<Listener>) {}
}

/// A control thread with one EDS cluster.
struct Control {
    assembly: Assembly,
    stats: ControlStats,
    now: Time,
    updates: u64,
}

impl Control {
    fn new() -> Self {
        let registry = Registry::new();
        let mut cx = Context::new(registry.clone(), Overrides::default());
        let parsed = bootstrap_from_yaml(BOOTSTRAP, &LoadOptions::default()).expect("a bootstrap");
        let compiled = millrace_translate::bootstrap(&parsed.bytes, &mut cx).expect("a bootstrap");
        let assembly = Assembly::new(&compiled, cx, Duration::from_secs(600));
        let stats = registry.attach_control();
        let mut control = Self { assembly, stats, now: Time::ZERO, updates: 0 };
        let wall = WallTime(0);
        let mut turn = Turn { now: control.now, wall, stats: &mut control.stats, host: &mut NoHost };
        control.assembly.start(&mut turn);
        let message = schema::Message::by_name(ResourceType::Cluster.message_name()).expect("a schema");
        let body = message_from_json(message, &yaml::parse(CLUSTER).expect("YAML")).expect("a cluster");
        control.say(ResourceType::Cluster, &body.into());
        control
    }

    /// Takes one resource, and whatever time brings in the second after it.
    fn say(&mut self, resource_type: ResourceType, body: &Arc<[u8]>) -> Vec<Action> {
        self.updates += 1;
        let version: Arc<str> = self.updates.to_string().into();
        let resource = Resource { name: "service".into(), version: version.clone(), body: body.clone() };
        let update = Update {
            id: UpdateId(self.updates),
            resource_type,
            version,
            changed: vec![resource],
            removed: Vec::new(),
            unchanged: Vec::new(),
            broken: Vec::new(),
        };
        let wall = WallTime(self.now.0);
        let mut turn = Turn { now: self.now, wall, stats: &mut self.stats, host: &mut NoHost };
        self.assembly.update(&mut turn, Sources::ADS, true, update);
        self.now = self.now + Duration::from_secs(1);
        turn.now = self.now;
        self.assembly.tick(&mut turn);
        self.assembly.take_actions()
    }
}

fn endpoint(number: u32) -> LbEndpoint {
    let socket = core::SocketAddress {
        address: format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(8080)),
        ..Default::default()
    };
    let address = core::Address { address: Some(address::Address::SocketAddress(socket)) };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        health_status: core::HealthStatus::Healthy as i32,
        ..Default::default()
    }
}

/// An assignment without some of the endpoints, and with as many others.
fn assignment(others: u32, round: u32) -> Arc<[u8]> {
    let every = ENDPOINTS / others;
    let number = |n: u32| if n.is_multiple_of(every) && round > 0 { ENDPOINTS + n + round } else { n };
    let lb_endpoints = (0..ENDPOINTS).map(|n| endpoint(number(n))).collect();
    let locality = LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    ClusterLoadAssignment {
        cluster_name: "service".to_owned(),
        endpoints: vec![locality],
        ..Default::default()
    }
    .encode_to_vec()
    .into()
}

fn push(others: u32) -> Routine {
    let mut control = Control::new();
    let bodies = [assignment(others, 0), assignment(others, 1)];
    control.say(ResourceType::Endpoint, &bodies[1]);
    let mut turn = 0;
    repeat(move || {
        let actions = control.say(ResourceType::Endpoint, &bodies[turn]);
        assert!(actions.iter().any(|action| matches!(action, Action::Publish(_))), "nothing published");
        black_box(actions);
        turn = 1 - turn;
    })
}
