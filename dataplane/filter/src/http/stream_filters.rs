//! The filters of one request that have something to do, in the order of the chain.
//!
//! What the caller does, and when. Most requests have no [`StreamFilters`] at all, and then nothing below applies.
//!
//! 1. **Start.** When the route of the request is chosen (or none was found) and its weighted cluster too, but before the
//!    route's action is looked at and before the router changes the head: [`StreamFilters::start`]. If
//!    [`StreamFilters::wants_new_route`], the route is chosen once more. A filter may have changed `content-type`, path and
//!    fields; it removes `content-length` when the length of the body will be another one, so a request that has a
//!    body and no `content-length` any more goes upstream in chunks (HTTP/1.1).
//! 2. **Request body**, whatever [`StreamFilters::request_use`] says: bytes pass unseen (`Bypass`), are shown to
//!    [`StreamFilters::observe_request`] (`Observe`), or go through [`StreamFilters::request_data`], which appends what is to be
//!    sent instead (`Change`). With `Change` the last call has `end` set, even if it has no bytes, and also if trailers follow.
//!    Trailers pass. What is kept for a retry is what came out, not what went in. A retry calls nothing again.
//! 3. **Response head**, the final one of the try that counts, after the router's changes (`router::response::finalize`) and
//!    before the connection manager's: [`StreamFilters::response_head`]. While [`StreamFilters::holds_response`], the head
//!    must not be written; the later calls may change it. `content-length` and framing of the response follow from the
//!    head once it is released: no `content-length` means that the length is not known.
//! 4. **Response body**, as [`StreamFilters::response_use`] says *after* each call (it changes): `Bypass`,
//!    [`StreamFilters::observe_response`], or [`StreamFilters::response_data`]. Here `end` means that the response is over with
//!    these bytes: no trailers follow. After a call that released a held head, write the head, then what `out` holds.
//! 5. **Response trailers**: [`StreamFilters::response_trailers`], always, even with `Bypass`. What it appends to `out` belongs to
//!    the body; trailers that are empty afterwards are not sent.
//! 6. **Local replies** take [`StreamFilters::local_reply`] instead of 3 to 5, after `LocalReply::write`.
//! 7. **Counts**: [`StreamFilters::report`] after each of 2 to 6; it costs nothing when nothing was counted. When the stream
//!    ends, they are dropped: nothing is left over that was not reported.
//!
//! An `Err` is answered with its reply (through 6) if no response head was written, and ends the stream otherwise.

use std::time::Duration;

use millrace_config::{HttpConnectionManager, HttpFilterKind, RouteConfiguration, ScopeId, WeightedCluster};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};
use millrace_observe::stats::{GrpcProtocol, ShardStats};
use millrace_route::Selected;

use super::grpc_http1_bridge::Bridge;
use super::grpc_stats::GrpcStats;
use super::grpc_web::GrpcWeb;
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
    /// Bytes that a filter may keep of one direction: the listener's `per_connection_buffer_limit_bytes`.
    pub buffer_limit: usize,
}

/// One filter at work.
#[derive(Debug)]
enum Active {
    Stats(GrpcStats),
    Web(Box<GrpcWeb>),
    Bridge(Box<Bridge>),
}

/// The filters of one request; see the module for what is called when.
#[derive(Debug)]
pub struct StreamFilters {
    /// In the order of the chain: requests run forwards, responses backwards.
    filters: Vec<Active>,
    /// How many of the last ones have had the response head.
    begun: usize,
    new_route: bool,
}

impl StreamFilters {
    /// The filters that have something to do with this request, which they may change; `None`, without an allocation,
    /// when there are none.
    pub fn start(start: &Start<'_>, head: &mut RequestHead) -> Option<Self> {
        // A chain that is a router alone.
        if start.hcm.http_filters.len() < 2 {
            return None;
        }
        let mut filters = Vec::new();
        for filter in &start.hcm.http_filters {
            if matches!(filter.kind, HttpFilterKind::Router { .. }) || !runs(start, filter) {
                continue;
            }
            let active = match &filter.kind {
                HttpFilterKind::GrpcStats(config) => GrpcStats::start(config, head).map(Active::Stats),
                HttpFilterKind::GrpcWeb => GrpcWeb::start(head).map(|web| Active::Web(web.into())),
                HttpFilterKind::GrpcHttp1Bridge(config) => {
                    let bridge = Bridge::start(*config, head, start.buffer_limit);
                    bridge.map(|bridge| Active::Bridge(bridge.into()))
                }
                // It acts when an endpoint is chosen: `istio_alpn::offer`.
                HttpFilterKind::IstioAlpn(_) | HttpFilterKind::Router { .. } => None,
            };
            if let Some(active) = active {
                // Rarely is there a second one.
                filters.reserve_exact(1);
                filters.push(active);
            }
        }
        if filters.is_empty() {
            return None;
        }
        let new_route = filters.iter().any(|f| matches!(f, Active::Bridge(bridge) if bridge.is_upgraded()));
        Some(Self { filters, begun: 0, new_route })
    }

    /// A filter changed what routes are chosen by, as Envoy's `clearRouteCache`.
    pub fn wants_new_route(&self) -> bool {
        self.new_route
    }

    /// What becomes of the request's bytes.
    pub fn request_use(&self) -> BodyUse {
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

    /// Appends to `out` what is to be sent upstream instead of `data`. `end`: no more bytes come. Bounded by
    /// [`Start::buffer_limit`]: 413 above it.
    pub fn request_data(&mut self, data: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), Box<LocalReply>> {
        let mut pass = Pass::new(data, out);
        for filter in &mut self.filters {
            match filter {
                Active::Stats(stats) => stats.request_data(pass.bytes(out)),
                Active::Web(web) if filter_changes(web.request_use()) => {
                    pass.change(out, |bytes, out| web.request_data(bytes, end, out))?;
                }
                Active::Bridge(bridge) if filter_changes(bridge.request_use()) => {
                    pass.change(out, |bytes, out| bridge.request_data(bytes, end, out))?;
                }
                Active::Web(_) | Active::Bridge(_) => {}
            }
        }
        pass.finish(out);
        Ok(())
    }

    /// Takes the response head; `end` says that nothing follows it.
    pub fn response_head(&mut self, head: &mut ResponseHead, end: bool) {
        while self.begin_next(head, end) {}
    }

    /// Gives the head to the next filter that has not had it; false when one holds it or all have had it.
    fn begin_next(&mut self, head: &mut ResponseHead, end: bool) -> bool {
        if self.holds_response() {
            return false;
        }
        let Some(next) = self.filters.len().checked_sub(self.begun + 1) else { return false };
        match &mut self.filters[next] {
            Active::Stats(stats) => stats.response_head(head, end),
            Active::Web(web) => web.response_head(head, end),
            Active::Bridge(bridge) => bridge.response_head(head, end),
        }
        self.begun += 1;
        true
    }

    /// The head must wait: a later call may change it.
    pub fn holds_response(&self) -> bool {
        self.filters.iter().any(|filter| match filter {
            Active::Stats(_) => false,
            Active::Web(web) => web.holds(),
            Active::Bridge(bridge) => bridge.holds(),
        })
    }

    /// What becomes of the response's bytes; ask again after each call.
    pub fn response_use(&self) -> BodyUse {
        self.filters.iter().map(Active::response_use).max().unwrap_or(BodyUse::Bypass)
    }

    /// Shows response bytes that nobody changes.
    pub fn observe_response(&mut self, data: &[u8]) {
        for filter in &mut self.filters {
            if let Active::Stats(stats) = filter {
                stats.response_data(data);
            }
        }
    }

    /// Appends to `out` what the client gets instead of `data`. `end`: the response is over, without trailers.
    /// Bounded by [`Start::buffer_limit`]: a response that is kept whole and is longer becomes a 500.
    pub fn response_data(
        &mut self,
        data: &[u8],
        end: bool,
        head: &mut ResponseHead,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        let mut pass = Pass::new(data, out);
        let mut done = 0;
        loop {
            while done < self.begun {
                self.filter_data(self.filters.len() - 1 - done, end, head, &mut pass, out)?;
                done += 1;
            }
            let empty = pass.bytes(out).is_empty();
            if !self.begin_next(head, end && empty) {
                break;
            }
        }
        pass.finish(out);
        Ok(())
    }

    fn filter_data(
        &mut self,
        at: usize,
        end: bool,
        head: &mut ResponseHead,
        pass: &mut Pass<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        match &mut self.filters[at] {
            Active::Stats(stats) => stats.response_data(pass.bytes(out)),
            Active::Web(web) if filter_changes(web.response_use()) => pass.change(out, |bytes, out| {
                web.response_data(bytes, end, head, out);
                Ok(())
            })?,
            Active::Bridge(bridge) if filter_changes(bridge.response_use()) => {
                pass.change(out, |bytes, out| bridge.response_data(bytes, end, out))?;
            }
            Active::Web(_) | Active::Bridge(_) => {}
        }
        Ok(())
    }

    /// Takes the trailers, which end the response. What `out` gets belongs to the body, behind what went before.
    pub fn response_trailers(
        &mut self,
        trailers: &mut HeaderMap,
        head: &mut ResponseHead,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        let mut pass = Pass::new(&[], out);
        let mut done = 0;
        loop {
            while done < self.begun {
                let at = self.filters.len() - 1 - done;
                // What a filter before this one let go of is body to this one.
                if !pass.bytes(out).is_empty() {
                    self.filter_data(at, false, head, &mut pass, out)?;
                }
                match &mut self.filters[at] {
                    Active::Stats(stats) => stats.response_trailers(trailers),
                    Active::Web(web) => pass.append(|| web.response_trailers(trailers, head, out)),
                    Active::Bridge(bridge) => pass.append(|| bridge.response_trailers(trailers, head, out)),
                }
                done += 1;
            }
            if !self.begin_next(head, false) {
                break;
            }
        }
        pass.finish(out);
        Ok(())
    }

    /// Takes a reply of our own: the head and body that `LocalReply::write` made. After an upstream's response began
    /// the filters do not touch it, as in Envoy.
    pub fn local_reply(&mut self, head: &mut ResponseHead, body: &mut Vec<u8>) {
        if self.begun > 0 {
            return;
        }
        self.response_head(head, body.is_empty());
        if body.is_empty() {
            return;
        }
        let data = std::mem::take(body);
        // The body ends at once, so that nothing is kept that could become too long.
        if self.response_data(&data, true, head, body).is_err() {
            *body = data;
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
        let Some(cluster) = cluster else { return };
        for filter in &mut self.filters {
            match filter {
                Active::Stats(filter) if filter.counts() => {
                    let mut report = std::mem::take(&mut filter.report);
                    report.tell(stats, cluster, GrpcProtocol::Grpc, filter.name(), upstream_time);
                }
                Active::Web(web) => {
                    let mut report = std::mem::take(&mut web.report);
                    report.tell(stats, cluster, GrpcProtocol::Web, web.name(), None);
                }
                Active::Stats(_) | Active::Bridge(_) => {}
            }
        }
    }
}

impl Active {
    fn request_use(&self) -> BodyUse {
        match self {
            Self::Stats(stats) if stats.counts() => BodyUse::Observe,
            Self::Stats(_) => BodyUse::Bypass,
            Self::Web(web) => web.request_use(),
            Self::Bridge(bridge) => bridge.request_use(),
        }
    }

    fn response_use(&self) -> BodyUse {
        match self {
            Self::Stats(stats) if stats.sees_response() => BodyUse::Observe,
            Self::Stats(_) => BodyUse::Bypass,
            Self::Web(web) => web.response_use(),
            Self::Bridge(bridge) => bridge.response_use(),
        }
    }
}

/// Whether a filter of the chain takes part in this request.
pub(super) fn runs(start: &Start<'_>, filter: &millrace_config::HttpFilter) -> bool {
    match start.config {
        Some(config) => chain::runs(filter, config, start.selected, start.weighted),
        None => !filter.disabled,
    }
}

fn filter_changes(body_use: BodyUse) -> bool {
    body_use == BodyUse::Change
}

/// Bytes on their way from filter to filter: the caller's own until somebody changes them, then those at the end of
/// `out`.
struct Pass<'d> {
    data: &'d [u8],
    start: usize,
    changed: bool,
}

impl<'d> Pass<'d> {
    fn new(data: &'d [u8], out: &[u8]) -> Self {
        Self { data, start: out.len(), changed: false }
    }

    fn bytes<'b>(&self, out: &'b [u8]) -> &'b [u8]
    where
        'd: 'b,
    {
        if self.changed { &out[self.start..] } else { self.data }
    }

    /// Lets a filter replace the bytes. Only the second one that does costs an allocation.
    fn change(
        &mut self,
        out: &mut Vec<u8>,
        change: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), Box<LocalReply>>,
    ) -> Result<(), Box<LocalReply>> {
        if !std::mem::replace(&mut self.changed, true) {
            return change(self.data, out);
        }
        let before = out.split_off(self.start);
        change(&before, out)
    }

    /// Lets a filter add to `out`, which has no bytes of the caller's when there are trailers.
    fn append(&mut self, append: impl FnOnce()) {
        self.changed = true;
        append();
    }

    fn finish(self, out: &mut Vec<u8>) {
        if !self.changed {
            out.extend_from_slice(self.data);
        }
    }
}

#[cfg(test)]
#[path = "stream_filters_tests.rs"]
mod tests;
