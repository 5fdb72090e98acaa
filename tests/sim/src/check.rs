//! What must be true when the clients are gone, after the stop, and of every request.

use std::time::Duration;

use millrace_config::RetryConditions;
use millrace_observe::stats::{Gauge, ScopeId, ScopeKind, cluster, host, http, listener};
use millrace_shard::shared::Message;

use crate::ledger::Outcome;
use crate::setup::Disturbance;
use crate::world::{Server, World};

/// Longer than a connect may take and a late event may wait.
const QUIET_TIME: Duration = Duration::from_secs(30);
/// Raises every gauge before it is read, because a negative one reads as zero.
const LIFT: i64 = 1_000;

/// Nothing may be left of any request; only idle upstream connections stay.
pub fn after_traffic(world: &mut World) {
    if !world.ledger.violations.is_empty() {
        return;
    }
    world.load_streams_recover();
    world.end_checks();
    let drains = if world.churn.is_some() { crate::churn::LONG_DRAIN } else { Duration::ZERO };
    world.settle(QUIET_TIME + drains);
    // What an endpoint had written for streams that are gone may take its time.
    let busy = |world: &World| world.servers.iter().any(|s| matches!(s, Server::Http2(u) if u.is_busy()));
    for _ in 0..100 {
        if !busy(world) {
            break;
        }
        world.settle(QUIET_TIME);
    }
    world.take_events();
    after_changes(world);
    for (shard, _, _) in &world.shards {
        shard.assert_quiescent();
    }
    for server in &world.servers {
        if let Server::Http2(upstream) = server
            && let Err(error) = upstream.assert_idle()
        {
            world.ledger.violation(error);
        }
    }
    let held: usize = world.shards.iter().map(|(shard, _, _)| shard.upstream_connections()).sum();
    let at_upstreams: usize = world.servers.iter().map(Server::connections).sum();
    let used = world.shared.budgets_used();
    if used != [held as u32, 0, 0, 0] {
        world.ledger.violation(format!("circuit breakers: {used:?} with {held} connections"));
    }
    if held > at_upstreams || world.setup.lossless && held != at_upstreams {
        world.ledger.violation(format!("{held} upstream connections here, {at_upstreams} there"));
    }
    if world.shared.doors().iter().any(|door| door.connections() != 0) {
        world.ledger.violation("downstream connections still counted");
    }
    gauges(world, held as i64);
}

/// Nothing remembers listeners and clusters that were removed.
fn after_changes(world: &mut World) {
    let Some(churn) = &world.churn else { return };
    if churn.removed.iter().any(|handle| handle.is_in_use()) {
        world.ledger.violation("a removed listener is still in use");
    }
    let gone = churn.gone_clusters();
    if gone.iter().any(|cluster| world.shared.is_cluster_in_use(*cluster)) {
        world.ledger.violation("a removed cluster is still in use");
    }
}

fn gauges(world: &mut World, held: i64) {
    let listener_scope = world.snapshot.listeners[0].scope;
    let http_scope = world.registry.scope(ScopeKind::Http, "ingress");
    let cluster_scope = crate::fixture::cluster_scope(&world.registry);
    let mut expected: Vec<(&str, ScopeId, Gauge, i64)> = vec![
        ("listener cx_active", listener_scope, listener::DOWNSTREAM_CX_ACTIVE, 0),
        ("downstream_cx_active", http_scope, http::DOWNSTREAM_CX_ACTIVE, 0),
        ("downstream_cx_http1_active", http_scope, http::DOWNSTREAM_CX_HTTP1_ACTIVE, 0),
        ("downstream_rq_active", http_scope, http::DOWNSTREAM_RQ_ACTIVE, 0),
        ("downstream_cx_upgrades_active", http_scope, http::DOWNSTREAM_CX_UPGRADES_ACTIVE, 0),
        ("upstream_cx_active", cluster_scope, cluster::UPSTREAM_CX_ACTIVE, held),
        ("upstream_rq_active", cluster_scope, cluster::UPSTREAM_RQ_ACTIVE, 0),
        ("upstream_rq_pending_active", cluster_scope, cluster::UPSTREAM_RQ_PENDING_ACTIVE, 0),
        ("lb_orca_oob.active_sessions", cluster_scope, cluster::LB_ORCA_OOB_ACTIVE_SESSIONS, 0),
    ];
    let clusters = world.snapshot.clusters.iter().flatten();
    let endpoints = clusters.flat_map(|c| &c.localities).flat_map(|l| &l.endpoints);
    let hosts: Vec<ScopeId> = endpoints.map(|e| e.scope).collect();
    expected.extend(hosts.iter().map(|scope| ("host rq_active", *scope, host::RQ_ACTIVE, 0)));
    let mut lift = world.registry.attach_shard("lift");
    for (name, scope, gauge, value) in expected {
        lift.gauge_add(scope, gauge, LIFT);
        let found = world.registry.gauge(scope, gauge) as i64 - LIFT;
        if found != value {
            world.ledger.violation(format!("{name} is {found}, not {value}"));
        }
    }
    let mut open = 0;
    for scope in hosts {
        lift.gauge_add(scope, host::CX_ACTIVE, LIFT);
        open += world.registry.gauge(scope, host::CX_ACTIVE) as i64 - LIFT;
    }
    if open != held {
        world.ledger.violation(format!("cx_active of the hosts is {open}, not {held}"));
    }
}

/// After the order to stop no socket stays open.
pub fn after_stop(world: &mut World) {
    if !world.ledger.violations.is_empty() {
        return;
    }
    world.tell_all(|| Message::Stop);
    world.settle(QUIET_TIME);
    if world.running {
        world.ledger.violation("the shard does not stop");
    }
    for server in &mut world.servers {
        server.close(&world.net);
    }
    world.reporters.iter_mut().for_each(|reporter| reporter.close(&world.net));
    let open = world.net.open_count();
    if open != 0 {
        world.ledger.violation(format!("{open} sockets left open"));
    }
}

/// True when nothing that an endpoint may have seen is repeated under a policy, whatever its method: neither a failed
/// connection nor an answer that was never promised is anything that it saw.
fn is_careful(retry_on: &str) -> bool {
    let harmless = [
        RetryConditions::RESET_BEFORE_REQUEST,
        RetryConditions::CONNECT_FAILURE,
        RetryConditions::RETRIABLE_4XX,
        RetryConditions::RETRIABLE_STATUS_CODES,
        RetryConditions::RETRIABLE_HEADERS,
        RetryConditions::GRPC_UNAVAILABLE,
    ];
    let harmless = harmless.into_iter().fold(RetryConditions::default(), RetryConditions::union);
    RetryConditions::parse(retry_on).0.0 & !harmless.0 == 0
}

/// Every request has exactly one end, and reached an upstream as often as it may.
pub fn outcomes(world: &mut World) {
    if !world.ledger.violations.is_empty() {
        return;
    }
    let setup = world.setup.clone();
    let careful = is_careful(setup.knobs.retry_on);
    let retries = setup.mode == crate::fixture::Mode::HttpRetries && !careful;
    let mut found = Vec::new();
    for (id, request) in &world.ledger.requests {
        let tries = if retries { 1 + setup.knobs.num_retries } else { 1 };
        // Each redirect begins anew.
        let tries = tries * (1 + request.reply.redirects);
        if request.heads > tries || request.delivered > tries {
            found.push(format!("request {id} reached upstreams {} times", request.heads));
        }
        match request.outcome {
            None => found.push(format!("request {id} has no end")),
            Some(_) if request.harmed => {}
            Some(Outcome::Answered(_)) if setup.lossless => {
                let wanted = 1 + request.reply.fail_first + request.reply.redirects;
                let early = request.reply.early && request.delivered < request.heads;
                if request.heads != wanted || request.delivered != wanted && !early {
                    let (heads, whole) = (request.heads, request.delivered);
                    found.push(format!("request {id} reached upstreams {heads} times, {whole} times whole"));
                }
            }
            Some(outcome) if setup.lossless => found.push(format!("request {id} ended as {outcome:?}")),
            Some(_) => {}
        }
    }
    for (id, pipe) in &world.ledger.pipes {
        if setup.lossless && !pipe.harmed && !(pipe.up_whole && pipe.down_whole) {
            found.push(format!("tunnel {id}: {pipe:?}"));
        }
    }
    if setup.disturbance != Disturbance::Stop {
        found.into_iter().for_each(|text| world.ledger.violation(text));
    }
}

impl Server {
    fn connections(&self) -> usize {
        match self {
            Self::Http(upstream) => upstream.connections(),
            Self::Http2(upstream) => upstream.connections(),
            Self::Pipe(pipe) => pipe.connections(),
            Self::Http2Pipe(pipe) => pipe.connections(),
        }
    }

    fn close(&mut self, net: &crate::net::Net) {
        match self {
            Self::Http(upstream) => upstream.close(net),
            Self::Http2(upstream) => upstream.close(net),
            Self::Pipe(pipe) => pipe.close(net),
            Self::Http2Pipe(pipe) => pipe.close(net),
        }
    }
}
