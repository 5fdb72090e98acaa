//! Which requests get which fault, and what they are answered.

use millrace_config::{FilterConfigId, HttpFilter, HttpFilterKind};
use millrace_observe::stats::ScopeKind;

use super::*;
use crate::http::stream_filters::StreamFilters;
use crate::http::test::{Room, hcm, head};

const ALL: Fraction = Fraction { numerator: 100, denominator: 100 };

fn none() -> Fault {
    Fault {
        delay: None,
        delay_override: None,
        abort: None,
        abort_http_override: None,
        abort_grpc_override: None,
        abort_body: "fault filter abort".into(),
        rate: None,
        upstream_cluster: "".into(),
        downstream_nodes: Vec::new(),
        headers: Vec::new(),
        max_active: None,
    }
}

struct World {
    room: Room,
    filter: Arc<FaultFilter>,
}

impl World {
    fn new(fault: Fault) -> Self {
        let room = Room::new();
        let scope = room.registry.scope(ScopeKind::HttpFault, "x.fault");
        Self { room, filter: Arc::new(FaultFilter::new(Arc::new(fault), scope)) }
    }

    fn ask(&mut self, slot: &mut Option<Box<StreamFilters>>, list: &[(&str, &str)]) -> Verdict {
        let mut hcm = hcm();
        let kind = HttpFilterKind::Fault(Arc::clone(&self.filter));
        let filter = HttpFilter { name: "fault".into(), id: FilterConfigId(0), disabled: false, kind };
        hcm.http_filters.insert(0, filter);
        let start = Start { cluster: Some("up"), ..Start::of(&hcm, None) };
        self.room.begin(slot, &start, &mut head("/", list))
    }

    /// Status and `grpc-status` of the abort; `None` for a request that goes on.
    fn abort(&mut self, list: &[(&str, &str)]) -> Option<(u16, Option<String>)> {
        let mut slot = None;
        let verdict = self.ask(&mut slot, list);
        if let Some(mut filters) = slot {
            self.room.end(&mut filters);
        }
        match verdict {
            Verdict::Reply(reply) => Some((reply.status, reply.grpc_status.map(Cow::into_owned))),
            _ => None,
        }
    }

    fn counts(&self) -> [u64; 4] {
        let registry = &self.room.registry;
        let scope = self.filter.scope;
        let counters = [metric::ABORTS_INJECTED, metric::DELAYS_INJECTED, metric::FAULTS_OVERFLOW];
        let [aborts, delays, overflow] = counters.map(|counter| registry.counter(scope, counter));
        [aborts, delays, overflow, registry.gauge(scope, metric::ACTIVE_FAULTS)]
    }
}

#[test]
fn aborts_by_http_and_grpc_status() {
    let mut http = World::new(Fault { abort: Some((FaultAbort::Http(418), ALL)), ..none() });
    assert_eq!(http.abort(&[]), Some((418, None)));
    let mut grpc = World::new(Fault { abort: Some((FaultAbort::Grpc(77), ALL)), ..none() });
    assert_eq!(grpc.abort(&[]), Some((200, Some("77".into()))));
    let never = Fraction { numerator: 0, denominator: 100 };
    assert_eq!(World::new(Fault { abort: Some((FaultAbort::Http(418), never)), ..none() }).abort(&[]), None);
    assert_eq!(http.counts(), [1, 0, 0, 0]);
}

#[test]
fn headers_ask_for_aborts_within_the_percentage() {
    let half = Fraction { numerator: 100, denominator: 100 };
    let mut world = World::new(Fault { abort: Some((FaultAbort::Header, half)), ..none() });
    for (list, expected) in [
        (&[][..], None),
        (&[("x-envoy-fault-abort-request", "418")], Some((418, None))),
        (&[("x-envoy-fault-abort-request", "199")], None),
        (&[("x-envoy-fault-abort-request", "70000")], None),
        (&[("x-envoy-fault-abort-grpc-request", "5")], Some((200, Some("5".to_owned())))),
        (
            &[("x-envoy-fault-abort-request", "500"), ("x-envoy-fault-abort-grpc-request", "5")],
            Some((500, None)),
        ),
        (&[("x-envoy-fault-abort-request", "418"), ("x-envoy-fault-abort-request-percentage", "0")], None),
    ] {
        assert_eq!(world.abort(list), expected, "{list:?}");
    }
}

#[test]
fn a_delay_comes_before_the_abort_and_both_are_one_active_fault() {
    let fault = Fault {
        delay: Some((FaultDelay::Fixed(Duration::from_millis(20)), ALL)),
        abort: Some((FaultAbort::Http(503), ALL)),
        ..none()
    };
    let mut world = World::new(fault);
    let mut slot = None;
    assert_eq!(world.ask(&mut slot, &[]), Verdict::Wait(millrace_base::Time(20_000_000)));
    assert_eq!(world.counts(), [0, 1, 0, 1]);
    assert!(world.room.flags.contains(ResponseFlag::DelayInjected));
    let Verdict::Reply(reply) = world.ask(&mut slot, &[]) else { panic!("an abort") };
    assert_eq!((reply.status, reply.flag), (503, Some(ResponseFlag::FaultInjected)));
    world.room.end(&mut slot.unwrap());
    assert_eq!(world.counts(), [1, 1, 0, 0]);
}

#[test]
fn no_more_faults_than_allowed_at_a_time() {
    let fault = Fault { delay: Some((FaultDelay::Header, ALL)), max_active: Some(1), ..none() };
    let mut world = World::new(fault);
    let (mut first, mut second) = (None, None);
    let list = [("x-envoy-fault-delay-request", "5")];
    assert_eq!(world.ask(&mut first, &list), Verdict::Wait(millrace_base::Time(5_000_000)));
    assert_eq!((world.ask(&mut second, &list), second.is_none()), (Verdict::Continue, true));
    assert_eq!(world.counts(), [0, 1, 1, 1]);
    assert_eq!(world.ask(&mut first, &list), Verdict::Continue);
    world.room.end(&mut first.unwrap());
    assert_eq!(world.ask(&mut second, &list), Verdict::Wait(millrace_base::Time(5_000_000)));
}

#[test]
fn only_requests_that_are_meant() {
    let fault = || Fault { abort: Some((FaultAbort::Http(500), ALL)), ..none() };
    assert!(World::new(Fault { upstream_cluster: "up".into(), ..fault() }).abort(&[]).is_some());
    assert!(World::new(Fault { upstream_cluster: "other".into(), ..fault() }).abort(&[]).is_none());
    let mut nodes = World::new(Fault { downstream_nodes: vec![Arc::from(&b"n"[..])], ..fault() });
    assert!(nodes.abort(&[]).is_none());
    assert!(nodes.abort(&[("x-envoy-downstream-service-node", "n")]).is_some());
}
