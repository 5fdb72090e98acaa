//! `extensions.filters.http.admission_control.v3.AdmissionControl`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{AdmissionControl, AdmissionId, HttpFilterKind};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::RuntimePercent;
use millrace_proto::pb::envoy::extensions::filters::http::admission_control::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::http::admission_control::v3::admission_control::{
    EvaluationCriteria, success_criteria::HttpCriteria,
};

use super::enabled;
use crate::context::Context;
use crate::error::Rejection;
use crate::value;

pub(in crate::http) const TYPE: &str = "envoy.extensions.filters.http.admission_control.v3.AdmissionControl";

const WINDOW: Duration = Duration::from_secs(30);
const SUCCESS_THRESHOLD: f64 = 95.0;
const MAX_REJECTION: f64 = 80.0;

pub(super) fn filter(
    config: &pb::AdmissionControl,
    stat_prefix: &str,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    let Some(EvaluationCriteria::SuccessCriteria(criteria)) = &config.evaluation_criteria else {
        return Err(Rejection::new(&path.join("evaluation_criteria"), "is required"));
    };
    let inside = path.join("success_criteria");
    let threshold = percent(config.sr_threshold.as_ref(), SUCCESS_THRESHOLD, cx);
    if threshold < 1.0 {
        let why = "Success rate threshold cannot be less than 1.0%.";
        return Err(Rejection::new(&path.join("sr_threshold"), why));
    }
    let http_success = match &criteria.http_criteria {
        Some(http) => statuses(http, &inside.join("http_criteria"))?,
        None => std::iter::once(100..500).collect(),
    };
    let grpc_success = match &criteria.grpc_criteria {
        None => AdmissionControl::GRPC_SUCCESS,
        Some(grpc) => {
            let path = inside.join("grpc_criteria").join("grpc_success_status");
            let mut bits = 0;
            for (i, status) in grpc.grpc_success_status.iter().enumerate() {
                if *status > 16 {
                    return Err(Rejection::new(&path.at(i), format!("invalid gRPC code {status}")));
                }
                bits |= 1 << status;
            }
            bits
        }
    };
    // Envoy rounds to the nearest second.
    let window = config.sampling_window.as_ref().map_or(WINDOW, value::duration).as_millis();
    let aggression = config.aggression.as_ref().map_or(1.0, |aggression| cx.runtime.double(aggression));
    Ok(HttpFilterKind::AdmissionControl(Arc::new(AdmissionControl {
        scope: cx.scope(ScopeKind::HttpAdmissionControl, &format!("{stat_prefix}.admission_control")),
        id: AdmissionId::unique(),
        enabled: enabled(config.enabled.as_ref(), cx),
        http_success,
        grpc_success,
        window: Duration::from_secs(((window + 500) / 1000) as u64),
        aggression: aggression.max(1.0),
        success_threshold: threshold.min(100.0) / 100.0,
        rps_threshold: config.rps_threshold.as_ref().map_or(0, |threshold| cx.runtime.uint32(threshold)),
        max_rejection: percent(config.max_rejection_probability.as_ref(), MAX_REJECTION, cx) / 100.0,
    })))
}

fn statuses(criteria: &HttpCriteria, path: &Path) -> Result<Vec<Range<u16>>, Rejection> {
    let path = path.join("http_success_status");
    let one = |(i, range): (usize, &millrace_proto::pb::envoy::r#type::v3::Int32Range)| {
        let bounds = u16::try_from(range.start).ok().zip(u16::try_from(range.end).ok());
        match bounds.filter(|(start, end)| (100..600).contains(start) && start <= end && *end <= 600) {
            Some((start, end)) => Ok(start..end),
            None => {
                let why = format!(
                    "invalid HTTP range: [{}, {}): start and end must be within the range of valid HTTP codes",
                    range.start, range.end
                );
                Err(Rejection::new(&path.at(i), why))
            }
        }
    };
    criteria.http_success_status.iter().enumerate().map(one).collect()
}

fn percent(configured: Option<&RuntimePercent>, default: f64, cx: &Context) -> f64 {
    let Some(configured) = configured else { return default };
    let runtime = cx.runtime.integer(&configured.runtime_key).map(|percent| percent as f64);
    runtime.or(configured.default_value.as_ref().map(|percent| percent.value)).unwrap_or(0.0)
}
