//! Entry points of the HTTP/2 codec: what a connection makes of any bytes does not depend on how they are cut.

use alloc::string::String;
use alloc::vec::Vec;

use millrace_base::{Rng, Time};

use crate::h2::{
    Connection, ConnectionError, Counts, ErrorCode, Event, Heads, Options, PREFACE, Role, Side, StreamRef,
};
use crate::head::{RequestHead, ResponseHead};
use crate::header::HeaderMap;

/// An event without what depends on the cuts.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request(u32, bool, RequestHead),
    TooLarge(u32),
    Response(u32, bool, ResponseHead),
    Data(u32, Vec<u8>, bool),
    Trailers(u32, HeaderMap),
    Reset(u32, ErrorCode, Side),
    Other(String),
}

/// Everything that a run shows.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    seen: Vec<Seen>,
    error: Option<ConnectionError>,
    control: Vec<u8>,
    counts: Counts,
    open: usize,
}

/// A connection with a caller who answers requests and gives back what it has got whenever something but DATA comes.
struct Caller {
    connection: Connection,
    heads: Heads,
    seen: Vec<Seen>,
    owed: Vec<(StreamRef, usize)>,
    out: Vec<u8>,
}

/// Properties of a server that gets these bytes from its client.
pub fn fuzz_h2_server(data: &[u8]) {
    let options = Options {
        initial_stream_window: 300,
        head_bytes_max: 600,
        head_fields_max: 12,
        max_concurrent_streams: 5,
        allow_connect: true,
        allow_custom_methods: true,
        ..Options::new(Role::Server)
    };
    // Random bytes shall get past the preface.
    let opening = [&PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let opening = if data.starts_with(&PREFACE[..4]) { &[][..] } else { &opening };
    same_for_every_cut(&options, &[opening, data].concat());
}

/// Properties of a client that gets these bytes from its server.
pub fn fuzz_h2_client(data: &[u8]) {
    let options = Options {
        initial_stream_window: 300,
        head_bytes_max: 600,
        head_fields_max: 12,
        ..Options::new(Role::Client)
    };
    // SETTINGS with extended CONNECT.
    let opening = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1];
    same_for_every_cut(&options, &[&opening, data].concat());
}

fn same_for_every_cut(options: &Options, data: &[u8]) {
    let whole = run(options, data, || data.len());
    assert_eq!(whole, run(options, data, || 1), "byte by byte differs");
    let mut rng = Rng::new(data.iter().fold(1, |n, b| n * 31 % 0xffff_fffb + u64::from(*b)));
    assert_eq!(whole, run(options, data, || rng.below(40) as usize), "a random cut differs");
}

fn run(options: &Options, data: &[u8], mut cut: impl FnMut() -> usize) -> Run {
    let connection = Connection::new(options, Time(1));
    let mut caller =
        Caller { connection, heads: Heads::default(), seen: Vec::new(), owed: Vec::new(), out: Vec::new() };
    let (mut start, mut end, mut error) = (0, 0, None);
    while error.is_none() && (start, end) != (data.len(), data.len()) {
        let (before, more) = (start, (end + cut().max(1)).min(data.len()));
        let over = end == more;
        end = more;
        error = caller.receive(data, &mut start, end).err();
        if over && before == start {
            break;
        }
    }
    caller.finish(error, options)
}

impl Caller {
    /// Reads until there is nothing more to be had.
    fn receive(&mut self, data: &[u8], start: &mut usize, end: usize) -> Result<(), ConnectionError> {
        loop {
            let step = self.connection.receive(&data[*start..end], Time(1), &mut self.heads)?;
            let here = &data[*start..end];
            *start += step.consumed;
            assert!(*start <= end);
            match step.event {
                Event::NeedMore => return Ok(()),
                Event::Progress => {}
                Event::Data { stream, range, end, .. } => {
                    self.owed.push((stream, range.len()));
                    self.data(stream.id, &here[range], end);
                }
                event => {
                    self.give_back();
                    self.event(event);
                }
            }
        }
    }

    fn data(&mut self, id: u32, bytes: &[u8], end: bool) {
        match self.seen.last_mut() {
            Some(Seen::Data(last, gathered, over @ false)) if *last == id => {
                gathered.extend_from_slice(bytes);
                *over = end;
            }
            _ => self.seen.push(Seen::Data(id, bytes.to_vec(), end)),
        }
    }

    fn event(&mut self, event: Event) {
        let seen = match event {
            Event::Request { stream, end, .. } => {
                self.connection.bind(stream, stream.id.into());
                self.answer(stream);
                Seen::Request(stream.id, end, self.heads.request.clone())
            }
            Event::TooLarge { stream, .. } => {
                self.connection.reset(stream, ErrorCode::Cancel);
                Seen::TooLarge(stream.id)
            }
            Event::Response { stream, end, .. } => {
                Seen::Response(stream.id, end, self.heads.response.clone())
            }
            Event::Informational { stream, .. } => {
                Seen::Response(stream.id, false, self.heads.response.clone())
            }
            Event::Trailers { stream, .. } => Seen::Trailers(stream.id, self.heads.trailers.clone()),
            Event::Reset { stream, code, by, .. } => {
                assert!(!self.connection.is_sending(stream) && !self.connection.is_receiving(stream));
                Seen::Reset(stream.id, code, by)
            }
            Event::Settings => {
                self.open_requests();
                Seen::Other("settings".into())
            }
            event => Seen::Other(alloc::format!("{event:?}")),
        };
        self.seen.push(seen);
    }

    /// Some streams are answered, some end early, some stay.
    fn answer(&mut self, stream: StreamRef) {
        let mut head = ResponseHead::new();
        head.status = if stream.id & 2 == 0 { 200 } else { 101 };
        match stream.id >> 1 & 3 {
            0 => _ = self.connection.send_response(stream, &head, true, &mut self.out),
            1 | 2 => {
                self.connection.send_response(stream, &head, false, &mut self.out);
                let len = self.connection.capacity(stream).min(100);
                self.connection.send_data(stream, len, stream.id & 8 == 0, &mut self.out);
            }
            _ => {}
        }
    }

    /// Clients have requests of each kind open; servers may not open any.
    fn open_requests(&mut self) {
        for method in [b"GET".as_slice(), b"HEAD", b"CONNECT", b"POST"] {
            let mut head = RequestHead::new();
            head.set_method(method);
            head.set_authority(b"h:1");
            self.connection.send_request(&head, 7, method != b"POST", &mut self.out);
            head.headers.append(b"connection", b"upgrade");
            head.headers.append(b"upgrade", b"websocket");
            self.connection.send_request(&head, 7, false, &mut self.out);
        }
    }

    fn give_back(&mut self) {
        for (stream, bytes) in self.owed.drain(..) {
            self.connection.release(stream, bytes);
        }
    }

    fn finish(mut self, error: Option<ConnectionError>, options: &Options) -> Run {
        self.give_back();
        let (connection, mut control) = (&mut self.connection, Vec::new());
        let open = connection.open_streams();
        assert_eq!(connection.users().count(), open);
        assert!(open <= options.max_concurrent_streams as usize);
        assert!(connection.unreleased() <= 16_384, "only a frame that has begun is not given back");
        connection.take_control(&mut control);
        assert!(!connection.has_control());
        Run { seen: self.seen, error, control, counts: connection.take_counts(), open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that mutations are made of; a block of indexed fields is a GET.
    const PIECES: &[&[u8]] = &[
        b"\x00\x00\x06\x01\x04\x00\x00\x00\x01\x83\x86\x84\x41\x01h",
        b"\x00\x00\x06\x01\x04\x00\x00\x00\x03\x83\x86\x84\x41\x01h",
        b"\x00\x00\x06\x01\x05\x00\x00\x00\x05\x82\x86\x84\x41\x01h",
        b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88",
        b"\x00\x00\x01\x01\x05\x00\x00\x00\x03\x88",
        b"\x00\x00\x05\x01\x05\x00\x00\x00\x03\x40\x01x\x01y",
        b"\x00\x00\x06\x01\x00\x00\x00\x00\x07\x82\x86\x84\x41\x01h\x00\x00\x04\x09\x04\x00\x00\x00\x07\x00\x01a\x00",
        b"\x00\x00\x05\x00\x01\x00\x00\x00\x05hello",
        b"\x00\x00\x03\x00\x00\x00\x00\x00\x03abc",
        b"\x00\x00\x05\x00\x09\x00\x00\x00\x03\x02ab\x00\x00",
        b"\x00\x00\x00\x00\x01\x00\x00\x00\x01",
        b"\x00\x00\x04\x03\x00\x00\x00\x00\x03\x00\x00\x00\x08",
        b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00",
        b"\x00\x00\x00\x04\x01\x00\x00\x00\x00",
        b"\x00\x00\x08\x06\x00\x00\x00\x00\x00millrace",
        b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00",
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x01\x00",
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x01\x7f\xff\xff\xff",
        b"\x00\x00\x05\x02\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00",
        b"\x00\x00\x07\x10\x00\x00\x00\x00\x00\x00\x00\x00\x01u=1",
        b"\x00\x00\x01\x63\x00\x00\x00\x00\x00x",
    ];

    /// Most runs begin with frames that open something.
    fn smoke(target: fn(&[u8]), opening: core::ops::Range<usize>, seed: u64) -> usize {
        let mut rng = Rng::new(seed);
        for _ in 0..10_000 {
            let opened = if rng.chance(4, 5) { opening.clone() } else { 0..0 };
            let mut data = PIECES[opened].concat();
            for _ in 0..=rng.below(12) {
                data.extend_from_slice(PIECES[rng.below(PIECES.len() as u64) as usize]);
            }
            for _ in 0..rng.below(5) / 2 {
                let at = rng.below(data.len() as u64) as usize;
                match rng.below(3) {
                    0 => data[at] = rng.next_u64() as u8,
                    1 => data.truncate(at + 1),
                    _ => _ = data.drain(at..(at + rng.below(9) as usize).min(data.len())),
                }
                if data.is_empty() {
                    break;
                }
            }
            target(&data);
        }
        10_000
    }

    #[test]
    fn mutated_bytes_of_clients_keep_every_property() {
        assert_eq!(smoke(fuzz_h2_server, 0..3, 1), 10_000);
    }

    #[test]
    fn mutated_bytes_of_servers_keep_every_property() {
        assert_eq!(smoke(fuzz_h2_client, 3..5, 2), 10_000);
    }
}
