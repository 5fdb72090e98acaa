//! The event log of outlier detection.

use millrace_base::{Time, WallTime};
use millrace_config::AccessLogSink;
use millrace_observe::access_log::{OutlierLine, render_outlier};
use millrace_upstream::{Ejection, OutlierAction, OutlierEvent};

use crate::logs::Logs;

/// Writes a line for what Envoy writes one for: ejections, enforced or not, and returns.
pub(super) fn write(
    logs: &mut Logs,
    sink: &AccessLogSink,
    cluster: &str,
    event: &OutlierEvent,
    (now, wall): (Time, WallTime),
) {
    let (kind, eject, enforced, rates) = match event.action {
        OutlierAction::Eject { why, enforced, rates } => (name(why), true, enforced, rates),
        OutlierAction::Degrade => ("DEGRADED", true, true, None),
        OutlierAction::Uneject | OutlierAction::Recover => {
            (name(Ejection::Consecutive5xx), false, false, None)
        }
        OutlierAction::Detected(_) | OutlierAction::Overflow | OutlierAction::Left => return,
    };
    let line = OutlierLine {
        kind,
        at: wall,
        since_last: event.since_last.map(|since| since.as_secs()),
        cluster,
        endpoint: &event.address.to_string(),
        eject,
        ejections: event.ejections,
        enforced,
        rates: rates.map(|rates| (rates.host, rates.cluster)),
    };
    logs.write_line(sink, now, |out| render_outlier(&line, out));
}

fn name(why: Ejection) -> &'static str {
    match why {
        Ejection::Consecutive5xx => "CONSECUTIVE_5XX",
        Ejection::ConsecutiveGatewayFailure => "CONSECUTIVE_GATEWAY_FAILURE",
        Ejection::ConsecutiveLocalOriginFailure => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
        Ejection::SuccessRate => "SUCCESS_RATE",
        Ejection::SuccessRateLocalOrigin => "SUCCESS_RATE_LOCAL_ORIGIN",
        Ejection::FailurePercentage => "FAILURE_PERCENTAGE",
        Ejection::FailurePercentageLocalOrigin => "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
    }
}
