//! One filter at work: which of its parts is called for which piece of a message.

use millrace_base::Time;
use millrace_http::{HeaderMap, ResponseHead};

use super::pass::Pass;
use super::{BodyUse, LocalReply, ResponseEnv};
use crate::http::compression::accept::Decision;
use crate::http::compression::compressor::CompressorActive;
use crate::http::compression::decompressor::DecompressorActive;
use crate::http::custom_response::CustomActive;
use crate::http::forward_proxy::ForwardProxyActive;
use crate::http::grpc_http1_bridge::Bridge;
use crate::http::grpc_stats::GrpcStats;
use crate::http::grpc_web::GrpcWeb;
use crate::http::health_check::HealthCheckActive;
use crate::http::metadata::header_to_metadata;
use crate::http::metadata::json_to_metadata::JsonActive;
use crate::http::shaping::admission::AdmissionActive;
use crate::http::shaping::bandwidth::{BandwidthActive, Throttle};
use crate::http::shaping::buffer::BufferActive;
use crate::http::shaping::concurrency::ConcurrencyActive;
use crate::http::shaping::cors::CorsActive;
use crate::http::shaping::fault::FaultActive;
use crate::http::shaping::header_mutation::{self, Side};
use crate::http::shaping::local_rate_limit::Told;
use crate::http::shaping::pace::Pace;
use crate::http::shaping::stateful_session::SessionActive;
use millrace_config::HttpFilterKind;

#[derive(Debug)]
pub(super) enum Active {
    Stats(GrpcStats),
    Web(Box<GrpcWeb>),
    Bridge(Box<Bridge>),
    Fault(Box<FaultActive>),
    /// Tells the client of its limit.
    RateLimit(Told),
    /// The filter at this position of the chain changes the answer.
    HeaderMutation(usize),
    /// The filter at this position reads the answer.
    HeaderToMetadata(usize),
    Json(Box<JsonActive>),
    Cors(Box<CorsActive>),
    Buffer(BufferActive),
    Session(Box<SessionActive>),
    HealthCheck(Box<HealthCheckActive>),
    Compressor(CompressorActive),
    Decompressor(DecompressorActive),
    Bandwidth(Box<BandwidthActive>),
    Admission(AdmissionActive),
    Concurrency(Box<ConcurrencyActive>),
    Custom(CustomActive),
    /// It has nothing to do with the answer.
    ForwardProxy(Box<ForwardProxyActive>),
}

impl Active {
    pub(super) fn request_use(&self) -> BodyUse {
        match self {
            Self::Stats(stats) if stats.counts() => BodyUse::Observe,
            Self::Web(web) => web.request_use(),
            Self::Bridge(bridge) => bridge.request_use(),
            Self::Compressor(compressor) if compressor.changes_request() => BodyUse::Change,
            Self::Decompressor(decompressor) if decompressor.changes_request() => BodyUse::Change,
            // What may have to wait goes through the stream's queue.
            Self::Bandwidth(bandwidth) if bandwidth.request.is_some() => BodyUse::Change,
            _ => BodyUse::Bypass,
        }
    }

    pub(super) fn response_use(&self) -> BodyUse {
        match self {
            Self::Stats(stats) if stats.sees_response() => BodyUse::Observe,
            Self::Web(web) => web.response_use(),
            Self::Bridge(bridge) => bridge.response_use(),
            Self::Compressor(compressor) if compressor.changes_response() => BodyUse::Change,
            Self::Decompressor(decompressor) if decompressor.changes_response() => BodyUse::Change,
            Self::Json(json) if json.holds() => BodyUse::Change,
            Self::Bandwidth(bandwidth) if bandwidth.response.is_some() => BodyUse::Change,
            _ => BodyUse::Bypass,
        }
    }

    /// With the head of the response it has done everything.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::RateLimit(_)
            | Self::Cors(_)
            | Self::HeaderToMetadata(_)
            | Self::Custom(_)
            | Self::ForwardProxy(_) => true,
            Self::Compressor(one) => !one.changes_request() && !one.changes_response(),
            Self::Decompressor(one) => !one.changes_request() && !one.changes_response(),
            Self::Json(json) => !json.holds(),
            Self::Admission(admission) => !admission.awaits_trailers(),
            _ => false,
        }
    }

    pub(super) fn holds_response(&self) -> bool {
        match self {
            Self::Web(web) => web.holds(),
            Self::Bridge(bridge) => bridge.holds(),
            Self::Json(json) => json.holds(),
            _ => false,
        }
    }

    /// How many of `wanted` bytes of the request may move on.
    pub(super) fn take_request(&mut self, wanted: usize, now: Time) -> usize {
        match self {
            Self::Bandwidth(bandwidth) => bandwidth.take_request(wanted, now),
            _ => wanted,
        }
    }

    /// How many of `wanted` bytes of the response may leave.
    pub(super) fn take_response(&mut self, wanted: usize, now: Time) -> usize {
        match self {
            Self::Fault(fault) => fault.pace.as_mut().map_or(wanted, |pace| pace.take(wanted, now)),
            Self::Bandwidth(bandwidth) => bandwidth.take_response(wanted, now),
            _ => wanted,
        }
    }

    /// When more of the request may move on, if the filter has a say in it.
    pub(super) fn request_resumes_at(&self) -> Option<Time> {
        match self {
            Self::Bandwidth(bandwidth) => bandwidth.request.as_ref().map(Throttle::resumes_at),
            _ => None,
        }
    }

    /// When more of the response may leave, if the filter has a say in it.
    pub(super) fn response_resumes_at(&self) -> Option<Time> {
        match self {
            Self::Fault(fault) => fault.pace.as_ref().map(Pace::resumes_at),
            Self::Bandwidth(bandwidth) => bandwidth.response.as_ref().map(Throttle::resumes_at),
            _ => None,
        }
    }

    pub(super) fn request_data(
        &mut self,
        end: bool,
        trailers: &mut HeaderMap,
        pass: &mut Pass<'_>,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        match self {
            Self::Stats(stats) => stats.request_data(pass.bytes(out)),
            Self::Web(web) if web.request_use() == BodyUse::Change => {
                pass.change(out, |bytes, out| web.request_data(bytes, end, out))?;
            }
            Self::Bridge(bridge) if bridge.request_use() == BodyUse::Change => {
                pass.change(out, |bytes, out| bridge.request_data(bytes, end, out))?;
            }
            Self::Buffer(buffer) => buffer.data(pass.bytes(out), end)?,
            Self::Json(json) => json.request_data(pass.bytes(out))?,
            Self::Compressor(compressor) if compressor.changes_request() => {
                pass.change(out, |bytes, out| {
                    compressor.request_data(bytes, end, out, env);
                    Ok(())
                })?
            }
            Self::Decompressor(decompressor) if decompressor.changes_request() => {
                pass.change(out, |bytes, out| {
                    decompressor.data(Side::Request, (bytes, end), trailers, out, env)
                })?;
            }
            Self::Bandwidth(bandwidth) => {
                if let Some(throttle) = &mut bandwidth.request {
                    throttle.incoming(pass.bytes(out).len(), env.now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn response_head(
        &mut self,
        head: &mut ResponseHead,
        end: bool,
        env: &mut ResponseEnv<'_>,
        decision: &mut Option<Decision>,
    ) {
        match self {
            Self::Stats(stats) => stats.response_head(head, end),
            Self::Web(web) => web.response_head(head, end),
            Self::Bridge(bridge) => bridge.response_head(head, end),
            Self::RateLimit(told) => told.write(&mut head.headers),
            Self::Cors(cors) => cors.response_head(&mut head.headers),
            Self::Session(session) => session.response_head(&mut head.headers, env),
            Self::HealthCheck(check) => {
                let filter = env.start.hcm.http_filters.get(check.position());
                let config = filter.and_then(|filter| match &filter.kind {
                    HttpFilterKind::HealthCheck(config) => Some(&**config),
                    _ => None,
                });
                check.response_head(config, head);
            }
            Self::HeaderMutation(at) => {
                if let Some((filter, name)) = mutation_at(env, *at) {
                    header_mutation::response_head(filter, name, head, env);
                }
            }
            Self::HeaderToMetadata(at) => header_to_metadata::response_head(*at, head, env),
            Self::Json(json) => json.response_head(head, end, env),
            Self::Compressor(compressor) => compressor.response_head(head, end, env, decision),
            Self::Decompressor(decompressor) => decompressor.response_head(head, end, env),
            Self::Bandwidth(bandwidth) => bandwidth.response_head(env.stats),
            Self::Admission(admission) => admission.response_head(head, end, env),
            Self::Fault(_)
            | Self::Buffer(_)
            | Self::Concurrency(_)
            | Self::Custom(_)
            | Self::ForwardProxy(_) => {}
        }
    }

    pub(super) fn response_data(
        &mut self,
        end: bool,
        (head, trailers): (&mut ResponseHead, &mut HeaderMap),
        pass: &mut Pass<'_>,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        match self {
            Self::Stats(stats) => stats.response_data(pass.bytes(out)),
            Self::Web(web) if web.response_use() == BodyUse::Change => pass.change(out, |bytes, out| {
                web.response_data(bytes, end, head, out);
                Ok(())
            })?,
            Self::Bridge(bridge) if bridge.response_use() == BodyUse::Change => {
                pass.change(out, |bytes, out| bridge.response_data(bytes, end, out))?;
            }
            Self::Json(json) if json.holds() => {
                pass.change(out, |bytes, out| json.response_data(bytes, end, out, env))?;
            }
            Self::Compressor(compressor) if compressor.changes_response() => {
                pass.change(out, |bytes, out| {
                    compressor.response_data(bytes, end, out, env);
                    Ok(())
                })?;
            }
            Self::Decompressor(decompressor) if decompressor.changes_response() => {
                pass.change(out, |bytes, out| {
                    decompressor.data(Side::Response, (bytes, end), trailers, out, env)
                })?;
            }
            Self::Bandwidth(bandwidth) => {
                if let Some(throttle) = &mut bandwidth.response {
                    throttle.incoming(pass.bytes(out).len(), env.now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn response_trailers(
        &mut self,
        trailers: &mut HeaderMap,
        head: &mut ResponseHead,
        pass: &mut Pass<'_>,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        match self {
            Self::Stats(stats) => stats.response_trailers(trailers),
            Self::Web(web) => pass.append(|| web.response_trailers(trailers, head, out)),
            Self::Bridge(bridge) => pass.append(|| bridge.response_trailers(trailers, head, out)),
            Self::Json(json) if json.holds() => pass.append(|| json.release(out, env)),
            Self::Compressor(compressor) if compressor.changes_response() => {
                pass.append(|| compressor.response_data(&[], true, out, env));
            }
            Self::Decompressor(decompressor) if decompressor.changes_response() => {
                return pass.append(|| decompressor.data(Side::Response, (&[], true), trailers, out, env));
            }
            Self::Admission(admission) => admission.response_trailers(trailers, env),
            Self::HeaderMutation(at) => {
                if let Some((filter, name)) = mutation_at(env, *at) {
                    header_mutation::trailers(filter, name, Side::Response, trailers, Some(head), env);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn request_trailers(&mut self, trailers: &mut HeaderMap, env: &mut ResponseEnv<'_>) {
        if let Self::HeaderMutation(at) = self
            && let Some((filter, name)) = mutation_at(env, *at)
        {
            header_mutation::trailers(filter, name, Side::Request, trailers, None, env);
        }
    }
}

fn mutation_at<'e>(
    env: &ResponseEnv<'e>,
    at: usize,
) -> Option<(&'e millrace_config::HeaderMutationFilter, &'e str)> {
    let filter = env.start.hcm.http_filters.get(at)?;
    match &filter.kind {
        HttpFilterKind::HeaderMutation(mutation) => Some((mutation, &filter.name)),
        _ => None,
    }
}
