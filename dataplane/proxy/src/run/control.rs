//! The control loop: admin requests, signals, DNS answers and deadlines, one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_admin::{self as admin, AdminCommand};
use millrace_assembly::Assembly;
use millrace_base::{Time, WallTime};
use millrace_config::{Address, Cluster, TrafficDirection};
use millrace_driver::admin_server::{AdminCall, AdminRequest, AdminResponse, AdminServer, Limits};
use millrace_driver::dns::{DnsUpdate, DnsUpdates, HostCaches, Query, SystemResolver};
use millrace_driver::log_writer::LogWriter;
use millrace_http::{RequestHead, Version};
use millrace_observe::access_log::{AccessLogType, Bytes, LogBuffers, LogQueue, StreamInfo, Times};
use millrace_observe::stats::{Registry, cluster as metric, dns};
use millrace_shard::shared::{Draining, Message};
use millrace_translate::{Compiled, Context};

use super::demo::Demo;
use super::health;
use super::health_discovery::{self, HealthDiscovery};
use super::listeners::{self, Bound};
use super::loads::{self, Loads};
use super::overload::Overload;
use super::stats::ProcessStats;
use super::workers::Workers;
use super::xds::{self, Xds};
use crate::cli::{Mode, Options};
use crate::control::{Action, Event, Lifecycle};
use crate::logging::{Component, Level, Logger};
use crate::signals::Signals;

/// How often gauges are refreshed and, while leaving, connections counted.
const TICK: Duration = Duration::from_secs(1);
const LEAVING_TICK: Duration = Duration::from_millis(50);
/// What large updates needed for a moment is given back once no other has come for so long.
pub(super) const TRIM_AFTER: Duration = Duration::from_secs(1);
/// How often messages that found a full mailbox are tried again.
const BACKLOG_TICK: Duration = Duration::from_millis(10);
/// After a signal, idle keep-alive connections stay this long: a request that is already on its way to
/// them is still served, with `connection: close`.
const IDLE_GRACE: Duration = Duration::from_millis(500);

/// How long the end waits for the admin's last answers, that to `/quitquitquit` among them, to be read.
const ADMIN_GRACE: Duration = Duration::from_millis(500);

/// The caches of hosts.
pub(super) type Hosts = HostCaches<SystemResolver>;

/// Everything that the control thread owns.
pub struct Control {
    pub(super) options: Options,
    pub(super) logger: Logger,
    pub(super) registry: Registry,
    pub(super) compiled: Compiled,
    pub(super) xds: Xds,
    pub(super) loads: Option<Loads>,
    pub(super) health_discovery: Option<HealthDiscovery>,
    pub(super) lifecycle: Lifecycle,
    pub(super) workers: Workers,
    pub(super) bound: Vec<Bound>,
    pub(super) started: Instant,
    /// Overrides of the admin layer (`/runtime_modify`).
    pub(super) runtime_overrides: BTreeMap<String, String>,
    pub(super) stats: ProcessStats,
    pub(super) writer: Arc<LogWriter>,
    pub(super) dns: DnsUpdates<SystemResolver>,
    /// Hosts that requests name.
    pub(super) hosts: Hosts,
    pub(super) overload: Option<Overload>,
    /// The bootstrap itself bounds downstream connections: the runtime has no say.
    pub(super) bounds_connections: bool,
    admin_lines: LogBuffers,
    exit: Option<u8>,
    stop_idle_at: Option<Time>,
    /// When to give memory back that large updates needed.
    pub(super) trim_at: Option<Time>,
    demo: Option<Demo>,
    admin_address: Option<Address>,
}

impl Control {
    /// Takes over what start-up made.
    #[expect(clippy::too_many_arguments, reason = "one caller; every part is made on its own before")]
    pub fn new(
        options: Options,
        logger: Logger,
        registry: Registry,
        context: Context,
        compiled: Compiled,
        workers: Workers,
        bound: Vec<Bound>,
        (writer, queue): (Arc<LogWriter>, Arc<LogQueue>),
        (bounds_connections, demo): (bool, Option<Demo>),
    ) -> Self {
        let admin_lines = LogBuffers::new(queue, options.file_flush_interval);
        let mut stats = ProcessStats::new(&registry);
        stats.loaded(&compiled, workers.shared.doors().len(), revision());
        let connections = workers.shared.connections();
        let manager = compiled.snapshot.overload.as_ref();
        let overload = manager.map(|manager| Overload::new(manager, &registry, connections));
        let sources = xds::sources(&compiled);
        let assembly = Assembly::new(&compiled, context, options.drain_time);
        Self {
            lifecycle: Lifecycle::new(&options),
            xds: Xds::new(&compiled, &registry, assembly, sources),
            loads: Loads::new(&compiled, &registry),
            health_discovery: HealthDiscovery::new(&compiled, &registry),
            options,
            logger,
            registry,
            compiled,
            workers,
            bound,
            started: Instant::now(),
            runtime_overrides: BTreeMap::new(),
            stats,
            writer,
            dns: DnsUpdates::new(SystemResolver::default()),
            hosts: HostCaches::new(SystemResolver::default()),
            overload,
            bounds_connections,
            admin_lines,
            exit: None,
            stop_idle_at: None,
            trim_at: None,
            demo,
            admin_address: None,
        }
    }

    /// Serves until the process shall end; returns the exit code.
    ///
    /// # Errors
    /// Signal handlers that cannot be installed.
    pub async fn serve(mut self, admin: Option<AdminServer>) -> Result<u8, String> {
        let mut signals = Signals::install().map_err(|e| format!("cannot install signal handlers: {e}"))?;
        self.admin_address = admin.as_ref().map(|admin| admin.address().clone());
        let mut calls = admin.map(|server| server.start(Limits::default()));
        self.tick_overload();
        self.assemble(Assembly::start);
        let health = health::notices(&self.workers.shared);
        let mut flushed = Instant::now();
        let mut ticked = flushed;
        while self.exit.is_none() {
            let sleep = tokio::time::sleep(self.next_wait(ticked.elapsed()));
            tokio::select! {
                call = next_call(&mut calls) => self.answer(call),
                signal = signals.next() => {
                    let message = format_args!("caught {}", signal.name());
                    self.logger.log(Component::MAIN, Level::Warning, message);
                    self.handle(Event::Signal(signal));
                }
                update = self.dns.next() => self.resolved(update),
                event = self.hosts.next() => self.heard_of_host(event),
                event = self.xds.sources.next() => self.heard(event),
                event = loads::next(&mut self.loads) => self.loads_event(event),
                event = health_discovery::next(&mut self.health_discovery) => self.health_discovery_event(event),
                () = health.notified() => {
                    self.heed_health();
                    self.heed_questions();
                }
                () = sleep => {
                    ticked = Instant::now();
                    self.tick(&mut flushed);
                }
            }
        }
        let code = self.exit.unwrap_or(0);
        self.logger.log(Component::MAIN, Level::Info, format_args!("exiting"));
        if let Some(calls) = calls {
            calls.finish(ADMIN_GRACE).await;
        }
        self.workers.stop();
        self.admin_lines.flush_all();
        if let Some(writer) = Arc::into_inner(self.writer) {
            writer.finish().await;
        }
        Ok(code)
    }

    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Until the next tick, `since` the last one: events in between, however many, do not put it off.
    fn next_wait(&self, since: Duration) -> Duration {
        let tick = match (self.workers.has_backlog(), self.lifecycle.wants_connections()) {
            (true, _) => BACKLOG_TICK,
            (false, true) => LEAVING_TICK,
            (false, false) => TICK,
        };
        let deadlines = self.lifecycle.deadline().into_iter().chain(self.xds.assembly.deadline());
        let now = self.now();
        let deadlines = deadlines.chain(self.trim_at).chain(self.overload.as_ref().map(Overload::deadline));
        deadlines.map(|deadline| deadline.since(now)).fold(tick.saturating_sub(since), Duration::min)
    }

    fn tick(&mut self, flushed: &mut Instant) {
        let now = self.now();
        self.deliver();
        self.tick_loads();
        self.tick_overload();
        if self.stop_idle_at.is_some_and(|at| at <= now) {
            self.stop_idle_at = None;
            self.workers.broadcast(|| Message::Drain { inbound_only: false });
        }
        if self.lifecycle.deadline().is_some_and(|deadline| deadline <= now) {
            self.handle(Event::Deadline);
        }
        if self.xds.assembly.deadline().is_some_and(|deadline| deadline <= now) {
            self.assemble(Assembly::tick);
        }
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            millrace_ring::memory::release_startup_pages();
        }
        // Idle connections of the grace still count: leaving waits for their close.
        if self.lifecycle.wants_connections() {
            let connections = self.workers.connections();
            self.handle(Event::Connections(connections));
        }
        self.admin_lines.flush_due(now);
        if flushed.elapsed() >= self.compiled.stats_flush_interval.unwrap_or(Duration::from_secs(5)) {
            *flushed = Instant::now();
            self.registry.flush_histograms();
            self.refresh_stats();
        }
    }

    /// Delivers what found a full mailbox.
    fn deliver(&mut self) {
        if self.workers.has_backlog() && self.workers.flush() {
            let overflows = self.workers.overflows();
            let message = format_args!("a worker's mailbox was full; {overflows} messages waited so far");
            self.logger.log(Component::MAIN, Level::Warning, message);
        }
    }

    pub(super) fn refresh_stats(&mut self) {
        let state = self.lifecycle.server_state() as u64;
        self.stats.refresh(state, self.started.elapsed(), self.workers.connections());
        self.xds.refresh(self.stats.server);
        self.stats.certificates(self.xds.assembly.snapshot());
        self.xds.membership(&self.workers.shared, &self.hosts);
        super::named_hosts::refresh(&mut self.xds.stats, self.xds.assembly.context());
        let now = self.workers.now();
        self.xds.breakers(&self.workers.shared, now);
    }

    /// Feeds the life cycle and carries out what it says.
    pub(super) fn handle(&mut self, event: Event) {
        for action in self.lifecycle.handle(self.now(), event) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartWorkers => {
                let created = listeners::start(self.bound.iter_mut(), &mut self.workers);
                self.stats.workers_started();
                self.stats.listeners_created(created);
                self.handle(Event::WorkersStarted);
                if let Some(demo) = &self.demo {
                    demo.announce(&self.bound, self.admin_address.as_ref());
                }
                self.refresh_stats();
                if self.options.mode == Mode::InitOnly {
                    self.exit = Some(0);
                }
                millrace_ring::memory::release_startup_pages();
            }
            Action::Drain { inbound_only, .. } => {
                let what = if inbound_only { Draining::Inbound } else { Draining::Everything };
                // A drain of everything is never taken back to one of inbound connections.
                if self.workers.shared.draining() != Draining::Everything {
                    self.workers.shared.set_draining(what);
                }
                // A drain that ends the process closes idle connections; others wait for their next response.
                if self.lifecycle.wants_connections() {
                    self.stop_idle_at = Some(self.now() + IDLE_GRACE);
                }
            }
            Action::StopListeners { inbound_only } => {
                self.workers.broadcast(|| Message::StopListening { inbound_only });
                let inbound = |b: &&Bound| b.listener.traffic_direction == TrafficDirection::Inbound;
                let stopped = self.bound.iter().filter(|b| !inbound_only || inbound(b)).count();
                self.stats.listeners_stopped(stopped as u64);
            }
            Action::FailHealthChecks(fail) => self.workers.shared.set_failing_health_checks(fail),
            Action::ReopenLogs => self.reopen_logs(),
            Action::ResetCounters => self.registry.reset_counters(),
            Action::ModifyRuntime(pairs) => {
                for (key, value) in pairs {
                    if value.is_empty() {
                        self.runtime_overrides.remove(&key);
                    } else {
                        self.runtime_overrides.insert(key, value);
                    }
                }
            }
            Action::SetAllLogLevels(level) => self.logger.set_all_levels(level),
            Action::SetLogLevels(changes) => {
                for (name, level) in changes {
                    self.logger.set_level_by_name(name, level);
                }
            }
            Action::Exit(code) => self.exit = Some(code),
        }
    }

    fn reopen_logs(&mut self) {
        self.workers.broadcast(|| Message::FlushLogs);
        let writer = self.writer.clone();
        tokio::spawn(async move {
            // Lines of before the signal belong into the old file; the shards hand them over at once.
            tokio::time::sleep(Duration::from_millis(20)).await;
            writer.reopen().await;
        });
        if let Err(error) = self.logger.reopen() {
            self.logger.log(Component::MAIN, Level::Error, format_args!("cannot reopen the log: {error}"));
        }
    }

    fn answer(&mut self, call: AdminCall) {
        let allowed = &self.compiled.admin.allow_paths;
        let path = call.request.target.split(['?', '#']).next().unwrap_or_default().to_owned();
        let response = if allowed.is_empty() || allowed.iter().any(|m| m.matches(path.as_bytes())) {
            let (method, target) = (call.request.method.clone(), call.request.target.clone());
            let body = call.request.body.clone();
            let request = admin::Request { method: &method, path_and_query: &target, body: &body };
            admin::handle(&request, self)
        } else {
            admin::Response::text(403, format!("request to path {path} not allowed"))
        };
        self.log_admin(&call.request, response.status, response.body.len());
        let mut headers = vec![("content-type".to_owned(), response.content_type.to_string())];
        headers.extend(response.headers.iter().map(|(name, value)| ((*name).to_string(), value.to_string())));
        call.respond(AdminResponse { status: response.status, headers, body: response.body });
    }

    /// `admin.access_log`.
    fn log_admin(&mut self, request: &AdminRequest, status: u16, body_bytes: usize) {
        if self.compiled.admin.access_logs.is_empty() {
            return;
        }
        let mut head = RequestHead::new();
        head.set_method(request.method.as_bytes());
        head.set_path(request.target.as_bytes());
        for (name, value) in &request.headers {
            if name == "host" {
                head.set_authority(value.as_bytes());
            } else {
                head.headers.append(name.as_bytes(), value.as_bytes());
            }
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let took = request.received.elapsed();
        let start = WallTime(u64::try_from(since.saturating_sub(took).as_nanos()).unwrap_or(u64::MAX));
        let end = Time::ZERO + took;
        let peer = request.peer.parse().ok().map(Address::Inet);
        let info = StreamInfo {
            log_type: AccessLogType::DownstreamEnd,
            request: Some(&head),
            protocol: Some(if request.protocol == "HTTP/1.0" { Version::Http10 } else { Version::Http11 }),
            response_code: Some(status),
            response_code_details: Some("via_admin"),
            times: Times { start_wall: start, end: Some(end), ..Times::default() },
            bytes: Bytes { received: request.body.len() as u64, sent: body_bytes as u64, ..Bytes::default() },
            downstream_remote: peer.as_ref(),
            downstream_direct_remote: peer.as_ref(),
            ..StreamInfo::default()
        };
        let now = self.now();
        for log in &self.compiled.admin.access_logs {
            self.admin_lines.log(log, &info, 0, now);
        }
    }

    pub(super) fn execute_command(&mut self, command: AdminCommand) {
        self.handle(Event::Admin(command));
    }

    fn resolved(&mut self, update: DnsUpdate) {
        let cluster = self.xds.assembly.snapshot().cluster(update.cluster).cloned();
        if let Some(cluster) = cluster {
            self.count_resolution(&cluster, &update);
        }
        let DnsUpdate { cluster, localities, warm, .. } = update;
        self.assemble(|assembly, turn| assembly.resolved(turn, cluster, localities, warm));
    }

    /// `dns.cares.`
    pub(super) fn count_query(&mut self, query: Query) {
        let resolver = self.stats.resolver;
        let stats = &mut self.stats.stats;
        stats.inc(resolver, dns::RESOLVE_TOTAL);
        match query {
            Query::Found => {}
            Query::NotFound => stats.inc(resolver, dns::NOT_FOUND),
            Query::Failed => stats.inc(resolver, dns::GET_ADDR_FAILURE),
            Query::TimedOut => {
                stats.inc(resolver, dns::GET_ADDR_FAILURE);
                stats.inc(resolver, dns::TIMEOUTS);
            }
        }
    }

    fn count_resolution(&mut self, cluster: &Cluster, update: &DnsUpdate) {
        use millrace_driver::dns::Outcome;
        let (stats, scope) = (&mut self.stats.stats, cluster.scope);
        stats.inc(scope, metric::UPDATE_ATTEMPT);
        match update.outcome {
            Outcome::Success => stats.inc(scope, metric::UPDATE_SUCCESS),
            // `update_empty` is for EDS.
            Outcome::Empty => stats.inc(scope, metric::UPDATE_SUCCESS),
            Outcome::Failure => stats.inc(scope, metric::UPDATE_FAILURE),
        }
        if update.localities.is_none() {
            stats.inc(scope, metric::UPDATE_NO_REBUILD);
        }
        self.count_query(update.query);
        let message = format_args!("{}: {:?} for {}", cluster.name, update.outcome, update.host);
        self.logger.log(Component::DNS, Level::Debug, message);
    }
}

async fn next_call(calls: &mut Option<millrace_driver::admin_server::AdminCalls>) -> AdminCall {
    loop {
        match calls {
            Some(open) => match open.next().await {
                Some(call) => return call,
                None => *calls = None,
            },
            None => std::future::pending::<()>().await,
        }
    }
}

/// `server.version`: the first 24 bits of the revision, as Envoy derives it.
fn revision() -> u64 {
    let version = crate::cli::version();
    u64::from_str_radix(version.get(..6).unwrap_or("0"), 16).unwrap_or(0)
}
