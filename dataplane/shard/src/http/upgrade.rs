//! Upgrades (WebSocket) and CONNECT: which are allowed, and how a stream becomes a tunnel.

use millrace_base::{Key, ResponseFlag};
use millrace_config::{ClusterId, HttpConnectionManager, RouteForward};
use millrace_http::Method;
use millrace_http::h1::{BodyFraming, upgrade_type};
use millrace_observe::stats::{cluster as cluster_metric, host as host_metric};
use millrace_upstream::{HostId, PoolFailure, TryResult};

use super::HttpUpstream;
use super::attempt::priority;
use super::request::http;
use super::stream::{Attempt, Stream};
use crate::shard::Shard;
use crate::upstream::{Carries, Opening};

impl Stream {
    /// True when the request asks for something other than HTTP on this connection.
    pub(super) fn wants_upgrade(&self) -> bool {
        self.request.method_kind() == Method::Connect || upgrade_type(&self.request.headers).is_some()
    }

    /// An upgrade to WebSocket that was let through.
    pub(super) fn is_websocket(&self) -> bool {
        self.upgrade
            && upgrade_type(&self.request.headers).is_some_and(|t| t.eq_ignore_ascii_case(b"websocket"))
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
    /// Opens the endpoint's connection of a CONNECT that ends here.
    pub(super) fn open_tunnel(&mut self, id: Key, cluster: ClusterId, host: HostId) {
        let Some(stream) = self.streams.get(id) else { return };
        let priority = priority(stream.facts.high_priority);
        let Some(state) = self.clusters.get_mut(cluster) else { return };
        let pool = state.acquire_tcp(host, priority, &mut self.actions);
        self.run_pool_actions(cluster);
        let pool = match pool {
            Ok(pool) => pool,
            Err(failure) => return self.pool_failed(id, failure),
        };
        let now = self.io.now;
        let carries = Carries::Http(Box::new(HttpUpstream::tunnel(id, now)));
        let conn = self.open_upstream(cluster, pool, host, Opening::of(carries));
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.facts.times.upstream_connect_begin.get_or_insert(now);
        match conn {
            Some(conn) => stream.attempt = Attempt::Connecting(conn),
            None => {
                if let Some(state) = self.clusters.get_mut(cluster) {
                    state.connect_failed(pool, &mut self.actions);
                }
                self.run_pool_actions(cluster);
                self.pool_failed(id, PoolFailure::HostGone);
            }
        }
    }

    /// The endpoint's connection is there: the answer to CONNECT is our own `200`.
    pub(crate) fn tunnel_opened(&mut self, id: Key, conn: Key) {
        let now = self.io.now;
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Some(stream) = self.streams.get_mut(id) else { return };
        if let Carries::Http(http) = &mut upstream.carries {
            http.head_done = true;
        }
        stream.attempt = Attempt::Sent(conn);
        let facts = &mut stream.facts;
        facts.upstream_local.clone_from(&upstream.local);
        facts.upstream_tls = upstream.link.as_ref().and_then(|link| link.tls_facts()).cloned();
        facts.upstream_connection = Some(upstream.id);
        facts.times.upstream_connect_end.get_or_insert(now);
        facts.times.upstream_pool_ready = Some(now);
        facts.times.upstream_tx_begin.get_or_insert(now);
        facts.times.upstream_rx_begin.get_or_insert(now);
        let (scope, host_scope) = (upstream.scope, upstream.host_scope);
        self.stats.inc(scope, cluster_metric::UPSTREAM_RQ_TOTAL);
        self.stats.gauge_inc(scope, cluster_metric::UPSTREAM_RQ_ACTIVE);
        self.stats.inc(host_scope, host_metric::RQ_TOTAL);
        self.stats.inc(host_scope, host_metric::RQ_SUCCESS);
        self.stats.gauge_inc(host_scope, host_metric::RQ_ACTIVE);
        stream.response.clear();
        stream.response.status = 200;
        self.report_try(id, TryResult::Connected);
        self.report_try(id, TryResult::Status(200));
        self.end_retry_slot(id);
        self.send_response_head(conn, id, BodyFraming::Tunnel);
    }

    /// The endpoint's connection could not be had, and is gone already.
    pub(crate) fn tunnel_failed(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.attempt = Attempt::None;
        self.pool_failed(id, PoolFailure::ConnectFailed);
    }

    /// Nobody waits for this connection any more.
    pub(super) fn forget_tunnel(&mut self, conn: Key) {
        if let Some(Carries::Http(http)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries) {
            http.stream = None;
        }
    }

    /// The upstream agreed: from here on bytes pass both ways as they come.
    pub(super) fn become_tunnel(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.tunnel = true;
        stream.request_complete = false;
        stream.flow.request_end_sent = false;
        stream.request_framing = BodyFraming::Tunnel;
        stream.request_body.reset(BodyFraming::Tunnel);
        stream.response_deadline = millrace_base::Time::MAX;
        stream.try_deadline = millrace_base::Time::MAX;
        stream.retry = None;
        match stream.client {
            Some(_) => self.flush_request(id),
            None => {
                let key = stream.downstream;
                self.run_later(key);
            }
        }
    }

    /// The client closed its half of a tunnel; acts once everything that came before was passed on.
    pub(super) fn tunnel_request_ended(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let input = self.downstreams.get_mut(stream.downstream).and_then(http).map(|h| &h.input);
        let unread = match stream.client {
            Some(_) => !stream.flow.request_queue.is_empty(),
            None => input.is_none_or(|i| !i.is_empty()),
        };
        if !stream.tunnel || stream.request_complete || unread {
            return;
        }
        stream.request_complete = true;
        if !stream.response_complete && stream.client.is_none() {
            stream.flag(ResponseFlag::DownstreamConnectionTermination);
            stream.facts.details = "downstream_remote_disconnect".into();
        }
        if !stream.flow.request_end_sent {
            self.end_request(id);
        }
        self.tunnel_settle(id);
    }

    /// Ends a tunnel once both halves are closed and the endpoint's queue has left; the client's queue is
    /// flushed by its connection's own end.
    pub(super) fn tunnel_settle(&mut self, id: Key) {
        let Some(stream) = self.streams.get(id) else { return };
        let link = stream.upstream().and_then(|u| self.upstreams.get(u)).and_then(|u| u.link.as_ref());
        let left = link.is_none_or(|l| l.queued() == 0);
        if !(stream.tunnel && stream.request_complete && stream.response_complete) {
            return;
        }
        if !left {
            return self.await_upstream(id);
        }
        self.h2_leave_upstream(id);
        self.finish_stream(id);
    }
}
