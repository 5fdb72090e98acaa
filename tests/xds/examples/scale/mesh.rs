//! A mesh of any size as resources, and the two endpoints' ends that all of it leads to.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use millrace_proto::Message;
use millrace_proto::pb::envoy::config::cluster::v3::Cluster;
use millrace_proto::pb::envoy::config::core::v3::address::Address as Kind;
use millrace_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use millrace_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use millrace_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use millrace_proto::pb::envoy::config::route::v3::RouteConfiguration;
use millrace_proto::pb::envoy::config::route::v3::route::Action;
use millrace_proto::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use millrace_proto::pb::envoy::config::route::v3::route_match::PathSpecifier;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Change, Resource, Type};

/// The route table.
const TABLE: &str = "outbound";

/// Endpoints of each service.
pub const ENDPOINTS: usize = 3;

/// Answers every request with one word, on every loopback address.
pub struct Origin {
    pub port: u16,
}

impl Origin {
    /// Serves until the program ends.
    pub fn start(word: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind an origin");
        let port = listener.local_addr().expect("address of a bound socket").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream, word));
            }
        });
        Self { port }
    }
}

fn serve(mut stream: TcpStream, word: &str) {
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{word}", word.len());
    let (mut buffer, mut pending) = ([0; 4096], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..read]);
        while let Some(end) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
            pending.drain(..end + 4);
            if stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The resources of `services` services. Service 0 is the one that changes.
pub struct Mesh {
    clusters: Vec<Resource>,
    endpoints: Vec<Resource>,
    listener: Resource,
    routes: Resource,
}

/// As Istio names them.
pub fn host(service: usize) -> String {
    format!("service-{service:05}.default.svc.cluster.local")
}

pub fn cluster_name(service: usize) -> String {
    format!("outbound|80||{}", host(service))
}

impl Mesh {
    /// A virtual host for each service with this many routes in it.
    pub fn new(services: usize, routes: usize, flavor: Flavor, port: u16) -> Self {
        let fields = "connect_timeout: 5s\nlb_policy: ROUND_ROBIN\n";
        let template: Cluster = decode(&yaml::eds_cluster("x", flavor, fields));
        let cluster = |service| {
            let mut cluster = template.clone();
            cluster.name = cluster_name(service);
            if let Some(eds) = &mut cluster.eds_cluster_config {
                eds.service_name.clone_from(&cluster.name);
            }
            encode(Type::Cluster, &cluster_name(service), &cluster)
        };
        Self {
            clusters: (0..services).map(cluster).collect(),
            endpoints: (0..services).map(|service| endpoints(service, port)).collect(),
            listener: yaml::rds_listener("main", TABLE, flavor),
            routes: route_table(services, routes),
        }
    }

    /// All of it; under a version of its own when there is one, so that it is sent though it is the same.
    pub fn put(&self, change: &mut Change<'_>, version: Option<&str>) {
        let all = self.clusters.iter().chain(&self.endpoints).chain([&self.listener, &self.routes]);
        for resource in all {
            let resource = resource.clone();
            change.set(match version {
                Some(version) => resource.at_version(version),
                None => resource,
            });
        }
    }
}

/// The endpoints of a service, all on one port, each on an address of its own.
pub fn endpoints(service: usize, port: u16) -> Resource {
    let place = |n: usize| std::net::SocketAddr::from((Ipv4Addr::new(127, 1, 1, octet(n)), 1));
    let template = yaml::endpoints("x", &(0..ENDPOINTS).map(place).collect::<Vec<_>>());
    let mut load: ClusterLoadAssignment = decode(&template);
    load.cluster_name = cluster_name(service);
    for (n, endpoint) in load.endpoints.iter_mut().flat_map(|l| &mut l.lb_endpoints).enumerate() {
        let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier else { continue };
        let address = endpoint.address.as_mut().and_then(|address| address.address.as_mut());
        if let Some(Kind::SocketAddress(socket)) = address {
            let number = service * ENDPOINTS + n;
            let [high, low] = [octet(number / 250 / 250 + 1), octet(number / 250 % 250)];
            socket.address = Ipv4Addr::new(127, high, low, octet(number % 250 + 1)).to_string();
            socket.port_specifier = Some(PortSpecifier::PortValue(port.into()));
        }
    }
    encode(Type::Endpoint, &cluster_name(service), &load)
}

fn octet(n: usize) -> u8 {
    u8::try_from(n).expect("an octet of an address")
}

fn route_table(services: usize, routes: usize) -> Resource {
    let mut table: RouteConfiguration = decode(&yaml::route(TABLE, "x"));
    let template = table.virtual_hosts.remove(0);
    for service in 0..services {
        let mut host = template.clone();
        host.name = format!("{}:80", self::host(service));
        host.domains = vec![self::host(service), host.name.clone(), format!("service-{service:05}")];
        let last = host.routes.remove(0);
        for n in 0..routes {
            let mut route = last.clone();
            if n + 1 < routes
                && let Some(matcher) = &mut route.r#match
            {
                matcher.path_specifier = Some(PathSpecifier::Prefix(format!("/v{n}/")));
            }
            if let Some(Action::Route(action)) = &mut route.action {
                action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster_name(service)));
            }
            host.routes.push(route);
        }
        table.virtual_hosts.push(host);
    }
    encode(Type::Route, TABLE, &table)
}

fn decode<M: Message + Default>(resource: &Resource) -> M {
    M::decode(&resource.body.value[..]).expect("a message of the template's type")
}

fn encode(ty: Type, name: &str, message: &impl Message) -> Resource {
    Resource::from_bytes(ty, name, message.encode_to_vec())
}
