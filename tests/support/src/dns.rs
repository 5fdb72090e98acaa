//! A name server on loopback, over UDP and TCP, that answers as the test says at the moment.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Octets of an answer over UDP (RFC 1035 section 4.2.1); what is longer is truncated.
const UDP_MAX: usize = 512;

/// What the server says of a name.
#[derive(Clone, Debug)]
pub enum Say {
    /// These addresses, with this time to live in seconds; those of the other family are left out.
    Addresses(Vec<IpAddr>, u32),
    /// NXDOMAIN, as of every name that was never set.
    NoName,
    /// SERVFAIL.
    Failure,
    /// Nothing.
    Silence,
}

#[derive(Default)]
struct Zone {
    names: HashMap<String, Say>,
    /// Names asked for, and whether over TCP.
    asked: Vec<(String, bool)>,
}

/// The server; its threads end with the process.
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NameServer {
    /// Starts it; it knows no name.
    ///
    /// # Panics
    /// When no port is free for both UDP and TCP.
    pub fn start() -> Self {
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
                let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port for a name server");
        let address = udp.local_addr().expect("an address");
        let zone = Arc::<Mutex<Zone>>::default();
        let (first, second) = (Arc::clone(&zone), Arc::clone(&zone));
        std::thread::spawn(move || serve_udp(&udp, &first));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = tcp.accept() {
                let zone = Arc::clone(&second);
                std::thread::spawn(move || serve_tcp(stream, &zone));
            }
        });
        Self { address, zone }
    }

    /// What it says of a name from now on.
    pub fn set(&self, name: &str, say: Say) {
        lock(&self.zone).names.insert(name.to_owned(), say);
    }

    /// These addresses from now on, which may be kept for a minute.
    ///
    /// # Panics
    /// When one of them is no address.
    #[track_caller]
    pub fn set_addresses(&self, name: &str, addresses: &[&str]) {
        let parse = |text: &&str| text.parse().expect("an address");
        self.set(name, Say::Addresses(addresses.iter().map(parse).collect(), 60));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often a name was asked for: over UDP, and over TCP.
    pub fn asked(&self, name: &str) -> (usize, usize) {
        let zone = lock(&self.zone);
        let count =
            |tcp: bool| zone.asked.iter().filter(|(asked, over)| asked == name && *over == tcp).count();
        (count(false), count(true))
    }

    /// A `CaresDnsResolverConfig` that asks this server alone, as a field in flow YAML; `more` are more of its fields.
    pub fn resolver(&self, more: &str) -> String {
        format!(
            "typed_dns_resolver_config: {{name: envoy.network.dns_resolver.cares, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, resolvers: \
             [{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}]{more}}}}}\n",
            self.address.port()
        )
    }

    /// `dns_cache_config` of a cache `c` that asks this server alone for IPv4, patiently, as a field in flow YAML; `more`
    /// are more of its fields, each with a comma behind.
    pub fn dns_cache(&self, more: &str) -> String {
        let options = format!(", dns_resolver_options: {{no_default_search_domain: true}}{PATIENT}");
        let resolver = self.resolver(&options);
        format!("dns_cache_config: {{name: c, dns_lookup_family: V4_ONLY, {more}{}}}", resolver.trim_end())
    }
}

/// How long the resolver of [`NameServer::dns_cache`] asks. Envoy's waits for that long after a failure, too.
pub const PATIENT: &str = ", query_tries: 10, query_timeout_seconds: 1";

fn serve_udp(socket: &UdpSocket, zone: &Mutex<Zone>) {
    let mut query = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut query) {
        if let Some(mut reply) = answer(&query[..length], zone, false) {
            if reply.len() > UDP_MAX {
                // Truncated: the question alone, and the bit that says so.
                let end = question_end(&reply).unwrap_or(12);
                reply.truncate(end);
                reply[2] |= 2;
                reply[6..12].fill(0);
            }
            let _ = socket.send_to(&reply, peer);
        }
    }
}

fn serve_tcp(mut stream: std::net::TcpStream, zone: &Mutex<Zone>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let Some(reply) = answer(&query, zone, true) else { continue };
        let size = u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes();
        if stream.write_all(&[&size[..], &reply].concat()).is_err() {
            return;
        }
    }
}

/// Where the only question of a message ends.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 5).filter(|end| *end <= message.len()),
            label => at += 1 + label,
        }
    }
}

fn name_of(message: &[u8]) -> Option<String> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(labels.join(".").to_ascii_lowercase()),
            label => {
                labels.push(String::from_utf8_lossy(message.get(at + 1..=at + label)?).into_owned());
                at += 1 + label;
            }
        }
    }
}

fn answer(query: &[u8], zone: &Mutex<Zone>, tcp: bool) -> Option<Vec<u8>> {
    let end = question_end(query)?;
    let name = name_of(query)?;
    let kind = u16::from_be_bytes([query[end - 4], query[end - 3]]);
    let mut zone = lock(zone);
    zone.asked.push((name.clone(), tcp));
    let (code, addresses, ttl) = match zone.names.get(&name).cloned().unwrap_or(Say::NoName) {
        Say::Addresses(addresses, ttl) => (0, addresses, ttl),
        Say::NoName => (3, Vec::new(), 0),
        Say::Failure => (2, Vec::new(), 0),
        Say::Silence => return None,
    };
    let mut records: Vec<Vec<u8>> = Vec::new();
    for address in addresses {
        let (of, bytes) = match address {
            IpAddr::V4(v4) => (1u16, v4.octets().to_vec()),
            IpAddr::V6(v6) => (28, v6.octets().to_vec()),
        };
        if of == kind {
            let length = u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
            let head = [&[0xc0, 12][..], &of.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length].concat();
            records.push([head, bytes].concat());
        }
    }
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut reply = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0];
    reply.extend_from_slice(&query[12..end]);
    reply.extend(records.concat());
    Some(reply)
}
