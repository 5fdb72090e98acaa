//! Peers that attack by effort: clients that hold handshakes, trickle or never read, and servers that flood. Each costs
//! a bounded amount of memory and time, and the others are served all the while.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client as Raw, End};
use millrace_support::subject::Subject;
use millrace_support::tls::hello::Hello;
use millrace_support::tls::record::{self, alert, fragments, kind, record};
use millrace_support::tls::sealed::Sealed;
use millrace_support::tls::{Client, Context, Version};
use millrace_support::upstream::{Reply, Upstream};

use crate::common::{Neighbour, STAT_PREFIX, hello, plain_tls, root, server_identity, terminate};

pub(crate) const CASES: &[Case] = &[
    case!(hellos_that_trickle),
    case!(certificates_that_trickle),
    case!(a_message_that_another_interrupts),
    case!(half_handshakes_held),
    case!(clients_that_never_read),
    case!(servers_that_flood),
    case!(servers_that_never_finish),
];

/// What the proxy has taken since some moment.
struct Cost {
    pid: u32,
    kib: usize,
    time: Duration,
}

impl Cost {
    fn of(proxy: &Proxy) -> Self {
        let pid = proxy.pid();
        Self { pid, kib: resident_kib(pid), time: cpu_time(pid) }
    }

    /// No more than so much memory and so much time of processors. The figures are several times what was measured:
    /// they tell a bound from the lack of one.
    #[track_caller]
    fn is_within(&self, kib: usize, time: Duration) {
        let grown = resident_kib(self.pid).saturating_sub(self.kib);
        let spent = cpu_time(self.pid).saturating_sub(self.time);
        if std::env::var_os("MILLRACE_E2E_SHOW").is_some() {
            println!("{grown} KiB of {kib}, {spent:?} of {time:?}");
        }
        assert!(grown <= kib, "{grown} KiB more, of {kib}");
        assert!(spent <= time, "{spent:?} of {time:?}");
    }
}

fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and system time of all threads, in hundredths of a second.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Listener `main` with TLS and so much time for handshakes.
#[track_caller]
fn impatient(subject: &Subject, context: &Context, seconds: &str, endpoint: SocketAddr) -> Proxy {
    let chain = format!("transport_socket_connect_timeout: {seconds}\n{}", context.downstream());
    let http = Http::to("up").listener(STAT_PREFIX).chain(&chain);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[endpoint], ""))
}

/// All but the end of a ClientHello in records of one octet, 15 KiB in all: whoever begins anew with each octet reads
/// some gigabytes.
fn hellos_that_trickle(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    let mut bytes = fragments(&Hello::v13().padded_to(2_600).message(), 1);
    bytes.truncate(bytes.len() - 6);
    let cost = Cost::of(&proxy);
    // What comes later is joined with the beginning, which waits.
    let (beginning, rest) = bytes.split_at(20);
    let mut stuck: Vec<Raw> = (0..100).map(|_| proxy.client()).collect();
    stuck.iter_mut().for_each(|client| client.send(beginning));
    neighbour.is_served();
    for part in stuck.chunks_mut(20) {
        part.iter_mut().for_each(|client| client.send(rest));
        neighbour.is_served();
    }
    neighbour.is_served();
    cost.is_within(24 << 10, Duration::from_secs(4));
}

/// The same with what a client sends behind the ServerHello: a message of TLS 1.2 that never ends.
fn certificates_that_trickle(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls().trusts(&root()), upstream.address());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    let mut message = vec![11, 0, 0xf0, 0];
    message.resize(4_000, 0);
    let bytes = fragments(&message, 1);
    let cost = Cost::of(&proxy);
    let mut stuck: Vec<Raw> = Vec::new();
    for _ in 0..20 {
        let mut client = proxy.client();
        client.send(&Hello::v12().bytes());
        assert_eq!(client.wire().exact(1, "a record").ok().as_deref(), Some(&[kind::HANDSHAKE][..]));
        client.send(&bytes);
        stuck.push(client);
        neighbour.is_served();
    }
    cost.is_within(24 << 10, Duration::from_secs(4));
}

/// Half of a ClientKeyExchange, then change_cipher_spec.
fn a_message_that_another_interrupts(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let mut client = proxy.client();
    client.send(&Hello::v12().bytes());
    assert_eq!(record::read(&mut client).map(|first| first.kind), Ok(kind::HANDSHAKE));
    client.send(&record(kind::HANDSHAKE, 0x0303, &[16, 0, 0, 33, 32, 1, 2, 3]));
    client.send(&record(kind::CHANGE_CIPHER_SPEC, 0x0303, &[1]));
    assert_eq!(record::refusal(&mut client), Ok(alert::UNEXPECTED_MESSAGE));
}

/// Every connection has had its answer and says nothing more.
fn half_handshakes_held(subject: &Subject) {
    const HELD: usize = 1_000;
    let upstream = hello();
    let proxy = impatient(subject, &plain_tls(), "5s", upstream.address());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    let bytes = Hello::v13().bytes();
    let cost = Cost::of(&proxy);
    let mut held: Vec<Raw> = Vec::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..HELD / 100 {
        for _ in 0..100 {
            let mut client = proxy.client();
            client.send(&bytes);
            held.push(client);
        }
        let asked = Instant::now();
        neighbour.is_served();
        slowest = slowest.max(asked.elapsed());
    }
    // A tenth of a second is what 100 of Envoy's handshakes may take on a busy machine, ten times.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    for client in &mut held {
        assert_eq!(client.wire().exact(1, "a record").ok().as_deref(), Some(&[kind::HANDSHAKE][..]));
    }
    cost.is_within(HELD * 48, Duration::from_secs(5));
    for client in &mut held {
        assert!(client.end() != End::Open);
    }
    neighbour.is_served();
    let timeouts = "listener.main.downstream_cx_transport_socket_connect_timeout";
    proxy.wait_stat(timeouts, HELD as u64);
}

/// Each asks for 16 MiB and reads nothing of it.
fn clients_that_never_read(subject: &Subject) {
    const CLIENTS: usize = 40;
    let upstream = Upstream::start(|request| match &*request.target {
        "/large" => Reply::bytes(200, &vec![b'x'; 16 << 20]),
        _ => Reply::ok("hello"),
    });
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    let cost = Cost::of(&proxy);
    let mut greedy: Vec<Sealed> = Vec::new();
    for at in 0..CLIENTS {
        let version = Version::BOTH[at % 2];
        let mut client = Sealed::connect(&Client::new(), version, proxy.listener("main"));
        client.send(kind::APPLICATION_DATA, b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n");
        greedy.push(client);
        neighbour.is_served();
    }
    for _ in 0..50 {
        neighbour.is_served();
    }
    // Envoy keeps 1 MiB and more for each.
    cost.is_within(if subject.is_envoy() { 400 << 10 } else { 32 << 10 }, Duration::from_secs(5));
}

const GET: &str = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// A proxy whose cluster `up` is an attacker that is played by the test, and whose `/good` goes elsewhere.
struct Attacked {
    endpoint: TcpListener,
    proxy: Proxy,
    good: Upstream,
}

impl Attacked {
    #[track_caller]
    fn start(subject: &Subject) -> Self {
        let endpoint = TcpListener::bind("127.0.0.1:0").expect("bind an ephemeral port");
        let address = endpoint.local_addr().expect("an address");
        let good = hello();
        let tls =
            Context::new().trusts(&root()).common("tls_params: {tls_maximum_protocol_version: TLSv1_3}");
        let http = Http::routes(
            "- {match: {path: /good}, route: {cluster: good}}\n- {match: {prefix: /}, route: {cluster: up}}\n",
        );
        let bootstrap = Bootstrap::new()
            .http(http)
            .cluster("up", &[address], &format!("connect_timeout: 2s\n{}", tls.upstream()))
            .cluster("good", &[good.address()], "");
        Self { proxy: Proxy::start(subject, &bootstrap), endpoint, good }
    }

    /// Asks, and gives the attacker's end of the connection.
    #[track_caller]
    fn ask(&self) -> (Raw, std::net::TcpStream) {
        let mut client = self.proxy.client();
        client.send(GET.as_bytes());
        let socket = self.endpoint.accept().expect("a connection").0;
        socket.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        (client, socket)
    }
}

/// One attack behind the handshake, and what the client may be told; 0 stands for a connection that ends.
struct Flood {
    what: &'static str,
    version: Version,
    records: fn(&mut Sealed) -> Vec<u8>,
    statuses: &'static [u16],
    /// Envoy passes it all and answers.
    envoy: &'static [u16],
}

/// A NewSessionTicket with so many octets of ticket.
fn ticket(octets: usize) -> Vec<u8> {
    let body = [
        &[0, 0, 1, 0, 1, 2, 3, 4, 1, 9][..],
        &u16::try_from(octets).expect("a ticket").to_be_bytes(),
        &vec![7; octets],
        &[0, 0],
    ]
    .concat();
    let length = u32::try_from(body.len()).expect("a message").to_be_bytes();
    [&[4][..], &length[1..], &body].concat()
}

fn in_records(sealed: &mut Sealed, kind: u8, bytes: &[u8], most: usize) -> Vec<u8> {
    bytes.chunks(most).flat_map(|piece| sealed.seal(kind, piece)).collect()
}

const FAILS: &[u16] = &[502, 503];

fn floods() -> Vec<Flood> {
    let flood = |what, version, records, statuses, envoy| Flood { what, version, records, statuses, envoy };
    vec![
        flood("nothing", Version::V13, |_| Vec::new(), &[200], &[200]),
        flood(
            "two tickets",
            Version::V13,
            |s| s.seal(kind::HANDSHAKE, &ticket(200).repeat(2)),
            &[200],
            &[200],
        ),
        flood(
            "a ticket of 60,000 octets",
            Version::V13,
            |s| in_records(s, kind::HANDSHAKE, &ticket(60_000), 16_000),
            &[200],
            &[200, 503],
        ),
        flood(
            "a ticket in records of one octet",
            Version::V13,
            |s| in_records(s, kind::HANDSHAKE, &ticket(20_000), 1),
            &[200],
            &[200, 503],
        ),
        flood(
            "5,000 tickets",
            Version::V13,
            |s| (0..5_000).flat_map(|_| s.seal(kind::HANDSHAKE, &ticket(1_000))).collect(),
            FAILS,
            &[200, 503],
        ),
        flood(
            "a ticket of 16 MiB",
            Version::V13,
            |s| {
                in_records(
                    s,
                    kind::HANDSHAKE,
                    &[&[4, 0xff, 0xff, 0xff][..], &vec![0; 1 << 20]].concat(),
                    16_000,
                )
            },
            FAILS,
            FAILS,
        ),
        flood(
            "key updates",
            Version::V13,
            |s| s.seal(kind::HANDSHAKE, &[24, 0, 0, 1, 1].repeat(3_000)),
            FAILS,
            FAILS,
        ),
        flood(
            "empty records",
            Version::V13,
            |s| (0..3_000).flat_map(|_| s.seal(kind::APPLICATION_DATA, b"")).collect(),
            FAILS,
            FAILS,
        ),
        flood(
            "empty records of TLS 1.2",
            Version::V12,
            |s| (0..3_000).flat_map(|_| s.seal(kind::APPLICATION_DATA, b"")).collect(),
            FAILS,
            FAILS,
        ),
        flood(
            "warnings",
            Version::V13,
            |s| (0..500).flat_map(|_| s.seal(kind::ALERT, &[1, 90])).collect(),
            FAILS,
            FAILS,
        ),
        flood(
            "requests to renegotiate",
            Version::V12,
            |s| (0..500).flat_map(|_| s.seal(kind::HANDSHAKE, &[0, 0, 0, 0])).collect(),
            FAILS,
            FAILS,
        ),
        flood(
            "a request for a certificate",
            Version::V13,
            |s| s.seal(kind::HANDSHAKE, &[13, 0, 0, 3, 0, 0, 0]),
            FAILS,
            FAILS,
        ),
    ]
}

fn servers_that_flood(subject: &Subject) {
    let attacked = Attacked::start(subject);
    let mut neighbour = attacked.proxy.client();
    for flood in floods() {
        let cost = Cost::of(&attacked.proxy);
        let (mut client, socket) = attacked.ask();
        let mut sealed = Sealed::accept(socket, server_identity(), flood.version);
        let asked = sealed.data_until("\r\n\r\n");
        assert!(asked.is_ok(), "{}: {asked:?}", flood.what);
        let records = (flood.records)(&mut sealed);
        let answer = in_records(&mut sealed, kind::APPLICATION_DATA, ANSWER, 1);
        // A proxy that has closed the connection shows below.
        let _ = sealed.raw().try_send(&[records, answer].concat());
        let status = client.response("GET").map_or(0, |response| response.status);
        let expected = if subject.is_envoy() { flood.envoy } else { flood.statuses };
        assert!(expected.contains(&status), "{}: {status}", flood.what);
        assert_eq!(neighbour.get("/good").status, 200, "{}", flood.what);
        drop(sealed);
        cost.is_within(16 << 10, Duration::from_secs(1));
    }
    attacked.good.assert_strict();
}

/// What an endpoint says instead of a handshake; the connection is held until somebody gives up.
fn servers_that_never_finish(subject: &Subject) {
    let attacked = Attacked::start(subject);
    let mut neighbour = attacked.proxy.client();
    // A ServerHello of 60,000 octets, and one of 16 MiB.
    let mut long = vec![2, 0, 0xea, 0x60];
    long.resize(4_000, 3);
    let hello = record(kind::HANDSHAKE, 0x0303, &[2, 0xff, 0xff, 0xff]);
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("half a record", vec![22, 3, 3, 0x40, 0, 2]),
        ("records of one octet", fragments(&long, 1)),
        ("a hello of 16 MiB", [hello, record(kind::HANDSHAKE, 0x0303, &[0; 16_000]).repeat(64)].concat()),
        ("change_cipher_spec", record(kind::CHANGE_CIPHER_SPEC, 0x0303, &[1]).repeat(20_000)),
        ("empty records", record(kind::HANDSHAKE, 0x0303, &[]).repeat(20_000)),
        ("warnings", record(kind::ALERT, 0x0303, &[1, 0x5a]).repeat(20_000)),
    ] {
        let cost = Cost::of(&attacked.proxy);
        let (mut client, socket) = attacked.ask();
        let mut attacker = Raw::over(socket);
        let _ = attacker.try_send(&bytes);
        assert_eq!(neighbour.get("/good").status, 200, "{what}");
        let status = client.response("GET").map_or(0, |response| response.status);
        assert_eq!(status, 503, "{what}");
        cost.is_within(16 << 10, Duration::from_secs(1));
    }
}
