//! The overload manager: reads resources at every refresh, decides how far each action is, and tells the shards.

mod cgroup;
mod cpu;
mod default;
mod readers;

use std::sync::Arc;
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{ActionKind, Level, MonitorKind, OverloadLevels, OverloadManager, Pressures, ScopeId};
use millrace_observe::stats::{
    Registry, ScopeKind, ShardStats, load_shed_point, overload_action, overload_monitor, process,
};
use millrace_shard::shared::{ConnectionCount, Message};

pub use default::{waiting_bytes_max, with_defaults};
use readers::Reader;

use super::control::Control;
use crate::logging::{Component, Level as LogLevel};

/// The bound that Envoy took before there was a monitor for it.
const CONNECTIONS_KEY: &str = "overload.global_downstream_max_connections";

/// The manager at work.
pub struct Overload {
    manager: Arc<OverloadManager>,
    readers: Vec<Reader>,
    pressures: Pressures,
    levels: OverloadLevels,
    /// By position of the action.
    actions: Vec<Level>,
    next: Time,
    last: Option<Time>,
    /// When free memory is given back next, by position of the action.
    shrinks: Vec<Option<Time>>,
    refused: u64,
    process_scope: ScopeId,
}

/// What follows from a refresh.
struct Refreshed {
    /// Shards must hear of it.
    changed: bool,
    /// Names of actions, and whether they are active now.
    turned: Vec<(Arc<str>, bool)>,
    /// Names of monitors, and why they could not be read.
    failures: Vec<(Arc<str>, String)>,
}

impl Overload {
    /// Puts the bound on connections in force; the first refresh comes after one interval.
    pub fn new(manager: &Arc<OverloadManager>, registry: &Registry, connections: &ConnectionCount) -> Self {
        connections.set_max(manager.connections_max());
        Self {
            readers: manager.monitors.iter().map(|monitor| Reader::new(&monitor.kind)).collect(),
            pressures: Pressures::new(manager),
            levels: OverloadLevels::default(),
            actions: vec![Level::OFF; manager.actions.len()],
            next: Time::ZERO + manager.refresh_interval,
            last: None,
            shrinks: vec![None; manager.actions.len()],
            refused: 0,
            process_scope: registry.scope(ScopeKind::Process, ""),
            manager: manager.clone(),
        }
    }

    /// When it wants to be called.
    pub fn deadline(&self) -> Time {
        self.next
    }

    fn refresh(
        &mut self,
        now: Time,
        stats: &mut ShardStats,
        connections: &ConnectionCount,
        runtime: impl Fn(&str) -> Option<u64>,
    ) -> Refreshed {
        if let Some(last) = self.last {
            let since = now.since(last).as_millis() as u64;
            stats.record(self.process_scope, process::OVERLOAD_REFRESH_INTERVAL_DELAY, since);
        }
        self.last = Some(now);
        self.next = now + self.manager.refresh_interval;
        let failures = self.read(stats, connections, &runtime);
        let before = self.levels;
        self.levels = self.pressures.levels(&self.manager);
        let turned = self.count_actions(stats);
        for point in &self.manager.points {
            let level = self.pressures.level(&point.triggers);
            stats.gauge_set(point.scope, load_shed_point::SCALE_PERCENT, level.percent());
        }
        self.shrink(now, stats);
        // Each refresh may reset more streams.
        let changed = before != self.levels || !self.levels.reset_streams.is_off();
        Refreshed { changed, turned, failures }
    }

    fn read(
        &mut self,
        stats: &mut ShardStats,
        connections: &ConnectionCount,
        runtime: &impl Fn(&str) -> Option<u64>,
    ) -> Vec<(Arc<str>, String)> {
        let mut failures = Vec::new();
        for (at, (monitor, reader)) in self.manager.monitors.iter().zip(&mut self.readers).enumerate() {
            if matches!(monitor.kind, MonitorKind::DownstreamConnections { .. }) {
                let more = connections.refused() - self.refused;
                stats.add(monitor.scope, overload_monitor::FAILED_UPDATES, more);
                self.refused += more;
            }
            match reader.read(&monitor.kind, connections, runtime) {
                Ok(pressure) => {
                    self.pressures.set(at, pressure);
                    // As Envoy does, above 100 too.
                    let percent = (pressure * 100.0 + 1e-6) as u64;
                    stats.gauge_set(monitor.scope, overload_monitor::PRESSURE, percent);
                }
                Err(why) => {
                    stats.inc(monitor.scope, overload_monitor::FAILED_UPDATES);
                    failures.push((monitor.name.clone(), why));
                }
            }
        }
        failures
    }

    fn count_actions(&mut self, stats: &mut ShardStats) -> Vec<(Arc<str>, bool)> {
        let mut turned = Vec::new();
        for (action, known) in self.manager.actions.iter().zip(&mut self.actions) {
            let level = self.pressures.level(&action.triggers);
            stats.gauge_set(action.scope, overload_action::ACTIVE, level.is_saturated().into());
            stats.gauge_set(action.scope, overload_action::SCALE_PERCENT, level.percent());
            if level.is_saturated() != known.is_saturated() {
                turned.push((action.name.clone(), level.is_saturated()));
            }
            *known = level;
        }
        turned
    }

    /// Free memory goes back to the system when the action begins, and once an interval while it lasts.
    fn shrink(&mut self, now: Time, stats: &mut ShardStats) {
        for ((action, level), next) in self.manager.actions.iter().zip(&self.actions).zip(&mut self.shrinks) {
            let ActionKind::ShrinkHeap { interval } = action.kind else { continue };
            if !level.is_saturated() {
                *next = None;
            } else if next.is_none_or(|next| next <= now) {
                millrace_ring::memory::release_free_memory();
                stats.inc(action.scope, overload_action::SHRINK_COUNT);
                *next = Some(now + interval.max(Duration::from_secs(1)));
            }
        }
    }
}

impl Control {
    /// Refreshes the overload manager when it is due.
    pub(super) fn tick_overload(&mut self) {
        let now = self.now();
        let connections = self.workers.shared.connections().clone();
        let configured = &self.xds.assembly.context().runtime;
        let overrides = &self.runtime_overrides;
        let runtime = |key: &str| match overrides.get(key) {
            Some(text) => text.parse().ok(),
            None => configured.integer(key),
        };
        if !self.bounds_connections {
            let default = self.overload.as_ref().and_then(|overload| overload.manager.connections_max());
            connections.set_max(runtime(CONNECTIONS_KEY).or(default));
        }
        let due = self.overload.as_ref().is_some_and(|overload| overload.deadline() <= now);
        let Some(mut overload) = self.overload.take_if(|_| due) else { return };
        let refreshed = overload.refresh(now, &mut self.stats.stats, &connections, runtime);
        for (name, why) in refreshed.failures {
            let message = format_args!("Failed to update resource {name}: {why}");
            self.logger.log(Component::MAIN, LogLevel::Info, message);
        }
        for (name, active) in refreshed.turned {
            let what = if active { "active" } else { "inactive" };
            let message = format_args!("Overload action {name} became {what}");
            self.logger.log(Component::MAIN, LogLevel::Info, message);
        }
        if refreshed.changed {
            let levels = overload.levels;
            self.workers.broadcast(|| Message::Overload(levels));
        }
        self.overload = Some(overload);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_config::{OverloadAction, ResourceMonitor, Trigger, TriggerKind};

    use super::*;

    fn with_file(file: &str) -> (Registry, Arc<OverloadManager>) {
        let registry = Registry::new();
        let monitor = ResourceMonitor {
            name: "file".into(),
            kind: MonitorKind::Injected { file: file.into() },
            scope: registry.scope(ScopeKind::OverloadMonitor, "file"),
        };
        let action = OverloadAction {
            name: "stop".into(),
            kind: ActionKind::StopAcceptingRequests,
            triggers: vec![Trigger { monitor: 0, kind: TriggerKind::Threshold(0.9) }],
            scope: registry.scope(ScopeKind::OverloadAction, "stop"),
        };
        let manager = OverloadManager {
            refresh_interval: Duration::from_millis(100),
            monitors: vec![monitor],
            actions: vec![action],
            points: Vec::new(),
            account_power: None,
        };
        (registry, Arc::new(manager))
    }

    #[test]
    fn a_reading_that_fails_leaves_the_last_one_in_force() {
        let file = std::env::temp_dir().join(format!("millrace-overload-{}", std::process::id()));
        let (registry, manager) = with_file(&file.to_string_lossy());
        let mut stats = registry.attach_shard("main_thread");
        let connections = ConnectionCount::default();
        let mut overload = Overload::new(&manager, &registry, &connections);
        let (monitor, action) = (manager.monitors[0].scope, manager.actions[0].scope);
        let mut refresh = |text: &str, at: u64| {
            std::fs::write(&file, text).unwrap();
            let now = Time::ZERO + Duration::from_millis(at);
            let refreshed = overload.refresh(now, &mut stats, &connections, |_| None);
            (refreshed.changed, refreshed.turned.len(), refreshed.failures.len())
        };
        assert_eq!(refresh("0.95", 100), (true, 1, 0));
        assert_eq!(refresh("nonsense", 200), (false, 0, 1));
        assert_eq!(refresh("1.5", 300), (false, 0, 1));
        assert_eq!(registry.gauge(monitor, overload_monitor::PRESSURE), 95);
        assert_eq!(registry.counter(monitor, overload_monitor::FAILED_UPDATES), 2);
        assert_eq!(registry.gauge(action, overload_action::ACTIVE), 1);
        assert_eq!(refresh(" +1e-1\n", 400), (true, 1, 0));
        assert_eq!(registry.gauge(action, overload_action::SCALE_PERCENT), 0);
        std::fs::remove_file(&file).unwrap();
    }
}
