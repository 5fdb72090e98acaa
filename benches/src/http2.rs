//! The HTTP/2 codec, HPACK included: one exchange of small heads on each side and on both, and a frame of DATA; beside the
//! same with the `h2` crate, polled by hand without a runtime.

use std::hint::black_box;

use millrace_base::Time;
use millrace_http::h2::{Connection, Event, Heads, Options, Role, StreamRef};
use millrace_http::{RequestHead, ResponseHead};

use crate::{Bench, Routine, repeat};

mod twin;

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new(
        "http2/server_exchange",
        "read a request of 7 fields, answer with 4 fields and END_STREAM",
        || {
            let (mut bytes, _, mut server) = Recorded::new();
            bytes.stream += 2;
            repeat(move || server.serve(bytes.next_request()))
        },
    ),
    Bench::new("http2/client_exchange", "send a request of 7 fields, read 4 fields and END_STREAM", || {
        let (mut bytes, mut client, _) = Recorded::new();
        bytes.stream += 2;
        repeat(move || {
            client.send_request();
            client.read(bytes.next_response());
        })
    }),
    Bench::new("http2/round_trip", "both sides of that exchange", round_trip),
    Bench::new("http2/data_frame", "read a DATA frame of 1,000 bytes, give it back, send one", data),
    Bench::new("http2/h2_server_exchange", "http2/server_exchange with the h2 crate", twin::server),
    Bench::new("http2/h2_client_exchange", "http2/client_exchange with the h2 crate", twin::client),
];

const NOW: Time = Time(1);

/// The head of a small request.
fn request() -> RequestHead {
    let mut head = RequestHead::new();
    head.set_method(b"GET");
    head.set_scheme(b"http");
    head.set_authority(b"backend.default.svc:8080");
    head.set_path(b"/api/v1/users/42");
    for (name, value) in [
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("x-request-id", "6f1c0ec8-8d2d-4a37-9a15-6b1a2f6f3c11"),
    ] {
        head.headers.append(name.as_bytes(), value.as_bytes());
    }
    head
}

/// The head of a small response.
fn response() -> ResponseHead {
    let mut head = ResponseHead::new();
    head.status = 200;
    for (name, value) in
        [("content-type", "text/plain"), ("server", "envoy"), ("x-envoy-upstream-service-time", "3")]
    {
        head.headers.append(name.as_bytes(), value.as_bytes());
    }
    head
}

/// One end and what its caller keeps.
struct End {
    connection: Connection,
    heads: Heads,
    request: RequestHead,
    response: ResponseHead,
    out: Vec<u8>,
    last: Option<StreamRef>,
}

impl End {
    fn new(role: Role) -> Self {
        let connection = Connection::new(&Options::new(role), NOW);
        Self {
            connection,
            heads: Heads::default(),
            request: request(),
            response: response(),
            out: Vec::new(),
            last: None,
        }
    }

    /// Reads whole frames; the stream that the last event was about is `last`.
    fn read(&mut self, mut input: &[u8]) {
        loop {
            let step = match self.connection.receive(input, NOW, &mut self.heads) {
                Ok(step) => step,
                Err(error) => unreachable!("{error}"),
            };
            let here = input;
            input = &input[step.consumed..];
            match step.event {
                Event::NeedMore => return,
                Event::Request { stream, .. } => {
                    self.connection.bind(stream, 7);
                    self.last = Some(stream);
                }
                Event::Response { stream, .. } => self.last = Some(stream),
                Event::Data { stream, range, .. } => {
                    self.connection.release(stream, black_box(&here[range]).len());
                }
                _ => {}
            }
        }
    }

    fn serve(&mut self, input: &[u8]) {
        self.read(input);
        self.out.clear();
        if let Some(stream) = self.last {
            self.connection.send_response(stream, black_box(&self.response), true, &mut self.out);
        }
        black_box(&self.out);
    }

    fn send_request(&mut self) {
        self.out.clear();
        let sent = self.connection.send_request(black_box(&self.request), 7, true, &mut self.out);
        black_box((sent, &self.out));
    }
}

/// What the peers of a bench say: the opening, then the same frame for ever higher streams.
struct Recorded {
    opening_of_client: Vec<u8>,
    opening_of_server: Vec<u8>,
    request: Vec<u8>,
    response: Vec<u8>,
    stream: u32,
}

/// Exchanges until both HPACK tables are what they stay.
const SETTLED: u32 = 4;

impl Recorded {
    /// Lets two ends talk until every exchange has the same bytes. The openings hold what was said before the last one,
    /// whose stream is the next; the ends themselves have had that.
    fn new() -> (Self, End, End) {
        let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
        let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
        server.connection.take_control(&mut from_server);
        client.read(&from_server);
        let (mut request, mut response) = (Vec::new(), Vec::new());
        for _ in 0..SETTLED {
            from_client.append(&mut request);
            from_server.append(&mut response);
            client.send_request();
            server.serve(&client.out);
            client.read(&server.out);
            (request, response) = (std::mem::take(&mut client.out), std::mem::take(&mut server.out));
        }
        let (opening_of_client, opening_of_server) = (from_client, from_server);
        let stream = 2 * SETTLED - 1;
        (Self { opening_of_client, opening_of_server, request, response, stream }, client, server)
    }

    fn next_request(&mut self) -> &[u8] {
        number(&mut self.request, self.stream);
        self.stream += 2;
        &self.request
    }

    fn next_response(&mut self) -> &[u8] {
        number(&mut self.response, self.stream);
        self.stream += 2;
        &self.response
    }
}

/// Writes the stream into the header of a frame.
fn number(frame: &mut [u8], stream: u32) {
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
}

fn round_trip() -> Routine {
    let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
    server.connection.take_control(&mut server.out);
    client.read(&server.out);
    repeat(move || {
        client.send_request();
        server.serve(&client.out);
        client.read(&server.out);
    })
}

fn data() -> Routine {
    let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
    let sent = client.connection.send_request(&client.request, 7, false, &mut client.out);
    server.read(&client.out);
    let mut frame = [&[0, 3, 0xe8, 0, 0, 0, 0, 0, 0][..], &[b'x'; 1000]].concat();
    number(&mut frame, sent.map_or(1, |stream| stream.id));
    repeat(move || {
        server.read(black_box(&frame));
        server.out.clear();
        server.connection.take_control(&mut server.out);
        server.connection.flushed();
        if let Some(stream) = server.last {
            // The client never gives anything back: what is measured is the header.
            server.connection.send_data(stream, 0, false, &mut server.out);
        }
        black_box(&server.out);
    })
}
