//! Overload as requests and connections of HTTP see it.

use millrace_base::{Key, ResponseFlag};
use millrace_config::{HttpConnectionManager, ShedPoint};
use millrace_filter::http::LocalReply;
use millrace_filter::http::connection_manager::reject;
use millrace_http::HeaderId;
use millrace_http::h2::GoAway;
use millrace_observe::stats::http as metric;

use super::request::http;
use crate::shard::Shard;

impl Shard {
    /// The answer to a request that is not even looked at, if it gets one. Call it only while somebody asks for something.
    pub(super) fn overload_answer(&mut self, key: Key, id: Key) -> Option<Box<LocalReply>> {
        let downstream = self.downstreams.get(key)?;
        if downstream.origin.listener.bypasses_overload {
            return None;
        }
        let stream = self.streams.get(id)?;
        let (options, over_h2) = (stream.options.clone()?, stream.client.is_some());
        let hcm = &options.hcm;
        if !over_h2 && self.sheds(ShedPoint::Http1AbortDispatch) {
            if let Some(stream) = self.streams.get_mut(id) {
                // As in Envoy, where nothing of it was read.
                stream.request.clear();
                (stream.is_grpc, stream.is_head, stream.request_complete) = (false, false, false);
            }
            self.stats.inc(hcm.scope, metric::DOWNSTREAM_RQ_OVERLOAD_CLOSE);
            let reply = LocalReply::new(500, "Internal Server Error", "overload");
            return Some(reply.flagged(ResponseFlag::DownstreamProtocolError).closing().into());
        }
        let stops = self.overload.levels().stop_requests.strikes(&mut self.rng);
        if stops || self.sheds(ShedPoint::DecodeHeaders) {
            self.stats.inc(hcm.scope, metric::DOWNSTREAM_RQ_OVERLOAD_CLOSE);
            return Some(overloaded(hcm).into());
        }
        None
    }

    /// The answer to a request that has passed its filters and has a cluster to go to, if it is not to go there.
    pub(super) fn router_sheds(
        &mut self,
        key: Key,
        id: Key,
        hcm: &HttpConnectionManager,
    ) -> Option<Box<LocalReply>> {
        let cluster = self.streams.get(id)?.facts.plan?.cluster?;
        if self.snapshot.cluster(cluster).is_none() || !self.sheds_of(key, ShedPoint::FilterCheck) {
            return None;
        }
        self.streams.get_mut(id)?.facts.attempts = 1;
        self.stats.inc(hcm.scope, metric::RQ_OVERLOAD_LOCAL_REPLY);
        Some(reject::overloaded().into())
    }

    /// Whether the connection ends with the response at hand: `disable_http_keepalive`.
    pub(super) fn refuses_keepalive(&mut self, key: Key, hcm: &HttpConnectionManager) -> bool {
        let Some(downstream) = self.downstreams.get(key) else { return false };
        let refused = !downstream.origin.listener.bypasses_overload
            && self.overload.levels().disable_keepalive.strikes(&mut self.rng);
        if refused {
            self.stats.inc(hcm.scope, metric::DOWNSTREAM_CX_OVERLOAD_DISABLE_KEEPALIVE);
        }
        refused
    }

    /// What load shedding does to a connection of which bytes came; true when it is over.
    pub(super) fn shed_connection(&mut self, key: Key) -> bool {
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return true };
        let (fresh, scope) = (http.undecided && http.head_since.is_none(), http.hcm.scope);
        if fresh && self.sheds_of(key, ShedPoint::CreatingCodec) {
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_OVERLOAD_CLOSE);
            self.http_close(key, true);
            return true;
        }
        if self.sheds_of(key, ShedPoint::Http2GoAwayAndClose) {
            // The version decides how the client is told.
            self.decide_version(key);
            self.announce_end(key);
            self.http_stop(key);
            return true;
        }
        if self.sheds_of(key, ShedPoint::Http2GoAway) {
            self.decide_version(key);
            self.http_drain_by_response(key);
        }
        false
    }

    fn decide_version(&mut self, key: Key) {
        let http = self.downstreams.get_mut(key).and_then(http);
        if http.is_some_and(|http| http.undecided && !http.input.is_empty()) {
            self.sniff_version(key);
        }
    }

    /// The first of two GOAWAY frames.
    fn announce_end(&mut self, key: Key) {
        let http = self.downstreams.get_mut(key).and_then(http);
        if let Some(h2) = http.and_then(|http| http.h2.as_deref_mut()) {
            h2.codec.goaway(GoAway::Drain);
        }
    }

    /// GOAWAY now, or `connection: close` with the response at hand or the next one.
    fn http_drain_by_response(&mut self, key: Key) {
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        match http.h2.is_some() {
            true => self.h2_drain(key),
            false => http.drains = true,
        }
    }
}

fn overloaded(hcm: &HttpConnectionManager) -> LocalReply {
    let mut reply = reject::overloaded();
    if hcm.append_local_overload {
        let name = HeaderId::XEnvoyLocalOverloaded.name();
        reply.headers = Box::new([(name.as_bytes().into(), b"true".to_vec())]);
    }
    reply
}
