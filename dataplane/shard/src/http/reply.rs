//! Answers of our own, and the end of streams that have no good one.

use millrace_base::{Key, ResponseFlag, Written};
use millrace_config::{LocalResponsePolicy, RouteAction};
use millrace_filter::http::LocalReply;
use millrace_filter::http::custom_response;
use millrace_filter::http::router::mutation::Levels;
use millrace_filter::http::router::response::{self as router, ResponseFacts};
use millrace_filter::http::router::rewrite::rewrite;
use millrace_http::ResponseHead;
use millrace_http::h1::BodyFraming;
use millrace_http::h2::ErrorCode;
use millrace_observe::access_log::StreamInfo;
use millrace_observe::stats::http as metric;

use super::Closing;
use super::render::Renderer;
use super::request::http;
use crate::shard::Shard;
use crate::upstream::EndedBy;

impl Shard {
    /// Answers the request ourselves. Nothing of another answer may have been sent.
    pub(super) fn local_reply(&mut self, id: Key, reply: LocalReply) {
        self.drop_attempt(id, EndedBy::Local);
        self.end_retry_slot(id);
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.side.is_some() {
            return self.side_reply(id, reply);
        }
        debug_assert!(!stream.response_started, "one answer per request");
        if let Some(flag) = reply.flag {
            stream.flag(flag);
        }
        stream.local_reply = true;
        stream.facts.details = reply.details.clone();
        // Only the router's replies stand for an answer of the cluster, under their own status for gRPC.
        // Behind an interim answer they count no more, as in Envoy.
        let counts = reply.by_router && stream.informational == 0;
        stream.facts.cluster_status.get_or_insert(if counts { reply.status } else { 0 });
        let key = stream.downstream;
        let over_h2 = stream.client.is_some();
        // As in Envoy, a bad request ends its connection, whoever calls it so.
        if (reply.close || reply.status == 400 || !stream.request_complete)
            && !over_h2
            && let Some(http) = self.downstreams.get_mut(key).and_then(http)
        {
            http.closing = Closing::AfterResponse;
        }
        let mut body = std::mem::take(&mut self.reply_body);
        self.fill_reply(id, &reply, None, &mut body);
        self.ask_filters(id, |filters, parts, env| filters.local_reply(parts.response, &mut body, env));
        self.report_filters(id);
        match self.take_instead(id) {
            Some(instead) => self.answer_instead(id, instead, body),
            None => self.send_reply(id, body),
        }
    }

    /// Sends the head that the stream has with this body, and nothing behind it.
    pub(super) fn send_reply(&mut self, id: Key, mut body: Vec<u8>) {
        let Some(stream) = self.streams.get(id) else { return };
        let (key, over_h2) = (stream.downstream, stream.client.is_some());
        let framing =
            if body.is_empty() { BodyFraming::None } else { BodyFraming::Length(body.len() as u64) };
        let ends = body.is_empty() || self.streams.get(id).is_some_and(|s| s.is_head);
        self.write_response_head(id, framing, ends);
        if over_h2 {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.flow.response_end = true;
                // What came of another answer, and its trailers, are not part of this one.
                stream.flow.response_queue.clear();
                stream.trailers.clear();
                if !ends {
                    stream.flow.response_queue.push_bytes(&body);
                }
            }
            body.clear();
            self.reply_body = body;
            return self.flush_response(id);
        }
        if let Some(stream) = self.streams.get_mut(id) {
            if !stream.is_head && !body.is_empty() {
                stream.facts.bytes.sent += body.len() as u64;
                stream.facts.bytes.downstream_wire_sent += body.len() as u64;
                if let Some(downstream) = self.downstreams.get_mut(key) {
                    downstream.link.write(&mut self.io, |out| out.push_bytes(&body));
                }
            }
            stream.response_complete = true;
        }
        body.clear();
        self.reply_body = body;
        self.finish_stream(id);
    }

    /// Makes the head and the body; the route's response mutations apply to local replies, too. Replies of a policy that
    /// replace an answer, of this status, have those of forwarding routes only, as in Envoy.
    pub(super) fn fill_reply(
        &mut self,
        id: Key,
        reply: &LocalReply,
        policy: Option<(&LocalResponsePolicy, u16)>,
        body: &mut Vec<u8>,
    ) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let options = stream.options.clone();
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return };
        let (request, facts, grpc) = (&stream.request, &stream.facts, stream.is_grpc);
        let (names, snapshot, scratch) = (&self.names, &self.snapshot, &mut self.scratch);
        let attempts = if reply.by_router { facts.attempts } else { 0 };
        let modify = |head: &mut ResponseHead| {
            let renderer =
                Renderer { downstream, options: options.as_deref(), facts, shard: names, snapshot };
            if let (Some(options), Some(plan)) = (&options, facts.plan)
                && let Some(config) = &options.routes
                && let Some(selected) = plan.selected(config)
                && (policy.is_none() || matches!(selected.route.action, RouteAction::Forward(_)))
            {
                let levels = Levels { config, selected, weighted: plan.weighted_entry(options) };
                let router_facts = ResponseFacts { attempts, service_time: None };
                router::finalize(&levels, options.router, router_facts, &renderer, request, head, scratch);
            }
            if let Some((policy, replaced)) = policy {
                custom_response::change_reply(policy, replaced, &renderer, request, head);
            }
        };
        let local_replies = options.as_ref().and_then(|options| options.hcm.local_replies.as_deref());
        let Some(config) = local_replies else {
            return reply.write(grpc, &mut stream.response, body, modify, LocalReply::unchanged);
        };
        let random = self.rng.next_u64();
        let renderer = Renderer { downstream, options: options.as_deref(), facts, shard: names, snapshot };
        let notes = facts.state.read();
        let info = StreamInfo {
            protocol: Some(request.version),
            response_code_details: Some(&*reply.details),
            written: Written::of(notes.as_deref(), downstream.filter_state()),
            ..renderer.info()
        };
        reply.write(grpc, &mut stream.response, body, modify, |head, body| {
            rewrite(config, &renderer, (request, head), body, &info, random)
        });
    }

    /// Answers if that is still possible, else ends the stream so that the client notices.
    pub(super) fn abort_or_reply(&mut self, id: Key, reply: LocalReply) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.response_started {
            return self.local_reply(id, reply);
        }
        if let Some(flag) = reply.flag {
            stream.flag(flag);
        }
        stream.facts.details = reply.details;
        self.abort_stream(id, EndedBy::Local);
    }

    /// Ends a stream whose response cannot be completed: both connections are closed.
    pub(super) fn abort_stream(&mut self, id: Key, by: EndedBy) {
        let Some(stream) = self.streams.get(id) else { return };
        if stream.side.is_some() {
            self.drop_attempt(id, by);
            return self.abandon_side(id);
        }
        let key = stream.downstream;
        let started = stream.response_started && stream.asks_grpc();
        // A body that ends with its connection must not look whole: only a reset tells the client.
        let unbounded = stream.response_started && stream.response_framing == BodyFraming::UntilClose;
        self.drop_attempt(id, by);
        if let Some(http) = self.downstreams.get_mut(key).and_then(http) {
            let scope = http.hcm.scope;
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_TX_RESET);
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_RX_RESET);
            if started {
                self.stats.inc(scope, metric::RQ_RESET_AFTER_DOWNSTREAM_RESPONSE_STARTED);
            }
        }
        if self.streams.get(id).is_some_and(|s| s.client.is_some()) {
            self.h2_reset_client(id, ErrorCode::Internal);
            return self.end_stream(id);
        }
        self.end_stream(id);
        if unbounded {
            self.http_abort(key);
        } else {
            self.http_close_after_flush(key);
        }
    }

    /// The client went away with a request open.
    pub(super) fn abandon_by_client(&mut self, id: Key, key: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.flag(ResponseFlag::DownstreamConnectionTermination);
        stream.facts.details = "downstream_remote_disconnect".into();
        self.drop_attempt(id, EndedBy::Local);
        if let Some(scope) = self.http_scope(key) {
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_RX_RESET);
            self.stats.inc(scope, metric::DOWNSTREAM_CX_DESTROY_ACTIVE_RQ);
            self.stats.inc(scope, metric::DOWNSTREAM_CX_DESTROY_REMOTE_ACTIVE_RQ);
        }
        self.end_stream(id);
        self.http_close(key, false);
    }
}
