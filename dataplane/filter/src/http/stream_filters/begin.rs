//! The walk of a request's head down the chain, which may stop and go on later.

use millrace_config::{BufferFilter, HttpFilter, HttpFilterKind, PerFilterConfig};
use millrace_http::RequestHead;

use super::active::Active;
use super::{Env, ShardFilters, Start, StreamFilters, Verdict};
use crate::http::chain;
use crate::http::compression::compressor::CompressorActive;
use crate::http::compression::decompressor::DecompressorActive;
use crate::http::custom_response::CustomActive;
use crate::http::forward_proxy;
use crate::http::grpc_http1_bridge::Bridge;
use crate::http::grpc_stats::GrpcStats;
use crate::http::grpc_web::GrpcWeb;
use crate::http::health_check::{Asked, HealthCheckActive};
use crate::http::metadata::json_to_metadata::{self, JsonActive};
use crate::http::metadata::{self, header_to_metadata};
use crate::http::shaping::admission::AdmissionActive;
use crate::http::shaping::bandwidth::BandwidthActive;
use crate::http::shaping::buffer::BufferActive;
use crate::http::shaping::concurrency::ConcurrencyActive;
use crate::http::shaping::cors::CorsActive;
use crate::http::shaping::fault::FaultActive;
use crate::http::shaping::stateful_session::SessionActive;
use crate::http::shaping::{csrf, header_mutation, local_rate_limit};

/// What one filter makes of a head: whether it takes part from now on, and what becomes of the request.
type Step = (Option<Active>, Verdict);

impl StreamFilters {
    /// Shows the head of a request to the filters of its chain, or goes on where an earlier call stopped. `slot` stays
    /// `None`, without an allocation, when none of them has anything to do with the request.
    pub fn begin(
        slot: &mut Option<Box<Self>>,
        start: &Start<'_>,
        env: &mut Env<'_>,
        head: &mut RequestHead,
    ) -> Verdict {
        let chain = &start.hcm.http_filters;
        // A chain that is a router alone.
        if chain.len() < 2 {
            return Verdict::Continue;
        }
        let mut at = 0;
        if let Some(filters) = slot {
            let verdict = filters.resume(env, head);
            if verdict != Verdict::Continue {
                return filters.stop(filters.next, start, verdict);
            }
            at = filters.next;
        }
        let plain = start.has_no_levels();
        while let Some(filter) = chain.get(at) {
            let own = if plain { None } else { start.levels(&filter.name).next() };
            let (active, verdict) = match chain::enabled(filter.disabled, own) {
                true => step(at, filter, own, start, env, head),
                false => (None, Verdict::Continue),
            };
            at += 1;
            if active.is_none() && verdict == Verdict::Continue {
                continue;
            }
            let filters = slot.get_or_insert_with(|| env.shard.spare.pop().unwrap_or_default());
            filters.new_route |= matches!(&active, Some(Active::Bridge(bridge)) if bridge.is_upgraded());
            if let Some(active) = active {
                // Rarely is there a second one.
                filters.filters.reserve_exact(1);
                filters.filters.push(active);
            }
            if verdict != Verdict::Continue {
                return filters.stop(at, start, verdict);
            }
        }
        if let Some(filters) = slot {
            filters.next = chain.len();
        }
        Verdict::Continue
    }

    /// Has the answer to a request pass the filters none of which saw its head: it was no head, or one that is refused.
    pub fn join_refused(slot: &mut Option<Box<Self>>, start: &Start<'_>, shard: &mut ShardFilters) {
        if slot.is_some() || start.hcm.http_filters.len() < 2 {
            return;
        }
        let mut filters = shard.spare.pop().unwrap_or_default();
        filters.join_for_reply(start);
        match filters.filters.is_empty() {
            true => shard.recycle(filters),
            false => *slot = Some(filters),
        }
    }

    /// Asks the filter that stopped the request what follows.
    fn resume(&mut self, env: &mut Env<'_>, head: &mut RequestHead) -> Verdict {
        let stopped = self.holds_request || self.waits;
        (self.holds_request, self.waits) = (false, false);
        if stopped {
            self.fed = self.filters.len();
        }
        match self.filters.last_mut().filter(|_| stopped) {
            Some(Active::Fault(fault)) => fault.resume(env, head),
            Some(Active::ForwardProxy(waiting)) => waiting.resume(env, head),
            Some(Active::Buffer(buffer)) => {
                buffer.resume(head);
                Verdict::Continue
            }
            Some(Active::HealthCheck(check)) => check.resume(),
            Some(Active::Json(json)) => match json.resume(env) {
                true => Verdict::Reroute,
                false => Verdict::Continue,
            },
            _ => Verdict::Continue,
        }
    }

    fn stop(&mut self, next: usize, start: &Start<'_>, verdict: Verdict) -> Verdict {
        self.next = next;
        self.holds_request = verdict == Verdict::Hold;
        self.waits = matches!(verdict, Verdict::Wait(_));
        if let Verdict::Reply(_) = verdict {
            self.join_for_reply(start);
        }
        verdict
    }

    /// The request goes no further, but its answer passes the filters behind, too.
    pub(super) fn join_for_reply(&mut self, start: &Start<'_>) {
        for (at, filter) in start.hcm.http_filters.iter().enumerate().skip(self.next) {
            let active = match &filter.kind {
                HttpFilterKind::HeaderMutation(mutation)
                    if header_mutation::has_response_part(mutation, &filter.name, start) =>
                {
                    Active::HeaderMutation(at)
                }
                HttpFilterKind::HeaderToMetadata(config)
                    if header_to_metadata::has_response_part(config, &filter.name, start) =>
                {
                    Active::HeaderToMetadata(at)
                }
                HttpFilterKind::Compressor(_) => Active::Compressor(CompressorActive::of_answer(at)),
                HttpFilterKind::Decompressor(_) => Active::Decompressor(DecompressorActive::of_answer(at)),
                HttpFilterKind::CustomResponse(_) => Active::Custom(CustomActive::new(at, false)),
                HttpFilterKind::JsonToMetadata(config) => {
                    match json_to_metadata::of_answer(config, &filter.name, start) {
                        Some(json) => Active::Json(json.into()),
                        None => continue,
                    }
                }
                _ => continue,
            };
            if super::runs(start, filter) {
                self.filters.push(active);
            }
        }
        self.next = start.hcm.http_filters.len();
    }
}

/// One filter. `own` is the most specific configuration that the route has for it.
fn step(
    at: usize,
    filter: &HttpFilter,
    own: Option<&PerFilterConfig>,
    start: &Start<'_>,
    env: &mut Env<'_>,
    head: &mut RequestHead,
) -> Step {
    let active = match &filter.kind {
        HttpFilterKind::GrpcStats(config) => GrpcStats::start(config, head).map(Active::Stats),
        HttpFilterKind::GrpcWeb => GrpcWeb::start(head).map(|web| Active::Web(web.into())),
        HttpFilterKind::GrpcHttp1Bridge(config) => {
            let bridge = Bridge::start(*config, head, start.buffer_limit);
            bridge.map(|bridge| Active::Bridge(bridge.into()))
        }
        HttpFilterKind::HeaderMutation(mutation) => {
            let later = header_mutation::begin(mutation, &filter.name, start, env, head);
            later.then_some(Active::HeaderMutation(at))
        }
        HttpFilterKind::Fault(fault) => {
            let config = match own {
                Some(PerFilterConfig::Fault(config)) => config,
                _ => &fault.fault,
            };
            return match FaultActive::begin(fault, config, start, env, head) {
                Some((active, verdict)) => (Some(Active::Fault(active.into())), verdict),
                None => (None, Verdict::Continue),
            };
        }
        HttpFilterKind::LocalRateLimit(limit) => {
            let limit = match own {
                Some(PerFilterConfig::LocalRateLimit(config)) => config,
                _ => limit,
            };
            let (told, verdict) = local_rate_limit::begin(limit, start, env, head);
            return (told.map(Active::RateLimit), verdict);
        }
        HttpFilterKind::Cors(cors) => {
            let (active, verdict) = CorsActive::begin(*cors, &filter.name, start, env, head);
            return (active.map(|active| Active::Cors(active.into())), verdict);
        }
        HttpFilterKind::Csrf(csrf) => {
            let policy = match own {
                Some(PerFilterConfig::Csrf(policy)) => policy,
                _ => &csrf.policy,
            };
            return (None, csrf::begin(csrf, policy, env, head));
        }
        HttpFilterKind::HealthCheck(check) => {
            let (health, node_cluster) = (start.health, start.node_cluster);
            let asked = Asked { head, whole: start.whole, health, node_cluster };
            return match HealthCheckActive::begin(at, check, &asked, env.now, env.stats) {
                Some((active, verdict)) => (Some(Active::HealthCheck(active.into())), verdict),
                None => (None, Verdict::Continue),
            };
        }
        HttpFilterKind::Buffer(buffer) => {
            let buffer = match own {
                Some(PerFilterConfig::Buffer(buffer)) => buffer,
                _ => buffer,
            };
            return hold(buffer, start);
        }
        HttpFilterKind::StatefulSession(session) => {
            let own = match own {
                Some(PerFilterConfig::StatefulSession(own)) => Some(own),
                _ => None,
            };
            let session = SessionActive::begin(session, own, env.wall, head);
            session.map(|session| Active::Session(session.into()))
        }
        HttpFilterKind::Compressor(filter) => {
            Some(Active::Compressor(CompressorActive::begin(at, filter, own, start, env, head)))
        }
        HttpFilterKind::Decompressor(filter) => {
            Some(Active::Decompressor(DecompressorActive::begin(at, filter, start, env, head)))
        }
        HttpFilterKind::CustomResponse(_) => Some(Active::Custom(CustomActive::new(at, true))),
        HttpFilterKind::BandwidthLimit(_)
        | HttpFilterKind::AdmissionControl(_)
        | HttpFilterKind::AdaptiveConcurrency(_) => return shape(at, filter, own, env),
        HttpFilterKind::HeaderToMetadata(_)
        | HttpFilterKind::JsonToMetadata(_)
        | HttpFilterKind::SetMetadata(_)
        | HttpFilterKind::SetFilterState(_) => return write(at, filter, own, start, env, head),
        HttpFilterKind::ForwardProxy(proxy) => {
            let (waiting, verdict) = forward_proxy::begin(proxy, own, start, env, head);
            return (waiting.map(|waiting| Active::ForwardProxy(waiting.into())), verdict);
        }
        // It acts when an endpoint is chosen: `istio_alpn::offer`.
        HttpFilterKind::IstioAlpn(_) | HttpFilterKind::PeakEwma | HttpFilterKind::Router { .. } => None,
    };
    (active, Verdict::Continue)
}

/// The filters that decide how many requests, or bytes, go on.
fn shape(at: usize, filter: &HttpFilter, own: Option<&PerFilterConfig>, env: &mut Env<'_>) -> Step {
    let active = match &filter.kind {
        HttpFilterKind::BandwidthLimit(limit) => {
            let limit = match own {
                Some(PerFilterConfig::BandwidthLimit(limit)) => limit,
                _ => limit,
            };
            BandwidthActive::begin(limit, env).map(|active| Active::Bandwidth(active.into()))
        }
        HttpFilterKind::AdmissionControl(config) => {
            let (active, verdict) = AdmissionActive::begin(at, config, env);
            return (active.map(Active::Admission), verdict);
        }
        HttpFilterKind::AdaptiveConcurrency(config) => {
            let (active, verdict) = ConcurrencyActive::begin(config, env);
            return (active.map(|active| Active::Concurrency(active.into())), verdict);
        }
        _ => None,
    };
    (active, Verdict::Continue)
}

/// The filters that write down what they see, for others.
fn write(
    at: usize,
    filter: &HttpFilter,
    own: Option<&PerFilterConfig>,
    start: &Start<'_>,
    env: &mut Env<'_>,
    head: &mut RequestHead,
) -> Step {
    let active = match &filter.kind {
        HttpFilterKind::HeaderToMetadata(config) => {
            let config = header_to_metadata::rules(config, own);
            header_to_metadata::begin(config, env, head).then_some(Active::HeaderToMetadata(at))
        }
        HttpFilterKind::JsonToMetadata(config) => {
            let config = json_to_metadata::rules(config, own);
            let (active, verdict) = JsonActive::begin(config, start, env, head);
            return (active.map(|active| Active::Json(active.into())), verdict);
        }
        HttpFilterKind::SetMetadata(entries) => {
            metadata::set_metadata(entries, env.state);
            if let Some(PerFilterConfig::SetMetadata(entries)) = own {
                metadata::set_metadata(entries, env.state);
            }
            None
        }
        HttpFilterKind::SetFilterState(config) => {
            metadata::stream_state(config, &filter.name, start, env, head);
            return (None, if config.clear_route_cache { Verdict::Reroute } else { Verdict::Continue });
        }
        _ => None,
    };
    (active, Verdict::Continue)
}

/// The request waits until it is whole, if it is not.
fn hold(buffer: &BufferFilter, start: &Start<'_>) -> Step {
    match buffer {
        BufferFilter::UpTo(max) if !start.whole => {
            (Some(Active::Buffer(BufferActive::new(*max))), Verdict::Hold)
        }
        BufferFilter::UpTo(_) | BufferFilter::Off => (None, Verdict::Continue),
    }
}
