//! Peers that attack: each ends its own connection only, within a bounded number of frames and of memory.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::frame::{self, code, flag, kind, setting};
use millrace_support::h2::{Client, client, hpack};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Step, Upstream};

use super::rss_kib;

pub(crate) const CASES: &[Case] = &[
    case!(resets),
    case!(control_frames),
    case!(heads),
    case!(data),
    case!(bombs),
    case!(unread_answers),
    case!(zero_window, not_envoy: "Envoy held 1.5 GB for 90 such streams, a window of 16 MiB each"),
    case!(streams_that_never_end),
    case!(many_attackers),
];

/// One attack, as sequences of frames.
struct Attack {
    name: &'static str,
    /// Sent once, behind the preface.
    first: fn() -> Vec<u8>,
    /// The n-th sequence, from 0.
    next: fn(u32) -> Vec<u8>,
    /// Sequences within which the connection must be at its end.
    most: u32,
    /// Codes of the GOAWAY that is due.
    codes: &'static [u32],
    /// Envoy lets it pass: it counts what it has queued, not what it has received.
    envoy_allows: bool,
}

const CALM: &[u32] = &[code::ENHANCE_YOUR_CALM];
const CALM_OR_CLOSED: &[u32] = &[code::ENHANCE_YOUR_CALM, code::STREAM_CLOSED, code::PROTOCOL_ERROR];

const NOTHING: fn() -> Vec<u8> = Vec::new;
const ATTACK: Attack =
    Attack { name: "", first: NOTHING, next: |_| Vec::new(), most: 20_000, codes: CALM, envoy_allows: false };

fn block(method: &str, path: &str) -> Vec<u8> {
    hpack::block(&client::head(method, path, &[]))
}

fn get(n: u32) -> Vec<u8> {
    frame::headers(2 * n + 1, &block("GET", "/hang"), true)
}

fn post(n: u32) -> Vec<u8> {
    frame::headers(2 * n + 1, &block("POST", "/hang"), false)
}

/// A GET, and then something that makes the server reset it.
fn made(n: u32, provoke: fn(u32) -> Vec<u8>) -> Vec<u8> {
    [get(n), provoke(2 * n + 1)].concat()
}

const RESETS: &[Attack] = &[
    Attack {
        name: "rapid reset",
        next: |n| [get(n), frame::rst_stream(2 * n + 1, code::CANCEL)].concat(),
        most: 1000,
        ..ATTACK
    },
    Attack {
        name: "made reset: window update of 0",
        next: |n| made(n, |id| frame::window_update(id, 0)),
        most: 1000,
        ..ATTACK
    },
    Attack {
        name: "made reset: window beyond 2^31",
        next: |n| made(n, |id| frame::window_update(id, 0x7fff_ffff)),
        most: 1000,
        ..ATTACK
    },
    Attack {
        name: "made reset: short PRIORITY",
        next: |n| made(n, |id| frame::frame(kind::PRIORITY, 0, id, &[0; 4])),
        most: 1000,
        codes: &[code::ENHANCE_YOUR_CALM, code::FRAME_SIZE_ERROR],
        ..ATTACK
    },
    Attack {
        name: "made reset: PRIORITY on itself",
        next: |n| made(n, |id| frame::priority(id, id)),
        most: 3000,
        codes: CALM_OR_CLOSED,
        ..ATTACK
    },
    Attack {
        name: "made reset: HEADERS on a half-closed stream",
        next: |n| made(n, |id| frame::headers(id, &block("GET", "/hang"), true)),
        most: 1000,
        codes: CALM_OR_CLOSED,
        ..ATTACK
    },
    Attack {
        name: "made reset: DATA on a half-closed stream",
        next: |n| made(n, |id| frame::data(id, b"x", true)),
        most: 1000,
        codes: CALM_OR_CLOSED,
        ..ATTACK
    },
    Attack {
        name: "made reset: malformed head",
        next: |n| frame::headers(2 * n + 1, &hpack::literal("Upper", "1"), true),
        most: 1000,
        ..ATTACK
    },
    Attack {
        name: "reset of one stream again and again",
        first: || [get(0), frame::rst_stream(1, code::CANCEL)].concat(),
        next: |_| frame::rst_stream(1, code::CANCEL),
        codes: CALM_OR_CLOSED,
        ..ATTACK
    },
];

const CONTROL: &[Attack] = &[
    Attack { name: "empty SETTINGS", next: |_| frame::settings(&[]), envoy_allows: true, ..ATTACK },
    Attack {
        name: "SETTINGS with values",
        next: |_| frame::settings(&[(1, 100_000), (3, 100_000), (6, 100_000)]),
        envoy_allows: true,
        ..ATTACK
    },
    Attack { name: "PING", next: |_| frame::ping(b"flooding"), envoy_allows: true, ..ATTACK },
    Attack { name: "PRIORITY", next: |n| frame::priority(1 + 2 * (n % 100), 0), ..ATTACK },
    Attack { name: "WINDOW_UPDATE by 1", next: |_| frame::window_update(0, 1), ..ATTACK },
    Attack {
        name: "WINDOW_UPDATE by 1 of a stream",
        first: || post(0),
        next: |_| frame::window_update(1, 1),
        ..ATTACK
    },
    Attack { name: "unknown frames", next: |_| frame::frame(0x77, 0, 0, b""), envoy_allows: true, ..ATTACK },
    Attack { name: "GOAWAY", next: |_| frame::goaway(0, 0), envoy_allows: true, ..ATTACK },
    Attack {
        name: "SETTINGS ACK that nobody asked for",
        next: |_| frame::settings_ack(),
        codes: &[code::ENHANCE_YOUR_CALM, code::PROTOCOL_ERROR],
        envoy_allows: true,
        ..ATTACK
    },
];

const HEADS: &[Attack] = &[
    Attack {
        name: "CONTINUATION",
        first: || frame::frame(kind::HEADERS, flag::END_STREAM, 1, &block("GET", "/")),
        next: |n| frame::frame(kind::CONTINUATION, 0, 1, &hpack::literal(&format!("x-{n}"), &"v".repeat(50))),
        most: 4000,
        ..ATTACK
    },
    Attack {
        name: "empty CONTINUATION",
        first: || frame::frame(kind::HEADERS, flag::END_STREAM, 1, &block("GET", "/")),
        next: |_| frame::frame(kind::CONTINUATION, 0, 1, b""),
        most: 4000,
        ..ATTACK
    },
    Attack {
        name: "CONTINUATION of an octet",
        first: || frame::frame(kind::HEADERS, flag::END_STREAM, 1, &block("GET", "/")),
        next: |_| frame::frame(kind::CONTINUATION, 0, 1, &[0x82]),
        most: 4000,
        codes: &[code::ENHANCE_YOUR_CALM, code::PROTOCOL_ERROR],
        ..ATTACK
    },
];

const DATA: &[Attack] = &[
    Attack { name: "empty DATA", first: || post(0), next: |_| frame::data(1, b"", false), ..ATTACK },
    Attack {
        name: "DATA of padding",
        first: || post(0),
        next: |_| frame::frame(kind::DATA, flag::PADDED, 1, &[&[255][..], &[0; 255]].concat()),
        most: 3000,
        ..ATTACK
    },
    Attack {
        name: "DATA on a stream that was reset",
        first: || [post(0), frame::rst_stream(1, code::CANCEL)].concat(),
        next: |_| frame::data(1, b"x", false),
        codes: &[code::ENHANCE_YOUR_CALM, code::STREAM_CLOSED, code::FLOW_CONTROL_ERROR],
        envoy_allows: true,
        ..ATTACK
    },
];

fn upstream() -> Upstream {
    Upstream::start(|request| match request.target.as_str() {
        "/hang" => Reply::new().step(Step::Hang),
        "/large" => Reply::bytes(200, &vec![b'x'; 16 << 20]),
        _ => Reply::ok("x"),
    })
}

fn start(subject: &Subject, upstream: &Upstream) -> Proxy {
    let breakers = "circuit_breakers: {thresholds: [{max_connections: 4096, max_requests: 4096, max_pending_requests: 4096}]}\n";
    Proxy::start(
        subject,
        &Bootstrap::new().http(Http::to("up")).cluster("up", &[upstream.address()], breakers),
    )
}

/// What one attacking connection may cost in KiB. Envoy was measured at 23 MB where it was cold.
fn most_kib(subject: &Subject) -> usize {
    if subject.is_envoy() { 40 << 10 } else { 8 << 10 }
}

/// Sends an attack in batches and reads in between; says what is wrong about how it ended.
fn launch(subject: &Subject, attack: &Attack) -> Option<String> {
    let upstream = upstream();
    let proxy = start(subject, &upstream);
    let mut victim = Client::connect(proxy.listener("main"));
    victim.get("/");
    let before = rss_kib(proxy.pid());
    let mut attacker = Client::connect(proxy.listener("main"));
    let session = attacker.session();
    session.send(&(attack.first)());
    let (mut sent, batch) = (0, 10);
    // What is underway while GOAWAY comes back counts, too: an allowance for a busy machine.
    let most = if subject.is_envoy() { attack.most } else { attack.most.min(5000) };
    while sent < most && session.end.is_none() && session.goaways.is_empty() {
        session.send(&(sent..sent + batch).flat_map(attack.next).collect::<Vec<u8>>());
        sent += batch;
        while session.read(Duration::from_micros(300)).is_some() {}
        if sent % 1000 == 0 && victim.get("/").status != 200 {
            return Some(format!("{}: the victim is not served", attack.name));
        }
    }
    let ended = session.end_within(Duration::from_secs(4));
    let codes: Vec<u32> = session.goaways.iter().map(|g| g.1).collect();
    let grown = rss_kib(proxy.pid()).saturating_sub(before);
    let mut wrong = Vec::new();
    let allowed = subject.is_envoy() && attack.envoy_allows;
    if ended.is_none() && !allowed {
        wrong.push(format!("still open after {sent} sequences"));
    }
    // Envoy says no word.
    if !subject.is_envoy() && !codes.last().is_some_and(|code| attack.codes.contains(code)) {
        wrong.push(format!(
            "GOAWAY with {codes:?} instead of {:?} after {sent}, then {ended:?}",
            attack.codes
        ));
    }
    if grown > most_kib(subject) {
        wrong.push(format!("{grown} KiB more"));
    }
    if victim.get("/").status != 200 || !victim.session().goaways.is_empty() {
        wrong.push("the victim is not served".into());
    }
    (!wrong.is_empty()).then(|| format!("{}: {}", attack.name, wrong.join("; ")))
}

#[track_caller]
fn all(subject: &Subject, attacks: &[Attack]) {
    let wrong: Vec<String> = attacks.iter().filter_map(|attack| launch(subject, attack)).collect();
    assert!(wrong.is_empty(), "{} of {} attacks:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
}

fn resets(subject: &Subject) {
    all(subject, RESETS);
}

fn control_frames(subject: &Subject) {
    all(subject, CONTROL);
}

fn heads(subject: &Subject) {
    all(subject, HEADS);
}

fn data(subject: &Subject) {
    all(subject, DATA);
}

/// Heads that are small on the wire and large behind HPACK: each stream is refused, or the connection is at its end.
fn bombs(subject: &Subject) {
    let large = hpack::indexing("z", &"A".repeat(3900));
    let crumb = hpack::indexing("cookie", "a");
    for (name, first, references) in [("a large field", large, 4000), ("cookie crumbs", crumb, 8000)] {
        let upstream = upstream();
        let proxy = start(subject, &upstream);
        let mut victim = Client::connect(proxy.listener("main"));
        victim.get("/");
        let (before, served) = (rss_kib(proxy.pid()), upstream.requests().len());
        let mut attacker = Client::connect_with(proxy.listener("main"), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        for n in 0..60u32 {
            let start = if n == 0 { first.clone() } else { Vec::new() };
            let bomb = [block("POST", "/bomb"), start, vec![0xbe; references]].concat();
            attacker.session().open(2 * n + 1);
            attacker.session().send(&frame::headers(2 * n + 1, &bomb, false));
            while attacker.session().read(Duration::from_millis(2)).is_some() {}
        }
        let settled = attacker.session().until(|s| {
            let over = |id| s.peek(id).is_some_and(|r| r.ended || r.reset.is_some() || !r.blocks.is_empty());
            s.end.is_some() || !s.goaways.is_empty() || (0..60).all(|n| over(2 * n + 1))
        });
        assert!(settled, "{name}: neither refused nor at its end");
        let grown = rss_kib(proxy.pid()).saturating_sub(before);
        assert!(grown < most_kib(subject), "{name}: {grown} KiB more");
        assert_eq!(victim.get("/").status, 200);
        assert_eq!(upstream.requests().len(), served + 1, "{name}: a bomb reached the upstream");
    }
}

/// Answers that are never read: the connection ends or is not read any more, and the queue stays small.
fn unread_answers(subject: &Subject) {
    for (name, next) in
        [("SETTINGS", frame::settings(&[])), ("PING", frame::ping(b"flooding")), ("GET", get(0))]
    {
        let upstream = upstream();
        let proxy = start(subject, &upstream);
        let mut victim = Client::connect(proxy.listener("main"));
        victim.get("/");
        let before = rss_kib(proxy.pid());
        let mut attacker = Client::connect(proxy.listener("main"));
        let session = attacker.session();
        let _ = session.socket().set_write_timeout(Some(Duration::from_secs(2)));
        let batch = next.repeat(100);
        for _ in 0..1000 {
            session.send(&batch);
        }
        let ended = session.end_within(Duration::from_secs(4)).is_some();
        let grown = rss_kib(proxy.pid()).saturating_sub(before);
        assert!(ended, "{name}: still open after 100,000");
        assert!(grown < most_kib(subject), "{name}: {grown} KiB more");
        assert_eq!(victim.get("/").status, 200, "{name}");
    }
}

/// Large responses to many streams that give no window: what is held for all of them together is bounded.
fn zero_window(subject: &Subject) {
    let upstream = upstream();
    let proxy = start(subject, &upstream);
    let mut victim = Client::connect(proxy.listener("main"));
    victim.get("/");
    let before = rss_kib(proxy.pid());
    let mut attacker = Client::connect_with(proxy.listener("main"), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    for _ in 0..90 {
        attacker.head("GET", "/large", &[], true);
    }
    let ids = attacker.session().stream_ids();
    attacker.session().until(|s| {
        s.end.is_some()
            || ids.iter().all(|id| s.peek(*id).is_some_and(|r| !r.blocks.is_empty() || r.reset.is_some()))
    });
    for _ in 0..20 {
        assert_eq!(victim.get("/").status, 200);
    }
    let grown = rss_kib(proxy.pid()).saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
}

/// Streams beyond the limit are refused, and those below cost little.
fn streams_that_never_end(subject: &Subject) {
    let upstream = upstream();
    let proxy = start(subject, &upstream);
    let mut victim = Client::connect(proxy.listener("main"));
    victim.get("/");
    let before = rss_kib(proxy.pid());
    let mut attacker = Client::connect(proxy.listener("main"));
    for _ in 0..100 {
        attacker.session().read(Duration::from_micros(100));
        attacker.head("POST", "/hang", &[], false);
    }
    assert_eq!(victim.get("/").status, 200);
    let grown = rss_kib(proxy.pid()).saturating_sub(before);
    assert!(grown < most_kib(subject), "{grown} KiB more");
}

/// Twenty rapid resets at once next to a victim.
fn many_attackers(subject: &Subject) {
    let upstream = upstream();
    let proxy = start(subject, &upstream);
    let target = proxy.listener("main");
    let mut victim = Client::connect(target);
    victim.get("/");
    let before = rss_kib(proxy.pid());
    let threads: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn(move || {
                let mut attacker = Client::connect(target);
                for n in 0..1000 {
                    let pair = [get(n), frame::rst_stream(2 * n + 1, code::CANCEL)].concat();
                    attacker.session().send(&pair);
                }
                attacker.session().end_within(Duration::from_secs(5)).is_some()
            })
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(victim.get("/").status, 200);
    }
    for thread in threads {
        assert!(thread.join().is_ok_and(|ended| ended), "an attacker is still connected");
    }
    let grown = rss_kib(proxy.pid()).saturating_sub(before);
    assert!(grown < if subject.is_envoy() { 256 << 10 } else { 64 << 10 }, "{grown} KiB more");
    assert_eq!(victim.get("/").status, 200);
    proxy.wait_stat("http.main.downstream_rq_active", 0);
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
}
