//! TLS of connections that we open: the handshake before anything is sent, and what is made of received ciphertext.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{ProxyProtocolVersion, UpstreamProxyProtocol, UpstreamTls, UpstreamTransport};
use millrace_inspect::proxy_protocol;
use millrace_ring::{Filled, IoError};
use millrace_tls::{ClientContext, ClientOptions, Session};

use crate::address::inet;
use crate::secure::Failure;
use crate::shard::Shard;
use crate::upstream::Carries;

impl Shard {
    /// Sends what comes before the bytes of whoever uses the connection. True when a handshake has begun.
    ///
    /// # Errors
    /// Why there can be none, for `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub(crate) fn begin_upstream_handshake(&mut self, key: Key) -> Result<bool, Rc<str>> {
        let Some(upstream) = self.upstreams.get_mut(key) else { return Ok(true) };
        // Without its endpoint nobody knows which transport socket is due: nothing is sent in the clear by mistake.
        let gone = || Rc::from("the endpoint is gone");
        let state = self.clusters.get(upstream.cluster).ok_or_else(gone)?;
        let host = state.host_of(upstream.pool).and_then(|host| state.host(host)).ok_or_else(gone)?;
        let metadata = host.transport_metadata.as_deref();
        let cluster = state.config();
        let (at, transport) = transport(cluster, metadata.unwrap_or_default());
        let mut wire = Vec::new();
        if let Some(options) = &transport.proxy_protocol {
            let (client, tlvs) = match &upstream.carries {
                Carries::Tcp(client) => {
                    let client = self.downstreams.get(*client);
                    let ends = client.map(|client| &client.addresses);
                    let ends = ends.and_then(|ends| Some((inet(&ends.peer)?, inet(&ends.local)?)));
                    (ends, client.and_then(|client| client.passed_tlvs()))
                }
                Carries::Http(_) | Carries::Http2(_) => {
                    let asked = state.transport(upstream.transport);
                    (asked.proxy, asked.tlvs)
                }
            };
            proxy_protocol_header(options, client, tlvs.map_or(&[], |tlvs| &tlvs[..]), &mut wire)?;
        }
        let Some(config) = &transport.tls else {
            if let Some(link) = upstream.link.as_mut().filter(|_| !wire.is_empty()) {
                link.write(&mut self.io, |out| out.push_bytes(&wire));
            }
            return Ok(false);
        };
        let context = self.tls.client((upstream.cluster, at), config, &self.snapshot);
        let context = match context {
            Ok(context) => context,
            Err(error) => {
                let scope = upstream.scope;
                self.count_secrets_not_ready(scope, false);
                return Err(format!("TLS_error:|{error}").into());
            }
        };
        let asked = state.transport(upstream.transport);
        let hostname = Some(&*host.hostname).filter(|name| config.auto_host_sni && !name.is_empty());
        let is_name = |name: &&str| cluster.http.auto_sni && name.parse::<IpAddr>().is_err();
        let server_name = asked.server_name.filter(is_name).or(hostname).unwrap_or(&config.sni);
        let own = Some(server_name).filter(|_| config.auto_sni_san_validation);
        let validated = asked.server_name.filter(|_| cluster.http.auto_san_validation).or(own);
        let fallback = match (&upstream.carries, config.common.alpn.is_empty()) {
            (Carries::Http(_), true) if upstream.automatic => &self.tls.offers.either[..],
            (Carries::Http(_), true) => &self.tls.offers.http1[..],
            (Carries::Http2(_), true) => &self.tls.offers.http2[..],
            (Carries::Http(_) | Carries::Http2(_), false) | (Carries::Tcp(_), _) => &[],
        };
        let options = ClientOptions {
            server_name,
            alpn: asked.alpn.map(|list| &list[..]).or(Some(fallback).filter(|list| !list.is_empty())),
            extra_dns_san: validated.filter(|name| !name.is_empty()),
        };
        let session = Session::client(&context, options, &mut wire)
            .map_err(|error| Rc::from(Failure::Session(error).words()))?;
        let link = upstream.link.as_mut().ok_or_else(gone)?;
        upstream.handshaking = true;
        link.secure(session, wire, &mut self.io);
        link.set_single(true);
        link.resume(&mut self.io);
        Ok(true)
    }

    pub(crate) fn secure_upstream_data(&mut self, key: Key, data: Filled) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Some(link) = &mut upstream.link else { return };
        let mut pieces = std::mem::take(&mut self.pieces);
        let opened = link.open(data, &mut pieces, &mut self.io);
        if opened.established {
            self.upstream_secured(key);
        }
        for piece in pieces.drain(..) {
            self.upstream_plaintext(key, piece);
        }
        self.pieces = pieces;
        let Some((scope, handshaking)) = self.upstreams.get(key).map(|u| (u.scope, u.handshaking)) else {
            return;
        };
        if let Some(failure) = &opened.error {
            self.count_tls_failure(scope, failure);
            if handshaking {
                return self.connect_failed(key, IoError::RESET, Some(failure.words().into()));
            }
            self.upstream_ended(key, Err(IoError::RESET));
        } else if opened.close_notify {
            match handshaking {
                true => self.upstream_handshake_abandoned(key),
                false => self.upstream_ended(key, Ok(())),
            }
        }
    }

    /// The handshake is through: the pool learns of the connection.
    fn upstream_secured(&mut self, key: Key) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        upstream.handshaking = false;
        let scope = upstream.scope;
        if let Some(link) = &mut upstream.link {
            link.set_single(false);
            if let Some(facts) = link.tls_facts().cloned() {
                self.count_handshake(scope, &facts);
            }
        }
        self.upstream_ready(key);
    }

    /// The endpoint went away during the handshake.
    pub(crate) fn upstream_handshake_abandoned(&mut self, key: Key) {
        self.connect_failed(key, IoError::RESET, Some("connection reset during the TLS handshake".into()));
    }
}

/// Appends the header that tells the endpoint whose connection it is (`ProxyProtocolUpstreamTransport`).
pub(crate) fn proxy_protocol_header(
    options: &UpstreamProxyProtocol,
    client: Option<(SocketAddr, SocketAddr)>,
    tlvs: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Rc<str>> {
    let addresses = client.map(|(source, destination)| proxy_protocol::Addresses { source, destination });
    match options.version {
        ProxyProtocolVersion::V1 => proxy_protocol::encode_v1(addresses, out),
        ProxyProtocolVersion::V2 => {
            let added = options.added_tlvs.iter().map(|(kind, value)| (*kind, &value[..]));
            // What is added takes the place of the client's.
            let taken = |kind: u8| options.added_tlvs.iter().any(|(added, _)| *added == kind);
            let passed =
                proxy_protocol::tlvs(tlvs).filter(|tlv| options.passes(tlv.kind) && !taken(tlv.kind));
            let all = added.chain(passed.map(|tlv| (tlv.kind, tlv.value)));
            proxy_protocol::encode_v2(addresses, all, out).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Begins a handshake that no request asked for: of a check, or a stream of load reports.
pub(crate) fn own_session(
    context: &Rc<ClientContext>,
    config: &UpstreamTls,
    hostname: &str,
    alpn: Option<&[Arc<[u8]>]>,
    wire: &mut Vec<u8>,
) -> Result<Session, Rc<str>> {
    let hostname = Some(hostname).filter(|name| config.auto_host_sni && !name.is_empty());
    let server_name = hostname.unwrap_or(&config.sni);
    let options = ClientOptions {
        server_name,
        alpn,
        extra_dns_san: Some(server_name).filter(|name| config.auto_sni_san_validation && !name.is_empty()),
    };
    Session::client(context, options, wire).map_err(|error| Rc::from(error.to_string()))
}

/// The transport socket for an endpoint with this metadata, and its position: 0 is the cluster's own.
pub(crate) fn transport<'c>(
    cluster: &'c millrace_config::Cluster,
    metadata: &[(std::sync::Arc<str>, std::sync::Arc<str>)],
) -> (usize, &'c UpstreamTransport) {
    let matching = cluster.transport_matches.iter().position(|one| one.matches(metadata));
    match matching.and_then(|at| Some((at + 1, &cluster.transport_matches.get(at)?.transport))) {
        Some(found) => found,
        None => (0, &cluster.transport),
    }
}
