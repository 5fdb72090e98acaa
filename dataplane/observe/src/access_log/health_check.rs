//! Lines of the event log of active health checks (`envoy.data.core.v3.HealthCheckEvent`), as Envoy prints them.

use std::io::Write as _;

use millrace_base::WallTime;
use millrace_config::{Address, LocalityName};

use crate::format::push_iso8601;
use crate::json::push_string;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheckEvent {
    /// `add_healthy_event`.
    AddHealthy {
        /// `first_check`.
        first: bool,
    },
    /// `eject_unhealthy_event`.
    EjectUnhealthy {
        /// `failure_type`.
        failure: &'static str,
        /// `http_status_code`.
        status: u16,
    },
    /// `health_check_failure_event`.
    Failure {
        /// `failure_type`.
        failure: &'static str,
        /// `first_check`.
        first: bool,
        /// `http_status_code`.
        status: u16,
    },
    /// `degraded_healthy_host`.
    Degraded,
    /// `no_longer_degraded_host`.
    NoLongerDegraded,
    /// `successful_health_check_event`.
    Success,
}

/// What one line says.
#[derive(Clone, Copy, Debug)]
pub struct HealthCheckLine<'a> {
    /// `health_checker_type`.
    pub kind: &'static str,
    /// Where the endpoint serves.
    pub endpoint: &'a Address,
    /// The cluster's name.
    pub cluster: &'a str,
    /// Now.
    pub at: WallTime,
    /// The endpoint's locality.
    pub locality: &'a LocalityName,
    /// What happened.
    pub event: HealthCheckEvent,
}

/// Appends the line.
pub fn render_health_check(line: &HealthCheckLine<'_>, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{{\"health_checker_type\":\"{}\",\"host\":", line.kind);
    push_address(line.endpoint, out);
    out.extend_from_slice(b",\"cluster_name\":");
    push_string(line.cluster.as_bytes(), out);
    // Fields stand in the order of their numbers; that of the time is in the middle.
    let _ = match line.event {
        HealthCheckEvent::AddHealthy { first } => {
            write!(out, ",\"add_healthy_event\":{{\"first_check\":{first}}}")
        }
        HealthCheckEvent::EjectUnhealthy { failure, status } => {
            let head = ",\"eject_unhealthy_event\":";
            write!(out, "{head}{{\"failure_type\":\"{failure}\",\"http_status_code\":{status}}}")
        }
        _ => Ok(()),
    };
    out.extend_from_slice(b",\"timestamp\":\"");
    push_iso8601(line.at, out);
    out.push(b'"');
    let _ = match line.event {
        HealthCheckEvent::Failure { failure, first, status } => write!(
            out,
            ",\"health_check_failure_event\":{{\"failure_type\":\"{failure}\",\"first_check\":{first},\
             \"http_status_code\":{status}}}"
        ),
        HealthCheckEvent::Degraded => write!(out, ",\"degraded_healthy_host\":{{}}"),
        HealthCheckEvent::NoLongerDegraded => write!(out, ",\"no_longer_degraded_host\":{{}}"),
        _ => Ok(()),
    };
    let (region, zone, sub_zone) = line.locality;
    for (name, value) in
        [(",\"locality\":{\"region\":", region), (",\"zone\":", zone), (",\"sub_zone\":", sub_zone)]
    {
        out.extend_from_slice(name.as_bytes());
        push_string(value.as_bytes(), out);
    }
    out.push(b'}');
    if line.event == HealthCheckEvent::Success {
        out.extend_from_slice(b",\"successful_health_check_event\":{}");
    }
    out.extend_from_slice(b"}\n");
}

fn push_address(address: &Address, out: &mut Vec<u8>) {
    match address {
        Address::Inet(inet) => {
            let _ = write!(
                out,
                "{{\"socket_address\":{{\"protocol\":\"TCP\",\"address\":\"{}\",\"port_value\":{},\"resolver_name\":\"\",\
                 \"ipv4_compat\":false,\"network_namespace_filepath\":\"\"}}}}",
                inet.ip(),
                inet.port()
            );
        }
        Address::Pipe { path, mode } => {
            out.extend_from_slice(b"{\"pipe\":{\"path\":");
            push_string(path.as_bytes(), out);
            let _ = write!(out, ",\"mode\":{mode}}}}}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_that_envoy_1_40_wrote() {
        let address = Address::Inet("127.0.0.1:18106".parse().unwrap());
        let text = |event| {
            let line = HealthCheckLine {
                kind: "HTTP",
                endpoint: &address,
                cluster: "c",
                at: WallTime(1_795_753_912_397_000_000),
                locality: &LocalityName::default(),
                event,
            };
            let mut out = Vec::new();
            render_health_check(&line, &mut out);
            String::from_utf8(out).unwrap()
        };
        let head = "{\"health_checker_type\":\"HTTP\",\"host\":{\"socket_address\":{\"protocol\":\"TCP\",\"address\":\
                    \"127.0.0.1\",\"port_value\":18106,\"resolver_name\":\"\",\"ipv4_compat\":false,\
                    \"network_namespace_filepath\":\"\"}},\"cluster_name\":\"c\"";
        let tail = "\"locality\":{\"region\":\"\",\"zone\":\"\",\"sub_zone\":\"\"}}\n";
        let time = "\"timestamp\":\"2026-11-27T04:31:52.397Z\"";
        let cases = [
            (
                HealthCheckEvent::EjectUnhealthy { failure: "ACTIVE", status: 503 },
                format!(
                    "{head},\"eject_unhealthy_event\":{{\"failure_type\":\"ACTIVE\",\"http_status_code\":503}},{time},{tail}"
                ),
            ),
            (
                HealthCheckEvent::AddHealthy { first: false },
                format!("{head},\"add_healthy_event\":{{\"first_check\":false}},{time},{tail}"),
            ),
            (
                HealthCheckEvent::Failure { failure: "NETWORK", first: true, status: 0 },
                format!(
                    "{head},{time},\"health_check_failure_event\":{{\"failure_type\":\"NETWORK\",\"first_check\":true,\
                     \"http_status_code\":0}},{tail}"
                ),
            ),
        ];
        for (event, expected) in cases {
            assert_eq!(text(event), expected);
        }
    }
}
