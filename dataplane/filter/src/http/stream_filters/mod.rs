//! The filters of one request that have something to do, in the order of the chain.
//!
//! What the caller does, and when. Most requests have no [`StreamFilters`] at all, and then nothing below applies.
//!
//! 1. **Request head.** When the route of the request is chosen (or none was found) and its weighted cluster too, but before
//!    the route's action is looked at and before the router changes the head: [`StreamFilters::begin`]. Its [`Verdict`] says
//!    what follows. `Wait`: nothing until that time, or
//!    until the host that it waits for was resolved, then the same call again; the request's bytes stay where they are.
//!    `Hold`: the same, once all of the request has gone through 2. `Reroute`: the same, once the route is chosen anew. `Reply`: the request goes no further. `Continue`: to the
//!    router, now that [`StreamFilters::take_new_route`] may have the route chosen once more. A filter may have changed
//!    `content-type`, path and fields; it removes `content-length` when the length of the body will be another one, so a
//!    request that has a body and no `content-length` any more goes upstream in chunks (HTTP/1.1).
//! 2. **Request body**, whatever [`StreamFilters::request_use`] says: bytes pass unseen (`Bypass`), are shown to
//!    [`StreamFilters::observe_request`] (`Observe`), or go through [`StreamFilters::request_data`], which appends what is to be
//!    sent instead (`Change`). With `Change` the last call has `end` set, even if it has no bytes, and also if trailers follow.
//!    Trailers go through [`StreamFilters::request_trailers`]. What is kept for a retry is what came out, not what went in. A
//!    retry calls nothing again. What was held is shown to the filters behind by [`StreamFilters::catch_up`].
//! 3. **Response head**, the final one of the try that counts, after the router's changes (`router::response::finalize`) and
//!    before the connection manager's: [`StreamFilters::response_head`]. While [`StreamFilters::holds_response`], the head
//!    must not be written; the later calls may change it. `content-length` and framing of the response follow from the
//!    head once it is released: no `content-length` means that the length is not known.
//! 4. **Response body**, as [`StreamFilters::response_use`] says *after* each call (it changes): `Bypass`,
//!    [`StreamFilters::observe_response`], or [`StreamFilters::response_data`]. Here `end` means that the response is over with
//!    these bytes: no trailers follow. After a call that released a held head, write the head, then what `out` holds.
//!    Whatever leaves for the client asks [`StreamFilters::pace_response`] first.
//! 5. **Response trailers**: [`StreamFilters::response_trailers`], always, even with `Bypass`. What it appends to `out` belongs to
//!    the body; trailers that are empty afterwards are not sent.
//! 6. **Local replies** take [`StreamFilters::local_reply`] instead of 3 to 5, after `LocalReply::write`; where the request
//!    did not come to 1, [`StreamFilters::join_refused`] is called before.
//! 7. **Counts**: [`StreamFilters::report`] after each of 2 to 6; it costs nothing when nothing was counted. When the stream
//!    ends, whatever the reason, [`StreamFilters::end`]: then they can be dropped.
//! 8. **Other answers**: after each of 3 to 6 [`StreamFilters::take_instead`] may say that this answer is not for the client.
//!    Its bytes go no further, and no filter sees what takes its place unless that is the answer to another request.
//!
//! An `Err` is answered with its reply (through 6) if no response head was written, and ends the stream otherwise.

mod active;
mod begin;
mod pass;
mod response;

use std::net::IpAddr;
use std::time::Duration;

use millrace_base::{FilterState, ResponseFlags, Rng, StreamState, Time, WallTime};
use millrace_config::{
    Address, HttpConnectionManager, LocalRateLimit, LocalRateLimiter, PerFilterConfig, RouteConfiguration,
    ScopeId, WeightedCluster,
};
use millrace_http::{HeaderMap, RequestHead};
use millrace_observe::stats::{GrpcProtocol, ShardStats};
use millrace_route::Selected;

use self::active::Active;
use self::pass::Pass;
use super::compression::accept::Decision;
use super::custom_response::{CustomRedirect, Instead, Restart};
use super::forward_proxy::HostNames;
use super::health_check::Health;
use super::router::Render;
use super::shaping::admission::Admissions;
use super::shaping::dynamic::KnownBuckets;
pub use super::shaping::stateful_session::WantedHost;
use super::{LocalReply, chain};

/// What the filters of a request want of the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyUse {
    /// Nothing: they may pass by any way, spliced too.
    Bypass,
    /// To see them.
    Observe,
    /// To replace them.
    Change,
}

/// What becomes of a request whose head the filters have seen.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the router.
    Continue,
    /// It waits until this time.
    Wait(Time),
    /// It waits until all of it is here.
    Hold,
    /// What routes are chosen by has changed: the route is chosen once more, then the same call again.
    Reroute,
    /// This is its answer.
    Reply(Box<LocalReply>),
}

/// Under which configuration a request meets the filters.
#[derive(Clone, Copy, Debug)]
pub struct Start<'c> {
    /// The connection manager with its chain.
    pub hcm: &'c HttpConnectionManager,
    /// The route table, if there is one.
    pub config: Option<&'c RouteConfiguration>,
    /// The route, if one was found.
    pub selected: Option<Selected<'c>>,
    /// The chosen entry of its weighted clusters.
    pub weighted: Option<&'c WeightedCluster>,
    /// The name of the chosen cluster.
    pub cluster: Option<&'c str>,
    /// The port of hosts without one, where the chosen cluster is a dynamic forward proxy.
    pub forward_port: Option<u16>,
    /// The client as `x-forwarded-for` has it.
    pub remote: Option<IpAddr>,
    /// `node.cluster`.
    pub node_cluster: &'c str,
    /// What health checks of this proxy are answered by.
    pub health: Option<&'c dyn Health>,
    /// Bytes that a filter may keep of one direction: the listener's `per_connection_buffer_limit_bytes`.
    pub buffer_limit: usize,
    /// No body follows the head.
    pub whole: bool,
}

impl<'c> Start<'c> {
    /// Only what decides which filters run.
    pub fn of(hcm: &'c HttpConnectionManager, config: Option<&'c RouteConfiguration>) -> Self {
        Self {
            hcm,
            config,
            selected: None,
            weighted: None,
            cluster: None,
            forward_port: None,
            remote: None,
            node_cluster: "",
            health: None,
            buffer_limit: 0,
            whole: true,
        }
    }

    /// Every level's configuration of a filter, the most specific first.
    pub(super) fn levels(&self, filter: &str) -> impl Iterator<Item = &'c PerFilterConfig> {
        chain::levels(filter, self.config, self.selected, self.weighted)
    }

    /// No level configures any filter.
    fn has_no_levels(&self) -> bool {
        self.config.is_none_or(|config| config.per_filter.is_empty())
            && self
                .selected
                .is_none_or(|s| s.route.per_filter.is_empty() && s.virtual_host.per_filter.is_empty())
            && self.weighted.is_none_or(|weighted| weighted.per_filter.is_empty())
    }
}

/// What filters use and change besides the head of a request.
pub struct Env<'e> {
    /// The time of the turn.
    pub now: Time,
    /// The wall clock.
    pub wall: WallTime,
    /// What decides about percentages.
    pub rng: &'e mut Rng,
    /// Where they count.
    pub stats: &'e mut ShardStats,
    /// Evaluates templates.
    pub render: &'e dyn Render,
    /// Cleared and used.
    pub scratch: &'e mut Vec<u8>,
    /// What they keep of the connection.
    pub connection: &'e mut ConnectionFilters,
    /// What they keep of the shard.
    pub shard: &'e mut ShardFilters,
    /// Response flags of the stream from now on.
    pub flags: &'e mut ResponseFlags,
    /// Dynamic metadata and filter state of the stream.
    pub state: &'e StreamState,
    /// Filter state of its connection.
    pub connection_state: Option<&'e FilterState>,
    /// Where the addresses of hosts are known.
    pub names: &'e mut dyn HostNames,
}

/// What filters use besides the pieces of a request's body and of its response.
pub struct ResponseEnv<'e> {
    /// As the request met them.
    pub start: &'e Start<'e>,
    /// The request as it is now.
    pub request: &'e RequestHead,
    /// Evaluates templates.
    pub render: &'e dyn Render,
    /// Cleared and used.
    pub scratch: &'e mut Vec<u8>,
    /// The time of the turn.
    pub now: Time,
    /// Where they count.
    pub stats: &'e mut ShardStats,
    /// The endpoint of the last try.
    pub upstream: Option<&'e Address>,
    /// Response flags so far.
    pub flags: ResponseFlags,
    /// The wall clock.
    pub wall: WallTime,
    /// What they keep of the shard.
    pub shard: &'e mut ShardFilters,
    /// Dynamic metadata and filter state of the stream.
    pub state: &'e StreamState,
    /// The answer is a reply of our own.
    pub local_reply: bool,
    /// `custom_response` has redirected the request.
    pub redirected: Option<&'e CustomRedirect>,
    /// Where it may do so.
    pub restart: &'e mut dyn Restart,
}

/// Memory of filters that a shard keeps for later requests.
const SPARE_MAX: usize = 64;

/// What the filters keep of one shard.
#[derive(Debug, Default)]
pub struct ShardFilters {
    pub(super) admissions: Admissions,
    /// Buckets of limits that all shards share.
    pub(super) buckets: KnownBuckets,
    /// Memory for the filters of later requests.
    #[expect(clippy::vec_box, reason = "streams hold the boxes")]
    spare: Vec<Box<StreamFilters>>,
}

impl ShardFilters {
    /// Keeps the memory of filters whose stream is over.
    pub fn recycle(&mut self, mut filters: Box<StreamFilters>) {
        if self.spare.len() < SPARE_MAX {
            filters.reset();
            self.spare.push(filters);
        }
    }
}

/// What the filters keep of one connection of a client. Nothing, for most.
#[derive(Debug, Default)]
pub struct ConnectionFilters {
    limiter: Option<Box<LocalRateLimiter>>,
}

impl ConnectionFilters {
    /// The buckets of this connection. As in Envoy there is one set of them: whoever asks first fills it.
    pub(super) fn limiter(&mut self, limit: &LocalRateLimit) -> &LocalRateLimiter {
        self.limiter.get_or_insert_with(|| Box::new(limit.limiter()))
    }
}

/// The filters of one request; see the module for what is called when.
#[derive(Debug, Default)]
pub struct StreamFilters {
    /// In the order of the chain: requests run forwards, responses backwards.
    filters: Vec<Active>,
    /// How many of the last ones have had the response head.
    begun: usize,
    /// Position in the chain at which the request goes on.
    next: usize,
    /// How many of `filters` had seen the bytes that had come when the request went on.
    fed: usize,
    /// The request is held.
    holds_request: bool,
    /// It waits for a time.
    waits: bool,
    new_route: bool,
    /// Which coding the response gets, once a compressor had to know.
    decision: Option<Decision>,
    /// The answer gives way to this.
    instead: Option<Instead>,
}

impl StreamFilters {
    /// A filter changed what routes are chosen by, as Envoy's `clearRouteCache`. Told once.
    pub fn take_new_route(&mut self) -> bool {
        std::mem::take(&mut self.new_route)
    }

    /// What the answer gives way to, after any call that may give its head to a filter: what remained of it is not wanted.
    pub fn take_instead(&mut self) -> Option<Instead> {
        self.instead.take()
    }

    /// The request waits until all of it is here ([`Verdict::Hold`]).
    pub fn holds_request(&self) -> bool {
        self.holds_request
    }

    /// The endpoint of the request's session.
    pub fn wanted_host(&self) -> Option<WantedHost<'_>> {
        self.filters.iter().rev().find_map(|filter| match filter {
            Active::Session(session) => session.wanted(),
            _ => None,
        })
    }

    /// The request is a health check, which some statistics and logs leave out.
    pub fn is_health_check(&self) -> bool {
        self.filters.iter().any(|filter| matches!(filter, Active::HealthCheck(check) if check.is_check()))
    }

    /// What becomes of the request's bytes.
    pub fn request_use(&self) -> BodyUse {
        if self.holds_request {
            return BodyUse::Change;
        }
        self.filters.iter().map(Active::request_use).max().unwrap_or(BodyUse::Bypass)
    }

    /// Shows request bytes that nobody changes.
    pub fn observe_request(&mut self, data: &[u8]) {
        for filter in &mut self.filters {
            if let Active::Stats(stats) = filter {
                stats.request_data(data);
            }
        }
    }

    /// Appends to `out` what is to be sent upstream instead of `data`. `end`: no more bytes come; filters may add to
    /// `trailers`. Bounded by [`Start::buffer_limit`], or what the filter that holds the request allows: 413 above it.
    pub fn request_data(
        &mut self,
        data: &[u8],
        end: bool,
        trailers: &mut HeaderMap,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        self.feed(0, (data, end), trailers, out, env)
    }

    /// Shows what came while the request waited or was held, `data`, to the filters that began since then, and appends what
    /// is to be sent instead. `end`: it is all. Nothing is left to do when it returns false.
    ///
    /// # Errors
    /// As [`StreamFilters::request_data`].
    pub fn catch_up(
        &mut self,
        (data, end): (&[u8], bool),
        trailers: &mut HeaderMap,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<bool, Box<LocalReply>> {
        let fed = self.fed;
        let wanted = self.holds_request
            || self.filters.iter().skip(fed).any(|filter| filter.request_use() != BodyUse::Bypass);
        if wanted {
            self.feed(fed, (data, end), trailers, out, env)?;
        }
        Ok(wanted)
    }

    fn feed(
        &mut self,
        from: usize,
        (data, end): (&[u8], bool),
        trailers: &mut HeaderMap,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        let mut pass = Pass::new(data, out);
        for filter in self.filters.iter_mut().skip(from) {
            filter.request_data(end, trailers, &mut pass, out, env)?;
        }
        pass.finish(out);
        Ok(())
    }

    /// The request waits for a time ([`Verdict::Wait`]).
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// How many of `wanted` bytes of the request may move on now; they count as moved.
    pub fn pace_request(&mut self, wanted: usize, now: Time) -> usize {
        self.filters.iter_mut().fold(wanted, |wanted, filter| filter.take_request(wanted, now))
    }

    /// When more of the request may move on.
    pub fn request_resumes_at(&self) -> Time {
        self.filters.iter().filter_map(Active::request_resumes_at).max().unwrap_or(Time::ZERO)
    }

    /// How many of `wanted` bytes of the response may leave now; they count as gone.
    pub fn pace_response(&mut self, wanted: usize, now: Time) -> usize {
        self.filters.iter_mut().fold(wanted, |wanted, filter| filter.take_response(wanted, now))
    }

    /// The response has a rate.
    pub fn is_paced(&self) -> bool {
        self.filters.iter().any(|filter| filter.response_resumes_at().is_some())
    }

    /// When more of the response may leave.
    pub fn response_resumes_at(&self) -> Time {
        self.filters.iter().filter_map(Active::response_resumes_at).max().unwrap_or(Time::ZERO)
    }

    /// When all of the response's body has left, [`StreamFilters::last_trailers`] may add trailers.
    pub fn adds_trailers(&self) -> bool {
        self.filters.iter().any(|filter| matches!(filter, Active::Bandwidth(limit) if limit.has_trailers()))
    }

    /// Adds what is only known at the end.
    pub fn last_trailers(&self, trailers: &mut HeaderMap) {
        for filter in &self.filters {
            if let Active::Bandwidth(bandwidth) = filter {
                bandwidth.tell(trailers);
            }
        }
    }

    /// Counts what the calls before have gathered, for the request's cluster (nothing without one). `upstream_time`:
    /// from the last byte of the request that was sent upstream to the last one of the response, once both are known;
    /// it may be told by a later call than that of the response's end.
    pub fn report(
        &mut self,
        stats: &mut ShardStats,
        cluster: Option<ScopeId>,
        upstream_time: Option<Duration>,
    ) {
        for filter in &mut self.filters {
            if let Active::Bandwidth(bandwidth) = filter {
                bandwidth.report(stats);
            }
            let Some(cluster) = cluster else { continue };
            match filter {
                Active::Stats(filter) if filter.counts() => {
                    let mut report = std::mem::take(&mut filter.report);
                    report.tell(stats, cluster, GrpcProtocol::Grpc, filter.name(), upstream_time);
                }
                Active::Web(web) => {
                    let mut report = std::mem::take(&mut web.report);
                    report.tell(stats, cluster, GrpcProtocol::Web, web.name(), None);
                }
                _ => {}
            }
        }
    }

    /// The stream is over; `complete` when its response is.
    pub fn end(&mut self, complete: bool, now: Time, rng: &mut Rng, stats: &mut ShardStats) {
        for filter in &mut self.filters {
            match filter {
                Active::Fault(fault) => fault.end(stats),
                Active::Bandwidth(bandwidth) => bandwidth.end(stats),
                Active::Concurrency(concurrency) => concurrency.end(complete, now, rng, stats),
                _ => {}
            }
        }
    }

    /// As good as new; the memory stays.
    fn reset(&mut self) {
        let mut filters = std::mem::take(&mut self.filters);
        filters.clear();
        *self = Self { filters, ..Self::default() };
    }
}

/// Whether a filter of the chain takes part in this request.
pub(crate) fn runs(start: &Start<'_>, filter: &millrace_config::HttpFilter) -> bool {
    match start.config {
        Some(config) => chain::runs(filter, config, start.selected, start.weighted),
        None => !filter.disabled,
    }
}

#[cfg(test)]
mod tests;
