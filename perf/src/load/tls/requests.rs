//! Requests on connections that stay.

use std::io::{Error, Result as IoResult};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::exchange::{Answers, Exchange};
use super::link::{Link, Received};
use super::{Count, Options, PATIENCE, wait, wait_to_go};

struct Connection {
    link: Link,
    exchange: Exchange,
    out: Vec<u8>,
    /// Requests that are not answered yet.
    open: u64,
}

/// All connections of the client.
pub(super) struct Links {
    poll: OwnedFd,
    connections: Vec<Option<Connection>>,
    /// Requests at once on each.
    depth: u64,
    /// Answers are followed by further requests.
    running: bool,
    buffer: Vec<u8>,
    count: Count,
}

impl Links {
    /// Opens all of them; each has been answered once on every stream when this returns.
    pub(super) fn start(
        options: &Options,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> Result<Self, String> {
        let told = |e: Error| format!("client: {e}");
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| format!("client: {e}"))?;
        let depth = options.streams.max(1) as u64;
        let mut links = Self {
            poll,
            connections: Vec::with_capacity(options.connections),
            depth,
            running: false,
            buffer: vec![0; 256 * 1024],
            count: Count::default(),
        };
        for key in 0..options.connections {
            let link = Link::open(options.address, config, name).map_err(told)?;
            link.watch(&links.poll, key).map_err(told)?;
            let mut out = Vec::new();
            let exchange = Exchange::begin(options.streams, &mut out);
            let mut connection = Connection { link, exchange, out, open: 0 };
            // rustls keeps it until the handshake is done.
            connection.ask(depth).map_err(told)?;
            links.connections.push(Some(connection));
        }
        let deadline = Instant::now() + PATIENCE;
        let asked = links.connections.len() as u64 * depth;
        while links.count.done + links.count.errors < asked {
            links.turn(deadline)?;
            if links.count.errors > 0 || Instant::now() >= deadline {
                let done = links.count.done;
                return Err(format!("client: only {done} of the first {asked} requests were answered"));
            }
        }
        links.count = Count::default();
        Ok(links)
    }

    /// Keeps all of them busy.
    pub(super) fn run(mut self, seconds: f64) -> Result<Count, String> {
        wait_to_go()?;
        self.running = true;
        for connection in self.connections.iter_mut().flatten() {
            connection.ask(self.depth).map_err(|e| format!("client: {e}"))?;
        }
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < deadline {
            self.turn(deadline)?;
        }
        Ok(self.count)
    }

    fn turn(&mut self, until: Instant) -> Result<(), String> {
        let mut events = Vec::with_capacity(256);
        wait(&self.poll, &mut events, until)?;
        for event in &events {
            let Some(slot) = self.connections.get_mut(event.data.u64() as usize) else { continue };
            let Some(connection) = slot else { continue };
            match connection.receive(&mut self.buffer, self.running) {
                Ok(answers) => {
                    self.count.done += answers.good;
                    self.count.errors += answers.bad;
                }
                Err(e) => {
                    if self.count.errors == 0 {
                        eprintln!("client: {e}");
                    }
                    self.count.errors += connection.open.max(1);
                    *slot = None;
                }
            }
        }
        Ok(())
    }
}

impl Connection {
    /// So many more requests, in one record.
    fn ask(&mut self, requests: u64) -> IoResult<()> {
        for _ in 0..requests {
            self.exchange.request(&mut self.out);
        }
        self.open += requests;
        self.send()
    }

    fn send(&mut self) -> IoResult<()> {
        if !self.out.is_empty() {
            self.link.send(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], again: bool) -> IoResult<Answers> {
        let mut sum = Answers::default();
        let (exchange, out) = (&mut self.exchange, &mut self.out);
        let received = self.link.receive(buffer, |bytes| {
            let answers = exchange.receive(bytes, out).map_err(Error::other)?;
            sum = Answers { good: sum.good + answers.good, bad: sum.bad + answers.bad };
            Ok(())
        })?;
        if received == Received::End {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.open = self.open.saturating_sub(sum.all());
        self.ask(if again { sum.all() } else { 0 })?;
        Ok(sum)
    }
}
