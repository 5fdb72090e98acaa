//! Resolution against a table of answers, and once against a name server on loopback.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use millrace_config::{
    Address, CircuitBreakers, DnsLookupFamily, DnsResolver, DnsSchedule, DnsTarget, Endpoint, HappyEyeballs,
    HealthStatus, LbPolicy, ScopeId, UpstreamHttp,
};

use super::*;

/// Answers from a table that tests change; an absent entry is a failure.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<(String, bool), Vec<&'static str>>>>);

impl Table {
    fn set(&self, host: &str, v6: bool, ips: &[&'static str]) {
        self.0.lock().unwrap().insert((host.to_owned(), v6), ips.to_vec());
    }
}

impl Lookup for Table {
    async fn lookup(&self, host: &str, family: Family) -> Result<Answer, LookupError> {
        let table = self.0.lock().unwrap();
        let ips = table.get(&(host.to_owned(), family == Family::V6)).ok_or(LookupError::told("down"))?;
        Ok(Answer { addresses: ips.iter().map(|ip| ip.parse().unwrap()).collect(), ..Answer::default() })
    }

    fn configured(&self, _: &DnsResolver) -> Self {
        self.clone()
    }
}

fn cluster(logical: bool, hosts: &[&str], family: DnsLookupFamily) -> Cluster {
    let target = |host: &str| DnsTarget {
        host: host.into(),
        port: 80,
        template: Endpoint {
            address: Address::Inet("0.0.0.0:0".parse().unwrap()),
            hostname: host.into(),
            weight: 7,
            health: HealthStatus::Unknown,
            scope: ScopeId(1),
            transport_metadata: None,
            lb_metadata: None,
            additional_addresses: None,
            health_check: None,
            leaving: false,
        },
        locality: 0,
    };
    Cluster {
        name: "c".into(),
        id: ClusterId(3),
        scope: ScopeId(0),
        stat_name: "c".into(),
        discovery: ClusterDiscovery::Dns {
            logical,
            targets: hosts.iter().map(|host| target(host)).collect(),
            family,
            schedule: DnsSchedule { refresh_rate: Duration::from_millis(5), ..DnsSchedule::default() },
            resolver: None,
            wait_for_warm: true,
        },
        localities: vec![LocalityEndpoints { weight: 1, ..LocalityEndpoints::default() }],
        endpoints_version: 0,
        lb_policy: LbPolicy::RoundRobin,
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        balancing: millrace_config::Balancing::default(),
        connect_timeout: Duration::from_secs(5),
        circuit_breakers: CircuitBreakers::default(),
        outlier_detection: None,
        buffer_limit_bytes: 1 << 20,
        tcp_keepalive: None,
        bind: None,
        happy_eyeballs: HappyEyeballs::default(),
        health_check: None,
        close_on_health_failure: false,
        close_on_host_set_change: false,
        pool_per_downstream: false,
        http: UpstreamHttp::default(),
        transport: millrace_config::UpstreamTransport::default(),
        transport_matches: Vec::new(),
        tracked: None,
        istio_alpn_override: true,
        drop_overload: None,
        load_metrics: Box::default(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn addresses(update: &DnsUpdate) -> Option<Vec<String>> {
    let groups = update.localities.as_ref()?;
    Some(
        groups
            .iter()
            .flat_map(|group| &group.endpoints)
            .map(|endpoint| endpoint.address.to_string())
            .collect(),
    )
}

async fn change(updates: &mut DnsUpdates<Table>) -> (Outcome, Vec<String>) {
    loop {
        let update = updates.next().await;
        if let Some(addresses) = addresses(&update) {
            return (update.outcome, addresses);
        }
    }
}

#[test]
fn strict_takes_every_address_and_keeps_them_over_failures() {
    block_on(async {
        let table = Table::default();
        table.set("a", false, &["1.1.1.1", "1.1.1.2", "1.1.1.1"]);
        let mut updates = DnsUpdates::new(table.clone());
        updates.watch(&cluster(false, &["a", "9.9.9.9"], DnsLookupFamily::V4Only));
        let first = updates.next().await;
        assert!(!first.warm);
        let second = updates.next().await;
        assert!(second.warm);
        let all = addresses(&second).unwrap();
        assert_eq!(all, ["1.1.1.1:80", "1.1.1.2:80", "9.9.9.9:80"]);
        let endpoint = &second.localities.as_ref().unwrap()[0].endpoints[0];
        assert_eq!((endpoint.weight, &*endpoint.hostname, endpoint.scope), (7, "a", ScopeId(1)));
        // Another order is no change, a failure neither.
        table.set("a", false, &["1.1.1.2", "1.1.1.1"]);
        for _ in 0..3 {
            let update = updates.next().await;
            assert_eq!((update.outcome, update.localities), (Outcome::Success, None));
        }
        table.0.lock().unwrap().clear();
        let mut failures = 0;
        while failures < 3 {
            let update = updates.next().await;
            assert!(update.localities.is_none());
            failures += u32::from(update.outcome == Outcome::Failure);
        }
        table.set("a", false, &[]);
        assert_eq!(change(&mut updates).await, (Outcome::Empty, vec!["9.9.9.9:80".to_owned()]));
        updates.unwatch(ClusterId(3));
        assert!(tokio::time::timeout(Duration::from_millis(50), updates.next()).await.is_err());
    });
}

#[test]
fn logical_takes_the_first_address_and_keeps_it() {
    block_on(async {
        let table = Table::default();
        table.set("a", true, &["::2", "::3"]);
        let mut updates = DnsUpdates::new(table.clone());
        updates.watch(&cluster(true, &["a"], DnsLookupFamily::Auto));
        assert_eq!(change(&mut updates).await, (Outcome::Success, vec!["[::2]:80".to_owned()]));
        table.set("a", true, &[]);
        table.set("a", false, &[]);
        loop {
            let update = updates.next().await;
            assert!(update.localities.is_none());
            if update.outcome == Outcome::Failure {
                break;
            }
        }
        table.set("a", true, &["::3", "::2"]);
        assert_eq!(change(&mut updates).await, (Outcome::Success, vec!["[::3]:80".to_owned()]));
    });
}

#[test]
fn a_failed_first_answer_warms_the_cluster() {
    block_on(async {
        let mut updates = DnsUpdates::new(Table::default());
        updates.watch(&cluster(false, &["a"], DnsLookupFamily::V4Only));
        let update = updates.next().await;
        assert_eq!((update.outcome, update.warm), (Outcome::Failure, true));
        assert_eq!(addresses(&update), Some(Vec::new()));
    });
}

#[test]
fn families_are_asked_in_envoys_order() {
    block_on(async {
        let table = Table::default();
        table.set("a", false, &["1.1.1.1"]);
        table.set("a", true, &["::1"]);
        table.set("v4", false, &["1.1.1.1"]);
        for (host, family, want) in [
            ("a", DnsLookupFamily::Auto, &["::1"][..]),
            ("a", DnsLookupFamily::V4Preferred, &["1.1.1.1"]),
            ("a", DnsLookupFamily::V4Only, &["1.1.1.1"]),
            ("a", DnsLookupFamily::V6Only, &["::1"]),
            ("a", DnsLookupFamily::All, &["1.1.1.1", "::1"]),
            ("v4", DnsLookupFamily::Auto, &["1.1.1.1"]),
            ("v4", DnsLookupFamily::All, &["1.1.1.1"]),
        ] {
            let answer = lookup::resolve(&table, host, family).await.unwrap();
            let want: Vec<IpAddr> = want.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(answer.addresses, want, "{host} {family:?}");
        }
        assert!(lookup::resolve(&table, "v4", DnsLookupFamily::V6Only).await.is_err());
        assert!(lookup::resolve(&table, "none", DnsLookupFamily::All).await.is_err());
    });
}

#[test]
fn localhost_needs_no_name_server() {
    block_on(async {
        let resolver = SystemResolver::default();
        let answer = resolver.lookup("localhost", Family::V4).await.unwrap();
        assert_eq!(answer.addresses, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    });
}

/// A name server with one address for `a.test`, none for its AAAA, NXDOMAIN for other names and SERVFAIL
/// for `broken.test`.
async fn name_server(socket: tokio::net::UdpSocket) {
    let mut query = [0; 512];
    loop {
        let (length, peer) = socket.recv_from(&mut query).await.unwrap();
        let labels = query[12..length].iter().position(|byte| *byte == 0).unwrap();
        let question = query[12..12 + labels + 5].to_vec();
        let name = question[..labels].to_ascii_lowercase();
        let is_a = question[labels + 2] == 1;
        let (code, answers) = match name.as_slice() {
            b"\x01a\x04test" => (0, u8::from(is_a)),
            b"\x06broken\x04test" => (2, 0),
            _ => (3, 0),
        };
        let mut reply = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0];
        reply.extend(question);
        if answers == 1 {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3]);
        }
        socket.send_to(&reply, peer).await.unwrap();
    }
}

#[test]
fn name_servers_are_asked() {
    block_on(async {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(name_server(socket));
        let resolver = SystemResolver::with(DnsResolver { servers: vec![address], ..DnsResolver::default() });
        let answer = resolver.lookup("a.test.", Family::V4).await.unwrap();
        assert_eq!(answer.addresses, ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        let ttl = answer.ttl.unwrap();
        assert!(ttl > Duration::from_secs(50) && ttl <= Duration::from_secs(60), "{ttl:?}");
        assert_eq!(resolver.lookup("a.test.", Family::V6).await.unwrap().addresses, Vec::<IpAddr>::new());
        assert_eq!(resolver.lookup("gone.test.", Family::V4).await.unwrap().addresses, Vec::<IpAddr>::new());
        assert!(resolver.lookup("broken.test.", Family::V4).await.is_err());
    });
}
