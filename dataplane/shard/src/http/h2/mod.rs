//! HTTP/2 on this shard: connections of both sides, and bodies that meet HTTP/2 on either.
//!
//! The codec (`millrace_http::h2`) knows frames, windows and floods. Here its events become what happens to streams:
//! [`downstream`] for connections of clients, [`upstream`] for those to endpoints, [`flow`] for body bytes in every
//! pairing with HTTP/1.1, [`ending`] for drains, errors and time. A stream of a client is the same `Stream` whatever
//! carries it; `Stream::client` and `Stream::server` say which of its two sides speaks HTTP/2.

mod downstream;
mod ending;
mod flow;
mod statistics;
mod upstream;
mod waiting;

use std::collections::VecDeque;
use std::time::Duration;

use millrace_base::{Key, Rng, Time};
use millrace_config::{Cluster, Http2Keepalive, Http2Options, HttpConnectionManager};
use millrace_http::h2::{Connection, Options, Role, StreamRef};

use super::Input;
use crate::link::{Io, Link};
use crate::upstream::EndedBy;

pub(crate) use flow::{client_room, upstream_room, write_to_client, write_to_upstream};
pub(crate) use waiting::stall_deadline;

/// A stream whose client gives no room for so long is reset while receive buffers are in demand.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes on their way to a client above which a connection that only sends requests is closed: what is queued beside
/// bodies, which have watermarks.
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How far the end of a downstream connection has come (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    No,
    /// The first GOAWAY was sent; the last one follows at this time.
    Announced(Time),
    /// No more streams; closed after the last one.
    Final,
}

/// PINGs of our own, as `connection_keepalive` wants them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    config: Option<Http2Keepalive>,
    next: Time,
    /// The connection is dead without an answer by then.
    answer_by: Time,
}

impl Keepalive {
    fn new(config: Option<Http2Keepalive>, now: Time, rng: &mut Rng) -> Self {
        let mut new = Self { config, next: Time::MAX, answer_by: Time::MAX };
        new.schedule(now, rng);
        new
    }

    fn schedule(&mut self, now: Time, rng: &mut Rng) {
        let Some((interval, config)) = self.config.and_then(|c| Some((c.interval?, c))) else { return };
        let most = interval.mul_f64((config.jitter_percent / 100.0).clamp(0.0, 1.0));
        let jitter = Duration::from_millis(rng.below(most.as_millis() as u64 + 1));
        self.next = now + interval + jitter;
    }

    /// Bytes came: the peer lives, and the answer may be behind them. As in Envoy, its time starts anew.
    fn heard(&mut self, now: Time) {
        if let Some(config) = self.config
            && self.answer_by != Time::MAX
        {
            self.answer_by = now + config.timeout;
        }
    }

    fn answered(&mut self) {
        self.answer_by = Time::MAX;
    }

    /// When it has something to do next.
    fn deadline(&self) -> Time {
        self.next.min(self.answer_by)
    }

    fn is_dead(&self, now: Time) -> bool {
        self.answer_by <= now
    }

    /// Sends the PING that is due.
    fn run(&mut self, codec: &mut Connection, now: Time, rng: &mut Rng) {
        if self.next > now {
            return;
        }
        self.schedule(now, rng);
        if let Some(config) = self.config
            && self.answer_by == Time::MAX
        {
            codec.ping();
            self.answer_by = now + config.timeout;
        }
    }
}

/// The HTTP/2 half of a client's connection.
#[derive(Debug)]
pub(crate) struct Http2Downstream {
    pub(crate) codec: Connection,
    /// Streams with bytes for the client that it has no room for, the longest waiting first.
    pub(crate) waiting: VecDeque<Key>,
    pub(crate) drain: Drain,
    keepalive: Keepalive,
    /// The frames of one read are being looked at.
    receiving: bool,
    /// Answered streams whose end was not among the frames looked at so far.
    answered: Vec<StreamRef>,
    /// Frames of heads and bodies written since the queue was empty (`max_outbound_frames`).
    outbound_frames: u32,
    max_outbound_frames: u32,
}

impl Http2Downstream {
    pub(crate) fn new(hcm: &HttpConnectionManager, now: Time, rng: &mut Rng) -> Self {
        let options = options(Role::Server, &hcm.http2);
        let options = Options {
            head_bytes_max: hcm.head_bytes_max,
            head_fields_max: u32::from(hcm.head_fields_max),
            underscores: super::underscores(hcm),
            ..options
        };
        Self {
            codec: Connection::new(&options, now),
            waiting: VecDeque::new(),
            drain: Drain::No,
            keepalive: Keepalive::new(hcm.http2.keepalive, now, rng),
            receiving: false,
            answered: Vec::new(),
            outbound_frames: 0,
            max_outbound_frames: hcm.http2.max_outbound_frames,
        }
    }

    /// True when the client has left too much unread.
    fn is_flooded(&self, link: &Link) -> bool {
        self.outbound_frames > self.max_outbound_frames || link.queued() > QUEUED_BYTES_MAX
    }
}

/// The HTTP/2 state of a connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Http2Upstream {
    pub(crate) codec: Connection,
    pub(crate) input: Input,
    /// Streams with bytes for the endpoint that it has no room for, the longest waiting first.
    pub(crate) waiting: VecDeque<Key>,
    keepalive: Keepalive,
    /// Frames of heads and bodies written since the queue was empty (`max_outbound_frames`).
    outbound_frames: u32,
    max_outbound_frames: u32,
    /// `max_connection_duration`: streams after this open a new connection.
    lifetime_end: Time,
    /// The connection is over, and who ended it; its streams are being told.
    pub(crate) gone: Option<EndedBy>,
}

impl Http2Upstream {
    pub(crate) fn new(cluster: &Cluster, now: Time, rng: &mut Rng) -> Self {
        let http = &cluster.http;
        let options = Options {
            head_bytes_max: http.h2_head_bytes_max(),
            head_fields_max: u32::from(http.head_fields_max),
            ..options(Role::Client, &http.http2)
        };
        Self {
            codec: Connection::new(&options, now),
            input: Input::default(),
            waiting: VecDeque::new(),
            keepalive: Keepalive::new(http.http2.keepalive, now, rng),
            outbound_frames: 0,
            max_outbound_frames: http.http2.max_outbound_frames,
            lifetime_end: Time::MAX,
            gone: None,
        }
    }

    /// True when the endpoint has left too much unread.
    fn is_flooded(&self) -> bool {
        self.outbound_frames > self.max_outbound_frames
    }

    /// The connection is established.
    pub(crate) fn connected(&mut self, lifetime: Option<Duration>, now: Time) {
        self.lifetime_end = lifetime.map_or(Time::MAX, |lifetime| now + lifetime);
    }

    /// When somebody must look at the connection.
    pub(crate) fn deadline(&self) -> Option<Time> {
        Some(self.keepalive.deadline().min(self.lifetime_end)).filter(|at| *at != Time::MAX)
    }
}

fn options(role: Role, http2: &Http2Options) -> Options {
    Options {
        role,
        max_concurrent_streams: http2.max_concurrent_streams,
        initial_stream_window: http2.initial_stream_window,
        initial_connection_window: http2.initial_connection_window,
        hpack_table_size: http2.hpack_table_size,
        allow_connect: http2.allow_connect,
        max_outbound_control_frames: http2.max_outbound_control_frames,
        max_consecutive_empty_frames: http2.max_consecutive_empty_frames,
        max_priority_frames_per_stream: http2.max_priority_frames_per_stream,
        max_window_updates_per_data: http2.max_window_updates_per_data,
        ..Options::default()
    }
}

/// Puts the codec's own frames into the queue of its socket.
pub(crate) fn write_control(codec: &mut Connection, link: &mut Link, io: &mut Io) {
    if codec.has_control() {
        link.write(io, |out| {
            out.write_with(|bytes| codec.take_control(bytes));
        });
    }
}
