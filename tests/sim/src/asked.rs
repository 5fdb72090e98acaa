//! What the fixture's cluster asks its endpoints for beside traffic: health checks and streams of load reports.

use std::time::Duration;

use millrace_config::{
    ClientSideWeights, HeaderMutations, HealthCheck, HealthCheckIntervals, HealthCheckKind, HttpHealthCheck,
    LbPolicy, LoadStream,
};

use crate::fixture::Knobs;
use crate::h2::reporter;

pub(crate) fn lb_policy(knobs: &Knobs) -> LbPolicy {
    if !knobs.load_streams {
        return LbPolicy::RoundRobin;
    }
    let millis = Duration::from_millis;
    LbPolicy::ClientSideWeightedRoundRobin(ClientSideWeights {
        blackout: millis(300),
        expiration: millis(2000),
        update: millis(100),
        error_penalty: 0.0,
    })
}

pub(crate) fn load_stream() -> LoadStream {
    LoadStream { period: reporter::PERIOD, port: reporter::PORT, authority: "".into(), transport_match: None }
}

pub(crate) fn health_check() -> HealthCheck {
    let interval = Duration::from_millis(100);
    HealthCheck {
        fingerprint: 1,
        timeout: Duration::from_millis(60),
        intervals: HealthCheckIntervals {
            interval,
            no_traffic: interval,
            no_traffic_healthy: interval,
            unhealthy: interval,
            unhealthy_edge: interval,
            healthy_edge: interval,
            initial_jitter: Duration::ZERO,
            jitter: Duration::from_millis(10),
            jitter_percent: 0,
        },
        unhealthy_threshold: 2,
        healthy_threshold: 2,
        reuse_connection: true,
        always_log_failures: false,
        always_log_success: false,
        event_logs: Vec::new(),
        alpn: None,
        transport_match: None,
        kind: HealthCheckKind::Http(Box::new(HttpHealthCheck {
            host: "".into(),
            path: "/hc".into(),
            method: "GET",
            send: Vec::new(),
            receive: Vec::new(),
            response_bytes: None,
            headers: HeaderMutations::default(),
            expected: vec![(200, 201)],
            retriable: Vec::new(),
            http2: false,
            service_name: None,
        })),
        ignore_health_on_removal: false,
        ignore_new_hosts: false,
    }
}
