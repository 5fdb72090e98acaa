//! What the control thread reads of the health that the shards share, and how it hears of news.

use std::sync::Arc;

use millrace_admin::HostChecks;
use millrace_config::{Address, Cluster, ClusterId, Endpoint};
use millrace_shard::shared::Shared;
use millrace_upstream::health_check::CheckFlags;
use tokio::sync::Notify;

use super::control::Control;

/// Wakes the control thread when a shard has something to tell.
pub(super) fn notices(shared: &Shared) -> Arc<Notify> {
    let notify = Arc::new(Notify::new());
    let wake = notify.clone();
    shared.on_notice(Box::new(move || wake.notify_one()));
    // What was told before nobody has heard.
    notify.notify_one();
    notify
}

fn checked(cluster: &Cluster) -> impl Iterator<Item = &Endpoint> {
    cluster
        .localities
        .iter()
        .flat_map(|locality| &locality.endpoints)
        .filter(|endpoint| endpoint.is_checked())
}

/// True when every endpoint that is checked has had a check.
pub(super) fn is_checked(cluster: &Cluster, shared: &Shared) -> bool {
    let Some(check) = &cluster.health_check else { return true };
    let all = shared.health(cluster.id, |health| {
        checked(cluster).all(|endpoint| health.is_checked(&endpoint.address, check.fingerprint))
    });
    all.unwrap_or_else(|| checked(cluster).next().is_none())
}

/// True while an endpoint passes its active checks.
pub(super) fn passes(cluster: ClusterId, endpoint: &Address, shared: &Shared) -> bool {
    let flags = shared.health(cluster, |health| health.checks(endpoint)).flatten();
    flags.is_some_and(|flags| !flags.has(CheckFlags::FAILED))
}

/// What is known of an endpoint, for `/clusters`.
pub(super) fn host_checks(cluster: &Cluster, endpoint: &Endpoint, shared: &Shared) -> HostChecks {
    if cluster.outlier_detection.is_none() && cluster.health_check.is_none() {
        return HostChecks::default();
    }
    let is_checked = cluster.health_check.is_some() && endpoint.is_checked();
    let known = shared.health(cluster.id, |health| {
        let (success_rate, local_origin_success_rate) = health.success_rates(&endpoint.address);
        let (failed_outlier_check, degraded_outlier_detection) = health.seen_by_traffic(&endpoint.address);
        let traffic = HostChecks {
            failed_outlier_check,
            degraded_outlier_detection,
            success_rate,
            local_origin_success_rate,
            ..HostChecks::default()
        };
        (traffic, health.checks(&endpoint.address))
    });
    let (traffic, flags) = known.unwrap_or_default();
    // One that nobody has met yet fails.
    let flags = if is_checked { flags.unwrap_or(CheckFlags::FAILED) } else { CheckFlags::default() };
    HostChecks {
        failed_active_health_check: flags.has(CheckFlags::FAILED),
        failed_active_degraded_check: flags.has(CheckFlags::DEGRADED),
        pending_dynamic_removal: endpoint.leaving,
        pending_active_hc: flags.has(CheckFlags::PENDING),
        excluded_via_immediate_hc_fail: flags.has(CheckFlags::EXCLUDED),
        active_hc_timeout: flags.has(CheckFlags::TIMED_OUT),
        ..traffic
    }
}

impl Control {
    /// Clusters whose checks told something that configuration follows from.
    pub(super) fn heed_health(&mut self) {
        for id in self.workers.shared.take_notices() {
            self.assemble(|assembly, turn| assembly.health_changed(turn, id));
        }
    }
}
