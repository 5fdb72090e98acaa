//! HTTP filters beside the router: where a stream's heads, bytes and trailers meet them.
//!
//! Most requests meet none (`Stream::filters` is `None`). Bytes that a filter replaces go through the stream's queues,
//! whatever the two sides speak; everything else passes as without filters. What is called when stands in
//! `millrace_filter::http::stream_filters`.

use millrace_base::{Key, Time};
use millrace_filter::http::custom_response::Instead;
use millrace_filter::http::router::outcome;
use millrace_filter::http::stream_filters::{Env, ResponseEnv, Start, Verdict};
use millrace_filter::http::{BodyUse, LocalReply, StreamFilters};
use millrace_http::h1::BodyFraming;
use millrace_http::{HeaderId, HeaderMap, ResponseHead};
use millrace_observe::stats::{host as host_metric, http as http_metric};

use super::custom::Restarts;
use super::render::Renderer;
use super::request::http;
use super::routing::Next;
use super::stream::{Attempt, Plan};
use super::{HttpOptions, Stream, body_framing};
use crate::address::inet;
use crate::health_checks::View;
use crate::named_hosts::{NamesOf, Waiter};
use crate::shard::Shard;
use crate::upstream::EndedBy;

/// What becomes of the head of a response.
pub(super) enum HeadVerdict {
    /// It is the client's; its status was this before.
    Passes { before: u16 },
    /// It must wait.
    Waits,
    /// The client gets something else.
    GivesWay(Instead),
}

/// What filters may change of a stream whose request has left.
pub(super) struct Parts<'s> {
    pub(super) response: &'s mut ResponseHead,
    pub(super) trailers: &'s mut HeaderMap,
    pub(super) request_trailers: &'s mut HeaderMap,
}

/// The configuration that the filters of a request work under.
fn of_plan(options: &HttpOptions, plan: Option<Plan>) -> Start<'_> {
    let config = options.routes.as_deref();
    Start {
        selected: plan.zip(config).and_then(|(plan, config)| plan.selected(config)),
        weighted: plan.and_then(|plan| plan.weighted_entry(options)),
        ..Start::of(&options.hcm, config)
    }
}

impl Stream {
    /// What becomes of the request's bytes.
    pub(super) fn request_use(&self) -> BodyUse {
        self.filters.as_ref().map_or(BodyUse::Bypass, |filters| filters.request_use())
    }

    /// What becomes of the response's bytes.
    pub(super) fn response_use(&self) -> BodyUse {
        self.filters.as_ref().map_or(BodyUse::Bypass, |filters| filters.response_use())
    }

    /// The endpoint is asked for gRPC: by the client itself (`is_grpc`, which local replies go by), or by a filter.
    pub(super) fn asks_grpc(&self) -> bool {
        self.is_grpc || (self.filters.is_some() && millrace_route::is_grpc(&self.request))
    }

    /// The request is a health check of this proxy.
    pub(super) fn is_health_check(&self) -> bool {
        self.filters.as_ref().is_some_and(|filters| filters.is_health_check())
    }

    /// The request waits until all of it is here.
    pub(super) fn holds_request(&self) -> bool {
        self.filters.as_ref().is_some_and(|filters| filters.holds_request())
    }

    /// The response may not leave faster than at some rate.
    pub(super) fn is_paced(&self) -> bool {
        self.filters.as_ref().is_some_and(|filters| filters.is_paced())
    }

    /// Frames the body as the head has it after the filters.
    fn follow_length(&mut self) {
        let length = body_framing(&self.request.headers, false);
        match (self.request_framing, length) {
            // The body will have another length.
            (BodyFraming::Length(_), BodyFraming::Chunked) => self.request_framing = BodyFraming::Chunked,
            // It was collected.
            (BodyFraming::Chunked, BodyFraming::Length(_)) if self.request_complete => {
                match self.request_trailers.is_empty() {
                    true => self.request_framing = length,
                    false => _ = self.request.headers.remove_id(HeaderId::ContentLength),
                }
            }
            _ => {}
        }
    }

    /// The head of the response waits for a filter.
    pub(super) fn holds_response(&self) -> bool {
        self.filters.as_ref().is_some_and(|filters| filters.holds_response())
    }
}

impl Shard {
    /// Shows the head of the request to the filters of its chain, from the beginning or from where they stopped.
    pub(super) fn run_filters(&mut self, id: Key) -> Verdict {
        let Some(stream) = self.streams.get_mut(id) else { return Verdict::Continue };
        let Some(options) = stream.options.clone() else { return Verdict::Continue };
        if options.hcm.http_filters.len() < 2 {
            return Verdict::Continue;
        }
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return Verdict::Continue };
        let Some(http) = http(downstream) else { return Verdict::Continue };
        let mut connection = std::mem::take(&mut http.filters);
        let cluster =
            stream.facts.plan.and_then(|plan| plan.cluster).and_then(|id| self.snapshot.cluster(id));
        let remote = stream.facts.remote.as_ref().unwrap_or(&downstream.addresses.peer);
        let health = View { shared: &self.shared, snapshot: &self.snapshot };
        let start = Start {
            health: Some(&health),
            cluster: cluster.map(|cluster| &*cluster.name),
            forward_port: cluster
                .and_then(|cluster| cluster.discovery.forward_proxy())
                .map(|own| own.default_port),
            remote: inet(remote).map(|address| address.ip()),
            node_cluster: &self.snapshot.node.cluster,
            buffer_limit: downstream.origin.listener.buffer_limit_bytes,
            whole: (stream.request_complete && stream.flow.request_queue.is_empty())
                || stream.wants_upgrade(),
            ..of_plan(&options, stream.facts.plan)
        };
        let renderer = Renderer {
            downstream,
            options: Some(&options),
            facts: &stream.facts,
            shard: &self.names,
            snapshot: &self.snapshot,
        };
        let mut flags = stream.facts.flags;
        let mut names =
            NamesOf { hosts: &mut self.named_hosts, shared: &self.shared, who: Waiter::Stream(id) };
        let mut env = Env {
            now: self.io.now,
            rng: &mut self.rng,
            wall: self.wall,
            stats: &mut self.stats,
            render: &renderer,
            scratch: &mut self.scratch,
            connection: &mut connection,
            flags: &mut flags,
            shard: &mut self.filter_states,
            state: &stream.facts.state,
            connection_state: downstream.filter_state(),
            names: &mut names,
        };
        let verdict = StreamFilters::begin(&mut stream.filters, &start, &mut env, &mut stream.request);
        stream.facts.flags = flags;
        if let Some(http) = self.downstreams.get_mut(stream.downstream).and_then(super::request::http) {
            http.filters = connection;
        }
        stream.follow_length();
        verdict
    }

    /// The request meets no filter; its answer passes them nevertheless, as in Envoy.
    pub(super) fn join_filters(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(options) = stream.options.clone() else { return };
        StreamFilters::join_refused(&mut stream.filters, &of_plan(&options, None), &mut self.filter_states);
    }

    /// The time that a filter made the request, its body, or the rest of its response, wait until is here.
    pub(super) fn filters_let_go(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.filters_resume = Time::MAX;
        if stream.attempt != Attempt::Naming {
            self.leave_host(id);
        }
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.filters.as_ref().is_some_and(|filters| filters.waits()) {
            return self.resume_filters(id);
        }
        let started = stream.response_started;
        if !stream.flow.request_queue.is_empty() {
            self.flush_request(id);
        }
        if started {
            self.resume_response_of(id);
        }
    }

    /// All of the request is here: whoever held it lets it go on.
    pub(super) fn held_is_whole(&mut self, id: Key) {
        if self.holds_whole(id) {
            self.resume_filters(id);
        }
    }

    /// A filter holds the request, all of which is here.
    fn holds_whole(&self, id: Key) -> bool {
        self.streams.get(id).is_some_and(|stream| stream.holds_request() && stream.request_complete)
    }

    fn resume_filters(&mut self, id: Key) {
        let Some(stream) = self.streams.get(id) else { return };
        let key = stream.downstream;
        let unseen = stream.holds_request() || !stream.flow.request_queue.is_empty();
        let next = match self.meet_filters(key, id) {
            Ok(next) => next,
            Err(reply) => return self.local_reply(id, *reply),
        };
        if unseen && !self.catch_up(id) {
            return;
        }
        match next {
            Next::Go => self.go_on(id),
            // A filter behind wants the request whole, too, and it is.
            Next::Wait if self.holds_whole(id) => self.resume_filters(id),
            Next::Wait => self.hold_more(key, id),
        }
    }

    /// A filter behind one that made the request wait holds it: the rest of it is read now.
    fn hold_more(&mut self, key: Key, id: Key) {
        let Some(stream) = self.streams.get(id).filter(|stream| stream.holds_request()) else { return };
        match stream.client {
            Some(_) => self.h2_release_request(id),
            None => self.run_later(key),
        }
    }

    /// Shows the bytes that are here to the filters that had not seen them. False when the stream is over.
    fn catch_up(&mut self, id: Key) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        if stream.filters.is_none() {
            return true;
        }
        let (held, end) = (stream.flow.request_queue.to_vec(), stream.request_complete);
        let mut out = std::mem::take(&mut self.filtered);
        let verdict = self.ask_filters(id, |filters, parts, env| {
            filters.catch_up((&held, end), parts.request_trailers, &mut out, env)
        });
        let (Some(stream), Some(verdict)) = (self.streams.get_mut(id), verdict) else { return false };
        if let Ok(true) = verdict {
            stream.flow.request_queue.clear();
            stream.flow.request_queue.push_bytes(&out);
        }
        out.clear();
        self.filtered = out;
        self.obey(id, verdict.map(|_| ()))
    }

    /// The client gets more of the response when its rate allows.
    pub(super) fn await_pace(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(filters) = &stream.filters else { return };
        stream.filters_resume = stream.filters_resume.min(filters.response_resumes_at());
        stream.active = self.io.now;
        self.rearm_stream(id);
    }

    /// The endpoint gets more of the request when its rate allows.
    pub(super) fn await_request_pace(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(filters) = &stream.filters else { return };
        stream.filters_resume = stream.filters_resume.min(filters.request_resumes_at());
        stream.active = self.io.now;
        self.rearm_stream(id);
    }

    /// The filters may change the trailers of the request.
    pub(super) fn filter_request_trailers(&mut self, id: Key) {
        if self.streams.get(id).is_some_and(|stream| !stream.request_trailers.is_empty()) {
            self.ask_filters(id, |filters, parts, env| filters.request_trailers(parts.request_trailers, env));
        }
    }

    /// Calls the filters of a stream, if it has any, with what they may read and change.
    pub(super) fn ask_filters<T>(
        &mut self,
        id: Key,
        call: impl FnOnce(&mut StreamFilters, Parts<'_>, &mut ResponseEnv<'_>) -> T,
    ) -> Option<T> {
        let stream = self.streams.get_mut(id)?;
        let options = stream.options.clone()?;
        let downstream = self.downstreams.get(stream.downstream)?;
        let start = of_plan(&options, stream.facts.plan);
        let renderer = Renderer {
            downstream,
            options: Some(&options),
            facts: &stream.facts,
            shard: &self.names,
            snapshot: &self.snapshot,
        };
        let mut env = ResponseEnv {
            start: &start,
            request: &stream.request,
            render: &renderer,
            scratch: &mut self.scratch,
            now: self.io.now,
            stats: &mut self.stats,
            upstream: stream.facts.host_address.as_ref(),
            flags: stream.facts.flags,
            wall: self.wall,
            shard: &mut self.filter_states,
            state: &stream.facts.state,
            local_reply: stream.local_reply,
            redirected: stream.followed.as_ref().and_then(|followed| followed.custom.as_ref()),
            restart: &mut Restarts {
                options: &options,
                downstream,
                rng: &mut self.rng,
                whole: stream.request_complete,
            },
        };
        let parts = Parts {
            response: &mut stream.response,
            trailers: &mut stream.trailers,
            request_trailers: &mut stream.request_trailers,
        };
        Some(call(stream.filters.as_mut()?, parts, &mut env))
    }

    /// The stream is over: its filters let go of what they share.
    pub(super) fn end_filters(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if let Some(filters) = &mut stream.filters {
            filters.end(stream.response_complete, self.io.now, &mut self.rng, &mut self.stats);
        }
    }

    /// Puts what the filters make of request bytes into the stream's queue. False when the stream is over.
    pub(super) fn change_request(&mut self, id: Key, data: &[u8], end: bool) -> bool {
        let mut out = std::mem::take(&mut self.filtered);
        let verdict = self.ask_filters(id, |filters, parts, env| {
            filters.request_data(data, end, parts.request_trailers, &mut out, env)
        });
        let (Some(stream), Some(verdict)) = (self.streams.get_mut(id), verdict) else {
            self.filtered = out;
            return self.streams.get(id).is_some();
        };
        stream.flow.request_queue.push_bytes(&out);
        stream.weigh(&self.io.held);
        out.clear();
        self.filtered = out;
        self.report_filters(id);
        self.obey(id, verdict)
    }

    /// Shows the head of the response to the filters.
    pub(super) fn filter_response_head(&mut self, id: Key, end: bool) -> HeadVerdict {
        let before = self.streams.get(id).map_or(0, |stream| stream.response.status);
        let verdict = self.ask_filters(id, |filters, parts, env| {
            filters.response_head(parts.response, end, env);
            match filters.take_instead() {
                Some(instead) => HeadVerdict::GivesWay(instead),
                None if filters.holds_response() => HeadVerdict::Waits,
                None => HeadVerdict::Passes { before },
            }
        });
        self.report_filters(id);
        if let Some(stream) = self.streams.get_mut(id)
            && stream.filters.as_ref().is_some_and(|filters| filters.are_over())
            && let Some(filters) = stream.filters.take()
        {
            // The body goes the way of those that have none.
            self.filter_states.recycle(filters);
        }
        verdict.unwrap_or(HeadVerdict::Passes { before })
    }

    /// Puts what the filters make of response bytes into the stream's queue, and writes a head that waited for them.
    /// False when the stream is over.
    pub(super) fn change_response(&mut self, id: Key, data: &[u8], end: bool) -> bool {
        let mut out = std::mem::take(&mut self.filtered);
        let verdict = self.ask_filters(id, |filters, parts, env| {
            filters.response_data(data, end, parts.response, parts.trailers, &mut out, env)
        });
        let (Some(stream), Some(verdict)) = (self.streams.get_mut(id), verdict) else { return true };
        stream.flow.response_queue.push_bytes(&out);
        stream.weigh(&self.io.held);
        out.clear();
        self.filtered = out;
        self.report_filters(id);
        self.obey(id, verdict) && self.stays(id) && self.release_head(id, end)
    }

    /// The response has ended with trailers: the filters may take them. False when the stream is over.
    pub(super) fn filter_trailers(&mut self, id: Key) -> bool {
        let mut out = std::mem::take(&mut self.filtered);
        let verdict = self.ask_filters(id, |filters, parts, env| {
            filters.response_trailers(parts.trailers, parts.response, &mut out, env)
        });
        let (Some(stream), Some(verdict)) = (self.streams.get_mut(id), verdict) else { return true };
        stream.flow.response_queue.push_bytes(&out);
        out.clear();
        self.filtered = out;
        self.report_filters(id);
        self.obey(id, verdict) && self.stays(id) && self.release_head(id, true)
    }

    /// Whether the answer whose head was held is the client's. If not, the stream is over or begins anew.
    fn stays(&mut self, id: Key) -> bool {
        let instead = self.take_instead(id);
        let stays = instead.is_none();
        if let Some(instead) = instead {
            self.give_way(id, None, instead);
        }
        stays
    }

    /// Writes the head once no filter holds it any more.
    fn release_head(&mut self, id: Key, end: bool) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        if stream.response_started || stream.holds_response() {
            return true;
        }
        let whole = end && stream.flow.response_queue.is_empty() && stream.trailers.is_empty();
        let framing = body_framing(&stream.response.headers, whole);
        self.write_response_head(id, framing, whole);
        true
    }

    fn obey(&mut self, id: Key, verdict: Result<(), Box<LocalReply>>) -> bool {
        match verdict {
            Ok(()) => true,
            Err(reply) => {
                let scope = self.streams.get(id).and_then(|s| s.options.as_ref()).map(|o| o.hcm.scope);
                match (scope, reply.status) {
                    (Some(scope), 413) => self.stats.inc(scope, http_metric::DOWNSTREAM_RQ_TOO_LARGE),
                    (Some(scope), 500) => self.stats.inc(scope, http_metric::RS_TOO_LARGE),
                    _ => {}
                }
                self.drop_attempt(id, EndedBy::Local);
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.response.clear();
                }
                self.abort_or_reply(id, *reply);
                false
            }
        }
    }

    /// Counts what the filters have gathered.
    pub(super) fn report_filters(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(filters) = &mut stream.filters else { return };
        let cluster = stream.facts.plan.and_then(|p| p.cluster).and_then(|c| self.clusters.get(c));
        let times = &stream.facts.times;
        let took = times.upstream_rx_end.zip(times.upstream_tx_end).map(|(end, begin)| end.since(begin));
        filters.report(&mut self.stats, cluster.map(|state| state.config().scope), took);
    }

    /// Counts for the endpoint how a gRPC answer is to be judged whose end decides.
    pub(super) fn judge_end(&mut self, id: Key, whole: bool) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if std::mem::take(&mut stream.unjudged) {
            let success = whole && outcome::at_end(Some(&stream.trailers));
            self.count_outcome(id, success);
        }
    }

    fn count_outcome(&mut self, id: Key, success: bool) {
        if let Some(scope) = self.host_scope(id) {
            self.stats.inc(scope, if success { host_metric::RQ_SUCCESS } else { host_metric::RQ_ERROR });
        }
    }
}
