//! HTTP filters beside the router: where a stream's heads, bytes and trailers meet them.
//!
//! Most requests meet none (`Stream::filters` is `None`). Bytes that a filter replaces go through the stream's queues,
//! whatever the two sides speak; everything else passes as without filters. What is called when stands in
//! `millrace_filter::http::stream_filters`.

use millrace_base::Key;
use millrace_config::{RouteConfiguration, WeightedCluster};
use millrace_filter::http::router::outcome;
use millrace_filter::http::stream_filters::Start;
use millrace_filter::http::{BodyUse, LocalReply, StreamFilters};
use millrace_http::HeaderId;
use millrace_http::h1::BodyFraming;
use millrace_observe::stats::host as host_metric;
use millrace_route::Selected;

use super::{HttpOptions, Stream, body_framing};
use crate::shard::Shard;
use crate::upstream::EndedBy;

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

    /// The head of the response waits for a filter.
    pub(super) fn holds_response(&self) -> bool {
        self.filters.as_ref().is_some_and(|filters| filters.holds_response())
    }
}

impl Shard {
    /// Gives the request to the filters of its chain. True when the route must be chosen once more.
    pub(super) fn start_filters(
        &mut self,
        id: Key,
        options: &HttpOptions,
        config: Option<&RouteConfiguration>,
        selected: Option<Selected<'_>>,
        weighted: Option<&WeightedCluster>,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return false };
        let buffer_limit = downstream.origin.listener.buffer_limit_bytes;
        let start = Start { hcm: &options.hcm, config, selected, weighted, buffer_limit };
        let Some(filters) = StreamFilters::start(&start, &mut stream.request) else { return false };
        let new_route = filters.wants_new_route();
        stream.filters = Some(Box::new(filters));
        if matches!(stream.request_framing, BodyFraming::Length(_))
            && !stream.request.headers.contains(HeaderId::ContentLength)
        {
            // The body will have another length.
            stream.request_framing = BodyFraming::Chunked;
        }
        new_route
    }

    /// Puts what the filters make of request bytes into the stream's queue. False when the stream is over.
    pub(super) fn change_request(&mut self, id: Key, data: &[u8], end: bool) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(filters) = &mut stream.filters else { return true };
        let mut out = std::mem::take(&mut self.filtered);
        let verdict = filters.request_data(data, end, &mut out);
        stream.flow.request_queue.push_bytes(&out);
        out.clear();
        self.filtered = out;
        self.report_filters(id);
        self.obey(id, verdict)
    }

    /// Shows the head of the response to the filters. True when it must wait.
    pub(super) fn filter_response_head(&mut self, id: Key, end: bool) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(filters) = &mut stream.filters else { return false };
        filters.response_head(&mut stream.response, end);
        let holds = filters.holds_response();
        self.report_filters(id);
        holds
    }

    /// Puts what the filters make of response bytes into the stream's queue, and writes a head that waited for them.
    /// False when the stream is over.
    pub(super) fn change_response(&mut self, id: Key, data: &[u8], end: bool) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(filters) = &mut stream.filters else { return true };
        let mut out = std::mem::take(&mut self.filtered);
        let verdict = filters.response_data(data, end, &mut stream.response, &mut out);
        stream.flow.response_queue.push_bytes(&out);
        out.clear();
        self.filtered = out;
        self.report_filters(id);
        self.obey(id, verdict) && self.release_head(id, end)
    }

    /// The response has ended with trailers: the filters may take them. False when the stream is over.
    pub(super) fn filter_trailers(&mut self, id: Key) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(filters) = &mut stream.filters else { return true };
        let mut out = std::mem::take(&mut self.filtered);
        let verdict = filters.response_trailers(&mut stream.trailers, &mut stream.response, &mut out);
        stream.flow.response_queue.push_bytes(&out);
        out.clear();
        self.filtered = out;
        self.report_filters(id);
        self.obey(id, verdict) && self.release_head(id, true)
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
