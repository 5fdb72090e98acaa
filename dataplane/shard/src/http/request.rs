//! Downstream bytes to requests: heads are cut out here, one at a time; bodies go on to [`super::body`].

use millrace_base::Key;
use millrace_http::h1::{Parsed, RequestError, parse_request};
use millrace_observe::stats::http as metric;
use millrace_ring::{Filled, IoError};

use super::{Closing, HttpDownstream, INPUT_BYTES_MAX, Stream};
use crate::downstream::{Downstream, Protocol};
use crate::shard::Shard;

/// Streams kept for reuse when their requests are over.
const SPARE_STREAMS_MAX: usize = 256;

/// The HTTP half of a downstream connection.
pub(super) fn http(downstream: &mut Box<Downstream>) -> Option<&mut HttpDownstream> {
    match &mut downstream.protocol {
        Protocol::Http(http) => Some(http),
        Protocol::Tcp(_) | Protocol::Securing(_) | Protocol::Refused(_) => None,
    }
}

/// What reading on led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something was consumed; look again.
    Progress,
    /// Bytes, a connection or room is missing.
    Wait,
}

impl Shard {
    pub(crate) fn http_opened(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.link.resume(&mut self.io);
        let secure = downstream.link.is_secure();
        let Some(scope) = http(downstream).map(|h| h.hcm.scope) else { return };
        if secure {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_SSL_TOTAL);
            self.stats.gauge_inc(scope, metric::DOWNSTREAM_CX_SSL_ACTIVE);
        }
        self.stats.inc(scope, metric::DOWNSTREAM_CX_TOTAL);
        self.stats.gauge_inc(scope, metric::DOWNSTREAM_CX_ACTIVE);
    }

    pub(crate) fn http_downstream_data(&mut self, key: Key, data: Filled) {
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        let scope = http.hcm.scope;
        self.stats.add(scope, metric::DOWNSTREAM_CX_RX_BYTES_TOTAL, data.len() as u64);
        if !http.is_open() {
            return;
        }
        http.input.push(data);
        if !self.overload.is_calm() && self.shed_connection(key) {
            return;
        }
        self.http_pump(key);
    }

    /// The client closed its half, or the connection failed.
    pub(crate) fn http_downstream_ended(&mut self, key: Key, end: Result<(), IoError>) {
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        http.ended = true;
        if http.h2.is_some() {
            return self.h2_downstream_ended(key, end);
        }
        let tunnel = http.stream.and_then(|s| self.streams.get(s)).is_some_and(|s| s.tunnel);
        match (http.stream, end) {
            (Some(stream), Ok(())) if tunnel => self.tunnel_request_ended(stream),
            // Envoy takes the end of the client's half for the end of the connection.
            (Some(stream), _) => self.abandon_by_client(stream, key),
            (None, _) => self.http_close(key, false),
        }
    }

    /// Looks at unread input again: a request ended, or its upstream is ready for the body.
    pub(crate) fn run_later(&mut self, key: Key) {
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        if !http.runnable {
            http.runnable = true;
            self.runnable.push(key);
        }
    }

    /// Consumes input as far as possible.
    pub(crate) fn http_pump(&mut self, key: Key) {
        let Some(state) = self.downstreams.get_mut(key).and_then(http) else { return };
        if state.undecided && (!state.is_open() || state.input.is_empty() || !self.sniff_version(key)) {
            return;
        }
        let Some(state) = self.downstreams.get_mut(key).and_then(http) else { return };
        if state.h2.is_some() {
            return self.h2_pump(key);
        }
        while self.http_step(key) == Step::Progress {}
        if let Some(http) = self.downstreams.get_mut(key).and_then(http)
            && http.ended
            && let Some(stream) = http.stream
        {
            self.tunnel_request_ended(stream);
        }
        self.park_input(key);
        self.rearm_downstream(key);
    }

    fn http_step(&mut self, key: Key) -> Step {
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return Step::Wait };
        if !http.is_open() || http.input.is_empty() {
            return Step::Wait;
        }
        let Some(stream) = http.stream else {
            return if http.closing == Closing::No { self.read_head(key) } else { Step::Wait };
        };
        if self.streams.get(stream).is_some_and(|s| s.request_complete && !s.tunnel) {
            // A pipelined request waits for its turn.
            return Step::Wait;
        }
        self.try_before_body(stream);
        if self.forward_request_body(key, stream) { Step::Progress } else { Step::Wait }
    }

    fn read_head(&mut self, key: Key) -> Step {
        let Some(downstream) = self.downstreams.get_mut(key) else { return Step::Wait };
        // The configuration that the connection has now is the one that the request ends under.
        let Some(options) = downstream.origin.http() else { return Step::Wait };
        let Some(http) = http(downstream) else { return Step::Wait };
        http.head_since.get_or_insert(self.io.now);
        let mut stream = self.spare_streams.pop().unwrap_or_else(|| Box::new(Stream::new(key)));
        stream.reset(key);
        loop {
            if http.scanner.ready(http.input.front(), options.parse.head_bytes_max) {
                match parse_request(http.input.front(), &options.parse, &mut stream.request) {
                    Ok(Parsed::Complete { consumed, framing }) => {
                        http.input.consume(consumed);
                        http.scanner.reset();
                        let since = http.head_since.take().unwrap_or(self.io.now);
                        stream.options = Some(options);
                        self.start_request(key, stream, consumed, framing, since);
                        return Step::Progress;
                    }
                    Ok(Parsed::Incomplete) => {}
                    Err(error) => {
                        http.scanner.reset();
                        http.head_since = None;
                        stream.facts.bytes.downstream_wire_received = http.input.len() as u64;
                        http.input.clear();
                        self.refuse_head(key, stream, error);
                        return Step::Wait;
                    }
                }
            }
            if !http.input.join_front(&self.io.held) {
                self.recycle_stream(stream);
                return Step::Wait;
            }
        }
    }

    fn refuse_head(&mut self, key: Key, stream: Box<Stream>, error: RequestError) {
        let Some(scope) = self.downstreams.get_mut(key).and_then(http).map(|h| h.hcm.scope) else { return };
        if error.is_protocol_error() {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_PROTOCOL_ERROR);
        }
        self.start_refused(key, stream, error);
    }

    /// What stays unread must not keep receive buffers from others, and must stay bounded.
    fn park_input(&mut self, key: Key) {
        let scarce = self.io.is_scarce();
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        // A head has a bound of its own, which may be larger; what is unread of it is what it waits for.
        let in_head = http.head_since.is_some();
        let most = self.io.held.allowance(INPUT_BYTES_MAX);
        let low = in_head || http.input.len() < most / 2;
        if downstream.link.is_paused() && http.is_open() && low {
            downstream.link.resume(&mut self.io);
            self.stats.inc(http.hcm.scope, metric::DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
        }
        if http.input.is_empty() {
            return;
        }
        if scarce || in_head {
            http.input.release_buffers(&self.io.held);
        }
        if !in_head && http.input.len() >= most && !downstream.link.is_paused() {
            downstream.link.pause(&mut self.io);
            let scope = http.hcm.scope;
            self.stats.inc(scope, metric::DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
        }
    }

    pub(crate) fn recycle_stream(&mut self, mut stream: Box<Stream>) {
        // A spare stream must keep no old configuration, no receive buffer and not much memory.
        stream.options = None;
        stream.flow.reset();
        stream.drop_replay();
        if let Some(filters) = stream.filters.take() {
            self.filter_states.recycle(filters);
        }
        if self.spare_streams.len() < SPARE_STREAMS_MAX {
            self.spare_streams.push(stream);
        }
    }
}
