//! `config.cluster.v3.OutlierDetection`.

use std::time::Duration;

use millrace_config::{Consecutive, FailurePercentage, OutlierDetection, SuccessRate};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::google::protobuf::{self as wkt, UInt32Value};

use crate::error::Rejection;
use crate::value;

pub(super) fn outlier_detection(
    cluster: &pb::Cluster,
    path: &Path,
) -> Result<Option<Box<OutlierDetection>>, Rejection> {
    let Some(by) = &cluster.outlier_detection else { return Ok(None) };
    let default = OutlierDetection::default();
    let time = |field: &Option<wkt::Duration>, or| field.as_ref().map_or(or, value::duration);
    let flag = |field: &Option<wkt::BoolValue>, or| field.as_ref().map_or(or, |flag| flag.value);
    let base_ejection_time = time(&by.base_ejection_time, default.base_ejection_time);
    let max_ejection_time = time(&by.max_ejection_time, default.max_ejection_time.max(base_ejection_time));
    if max_ejection_time < base_ejection_time {
        let path = path.join("outlier_detection").join("max_ejection_time");
        return Err(Rejection::new(&path, "must not be shorter than base_ejection_time"));
    }
    Ok(Some(Box::new(OutlierDetection {
        interval: time(&by.interval, default.interval).max(Duration::from_millis(1)),
        base_ejection_time,
        max_ejection_time,
        max_ejection_time_jitter: time(&by.max_ejection_time_jitter, Duration::ZERO),
        max_ejection_percent: number(&by.max_ejection_percent, default.max_ejection_percent),
        always_eject_one_host: flag(&by.always_eject_one_host, false),
        uneject_on_success: flag(&by.successful_active_health_check_uneject_host, true),
        detect_degraded: flag(&by.detect_degraded_hosts, false),
        split_local_origin: by.split_external_local_origin_errors,
        consecutive_5xx: consecutive(
            &by.consecutive_5xx,
            &by.enforcing_consecutive_5xx,
            default.consecutive_5xx,
        ),
        consecutive_gateway_failure: consecutive(
            &by.consecutive_gateway_failure,
            &by.enforcing_consecutive_gateway_failure,
            default.consecutive_gateway_failure,
        ),
        consecutive_local_origin_failure: consecutive(
            &by.consecutive_local_origin_failure,
            &by.enforcing_consecutive_local_origin_failure,
            default.consecutive_local_origin_failure,
        ),
        success_rate: success_rate(by, default.success_rate),
        failure_percentage: failure_percentage(by, default.failure_percentage),
    })))
}

fn number(field: &Option<UInt32Value>, default: u32) -> u32 {
    value::number(field.as_ref(), default)
}

fn consecutive(
    threshold: &Option<UInt32Value>,
    enforcing: &Option<UInt32Value>,
    default: Consecutive,
) -> Consecutive {
    Consecutive {
        threshold: number(threshold, default.threshold),
        enforcing: number(enforcing, default.enforcing),
    }
}

fn success_rate(by: &pb::OutlierDetection, default: SuccessRate) -> SuccessRate {
    SuccessRate {
        minimum_hosts: number(&by.success_rate_minimum_hosts, default.minimum_hosts),
        request_volume: number(&by.success_rate_request_volume, default.request_volume),
        stdev_factor: number(&by.success_rate_stdev_factor, default.stdev_factor),
        enforcing: number(&by.enforcing_success_rate, default.enforcing),
        enforcing_local_origin: number(
            &by.enforcing_local_origin_success_rate,
            default.enforcing_local_origin,
        ),
    }
}

fn failure_percentage(by: &pb::OutlierDetection, default: FailurePercentage) -> FailurePercentage {
    FailurePercentage {
        threshold: number(&by.failure_percentage_threshold, default.threshold),
        minimum_hosts: number(&by.failure_percentage_minimum_hosts, default.minimum_hosts),
        request_volume: number(&by.failure_percentage_request_volume, default.request_volume),
        enforcing: number(&by.enforcing_failure_percentage, default.enforcing),
        enforcing_local_origin: number(
            &by.enforcing_failure_percentage_local_origin,
            default.enforcing_local_origin,
        ),
    }
}
