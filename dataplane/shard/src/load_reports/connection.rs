//! The socket of a stream of load reports: opened like any other connection to an endpoint, TLS included.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Address, Cluster, Endpoint, LoadStream as Config, ProxyProtocolVersion};
use millrace_http::{HeaderId, RequestHead, Version};
use millrace_ring::{Filled, IoError, Op, Payload, RecvEnd, Socket as RingSocket};
use millrace_upstream::{LoadStream, Received, StreamEnd};

use crate::address::{inet, to_ring};
use crate::link::Link;
use crate::secure_upstream::{own_session, proxy_protocol_header, transport};
use crate::shard::Shard;
use crate::token::Kind;
use crate::upstream::connect_options;

/// Contexts of these streams are compiled apart: a cluster that is replaced has others than the one that serves.
const CONTEXT_OF_STREAMS: usize = 1 << 25;

/// One connection to an endpoint that reports its load.
#[derive(Debug)]
pub(super) struct Socket {
    session: Key,
    /// `None` while connecting.
    link: Option<Link>,
    local: Option<SocketAddr>,
    handshaking: bool,
    stream: LoadStream,
}

/// Where an endpoint is asked.
fn target(config: &Config, endpoint: &Endpoint) -> Address {
    match &endpoint.address {
        Address::Inet(address) if config.port != 0 => {
            Address::Inet(SocketAddr::new(address.ip(), config.port))
        }
        address => address.clone(),
    }
}

/// The transport socket's place and options, by `transport_socket_match_criteria` or what the endpoint says of itself.
fn transport_of<'c>(
    cluster: &'c Cluster,
    config: &Config,
    endpoint: &Endpoint,
) -> (usize, &'c millrace_config::UpstreamTransport) {
    let metadata = config.transport_match.as_deref().or(endpoint.transport_metadata.as_deref());
    transport(cluster, metadata.unwrap_or_default())
}

/// What is asked.
fn request(cluster: &Cluster, config: &Config, endpoint: &Endpoint) -> RequestHead {
    let mut head = RequestHead::new();
    head.version = Version::Http2;
    head.set_method(b"POST");
    let secure = transport_of(cluster, config, endpoint).1.tls.is_some();
    head.set_scheme(if secure { b"https" } else { b"http" });
    let authority = match target(config, endpoint) {
        _ if !config.authority.is_empty() => config.authority.to_string(),
        _ if !endpoint.hostname.is_empty() => endpoint.hostname.to_string(),
        Address::Inet(address) => address.to_string(),
        Address::Pipe { .. } => cluster.name.to_string(),
    };
    head.set_authority(authority.as_bytes());
    head.set_path(b"/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics");
    head.headers.append_id(HeaderId::Te, b"trailers");
    head.headers.append_id(HeaderId::ContentType, b"application/grpc");
    head
}

impl Shard {
    /// Opens the connection of a stream.
    pub(super) fn open_load_stream(&mut self, key: Key) {
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        let Some(asked) = self.load_reports.clusters.get(&session.cluster) else { return };
        let Some(address) = to_ring(&target(&asked.stream, &session.endpoint)) else {
            return self.load_stream_failed(key);
        };
        let socket = self.load_reports.sockets.insert(Box::new(Socket {
            session: key,
            link: None,
            local: None,
            handshaking: false,
            stream: LoadStream::new(&asked.cluster, self.io.now),
        }));
        session.socket = Some(socket);
        let options = Box::new(connect_options(&asked.cluster, &address));
        let wait = asked.cluster.connect_timeout;
        self.io.ops.push(Op::Connect { token: Kind::LoadReport.token(socket), address, options });
        self.arm_load_session(key, wait);
    }

    pub(crate) fn on_load_connected(&mut self, key: Key, result: Result<RingSocket, IoError>) {
        let Some(socket) = self.load_reports.sockets.get_mut(key) else {
            if let Ok(socket) = result {
                self.io.ops.push(Op::Close { socket, reset: false });
            }
            return;
        };
        let Ok(connected) = result else { return self.load_stream_is_lost(key) };
        socket.link = Some(Link::new(connected, Kind::LoadReport.token(key)));
        let local = (self.socket_facts.local)(connected).map(|at| crate::address::from_ring(&at));
        socket.local = local.as_ref().and_then(inet);
        match self.begin_load_handshake(key) {
            Ok(true) => {}
            Ok(false) => self.load_stream_is_open(key),
            Err(_) => self.load_stream_is_lost(key),
        }
    }

    /// Sends what comes before the stream; true when a TLS handshake has begun.
    fn begin_load_handshake(&mut self, key: Key) -> Result<bool, Rc<str>> {
        let gone = || Rc::from("the endpoint is gone");
        let socket = self.load_reports.sockets.get_mut(key).ok_or_else(gone)?;
        let session = self.load_reports.sessions.get(socket.session).ok_or_else(gone)?;
        let asked = self.load_reports.clusters.get(&session.cluster).ok_or_else(gone)?;
        let endpoint = &session.endpoint;
        let (at, transport) = transport_of(&asked.cluster, &asked.stream, endpoint);
        let mut wire = Vec::new();
        if let Some(options) = &transport.proxy_protocol {
            let ends = socket.local.zip(inet(&target(&asked.stream, endpoint)));
            let ends = ends.filter(|_| options.version == ProxyProtocolVersion::V1);
            proxy_protocol_header(options, ends, &[], &mut wire)?;
        }
        let link = socket.link.as_mut().ok_or_else(gone)?;
        let Some(config) = &transport.tls else {
            if !wire.is_empty() {
                link.write(&mut self.io, |out| out.push_bytes(&wire));
            }
            return Ok(false);
        };
        let (id, scope) = (session.cluster, asked.cluster.scope);
        let context = match self.tls.client((id, CONTEXT_OF_STREAMS + at), config, &self.snapshot) {
            Ok(context) => context,
            Err(error) => {
                self.count_secrets_not_ready(scope, false);
                return Err(error.to_string().into());
            }
        };
        let alpn: [Arc<[u8]>; 1] = [Arc::from(&b"h2"[..])];
        let tls = own_session(&context, config, &endpoint.hostname, Some(&alpn), &mut wire)?;
        socket.handshaking = true;
        link.secure(tls, wire, &mut self.io);
        link.resume(&mut self.io);
        Ok(true)
    }

    /// The connection is there: the endpoint is asked.
    fn load_stream_is_open(&mut self, key: Key) {
        let Some(socket) = self.load_reports.sockets.get_mut(key) else { return };
        socket.handshaking = false;
        let Some(session) = self.load_reports.sessions.get(socket.session) else { return };
        let Some(asked) = self.load_reports.clusters.get(&session.cluster) else { return };
        let request = request(&asked.cluster, &asked.stream, &session.endpoint);
        let mut wire = Vec::new();
        let begun = socket.stream.begin(&request, asked.stream.period, &mut wire);
        if let Some(link) = &mut socket.link {
            link.resume(&mut self.io);
            link.write(&mut self.io, |out| out.push_bytes(&wire));
        }
        if !begun {
            return self.load_stream_is_lost(key);
        }
        let session = socket.session;
        self.await_load_report(session);
    }

    pub(crate) fn on_load_data(&mut self, key: Key, data: Filled) {
        let Some(link) = self.load_reports.sockets.get_mut(key).and_then(|socket| socket.link.as_mut())
        else {
            return;
        };
        if !link.is_secure() {
            return self.load_plaintext(key, &data);
        }
        let mut pieces = std::mem::take(&mut self.pieces);
        let opened = link.open(data, &mut pieces, &mut self.io);
        if opened.established {
            self.load_stream_is_secure(key);
        }
        for piece in pieces.drain(..) {
            self.load_plaintext(key, &piece);
        }
        self.pieces = pieces;
        if let Some(failure) = &opened.error
            && let Some(cluster) = self.load_cluster(key)
        {
            self.count_tls_failure(cluster.scope, failure);
        }
        if opened.error.is_some() || opened.close_notify {
            self.load_stream_is_lost(key);
        }
    }

    fn load_cluster(&self, key: Key) -> Option<Arc<Cluster>> {
        let session = self.load_reports.sessions.get(self.load_reports.sockets.get(key)?.session)?;
        Some(Arc::clone(&self.load_reports.clusters.get(&session.cluster)?.cluster))
    }

    fn load_stream_is_secure(&mut self, key: Key) {
        let Some(socket) = self.load_reports.sockets.get(key) else { return };
        let told = socket.link.as_ref().and_then(|link| link.tls_facts().cloned());
        if let Some((told, cluster)) = told.zip(self.load_cluster(key)) {
            self.count_handshake(cluster.scope, &told);
        }
        self.load_stream_is_open(key);
    }

    fn load_plaintext(&mut self, key: Key, bytes: &[u8]) {
        let Some(cluster) = self.load_cluster(key) else { return };
        let now = self.io.now;
        let Some(socket) = self.load_reports.sockets.get_mut(key) else { return };
        let mut wire = Vec::new();
        let received = socket.stream.receive(&cluster, bytes, now, &mut wire);
        if let Some(link) = socket.link.as_mut().filter(|_| !wire.is_empty()) {
            link.write(&mut self.io, |out| out.push_bytes(&wire));
        }
        let session = socket.session;
        self.take_load_reports(session, received);
    }

    pub(crate) fn on_load_recv_ended(&mut self, key: Key, reason: RecvEnd) {
        let Some(link) = self.load_reports.sockets.get_mut(key).and_then(|socket| socket.link.as_mut())
        else {
            return;
        };
        if link.receive_ended(reason, &mut self.io).is_some() {
            self.load_stream_is_lost(key);
        }
    }

    pub(crate) fn on_load_sent(&mut self, key: Key, payload: Payload) {
        match self.load_reports.sockets.get_mut(key).and_then(|socket| socket.link.as_mut()) {
            // A failed send shows as a failed receive, too.
            Some(link) => {
                link.sent(payload, &mut self.io);
            }
            None => self.sent_by_none(Kind::LoadReport.token(key), payload),
        }
    }

    pub(crate) fn flush_load_stream(&mut self, key: Key) {
        if let Some(link) = self.load_reports.sockets.get_mut(key).and_then(|socket| socket.link.as_mut()) {
            link.flush(&mut self.io);
        }
    }

    /// There is no connection, or none any more.
    fn load_stream_is_lost(&mut self, key: Key) {
        let Some(session) = self.load_reports.sockets.get(key).map(|socket| socket.session) else { return };
        self.take_load_reports(session, Received { end: Some(StreamEnd::Failed), ..Received::default() });
    }

    /// Closes the connection.
    pub(super) fn close_load_stream(&mut self, key: Key) {
        let Some(mut socket) = self.load_reports.sockets.remove(key) else { return };
        if let Some(session) = self.load_reports.sessions.get_mut(socket.session) {
            session.socket = None;
        }
        match &mut socket.link {
            Some(link) => link.close(&mut self.io, false),
            None => self.io.ops.push(Op::CancelConnect { token: Kind::LoadReport.token(key) }),
        }
    }
}
