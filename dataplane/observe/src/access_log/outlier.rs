//! Lines of the event log of outlier detection (`envoy.data.cluster.v3.OutlierDetectionEvent`), as Envoy prints them.

use std::io::Write as _;

use millrace_base::WallTime;

use crate::format::push_iso8601;
use crate::json::push_string;

/// What one line says.
#[derive(Clone, Copy, Debug)]
pub struct OutlierLine<'a> {
    /// `OutlierEjectionType`; an UNEJECT has `CONSECUTIVE_5XX`, whatever the reason was.
    pub kind: &'static str,
    /// Now.
    pub at: WallTime,
    /// Whole seconds since the action before; `None` before any.
    pub since_last: Option<u64>,
    /// The cluster's name.
    pub cluster: &'a str,
    /// The endpoint's address.
    pub endpoint: &'a str,
    /// `EJECT`, or else `UNEJECT`.
    pub eject: bool,
    /// How often it was ejected so far.
    pub ejections: u32,
    /// False for an ejection that is only counted.
    pub enforced: bool,
    /// Rates in percent behind an EJECT: the endpoint's, and the cluster's mean and threshold.
    pub rates: Option<(f64, Option<(f64, f64)>)>,
}

/// Appends the line.
pub fn render_outlier(line: &OutlierLine<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":");
    push_string(line.kind.as_bytes(), out);
    out.extend_from_slice(b",\"timestamp\":\"");
    push_iso8601(line.at, out);
    out.push(b'"');
    if let Some(seconds) = line.since_last {
        let _ = write!(out, ",\"secs_since_last_action\":\"{seconds}\"");
    }
    out.extend_from_slice(b",\"cluster_name\":");
    push_string(line.cluster.as_bytes(), out);
    out.extend_from_slice(b",\"upstream_url\":");
    push_string(line.endpoint.as_bytes(), out);
    let (action, ejections, enforced) =
        (if line.eject { "EJECT" } else { "UNEJECT" }, line.ejections, line.enforced);
    let _ = write!(out, ",\"action\":\"{action}\",\"num_ejections\":{ejections},\"enforced\":{enforced}");
    // The rates are whole numbers in the message.
    match line.rates {
        _ if !line.eject => {}
        None => out.extend_from_slice(b",\"eject_consecutive_event\":{}"),
        Some((host, None)) => {
            let _ =
                write!(out, ",\"eject_failure_percentage_event\":{{\"host_success_rate\":{}}}", host as u32);
        }
        Some((host, Some((mean, threshold)))) => {
            let _ = write!(
                out,
                ",\"eject_success_rate_event\":{{\"host_success_rate\":{},\"cluster_average_success_rate\":{},\
                 \"cluster_success_rate_ejection_threshold\":{}}}",
                host as u32, mean as u32, threshold as u32
            );
        }
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_that_envoy_1_40_wrote() {
        let line = OutlierLine {
            kind: "CONSECUTIVE_GATEWAY_FAILURE",
            at: WallTime(1_795_742_549_923_000_000),
            since_last: None,
            cluster: "up",
            endpoint: "127.0.0.1:19999",
            eject: true,
            ejections: 0,
            enforced: false,
            rates: None,
        };
        let text = |line: &OutlierLine<'_>| {
            let mut out = Vec::new();
            render_outlier(line, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(&line),
            "{\"type\":\"CONSECUTIVE_GATEWAY_FAILURE\",\"timestamp\":\"2026-11-27T01:22:29.923Z\",\"cluster_name\":\"up\",\
             \"upstream_url\":\"127.0.0.1:19999\",\"action\":\"EJECT\",\"num_ejections\":0,\"enforced\":false,\
             \"eject_consecutive_event\":{}}\n"
        );
        let back = OutlierLine { eject: false, since_last: Some(1), ejections: 2, ..line };
        assert!(text(&back).ends_with("\"action\":\"UNEJECT\",\"num_ejections\":2,\"enforced\":false}\n"));
        assert!(text(&back).contains(",\"secs_since_last_action\":\"1\","));
        let rate = OutlierLine { rates: Some((50.9, Some((95.0, 88.25)))), ..line };
        assert!(text(&rate).contains(
            "{\"host_success_rate\":50,\"cluster_average_success_rate\":95,\"cluster_success_rate_ejection_threshold\":88}"
        ));
    }
}
