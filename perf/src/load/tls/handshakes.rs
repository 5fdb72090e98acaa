//! Handshakes and nothing else: connect, shake hands, say goodbye, wait for the proxy's goodbye, which it only says
//! after it has verified the client. A resumed one takes a ticket of an earlier connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};

use super::link::{Link, Received};
use super::{Count, Options, PATIENCE, wait, wait_to_go};

/// One connection at a time.
struct Slot {
    link: Link,
    /// Every slot keeps tickets of its own, so that none is without because another was faster.
    config: Arc<ClientConfig>,
    kind: Option<HandshakeKind>,
}

/// So many at once.
pub(super) struct Slots {
    slots: Vec<Slot>,
    poll: OwnedFd,
    address: std::net::SocketAddr,
    name: ServerName<'static>,
    wanted: HandshakeKind,
    buffer: Vec<u8>,
    count: Count,
    first_error: Option<String>,
}

impl Slots {
    /// Every slot has had one whole connection when this returns, and with it a ticket.
    pub(super) fn start(
        options: &Options,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, String> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| format!("client: {e}"))?;
        let mut all = Self {
            slots: Vec::with_capacity(options.connections),
            poll,
            address: options.address,
            name,
            wanted: HandshakeKind::Full,
            buffer: vec![0; 64 * 1024],
            count: Count::default(),
            first_error: None,
        };
        for key in 0..options.connections {
            let mut config = (*config).clone();
            config.resumption =
                if options.resumed { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
            let config = Arc::new(config);
            let link = all.open(&config, key)?;
            all.slots.push(Slot { link, config, kind: None });
        }
        let deadline = Instant::now() + PATIENCE;
        // A slot that is done opens its next connection at once, so that not all of these are first ones.
        while all.count.done < 4 * options.connections as u64 {
            all.turn(deadline)?;
            if all.count.errors > 0 || Instant::now() >= deadline {
                let why = all.first_error.unwrap_or_default();
                return Err(format!("client: only {} handshakes went well: {why}", all.count.done));
            }
        }
        if options.resumed {
            all.wanted = HandshakeKind::Resumed;
        }
        all.count = Count::default();
        Ok(all)
    }

    /// Handshakes for so many seconds.
    pub(super) fn run(mut self, seconds: f64) -> Result<Count, String> {
        wait_to_go()?;
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < deadline {
            self.turn(deadline)?;
        }
        if let Some(error) = &self.first_error {
            eprintln!("client: {error}");
        }
        Ok(self.count)
    }

    fn open(&self, config: &Arc<ClientConfig>, key: usize) -> Result<Link, String> {
        let link = Link::open(self.address, config, &self.name).map_err(|e| format!("client: {e}"))?;
        link.watch(&self.poll, key).map_err(|e| format!("client: {e}"))?;
        Ok(link)
    }

    fn turn(&mut self, until: Instant) -> Result<(), String> {
        let mut events = Vec::with_capacity(256);
        wait(&self.poll, &mut events, until)?;
        for event in &events {
            let key = event.data.u64() as usize;
            let Some(slot) = self.slots.get_mut(key) else { continue };
            match slot.receive(&mut self.buffer) {
                Ok(None) => continue,
                Ok(Some(kind)) if kind == self.wanted || self.wanted == HandshakeKind::Full => {
                    self.count.done += 1;
                }
                Ok(Some(kind)) => self.fail(format!("a handshake was {kind:?}")),
                Err(e) => self.fail(e.to_string()),
            }
            let Some(config) = self.slots.get(key).map(|slot| Arc::clone(&slot.config)) else { continue };
            let link = self.open(&config, key)?;
            if let Some(slot) = self.slots.get_mut(key) {
                *slot = Slot { link, config, kind: None };
            }
        }
        Ok(())
    }

    fn fail(&mut self, why: String) {
        self.count.errors += 1;
        self.first_error.get_or_insert(why);
    }
}

impl Slot {
    /// The kind of a handshake that is over on both sides.
    fn receive(&mut self, buffer: &mut [u8]) -> std::io::Result<Option<HandshakeKind>> {
        let received = self.link.receive(buffer, |_| Ok(()))?;
        if received == Received::End {
            return self.kind.map(Some).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
        }
        if self.kind.is_none() {
            self.kind = self.link.established();
            if self.kind.is_some() {
                self.link.close()?;
            }
        }
        Ok(None)
    }
}
