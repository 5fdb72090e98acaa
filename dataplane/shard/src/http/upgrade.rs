//! Upgrades (WebSocket) and CONNECT: which are allowed, and how a stream becomes a tunnel.

use millrace_base::Key;
use millrace_config::{HttpConnectionManager, RouteForward};
use millrace_http::Method;
use millrace_http::h1::{BodyFraming, upgrade_type};
use millrace_observe::stats::http as metric;

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

    /// The client closed its half of a tunnel.
    pub(super) fn tunnel_request_ended(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.request_complete = true;
        let over = stream.response_complete;
        if let Some(link) =
            stream.upstream().and_then(|u| self.upstreams.get_mut(u)).and_then(|u| u.link.as_mut())
        {
            link.shutdown(&mut self.io);
        }
        if over {
            self.finish_stream(id);
        }
    }
}
