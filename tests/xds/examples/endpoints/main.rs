//! What changes of endpoints cost the whole process: a cluster of many endpoints of which some are replaced again and
//! again, for every subject that `MILLRACE_E2E_SUBJECT` names, in turns.
//!
//! `cargo run --release -p millrace-xds-tests --example endpoints -- [endpoints] [pushes a second,…] [changes a second] [seconds] [rounds]`

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use millrace_proto::Message;
use millrace_proto::pb::envoy::config::core::v3::address::Address as Kind;
use millrace_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use millrace_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use millrace_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Options, Resource, Type};
use millrace_xds_tests::usage;

/// The cluster.
const NAME: &str = "many";
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);
/// After this all that followed from an update is over.
const REST: Duration = Duration::from_secs(2);

/// One way of sending the changes.
#[derive(Clone, Copy)]
struct Plan {
    endpoints: usize,
    pushes: usize,
    changes: usize,
    seconds: usize,
}

/// CPU that changes took, in shares of a core: the control thread, and all others.
#[derive(Clone, Copy)]
struct Figures {
    control: f64,
    others: f64,
    resident_kib: u64,
}

fn argument(position: usize, default: &str) -> Vec<usize> {
    let text = std::env::args().nth(position).unwrap_or_else(|| default.to_owned());
    text.split(',').filter_map(|number| number.parse().ok()).collect()
}

/// The endpoint at this place after it was replaced so often. Nobody listens at any of them.
fn place(number: usize, generation: usize) -> SocketAddr {
    let octet = |n: usize| (n % 250 + 1) as u8;
    let ip = Ipv4Addr::new(127, octet(number / 250 / 250), octet(number / 250), octet(number));
    SocketAddr::from((ip, 1000 + (generation % 1000) as u16))
}

/// Puts another endpoint at a place of the assignment.
fn replace(load: &mut ClusterLoadAssignment, number: usize, with: SocketAddr) {
    let one = load.endpoints.iter_mut().flat_map(|locality| &mut locality.lb_endpoints).nth(number);
    let Some(HostIdentifier::Endpoint(endpoint)) = one.and_then(|one| one.host_identifier.as_mut()) else {
        return;
    };
    if let Some(Kind::SocketAddress(socket)) = endpoint.address.as_mut().and_then(|a| a.address.as_mut()) {
        socket.port_specifier = Some(PortSpecifier::PortValue(with.port().into()));
    }
}

fn resource(load: &ClusterLoadAssignment) -> Resource {
    Resource::from_bytes(Type::Endpoint, NAME, load.encode_to_vec())
}

fn wait_ready(proxy: &Proxy) -> bool {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Ok(mut client) = Client::try_connect(proxy.admin()) {
            client.request("GET", "/ready", &[("host", "admin")], b"");
            if client.response("GET").is_ok_and(|response| response.status == 200) {
                return true;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn run(subject: &Subject, plan: Plan) -> Option<Figures> {
    let flavor = Flavor::AdsSotw;
    let plane = ControlPlane::start(Options { partial_updates: true, ..Options::default() });
    let places: Vec<_> = (0..plan.endpoints).map(|number| place(number, 0)).collect();
    let first = yaml::endpoints(NAME, &places);
    let mut load = ClusterLoadAssignment::decode(&first.body.value[..]).ok()?;
    plane.update(|change| {
        change.set(yaml::eds_cluster(NAME, flavor, "connect_timeout: 5s\nlb_policy: ROUND_ROBIN\n"));
        change.set(first);
        change.set(yaml::rds_listener("main", "table", flavor));
        change.set(yaml::route("table", NAME));
    });
    let proxy = Proxy::start_unready(subject, &yaml::bootstrap(&plane, flavor), &[]);
    if !wait_ready(&proxy) {
        return None;
    }
    std::thread::sleep(REST);
    let mark = plane.mark();
    let (before, began) = (usage::threads(proxy.pid()), Instant::now());
    let mut next = 0;
    let sent = plan.pushes * plan.seconds;
    for push in 0..sent {
        for _ in 0..plan.changes / plan.pushes {
            let number = next % plan.endpoints;
            replace(&mut load, number, place(number, 1 + next / plan.endpoints));
            next += 1;
        }
        let resource = resource(&load);
        let due = began + Duration::from_secs_f64(push as f64 / plan.pushes as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        plane.set(resource);
    }
    std::thread::sleep(REST);
    let after = usage::threads(proxy.pid());
    let requests = plane.requests_since(mark);
    let acks = requests.iter().filter(|request| request.is(Type::Endpoint) && request.is_ack()).count();
    if acks * 10 < sent * 8 {
        eprintln!("{}: {acks} of {sent} assignments were acknowledged", subject.kind);
    }
    let share = |time: Duration| time.as_secs_f64() / plan.seconds as f64;
    Some(Figures {
        control: share(after.0 - before.0),
        others: share(after.1 - before.1),
        resident_kib: usage::memory(proxy.pid()).now,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> ExitCode {
    let subjects = match Subject::from_env() {
        Ok(subjects) => subjects,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let one = |position, default| argument(position, default).first().copied().unwrap_or(1).max(1);
    let (endpoints, changes, seconds, rounds) = (one(1, "10000"), one(3, "1000"), one(4, "10"), one(5, "3"));
    println!(
        "| endpoints | pushes/s | changes/s | | of a core, % | control thread, % | others, % | RSS, MiB |"
    );
    for pushes in argument(2, "10,100") {
        let plan = Plan { endpoints, pushes: pushes.max(1), changes, seconds };
        let mut all: Vec<Vec<Figures>> = vec![Vec::new(); subjects.len()];
        for _ in 0..rounds {
            for (subject, figures) in subjects.iter().zip(&mut all) {
                figures.extend(run(subject, plan));
            }
        }
        for (subject, figures) in subjects.iter().zip(&all) {
            let of = |figure: fn(&Figures) -> f64| median(figures.iter().map(figure).collect());
            println!(
                "| {endpoints} | {pushes} | {changes} | {} | {:.2} | {:.2} | {:.2} | {:.1} |",
                subject.kind,
                of(|f| f.control + f.others) * 100.0,
                of(|f| f.control) * 100.0,
                of(|f| f.others) * 100.0,
                of(|f| f.resident_kib as f64 / 1024.0),
            );
        }
    }
    ExitCode::SUCCESS
}
