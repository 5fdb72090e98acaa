//! `/clusters`.

use std::fmt::{self, Write as _};

use millrace_config::{HealthStatus, Thresholds};
use regex::Regex;
use serde_json::Value;

use crate::Response;
use crate::endpoint::Call;
use crate::json::{Object, pretty};
use crate::listeners::address_json;
use crate::state::{AdminState, ClusterStatus, HostStatus};

pub(crate) fn serve(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let filter = match call.query.get_non_empty("filter").map(Regex::new).transpose() {
        Ok(filter) => filter,
        Err(_) => return Response::text(400, "Invalid re2 regex"),
    };
    let mut clusters = state.clusters();
    clusters.retain(|cluster| filter.as_ref().is_none_or(|filter| filter.is_match(&cluster.name)));
    if call.query.get("format") == Some("json") {
        let statuses: Vec<Value> = clusters.iter().map(cluster_json).collect();
        return Response::json(pretty(&Object::default().with_set("cluster_statuses", statuses).build()));
    }
    let mut out = String::new();
    for cluster in &clusters {
        // Writing to a String cannot fail.
        let _ = cluster_text(&mut out, cluster);
    }
    Response::text(200, out)
}

fn cluster_text(out: &mut String, cluster: &ClusterStatus) -> fmt::Result {
    let name = &cluster.name;
    writeln!(out, "{name}::observability_name::{}", cluster.observability_name)?;
    for (origin, rates) in ["", "local_origin_"].iter().zip(cluster.success_rates.iter().flatten()) {
        let (mean, threshold) = rates.unwrap_or((-1.0, -1.0));
        let (mean, threshold) = (six_digits(mean), six_digits(threshold));
        writeln!(out, "{name}::outlier::{origin}success_rate_average::{mean}")?;
        writeln!(out, "{name}::outlier::{origin}success_rate_ejection_threshold::{threshold}")?;
    }
    for (priority, limits) in [("default", &cluster.default_priority), ("high", &cluster.high_priority)] {
        for (limit, value) in thresholds(limits) {
            writeln!(out, "{name}::{priority}_priority::{limit}::{value}")?;
        }
    }
    writeln!(out, "{name}::added_via_api::{}", cluster.added_via_api)?;
    cluster.hosts.iter().try_for_each(|host| host_text(out, name, host))
}

fn host_text(out: &mut String, name: &str, host: &HostStatus) -> fmt::Result {
    let address = &host.address;
    let mut sorted: Vec<(&str, u64)> = host.stats.counters().into_iter().chain(host.stats.gauges()).collect();
    sorted.sort_unstable();
    for (stat, value) in sorted {
        writeln!(out, "{name}::{address}::{stat}::{value}")?;
    }
    let (region, zone, sub_zone) = &host.locality;
    writeln!(out, "{name}::{address}::hostname::{}", host.hostname)?;
    writeln!(out, "{name}::{address}::health_flags::{}", health_flags(host))?;
    writeln!(out, "{name}::{address}::weight::{}", host.weight)?;
    writeln!(out, "{name}::{address}::region::{region}")?;
    writeln!(out, "{name}::{address}::zone::{zone}")?;
    writeln!(out, "{name}::{address}::sub_zone::{sub_zone}")?;
    writeln!(out, "{name}::{address}::canary::{}", host.canary)?;
    writeln!(out, "{name}::{address}::priority::{}", host.priority)?;
    let rate = |rate: Option<f64>| six_digits(rate.unwrap_or(-1.0));
    writeln!(out, "{name}::{address}::success_rate::{}", rate(host.checks.success_rate))?;
    let local = rate(host.checks.local_origin_success_rate);
    writeln!(out, "{name}::{address}::local_origin_success_rate::{local}")
}

/// Of a percentage: six significant digits, as Envoy prints them.
fn six_digits(percent: f64) -> f64 {
    let whole = if percent == 0.0 { 0 } else { percent.abs().log10().floor() as i32 };
    let scale = 10f64.powi(5 - whole.clamp(-30, 30));
    (percent * scale).round() / scale
}

fn health_flags(host: &HostStatus) -> String {
    let (checks, eds) = (&host.checks, host.health);
    let all = [
        (checks.failed_active_health_check, "/failed_active_hc"),
        (checks.failed_outlier_check, "/failed_outlier_check"),
        (matches!(eds, HealthStatus::Unhealthy | HealthStatus::Timeout), "/failed_eds_health"),
        (checks.failed_active_degraded_check, "/degraded_active_hc"),
        (eds == HealthStatus::Degraded, "/degraded_eds_health"),
        (checks.pending_dynamic_removal, "/pending_dynamic_removal"),
        (checks.pending_active_hc, "/pending_active_hc"),
        (checks.excluded_via_immediate_hc_fail, "/excluded_via_immediate_hc_fail"),
        (checks.active_hc_timeout, "/active_hc_timeout"),
        (eds == HealthStatus::Draining, "/eds_status_draining"),
        (checks.degraded_outlier_detection, "/degraded_outlier_detection"),
    ];
    let flags: String = all.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if flags.is_empty() { "healthy".to_owned() } else { flags }
}

fn eds_health(health: HealthStatus) -> &'static str {
    match health {
        HealthStatus::Unknown | HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
        HealthStatus::Timeout => "TIMEOUT",
        HealthStatus::Degraded => "DEGRADED",
    }
}

fn thresholds(limits: &Thresholds) -> [(&'static str, u32); 4] {
    [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ]
}

fn cluster_json(cluster: &ClusterStatus) -> Value {
    let hosts: Vec<Value> = cluster.hosts.iter().map(host_json).collect();
    let limits = |priority: &str, limits: &Thresholds| {
        let mut object = Object::default().with_set("priority", priority);
        for (limit, value) in thresholds(limits) {
            object = object.with(limit, value);
        }
        object.build()
    };
    let breakers = vec![limits("", &cluster.default_priority), limits("HIGH", &cluster.high_priority)];
    Object::default()
        .with("name", cluster.name.as_str())
        .with_set("added_via_api", cluster.added_via_api)
        .with_set("host_statuses", hosts)
        .with("circuit_breakers", Object::default().with("thresholds", breakers).build())
        .with("observability_name", cluster.observability_name.as_str())
        .build()
}

fn host_json(host: &HostStatus) -> Value {
    let mut stats: Vec<Value> = Vec::with_capacity(9);
    let value = |value: u64| if value == 0 { String::new() } else { value.to_string() };
    for (name, count) in host.stats.counters() {
        stats.push(Object::default().with_set("value", value(count)).with("name", name).build());
    }
    for (name, count) in host.stats.gauges() {
        let gauge = Object::default().with("type", "GAUGE");
        stats.push(gauge.with_set("value", value(count)).with("name", name).build());
    }
    let health = Object::default()
        .with_set("failed_active_health_check", host.checks.failed_active_health_check)
        .with_set("failed_outlier_check", host.checks.failed_outlier_check)
        .with("eds_health_status", eds_health(host.health))
        .with_set("failed_active_degraded_check", host.checks.failed_active_degraded_check)
        .with_set("pending_dynamic_removal", host.checks.pending_dynamic_removal)
        .with_set("pending_active_hc", host.checks.pending_active_hc)
        .with_set("excluded_via_immediate_hc_fail", host.checks.excluded_via_immediate_hc_fail)
        .with_set("active_hc_timeout", host.checks.active_hc_timeout);
    let (region, zone, sub_zone) = &host.locality;
    let locality = Object::default()
        .with_set("region", region.as_str())
        .with_set("zone", zone.as_str())
        .with_set("sub_zone", sub_zone.as_str());
    let percent = |rate: Option<f64>| rate.map(|rate| Object::default().with("value", rate).build());
    let mut object = Object::default()
        .with("address", address_json(&host.address))
        .with("stats", stats)
        .with("health_status", health.build())
        .with_set("weight", host.weight)
        .with_set("hostname", host.hostname.as_str())
        .with_set("priority", host.priority)
        .with("locality", locality.build());
    if let Some(rate) = percent(host.checks.success_rate) {
        object = object.with("success_rate", rate);
    }
    if let Some(rate) = percent(host.checks.local_origin_success_rate) {
        object = object.with("local_origin_success_rate", rate);
    }
    object.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_six_digits() {
        for (percent, text) in [
            (31.698_729_810_778_07, "31.6987"),
            (-7.272_413_359_521_664, "-7.27241"),
            (200.0 / 3.0, "66.6667"),
            (0.0, "0"),
            (100.0, "100"),
            (-1.0, "-1"),
            (0.001_234_567_8, "0.00123457"),
        ] {
            assert_eq!(six_digits(percent).to_string(), text);
        }
    }
}
