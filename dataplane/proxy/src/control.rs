//! The life of the process as a pure state machine: start, readiness, drain, exit.
//!
//! The control thread feeds [`Lifecycle::handle`] with what happened and carries out the [`Action`]s it
//! returns, in order. Nothing here touches a socket, a signal or a clock, so every path can be tested.

use std::time::Duration;

use millrace_admin::{AdminCommand, ServerState};
use millrace_base::Time;

use crate::cli::{DrainStrategy, Options};
use crate::logging::Level;
use crate::signals::Signal;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every cluster that start-up waits for is warm: those of the bootstrap, then those of CDS.
    ClustersReady,
    /// The first listeners are there, with their route tables.
    ListenersReady,
    /// The shards listen.
    WorkersStarted,
    /// A signal arrived.
    Signal(Signal),
    /// The admin interface accepted a mutation.
    Admin(AdminCommand),
    /// How many downstream connections all shards have now; sent while a drain is on.
    Connections(u64),
    /// [`Lifecycle::deadline`] has passed.
    Deadline,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the shards' listeners.
    StartWorkers,
    /// Responses carry `connection: close`, idle connections are closed; gradually over `over` or at once.
    Drain {
        /// Only connections of listeners with `traffic_direction: INBOUND`.
        inbound_only: bool,
        /// The drain time.
        over: Duration,
        /// How.
        strategy: DrainStrategy,
    },
    /// Close listening sockets; connections live on.
    StopListeners {
        /// Only listeners with `traffic_direction: INBOUND`.
        inbound_only: bool,
    },
    /// Health checks answer with a failure (true) or as usual.
    FailHealthChecks(bool),
    /// Reopen access logs and the application log.
    ReopenLogs,
    /// Set every counter to 0.
    ResetCounters,
    /// Change the admin layer of the runtime.
    ModifyRuntime(Vec<(String, String)>),
    /// Change every log level.
    SetAllLogLevels(Level),
    /// Change some log levels.
    SetLogLevels(Vec<(&'static str, Level)>),
    /// Flush logs and end the process with this status.
    Exit(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for clusters.
    Starting,
    /// Clusters are there, listeners come and workers start.
    Initializing,
    Serving,
    /// A signal asked for the end; gives up at this time.
    Leaving {
        until: Time,
    },
}

/// `/drain_listeners?graceful`: the listeners stop at `until`, unless that was not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ListenerDrain {
    inbound_only: bool,
    until: Option<Time>,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: Phase,
    health_checks_fail: bool,
    drain: Option<ListenerDrain>,
    stopped_all: bool,
    stopped_inbound: bool,
    drain_time: Duration,
    strategy: DrainStrategy,
}

impl Lifecycle {
    /// Before the first cluster.
    pub fn new(options: &Options) -> Self {
        Self {
            phase: Phase::Starting,
            health_checks_fail: false,
            drain: None,
            stopped_all: false,
            stopped_inbound: false,
            drain_time: options.drain_time,
            strategy: options.drain_strategy,
        }
    }

    /// What `/ready` and `server.state` say.
    pub fn server_state(&self) -> ServerState {
        match self.phase {
            Phase::Starting => ServerState::PreInitializing,
            Phase::Initializing => ServerState::Initializing,
            Phase::Leaving { .. } => ServerState::Draining,
            // Draining the listeners is no state of the server, as in Envoy.
            Phase::Serving if self.health_checks_fail => ServerState::Draining,
            Phase::Serving => ServerState::Live,
        }
    }

    /// When [`Event::Deadline`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let drain = self.drain.and_then(|drain| drain.until);
        match (self.phase, drain) {
            (Phase::Leaving { until }, Some(drain)) => Some(until.min(drain)),
            (Phase::Leaving { until }, None) => Some(until),
            (_, drain) => drain,
        }
    }

    /// True while [`Event::Connections`] is wanted.
    pub fn wants_connections(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// True once the shards listen.
    pub fn workers_run(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Leaving { .. })
    }

    /// Takes one event and says what to do.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Action> {
        match event {
            Event::ClustersReady if self.phase == Phase::Starting => {
                self.phase = Phase::Initializing;
                Vec::new()
            }
            Event::ListenersReady if self.phase == Phase::Initializing => vec![Action::StartWorkers],
            Event::WorkersStarted if self.phase == Phase::Initializing => {
                self.phase = Phase::Serving;
                Vec::new()
            }
            Event::ClustersReady | Event::ListenersReady | Event::WorkersStarted => Vec::new(),
            Event::Signal(Signal::ReopenLogs) => vec![Action::ReopenLogs],
            Event::Signal(Signal::Terminate | Signal::Interrupt) => self.leave(now),
            Event::Admin(command) => self.admin(now, command),
            Event::Connections(0) if self.wants_connections() => vec![Action::Exit(0)],
            Event::Connections(_) => Vec::new(),
            Event::Deadline => self.expire(now),
        }
    }

    /// First signal: stop accepting, let everything in flight finish. Second, or before serving: out.
    fn leave(&mut self, now: Time) -> Vec<Action> {
        if self.phase != Phase::Serving {
            return vec![Action::Exit(0)];
        }
        self.phase = Phase::Leaving { until: now + self.drain_time };
        let mut actions = vec![
            Action::FailHealthChecks(true),
            // Nobody new comes, so there is nothing to spread over the drain time.
            Action::Drain { inbound_only: false, over: self.drain_time, strategy: DrainStrategy::Immediate },
        ];
        actions.extend(self.stop(false));
        actions
    }

    fn expire(&mut self, now: Time) -> Vec<Action> {
        if let Phase::Leaving { until } = self.phase
            && until <= now
        {
            return vec![Action::Exit(0)];
        }
        match self.drain {
            Some(ListenerDrain { inbound_only, until: Some(until) }) if until <= now => {
                self.drain = Some(ListenerDrain { inbound_only, until: None });
                self.stop(inbound_only).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Stops listeners once.
    fn stop(&mut self, inbound_only: bool) -> Option<Action> {
        if self.stopped_all || (inbound_only && self.stopped_inbound) {
            return None;
        }
        self.stopped_all |= !inbound_only;
        self.stopped_inbound = true;
        Some(Action::StopListeners { inbound_only })
    }

    fn admin(&mut self, now: Time, command: AdminCommand) -> Vec<Action> {
        match command {
            AdminCommand::HealthCheckFail => {
                self.health_checks_fail = true;
                vec![Action::FailHealthChecks(true)]
            }
            AdminCommand::HealthCheckOk => {
                self.health_checks_fail = false;
                // A process that leaves stays unhealthy.
                let leaving = matches!(self.phase, Phase::Leaving { .. });
                vec![Action::FailHealthChecks(leaving)]
            }
            AdminCommand::DrainListeners { graceful, inbound_only, skip_exit } => {
                self.drain_listeners(now, graceful, inbound_only, skip_exit)
            }
            AdminCommand::Quit => vec![Action::Exit(0)],
            AdminCommand::ResetCounters => vec![Action::ResetCounters],
            AdminCommand::ReopenLogs => vec![Action::ReopenLogs],
            AdminCommand::RuntimeModify(pairs) => vec![Action::ModifyRuntime(pairs)],
            AdminCommand::SetAllLogLevels(level) => {
                Level::from_name(level).map(Action::SetAllLogLevels).into_iter().collect()
            }
            AdminCommand::SetLogLevels(changes) => {
                let known = changes.into_iter();
                let known = known.filter_map(|(name, level)| Some((name, Level::from_name(level)?)));
                vec![Action::SetLogLevels(known.collect())]
            }
        }
    }

    fn drain_listeners(
        &mut self,
        now: Time,
        graceful: bool,
        inbound_only: bool,
        skip_exit: bool,
    ) -> Vec<Action> {
        if !graceful && !skip_exit {
            return self.stop(inbound_only).into_iter().collect();
        }
        if let Some(running) = &mut self.drain {
            // A repeated call changes nothing, unless it asks for more listeners.
            if inbound_only || !running.inbound_only {
                return Vec::new();
            }
        }
        let until = (!skip_exit).then_some(now + self.drain_time);
        self.drain = Some(ListenerDrain { inbound_only, until });
        vec![Action::Drain { inbound_only, over: self.drain_time, strategy: self.strategy }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn serving() -> Lifecycle {
        let options = crate::cli::parse(&["x".to_owned(), "--drain-time-s 10".to_owned()]).unwrap();
        let mut life = Lifecycle::new(&options);
        assert_eq!(life.server_state(), ServerState::PreInitializing);
        assert_eq!(life.handle(Time::ZERO, Event::ListenersReady), [], "clusters come first");
        assert_eq!(life.handle(Time::ZERO, Event::ClustersReady), []);
        assert_eq!(life.server_state(), ServerState::Initializing);
        assert_eq!(life.handle(Time::ZERO, Event::ListenersReady), [Action::StartWorkers]);
        assert_eq!(life.handle(Time::ZERO, Event::WorkersStarted), []);
        assert_eq!(life.server_state(), ServerState::Live);
        life
    }

    fn drain_listeners(graceful: bool, inbound_only: bool, skip_exit: bool) -> Event {
        Event::Admin(AdminCommand::DrainListeners { graceful, inbound_only, skip_exit })
    }

    #[test]
    fn the_first_signal_drains_and_the_last_connection_ends_it() {
        let mut life = serving();
        let actions = life.handle(Time(SECOND), Event::Signal(Signal::Terminate));
        assert_eq!(actions[0], Action::FailHealthChecks(true));
        assert!(matches!(actions[1], Action::Drain { inbound_only: false, .. }));
        assert_eq!(actions[2], Action::StopListeners { inbound_only: false });
        assert_eq!(life.server_state(), ServerState::Draining);
        assert_eq!(life.deadline(), Some(Time(11 * SECOND)));
        assert!(life.wants_connections());
        assert_eq!(life.handle(Time(SECOND), Event::Connections(2)), []);
        assert_eq!(life.handle(Time(2 * SECOND), Event::Connections(0)), [Action::Exit(0)]);
    }

    #[test]
    fn a_drain_ends_after_its_time_or_at_the_second_signal() {
        let mut life = serving();
        life.handle(Time::ZERO, Event::Signal(Signal::Interrupt));
        assert_eq!(life.handle(Time(9 * SECOND), Event::Deadline), []);
        assert_eq!(life.handle(Time(10 * SECOND), Event::Deadline), [Action::Exit(0)]);
        let mut life = serving();
        life.handle(Time::ZERO, Event::Signal(Signal::Terminate));
        assert_eq!(life.handle(Time::ZERO, Event::Signal(Signal::Interrupt)), [Action::Exit(0)]);
    }

    #[test]
    fn a_signal_before_serving_ends_the_process() {
        let options = crate::cli::parse(&["x".to_owned()]).unwrap();
        let mut life = Lifecycle::new(&options);
        assert_eq!(life.handle(Time::ZERO, Event::Signal(Signal::Terminate)), [Action::Exit(0)]);
    }

    #[test]
    fn graceful_listener_drain_keeps_accepting_until_its_end() {
        let mut life = serving();
        let actions = life.handle(Time::ZERO, drain_listeners(true, true, false));
        assert!(matches!(actions.as_slice(), [Action::Drain { inbound_only: true, .. }]));
        assert_eq!(life.server_state(), ServerState::Live, "as Envoy");
        assert_eq!(life.handle(Time(SECOND), drain_listeners(true, true, false)), [], "repeated");
        assert_eq!(life.deadline(), Some(Time(10 * SECOND)));
        let stop = [Action::StopListeners { inbound_only: true }];
        assert_eq!(life.handle(Time(10 * SECOND), Event::Deadline), stop);
        assert_eq!(life.deadline(), None);
        assert_eq!(life.handle(Time(11 * SECOND), Event::Deadline), []);
    }

    #[test]
    fn skip_exit_never_stops_and_no_grace_stops_at_once() {
        let mut life = serving();
        assert_eq!(life.handle(Time::ZERO, drain_listeners(true, false, true)).len(), 1);
        assert_eq!(life.deadline(), None);
        let mut life = serving();
        let stop = |inbound_only| [Action::StopListeners { inbound_only }];
        assert_eq!(life.handle(Time::ZERO, drain_listeners(false, true, false)), stop(true));
        assert_eq!(life.handle(Time::ZERO, drain_listeners(false, true, false)), []);
        assert_eq!(life.handle(Time::ZERO, drain_listeners(false, false, false)), stop(false));
        assert_eq!(life.handle(Time::ZERO, drain_listeners(false, false, false)), []);
    }

    #[test]
    fn health_check_failure_is_the_draining_state() {
        let mut life = serving();
        let fail = Event::Admin(AdminCommand::HealthCheckFail);
        assert_eq!(life.handle(Time::ZERO, fail), [Action::FailHealthChecks(true)]);
        assert_eq!(life.server_state(), ServerState::Draining);
        let ok = || Event::Admin(AdminCommand::HealthCheckOk);
        assert_eq!(life.handle(Time::ZERO, ok()), [Action::FailHealthChecks(false)]);
        assert_eq!(life.server_state(), ServerState::Live);
        life.handle(Time::ZERO, Event::Signal(Signal::Terminate));
        assert_eq!(life.handle(Time::ZERO, ok()), [Action::FailHealthChecks(true)]);
    }

    #[test]
    fn other_commands_pass_through() {
        let mut life = serving();
        for (command, action) in [
            (AdminCommand::Quit, Action::Exit(0)),
            (AdminCommand::ResetCounters, Action::ResetCounters),
            (AdminCommand::ReopenLogs, Action::ReopenLogs),
            (AdminCommand::SetAllLogLevels("off"), Action::SetAllLogLevels(Level::Off)),
            (
                AdminCommand::SetLogLevels(vec![("dns", "trace")]),
                Action::SetLogLevels(vec![("dns", Level::Trace)]),
            ),
            (AdminCommand::RuntimeModify(Vec::new()), Action::ModifyRuntime(Vec::new())),
        ] {
            assert_eq!(life.handle(Time::ZERO, Event::Admin(command)), [action]);
        }
        assert_eq!(life.handle(Time::ZERO, Event::Signal(Signal::ReopenLogs)), [Action::ReopenLogs]);
    }
}
