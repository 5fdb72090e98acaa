//! What holds where the bootstrap says nothing: `docs/decisions/0016-safe-under-overload.md`.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::Limits;
use millrace_config::{
    ActionKind, MonitorKind, OverloadAction, OverloadManager, ResourceMonitor, Trigger, TriggerKind,
};
use millrace_observe::stats::{Registry, ScopeKind};

use super::cgroup::MemoryGroup;
use crate::cli::Options;

/// How often memory is looked at: a tenth of a second of a full gigabit is 12 MB.
const REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// Streams below 2 KiB are not reset. Those that hold what a pressed shard lets one have, 16 KiB, are reset from half of the
/// way on, before requests are refused.
const ACCOUNT_POWER: u8 = 11;
const CONNECTIONS: &str = "envoy.resource_monitors.global_downstream_max_connections";
const MEMORY: &str = "millrace.resource_monitors.own_memory";

/// The configured manager with what it leaves open: a bound on downstream connections from the limit on open files, and
/// actions on memory where the control group has a limit. `None` when there is nothing to watch.
pub fn with_defaults(
    configured: Option<&Arc<OverloadManager>>,
    registry: &Registry,
    files_max: Option<u64>,
) -> Option<Arc<OverloadManager>> {
    let mut manager = match configured {
        Some(configured) => OverloadManager::clone(configured),
        None => OverloadManager {
            refresh_interval: Duration::from_secs(1),
            monitors: Vec::new(),
            actions: Vec::new(),
            points: Vec::new(),
            account_power: None,
        },
    };
    let silent = manager.actions.is_empty() && manager.points.is_empty();
    if manager.connections_max().is_none()
        && let Some(files) = files_max
    {
        manager.monitors.push(ResourceMonitor {
            name: CONNECTIONS.into(),
            kind: MonitorKind::DownstreamConnections { max: connections_max(files) },
            scope: registry.scope(ScopeKind::OverloadMonitor, CONNECTIONS),
        });
    }
    if silent && MemoryGroup::own().limit().is_some() {
        watch_memory(&mut manager, registry);
    }
    (!manager.monitors.is_empty()).then(|| Arc::new(manager))
}

/// Share of the control group's memory that may wait for slow peers.
const WAITING_SHARE: u64 = 4;
/// Whatever the limit is, a shard may keep so much.
const WAITING_BYTES_LEAST: u64 = 2 * 1024 * 1024;

/// Bytes that may wait in memory of one shard's own: what the command line says, else a share of the limit on memory.
pub fn waiting_bytes_max(options: &Options, shards: usize) -> usize {
    let limit = MemoryGroup::own().limit().filter(|_| options.default_overload);
    waiting_of(options.max_waiting_mib, limit, shards)
}

fn waiting_of(told_mib: Option<u32>, limit: Option<u64>, shards: usize) -> usize {
    let most = Limits::DEFAULT.waiting_bytes_max as u64;
    let of_shard = |all: u64| (all / shards.max(1) as u64).max(WAITING_BYTES_LEAST);
    let bytes = match (told_mib, limit) {
        (Some(mib), _) => of_shard(u64::from(mib) << 20),
        (None, Some(limit)) => of_shard(limit / WAITING_SHARE).min(most),
        (None, None) => most,
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Half of the files: each connection may need another one to an endpoint, and the process has files of its own.
fn connections_max(files: u64) -> u64 {
    (files.saturating_sub(64) / 2).max(16)
}

fn watch_memory(manager: &mut OverloadManager, registry: &Registry) {
    let monitor = manager.monitors.len();
    manager.refresh_interval = manager.refresh_interval.min(REFRESH_INTERVAL);
    manager.account_power = Some(ACCOUNT_POWER);
    manager.monitors.push(ResourceMonitor {
        name: MEMORY.into(),
        kind: MonitorKind::OwnMemory,
        scope: registry.scope(ScopeKind::OverloadMonitor, MEMORY),
    });
    let threshold = TriggerKind::Threshold;
    let scaled = TriggerKind::Scaled { scaling: 0.80, saturation: 0.90 };
    let actions = [
        ("shrink_heap", ActionKind::ShrinkHeap { interval: Duration::from_secs(1) }, threshold(0.75)),
        ("reset_high_memory_stream", ActionKind::ResetHighMemoryStream, scaled),
        ("stop_accepting_requests", ActionKind::StopAcceptingRequests, threshold(0.90)),
        ("reject_incoming_connections", ActionKind::RejectIncomingConnections, threshold(0.95)),
    ];
    for (name, kind, trigger) in actions {
        let name: Arc<str> = format!("envoy.overload_actions.{name}").into();
        let scope = registry.scope(ScopeKind::OverloadAction, &name);
        let triggers = vec![Trigger { monitor, kind: trigger }];
        manager.actions.push(OverloadAction { name, kind, triggers, scope });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_half_of_the_files() {
        let manager = with_defaults(None, &Registry::new(), Some(1024)).unwrap();
        assert_eq!(manager.connections_max(), Some(480));
        assert_eq!((connections_max(64), connections_max(1 << 20)), (16, 524_256));
    }

    #[test]
    fn a_quarter_of_the_limit_may_wait() {
        const MIB: usize = 1 << 20;
        assert_eq!(waiting_of(None, Some(128 << 20), 1), 32 * MIB);
        assert_eq!(waiting_of(None, Some(128 << 20), 4), 8 * MIB);
        assert_eq!(waiting_of(None, Some(1 << 20), 4), 2 * MIB);
        assert_eq!((waiting_of(None, Some(1 << 40), 1), waiting_of(None, None, 8)), (256 * MIB, 256 * MIB));
        assert_eq!(waiting_of(Some(600), Some(128 << 20), 2), 300 * MIB);
    }

    #[test]
    fn what_is_configured_stays() {
        let registry = Registry::new();
        let mut own = with_defaults(None, &registry, Some(100)).unwrap();
        let manager = Arc::make_mut(&mut own);
        manager.actions.clear();
        manager.monitors.truncate(1);
        watch_memory(manager, &registry);
        manager.actions.truncate(1);
        let own = Arc::new(manager.clone());
        assert_eq!(with_defaults(Some(&own), &registry, Some(9000)), Some(own));
    }
}
