//! Upgrades (WebSocket) and CONNECT: which are allowed, and how a stream becomes a tunnel.

use millrace_base::Key;
use millrace_config::{HttpConnectionManager, RouteForward};
use millrace_http::Method;
use millrace_http::h1::{BodyFraming, upgrade_type};
use millrace_observe::stats::http as metric;

use super::request::http;
use super::stream::Stream;
use crate::shard::Shard;

impl Stream {
    /// True when the request asks for something other than HTTP on this connection.
    pub(super) fn wants_upgrade(&self) -> bool {
        self.request.method_kind() == Method::Connect || upgrade_type(&self.request.headers).is_some()
    }

    /// The route's `upgrade_configs` decide, else the connection manager's.
    pub(super) fn upgrade_allowed_on(&self, forward: &RouteForward, hcm: &HttpConnectionManager) -> bool {
        let kind: &[u8] = match self.request.method_kind() {
            Method::Connect => b"connect",
            _ => upgrade_type(&self.request.headers).unwrap_or_default(),
        };
        let named = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
        match forward.upgrades.iter().find(|(name, _)| named(name)) {
            Some((_, enabled)) => *enabled,
            None => hcm.upgrades.iter().any(|name| named(name)),
        }
    }
}

impl Shard {
    /// The upstream agreed: from here on bytes pass both ways as they come.
    pub(super) fn become_tunnel(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.tunnel = true;
        stream.request_complete = false;
        stream.request_framing = BodyFraming::Tunnel;
        stream.request_body.reset(BodyFraming::Tunnel);
        stream.response_deadline = millrace_base::Time::MAX;
        stream.try_deadline = millrace_base::Time::MAX;
        stream.retry = None;
        let key = stream.downstream;
        if let Some(scope) = self.http_scope(key) {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_UPGRADES_TOTAL);
            self.stats.gauge_inc(scope, metric::DOWNSTREAM_CX_UPGRADES_ACTIVE);
        }
        self.run_later(key);
    }

    /// The client closed its half of a tunnel; acts once everything that came before was passed on.
    pub(super) fn tunnel_request_ended(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let input = self.downstreams.get_mut(stream.downstream).and_then(http).map(|h| &h.input);
        if !stream.tunnel || stream.request_complete || input.is_none_or(|i| !i.is_empty()) {
            return;
        }
        stream.request_complete = true;
        if let Some(link) =
            stream.upstream().and_then(|u| self.upstreams.get_mut(u)).and_then(|u| u.link.as_mut())
        {
            link.shutdown(&mut self.io);
        }
        self.tunnel_settle(id);
    }

    /// Ends a tunnel once both halves are closed and the endpoint's queue has left; the client's queue is
    /// flushed by its connection's own end.
    pub(super) fn tunnel_settle(&mut self, id: Key) {
        let Some(stream) = self.streams.get(id) else { return };
        let link = stream.upstream().and_then(|u| self.upstreams.get(u)).and_then(|u| u.link.as_ref());
        let left = link.is_none_or(|l| l.queued() == 0);
        if stream.tunnel && stream.request_complete && stream.response_complete && left {
            self.finish_stream(id);
        }
    }
}
