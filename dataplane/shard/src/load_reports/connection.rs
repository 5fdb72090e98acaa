//! What is said to an endpoint that reports its load, on a connection of its own.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Address, Endpoint, LoadStream as Config};
use millrace_http::{HeaderId, RequestHead, Version};
use millrace_upstream::{LoadStream, Received, StreamEnd};

use super::LoadReports;
use crate::own_connection::{Owner, Target};
use crate::shard::Shard;

/// Contexts of these streams are compiled apart: a cluster that is replaced has others than the one that serves.
const CONTEXT_OF_STREAMS: usize = 1 << 25;

/// A connection to an endpoint that reports its load.
#[derive(Debug)]
pub(super) struct Talk {
    connection: Key,
    stream: LoadStream,
}

/// Where an endpoint is asked.
fn address(config: &Config, endpoint: &Endpoint) -> Address {
    match &endpoint.address {
        Address::Inet(address) if config.port != 0 => {
            Address::Inet(SocketAddr::new(address.ip(), config.port))
        }
        address => address.clone(),
    }
}

/// What is asked.
fn request(config: &Config, target: &Target<'_>) -> RequestHead {
    let mut head = RequestHead::new();
    head.version = Version::Http2;
    head.set_method(b"POST");
    head.set_scheme(target.scheme());
    let authority = match &target.address {
        _ if !config.authority.is_empty() => config.authority.to_string(),
        _ if !target.endpoint.hostname.is_empty() => target.endpoint.hostname.to_string(),
        Address::Inet(address) => address.to_string(),
        Address::Pipe { .. } => target.cluster.name.to_string(),
    };
    head.set_authority(authority.as_bytes());
    head.set_path(b"/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics");
    head.headers.append_id(HeaderId::Te, b"trailers");
    head.headers.append_id(HeaderId::ContentType, b"application/grpc");
    head
}

impl LoadReports {
    pub(crate) fn target(&self, session: Key) -> Option<Target<'_>> {
        let session = self.sessions.get(session)?;
        let asked = self.clusters.get(&session.cluster)?;
        Some(Target {
            cluster: &asked.cluster,
            endpoint: &session.endpoint,
            address: address(&asked.stream, &session.endpoint),
            transport_match: asked.stream.transport_match.as_deref(),
            alpn: Some(Cow::Owned(vec![Arc::from(&b"h2"[..])])),
            contexts: CONTEXT_OF_STREAMS,
        })
    }
}

impl Shard {
    /// Opens the connection of a stream.
    pub(super) fn open_load_stream(&mut self, key: Key) {
        let Some(connection) = self.open_own(Owner::LoadReports(key)) else {
            return self.load_stream_failed(key);
        };
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        let Some(asked) = self.load_reports.clusters.get(&session.cluster) else { return };
        let stream = LoadStream::new(&asked.cluster, self.io.now);
        session.talk = Some(Box::new(Talk { connection, stream }));
        let wait = asked.cluster.connect_timeout;
        self.arm_load_session(key, wait);
    }

    /// The connection is there: the endpoint is asked.
    pub(crate) fn ask_for_load(&mut self, key: Key) {
        let Some(target) = self.load_reports.target(key) else { return };
        let Some(asked) = self.load_reports.clusters.get(&target.cluster.id) else { return };
        let (request, period) = (request(&asked.stream, &target), asked.stream.period);
        let Some(talk) = self.load_talk(key) else { return };
        let mut wire = Vec::new();
        let begun = talk.stream.begin(&request, period, &mut wire);
        let connection = talk.connection;
        self.write_own(connection, &wire);
        if !begun {
            return self.load_stream_is_lost(key);
        }
        self.await_load_report(key);
    }

    fn load_talk(&mut self, session: Key) -> Option<&mut Talk> {
        self.load_reports.sessions.get_mut(session)?.talk.as_deref_mut()
    }

    /// The endpoint said something.
    pub(crate) fn load_stream_heard(&mut self, key: Key, bytes: &[u8]) {
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        let Some(asked) = self.load_reports.clusters.get(&session.cluster) else { return };
        let Some(talk) = session.talk.as_deref_mut() else { return };
        let mut wire = Vec::new();
        let received = talk.stream.receive(&asked.cluster, bytes, self.io.now, &mut wire);
        let connection = talk.connection;
        self.write_own(connection, &wire);
        self.take_load_reports(key, received);
    }

    /// There is no connection, or none any more.
    pub(crate) fn load_stream_is_lost(&mut self, key: Key) {
        self.take_load_reports(key, Received { end: Some(StreamEnd::Failed), ..Received::default() });
    }

    /// Closes the connection.
    pub(super) fn close_load_stream(&mut self, key: Key) {
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        if let Some(talk) = session.talk.take() {
            self.close_own(talk.connection);
        }
    }
}
