//! A client and a server back to back, their bytes cut at random: every head and byte arrives once, windows return to
//! where they began, no stream is left.

use std::collections::BTreeMap;

use millrace_base::{Rng, Time};
use millrace_http::h2::{Connection, Event, Heads, Options, Role, StreamRef};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};

use crate::support::{request, request_text, response_text};

/// One direction of one exchange.
#[derive(Default)]
struct Direction {
    head: String,
    interim: u32,
    sent: Vec<u8>,
    ended: bool,
    trailers: bool,
}

/// One end and the bytes on their way to it.
struct Side {
    connection: Connection,
    heads: Heads,
    out: Vec<u8>,
    incoming: Vec<u8>,
    /// What arrives for each stream, and what this end sends on it.
    streams: BTreeMap<u32, (StreamRef, Direction, Direction)>,
    /// Bytes that this end has got and not yet given back.
    owed: Vec<(StreamRef, usize)>,
    done: u32,
    /// The other end's limits are known.
    ready: bool,
}

impl Side {
    fn new(role: Role, rng: &mut Rng) -> Self {
        let options = Options {
            initial_stream_window: 1 + rng.below(100_000) as u32,
            initial_connection_window: 65_535 + rng.below(200_000) as u32,
            hpack_table_size: [0, 64, 4096, 65_536][rng.below(4) as usize],
            max_concurrent_streams: 1 + rng.below(20) as u32,
            ..Options::new(role)
        };
        Self {
            connection: Connection::new(&options, Time(rng.next_u64() >> 1)),
            heads: Heads::default(),
            out: Vec::new(),
            incoming: Vec::new(),
            streams: BTreeMap::new(),
            owed: Vec::new(),
            done: 0,
            ready: false,
        }
    }

    fn send_request(&mut self, number: u32, rng: &mut Rng) -> bool {
        let mut head = request(&[(":method", "POST"), (":scheme", "https"), (":authority", "h:1")]);
        head.set_path(format!("/{number}").as_bytes());
        add_fields(&mut head.headers, rng);
        let end = rng.chance(1, 3);
        let Some(stream) = self.connection.send_request(&head, number.into(), end, &mut self.out) else {
            return false;
        };
        let sent = Direction { head: request_text(&head), ended: end, ..Direction::default() };
        self.streams.insert(stream.id, (stream, Direction::default(), sent));
        true
    }

    /// Sends something on a stream that may be sent on.
    fn send_on(&mut self, id: u32, rng: &mut Rng) {
        let Some((stream, _, sent)) = self.streams.get_mut(&id) else { return };
        if sent.ended || !self.connection.is_sending(*stream) {
            return;
        }
        if sent.head.is_empty() {
            let mut head = ResponseHead::new();
            head.status = [103, 200, 201, 404, 503][rng.below(5) as usize];
            add_fields(&mut head.headers, rng);
            let end = rng.chance(1, 3) && head.status != 103;
            assert!(self.connection.send_response(*stream, &head, end, &mut self.out));
            sent.interim += u32::from(head.status == 103);
            if head.status != 103 {
                (sent.head, sent.ended) = (response_text(&head), end);
            }
            return;
        }
        if rng.chance(1, 6) {
            let mut trailers = HeaderMap::new();
            if rng.chance(3, 4) {
                trailers.append(b"x-checksum", b"1234");
                sent.trailers = true;
            }
            assert!(self.connection.send_trailers(*stream, &trailers, &mut self.out));
            sent.ended = true;
            return;
        }
        let room = self.connection.capacity(*stream);
        let len = room.min(rng.below(40_000) as usize);
        let end = rng.chance(1, 6);
        if len > 0 || end {
            assert!(self.connection.send_data(*stream, len, end, &mut self.out));
            let body: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
            self.out.extend_from_slice(&body);
            sent.sent.extend_from_slice(&body);
            sent.ended = end;
        }
    }

    /// Reads everything that has come; the other end's sent directions are what it must be.
    fn read(&mut self, sender: &mut Side) {
        let input = std::mem::take(&mut self.incoming);
        let mut at = 0;
        loop {
            let step = self.connection.receive(&input[at..], Time::ZERO, &mut self.heads).expect("no error");
            let here = at;
            at += step.consumed;
            match step.event {
                Event::NeedMore => break,
                Event::Request { stream, end, .. } => {
                    let number = self.heads.request.path()[1..].to_vec();
                    let number: u64 = String::from_utf8_lossy(&number).parse().expect("a number");
                    self.connection.bind(stream, number);
                    let head = request_text(&self.heads.request);
                    let got = Direction { head, ended: end, ..Direction::default() };
                    assert!(self.streams.insert(stream.id, (stream, got, Direction::default())).is_none());
                }
                Event::Informational { stream, .. } => self.got(stream).interim += 1,
                Event::Response { stream, end, .. } => {
                    let head = response_text(&self.heads.response);
                    let got = self.got(stream);
                    assert!(got.head.is_empty());
                    (got.head, got.ended) = (head, end);
                }
                Event::Data { stream, range, end, .. } => {
                    self.owed.push((stream, range.len()));
                    let got = self.got(stream);
                    assert!(!got.ended);
                    got.sent.extend_from_slice(&input[here..][range]);
                    got.ended = end;
                }
                Event::Trailers { stream, .. } => {
                    assert_eq!(self.heads.trailers.len(), 1);
                    let got = self.got(stream);
                    (got.ended, got.trailers) = (true, true);
                }
                Event::Settings => self.ready = true,
                Event::Reset { .. } | Event::GoAway { .. } | Event::TooLarge { .. } => {
                    unreachable!("{:?}", step.event)
                }
                _ => {}
            }
        }
        self.incoming.splice(..0, input[at..].iter().copied());
        self.compare(sender);
    }

    fn got(&mut self, stream: StreamRef) -> &mut Direction {
        let (known, got, _) = self.streams.get_mut(&stream.id).expect("a stream that is open");
        assert_eq!(*known, stream);
        got
    }

    /// Whatever has come completely is what was sent; exchanges that are over are forgotten.
    fn compare(&mut self, sender: &mut Side) {
        let mut over = Vec::new();
        for (id, (_, got, sent)) in &self.streams {
            let Some((_, answer, expected)) = sender.streams.get(id) else { continue };
            if got.ended {
                assert_eq!((&got.head, got.interim), (&expected.head, expected.interim), "{id}");
                assert!(
                    got.sent == expected.sent && expected.ended && got.trailers == expected.trailers,
                    "{id}"
                );
            }
            if got.ended && sent.ended && answer.ended {
                over.push(*id);
            }
        }
        for id in over {
            self.streams.remove(&id);
            sender.streams.remove(&id);
            (self.done, sender.done) = (self.done + 1, sender.done + 1);
        }
    }

    fn release_some(&mut self, rng: &mut Rng) {
        let keep = if rng.chance(1, 3) { 0 } else { rng.below(5) as usize };
        while self.owed.len() > keep {
            let (stream, bytes) = self.owed.swap_remove(rng.below(self.owed.len() as u64) as usize);
            self.connection.release(stream, bytes);
        }
    }
}

fn add_fields(headers: &mut HeaderMap, rng: &mut Rng) {
    for _ in 0..rng.below(8) {
        let name = ["user-agent", "x-a", "cookie2", "accept", "x-request-id", "x-b"][rng.below(6) as usize];
        let value = format!("{:x}", rng.next_u64() >> rng.below(60));
        headers.append(name.as_bytes(), value.as_bytes());
    }
    if rng.chance(1, 20) {
        // More than one frame holds.
        headers.append(b"x-long", "\u{e9}~".repeat(8000).as_bytes());
    }
}

/// Moves some bytes from one end's output to the other's input.
fn carry(from: &mut Side, to: &mut Side, rng: &mut Rng) {
    from.connection.take_control(&mut from.out);
    let most = if rng.chance(1, 2) { from.out.len() as u64 + 1 } else { 30 };
    let len = (rng.below(most) as usize).min(from.out.len());
    to.incoming.extend(from.out.drain(..len));
    if from.out.is_empty() {
        from.connection.flushed();
    }
    to.read(from);
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let (mut client, mut server) = (Side::new(Role::Client, &mut rng), Side::new(Role::Server, &mut rng));
    let (exchanges, mut begun) = (40, 0);
    let mut steps = 0;
    while client.done < exchanges {
        steps += 1;
        assert!(steps < 200_000, "seed {seed}: {} of {exchanges} are done", client.done);
        if client.ready && begun < exchanges && rng.chance(1, 4) && client.send_request(begun, &mut rng) {
            begun += 1;
        }
        for side in [&mut client, &mut server] {
            let open: Vec<u32> = side.streams.keys().copied().collect();
            if let Some(id) = open.get(rng.below(open.len() as u64 + 1) as usize) {
                side.send_on(*id, &mut rng);
            }
            side.release_some(&mut rng);
        }
        match rng.chance(1, 2) {
            true => carry(&mut client, &mut server, &mut rng),
            false => carry(&mut server, &mut client, &mut rng),
        }
    }
    for side in [&mut client, &mut server] {
        for (stream, bytes) in std::mem::take(&mut side.owed) {
            side.connection.release(stream, bytes);
        }
        assert_eq!(side.connection.unreleased(), 0, "seed {seed}");
        assert_eq!((side.connection.open_streams(), side.connection.users().count()), (0, 0), "seed {seed}");
    }
}

#[test]
fn every_byte_arrives_once_whatever_the_cuts() {
    for seed in 0..60 {
        run(seed);
    }
}

#[test]
fn heads_are_cleared_before_they_are_filled() {
    let mut old = RequestHead::new();
    old.set_path(b"/old");
    old.headers.append(b"x-old", b"1");
    let mut heads = Heads { request: old, ..Heads::default() };
    let mut server = Connection::new(&Options::new(Role::Server), Time::ZERO);
    let mut client = Connection::new(&Options::new(Role::Client), Time::ZERO);
    let mut wire = Vec::new();
    client.take_control(&mut wire);
    let head = request(crate::support::GET);
    assert!(client.send_request(&head, 1, true, &mut wire).is_some());
    let mut rest = wire.as_slice();
    loop {
        let step = server.receive(rest, Time::ZERO, &mut heads).expect("no error");
        rest = &rest[step.consumed..];
        match step.event {
            Event::NeedMore => break,
            Event::Request { end, .. } => assert!(end),
            event => assert!(matches!(event, Event::Progress | Event::Settings)),
        }
    }
    assert_eq!(request_text(&heads.request), "GET http h /|");
}
