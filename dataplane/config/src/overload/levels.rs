//! From pressures to how far each action and load shed point is.

use std::time::Duration;

use millrace_base::Rng;

use super::{ActionKind, OverloadManager, ScaledTimer, ShedPoint, TimerMinimum, Trigger, TriggerKind};

/// How far an action is: off, a share, or saturated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u32);

impl Level {
    /// Nothing happens.
    pub const OFF: Self = Self(0);
    /// It always happens.
    pub const SATURATED: Self = Self(u32::MAX);

    /// From a share; what is not a number is off.
    pub fn of(share: f64) -> Self {
        // The conversion saturates, and takes what is not a number for 0.
        Self((share * f64::from(u32::MAX)) as u32)
    }

    /// 0.0 to 1.0.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(u32::MAX)
    }

    /// 0 to 100, as statistics show it.
    pub fn percent(self) -> u64 {
        (self.share() * 100.0 + 1e-6) as u64
    }

    /// True when it always happens.
    pub fn is_saturated(self) -> bool {
        self == Self::SATURATED
    }

    /// True when it never happens.
    pub fn is_off(self) -> bool {
        self == Self::OFF
    }

    /// Whether it happens this time.
    #[inline]
    pub fn strikes(self, rng: &mut Rng) -> bool {
        self.0 > 0 && (self.is_saturated() || (rng.next_u64() as u32) < self.0)
    }

    /// A timeout under this level: the whole when off, the minimum when saturated.
    pub fn scale(self, whole: Duration, minimum: TimerMinimum) -> Duration {
        let shortest = minimum.of(whole);
        shortest + (whole - shortest).mul_f64(1.0 - self.share())
    }
}

impl TriggerKind {
    /// How far it is under this pressure.
    pub fn level(self, pressure: f64) -> Level {
        match self {
            Self::Threshold(from) if pressure >= from => Level::SATURATED,
            Self::Scaled { saturation, .. } if pressure >= saturation => Level::SATURATED,
            Self::Scaled { scaling, saturation } if pressure > scaling => {
                Level::of((pressure - scaling) / (saturation - scaling))
            }
            Self::Threshold(_) | Self::Scaled { .. } => Level::OFF,
        }
    }
}

/// What shards go by. Small enough to be sent to each of them whenever it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverloadLevels {
    /// `stop_accepting_requests`.
    pub stop_requests: Level,
    /// `disable_http_keepalive`.
    pub disable_keepalive: Level,
    /// `stop_accepting_connections`.
    pub stop_connections: Level,
    /// `reject_incoming_connections`.
    pub reject_connections: Level,
    /// `reset_high_memory_stream`.
    pub reset_streams: Level,
    /// By [`ScaledTimer`].
    pub timers: [Level; ScaledTimer::COUNT],
    /// By [`ShedPoint`].
    pub points: [Level; ShedPoint::COUNT],
}

impl OverloadLevels {
    /// True when nothing is asked for.
    pub fn is_calm(&self) -> bool {
        *self == Self::default()
    }

    /// How far a point is.
    pub fn point(&self, point: ShedPoint) -> Level {
        self.points[point as usize]
    }
}

/// The last reading of each monitor, by position; `None` before the first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pressures(Vec<Option<f64>>);

impl Pressures {
    /// Nothing read yet.
    pub fn new(manager: &OverloadManager) -> Self {
        Self(vec![None; manager.monitors.len()])
    }

    /// Takes a reading.
    pub fn set(&mut self, monitor: usize, pressure: f64) {
        if let Some(slot) = self.0.get_mut(monitor) {
            *slot = Some(pressure);
        }
    }

    /// The last reading.
    pub fn get(&self, monitor: usize) -> Option<f64> {
        self.0.get(monitor).copied().flatten()
    }

    /// The highest of the triggers.
    pub fn level(&self, triggers: &[Trigger]) -> Level {
        let levels = triggers.iter().filter_map(|t| Some(t.kind.level(self.get(t.monitor)?)));
        levels.max().unwrap_or_default()
    }

    /// What shards shall go by.
    pub fn levels(&self, manager: &OverloadManager) -> OverloadLevels {
        let mut out = OverloadLevels::default();
        for action in &manager.actions {
            let level = self.level(&action.triggers);
            match &action.kind {
                ActionKind::StopAcceptingRequests => out.stop_requests = level,
                ActionKind::DisableHttpKeepalive => out.disable_keepalive = level,
                ActionKind::StopAcceptingConnections => out.stop_connections = level,
                ActionKind::RejectIncomingConnections => out.reject_connections = level,
                ActionKind::ResetHighMemoryStream => out.reset_streams = level,
                ActionKind::ReduceTimeouts(timers) => {
                    timers.iter().for_each(|(timer, _)| out.timers[*timer as usize] = level);
                }
                ActionKind::ShrinkHeap { .. } | ActionKind::CloseIdleHttpConnections => {}
            }
        }
        for point in &manager.points {
            if let Some(kind) = point.kind {
                out.points[kind as usize] = self.level(&point.triggers);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{LoadShedPoint, MonitorKind, OverloadAction, ResourceMonitor, ScopeId};

    fn manager() -> OverloadManager {
        let monitor = |name: &str| ResourceMonitor {
            name: name.into(),
            kind: MonitorKind::OwnMemory,
            scope: ScopeId(0),
        };
        let threshold = |monitor, from| Trigger { monitor, kind: TriggerKind::Threshold(from) };
        let action =
            |kind, triggers| OverloadAction { name: Arc::from("a"), kind, triggers, scope: ScopeId(1) };
        let minimum = TimerMinimum::Absolute(Duration::from_secs(2));
        let scaled = Trigger { monitor: 0, kind: TriggerKind::Scaled { scaling: 0.2, saturation: 0.8 } };
        OverloadManager {
            refresh_interval: Duration::from_secs(1),
            monitors: vec![monitor("m"), monitor("n")],
            actions: vec![
                action(ActionKind::StopAcceptingRequests, vec![threshold(0, 0.9), threshold(1, 0.5)]),
                action(ActionKind::ReduceTimeouts(vec![(ScaledTimer::StreamIdle, minimum)]), vec![scaled]),
            ],
            points: vec![LoadShedPoint {
                name: "p".into(),
                kind: Some(ShedPoint::DecodeHeaders),
                triggers: vec![threshold(1, 0.6)],
                scope: ScopeId(2),
            }],
            account_power: None,
        }
    }

    #[test]
    fn triggers_saturate_at_their_thresholds_and_scale_in_between() {
        let threshold = TriggerKind::Threshold(0.9);
        assert_eq!(threshold.level(0.899), Level::OFF);
        assert_eq!(threshold.level(0.9), Level::SATURATED);
        let scaled = TriggerKind::Scaled { scaling: 0.2, saturation: 0.8 };
        assert_eq!((scaled.level(0.2), scaled.level(0.8)), (Level::OFF, Level::SATURATED));
        assert_eq!((scaled.level(0.5).percent(), scaled.level(69.71)), (50, Level::SATURATED));
        assert!(TriggerKind::Threshold(f64::NAN).level(1.0).is_off());
        assert!(threshold.level(f64::NAN).is_off());
    }

    #[test]
    fn the_highest_trigger_counts_and_a_reading_that_is_missing_does_not() {
        let manager = manager();
        let mut pressures = Pressures::new(&manager);
        assert!(pressures.levels(&manager).is_calm());
        pressures.set(1, 0.55);
        let levels = pressures.levels(&manager);
        assert!(levels.stop_requests.is_saturated() && levels.point(ShedPoint::DecodeHeaders).is_off());
        pressures.set(1, 0.1);
        pressures.set(0, 0.5);
        let levels = pressures.levels(&manager);
        assert!(levels.stop_requests.is_off() && !levels.is_calm());
        assert_eq!(levels.timers[ScaledTimer::StreamIdle as usize].percent(), 50);
    }

    #[test]
    fn timeouts_shrink_towards_their_minimum_and_never_grow() {
        let half = Level::of(0.5);
        let of = |level: Level, minimum, whole: u64| {
            level.scale(Duration::from_secs(whole), minimum).as_secs_f64()
        };
        let (absolute, share) = (TimerMinimum::Absolute(Duration::from_secs(2)), TimerMinimum::Share(0.1));
        assert_eq!(of(Level::OFF, absolute, 10), 10.0);
        assert!((of(half, absolute, 10) - 6.0).abs() < 1e-6);
        assert_eq!(of(Level::SATURATED, absolute, 10), 2.0);
        assert_eq!(of(Level::SATURATED, share, 10), 1.0);
        assert_eq!(of(half, absolute, 1), 1.0);
    }

    #[test]
    fn a_level_strikes_in_its_share() {
        let mut rng = Rng::new(3);
        let quarter = Level::of(0.25);
        let struck = (0..10_000).filter(|_| quarter.strikes(&mut rng)).count();
        assert!((2_300..2_700).contains(&struck), "{struck}");
        assert!(!Level::OFF.strikes(&mut rng) && Level::SATURATED.strikes(&mut rng));
    }
}
