//! The event log of active health checks.

use millrace_base::{Time, WallTime};
use millrace_config::{Cluster, Endpoint, HealthCheck, HealthCheckKind, LocalityName};
use millrace_observe::access_log::{HealthCheckEvent, HealthCheckLine, render_health_check};
use millrace_upstream::health_check::{CheckEvent, FailureKind};

use crate::logs::Logs;

/// Writes a line for every event.
pub(super) fn write(
    logs: &mut Logs,
    (check, cluster): (&HealthCheck, &Cluster),
    (endpoint, locality): (&Endpoint, &LocalityName),
    events: &[CheckEvent],
    (now, at): (Time, WallTime),
) {
    for event in events {
        let line = HealthCheckLine {
            kind: match check.kind {
                HealthCheckKind::Http(_) => "HTTP",
                HealthCheckKind::Tcp(_) => "TCP",
                HealthCheckKind::Grpc(_) => "GRPC",
            },
            endpoint: &endpoint.address,
            cluster: &cluster.name,
            at,
            locality,
            event: told(*event),
        };
        for sink in &check.event_logs {
            logs.write_line(sink, now, |out| render_health_check(&line, out));
        }
    }
}

fn told(event: CheckEvent) -> HealthCheckEvent {
    match event {
        CheckEvent::AddHealthy { first } => HealthCheckEvent::AddHealthy { first },
        CheckEvent::EjectUnhealthy(failure) => {
            HealthCheckEvent::EjectUnhealthy { failure: name(failure.kind), status: failure.status }
        }
        CheckEvent::Failed { failure, first } => {
            HealthCheckEvent::Failure { failure: name(failure.kind), first, status: failure.status }
        }
        CheckEvent::Succeeded => HealthCheckEvent::Success,
        CheckEvent::Degraded => HealthCheckEvent::Degraded,
        CheckEvent::NoLongerDegraded => HealthCheckEvent::NoLongerDegraded,
    }
}

/// `HealthCheckFailureType`.
fn name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Active => "ACTIVE",
        FailureKind::Passive => "PASSIVE",
        FailureKind::Network => "NETWORK",
        FailureKind::NetworkTimeout => "NETWORK_TIMEOUT",
    }
}
