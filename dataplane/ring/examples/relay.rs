//! The floor: a TCP relay on the bare back end, two receives and two sends a request, nothing else.
//!
//! `relay <listen ip:port> <upstream ip:port> [auto|uring|epoll] [buffers bytes]`, one thread.

use millrace_base::{Key, Slab};
use millrace_ring::{
    Backend, Config, ConnectOptions, Event, Filled, IoChoice, Op, Payload, RecvEnd, Socket, SocketAddress,
    Token, sockets,
};

const ACCEPT: u8 = 1;
const CONNECT: u8 = 2;
const SIDE: [u8; 2] = [3, 4];

/// One end of a pair: its socket, and what waits to be sent to it.
#[derive(Default)]
struct End {
    socket: Option<Socket>,
    queued: Payload,
    sending: bool,
    /// The other end is done: FIN after the queue.
    finish: bool,
    finished: bool,
}

/// Two ends joined; index 0 is downstream.
#[derive(Default)]
struct Pair {
    ends: [End; 2],
}

struct Relay {
    upstream: SocketAddress,
    pairs: Slab<Pair>,
    ops: Vec<Op>,
    spare: Vec<Payload>,
}

impl Relay {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted { result: Ok(accepted), .. } => self.accepted(accepted.socket),
            Event::Connected { token, result } => {
                let (_, key) = Key::unpack(token.0);
                match result {
                    Ok(socket) => self.connected(key, socket),
                    Err(_) => self.close(key),
                }
            }
            Event::Received { token, data } => self.received(token, data),
            Event::RecvEnded { token, reason } => {
                let (kind, key) = Key::unpack(token.0);
                match reason {
                    RecvEnd::Eof => {
                        let to = usize::from(kind == SIDE[0]);
                        if let Some(pair) = self.pairs.get_mut(key) {
                            pair.ends[to].finish = true;
                        }
                        self.flush(key, to);
                    }
                    _ => self.close(key),
                }
            }
            Event::Sent { token, result, payload } => {
                self.spare.push(payload);
                let (kind, key) = Key::unpack(token.0);
                let to = usize::from(kind == SIDE[1]);
                if let Some(pair) = self.pairs.get_mut(key) {
                    pair.ends[to].sending = false;
                    match result {
                        Ok(_) => self.flush(key, to),
                        Err(_) => self.close(key),
                    }
                }
            }
            Event::Accepted { result: Err(error), .. } => eprintln!("accept: {error}"),
            Event::Relayed { .. } | Event::Wake => {}
        }
    }

    fn accepted(&mut self, socket: Socket) {
        let mut pair = Pair::default();
        pair.ends[0].socket = Some(socket);
        let token = Token(self.pairs.insert(pair).pack(CONNECT));
        let options = Box::new(ConnectOptions::default());
        self.ops.push(Op::Connect { token, address: self.upstream.clone(), options });
    }

    fn connected(&mut self, key: Key, socket: Socket) {
        let Some(pair) = self.pairs.get_mut(key) else { return };
        pair.ends[1].socket = Some(socket);
        for (end, kind) in pair.ends.iter().zip(SIDE) {
            self.ops.extend(end.socket.map(|socket| Op::Recv { socket, token: Token(key.pack(kind)) }));
        }
    }

    fn received(&mut self, token: Token, data: Filled) {
        let (kind, key) = Key::unpack(token.0);
        let to = usize::from(kind == SIDE[0]);
        if let Some(pair) = self.pairs.get_mut(key) {
            pair.ends[to].queued.push_buffer(data);
            self.flush(key, to);
        }
    }

    fn flush(&mut self, key: Key, to: usize) {
        let Some(pair) = self.pairs.get_mut(key) else { return };
        let end = &mut pair.ends[to];
        let Some(socket) = end.socket.filter(|_| !end.sending) else { return };
        if !end.queued.is_empty() {
            let next = self.spare.pop().unwrap_or_default();
            let payload = std::mem::replace(&mut end.queued, next);
            end.sending = true;
            self.ops.push(Op::Send { socket, token: Token(key.pack(SIDE[to])), payload });
        } else if end.finish && !end.finished {
            end.finished = true;
            self.ops.push(Op::Shutdown { socket });
            if pair.ends.iter().all(|end| end.finished) {
                self.close(key);
            }
        }
    }

    fn close(&mut self, key: Key) {
        let Some(pair) = self.pairs.remove(key) else { return };
        let sockets = pair.ends.iter().filter_map(|end| end.socket);
        self.ops.extend(sockets.map(|socket| Op::Close { socket, reset: false }));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, rest @ ..] = &arguments[..] else {
        return Err(
            "usage: relay <listen ip:port> <upstream ip:port> [auto|uring|epoll] [buffers bytes]".into()
        );
    };
    let choice: IoChoice = rest.first().map_or(Ok(IoChoice::Auto), |text| text.parse())?;
    let mut config = Config::default();
    if let [_, buffers, bytes] = rest {
        (config.buffers, config.buffer_bytes) = (buffers.parse()?, bytes.parse()?);
    }
    let (mut backend, report) = Backend::open(choice, &config)?;
    eprintln!("{report}");
    let listener =
        sockets::listen(&SocketAddress::Inet(listen.parse()?), &sockets::ListenOptions::default())?;
    let mut relay = Relay {
        upstream: SocketAddress::Inet(upstream.parse()?),
        pairs: Slab::new(),
        ops: vec![Op::Accept { listener, token: Token(Key { slot: 0, generation: 0 }.pack(ACCEPT)) }],
        spare: Vec::new(),
    };
    let mut events = Vec::new();
    loop {
        backend.turn(&mut relay.ops, None, &mut events)?;
        for event in events.drain(..) {
            relay.handle(event);
        }
    }
}
