//! Actions.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::{self, Lost};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{GET, LISTENER, MONITOR, Pressure, forward, with_action};

pub(crate) const CASES: &[Case] = &[
    case!(requests_are_refused_and_served_again),
    case!(requests_of_http2_and_grpc_are_refused),
    case!(a_refusal_says_so_where_it_is_asked_to),
    case!(a_scaled_trigger_refuses_a_share),
    case!(a_reading_that_fails_changes_nothing),
    case!(keep_alive_ends),
    case!(accepting_stops_and_loses_nothing),
    case!(connections_are_rejected),
    case!(a_listener_may_bypass_it_all),
    case!(streams_wait_less_long),
    case!(idle_connections_stay_less_long),
    case!(heap_is_given_back, not_envoy: "its counter is there before its first use"),
    case!(streams_that_hold_most_are_reset),
];

fn start(subject: &Subject, upstream: &Upstream, manager: &str) -> Proxy {
    Proxy::start(subject, &forward(upstream, manager))
}

fn requests_are_refused_and_served_again(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let proxy = start(subject, &upstream, &with_action(&pressure, "stop_accepting_requests"));
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    pressure.set(&proxy, 0.95);
    // The connection stays, unless bytes of the request are still to come.
    let refused = client.get("/");
    assert_eq!((refused.status, refused.text().as_str(), refused.closes()), (503, "envoy overloaded", false));
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf");
    let refused = client.response("POST").expect("a response");
    assert_eq!((refused.status, refused.closes()), (503, true));
    assert_eq!(proxy.log().line(1).verdict(), ("503", "-", "overload"));
    assert_eq!(proxy.log().line(2).verdict(), ("503", "-", "overload"));
    assert_eq!(proxy.stat("http.main.downstream_rq_overload_close"), Some(2));
    assert_eq!(proxy.stat("http.main.downstream_rq_5xx"), Some(2));
    let of_action =
        |name: &str| proxy.stat(&format!("overload.envoy.overload_actions.stop_accepting_requests.{name}"));
    assert_eq!((of_action("active"), of_action("scale_percent")), (Some(1), Some(100)));
    pressure.set(&proxy, 0.5);
    super::serves_again(&proxy);
    assert_eq!((of_action("active"), of_action("scale_percent")), (Some(0), Some(0)));
    assert_eq!(upstream.requests().len(), 2);
}

fn requests_of_http2_and_grpc_are_refused(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let proxy = start(subject, &upstream, &with_action(&pressure, "stop_accepting_requests"));
    pressure.set(&proxy, 0.95);
    let mut client = h2::Client::connect(proxy.listener("main"));
    let refused = client.get("/");
    assert_eq!((refused.status, refused.text().as_str()), (503, "envoy overloaded"));
    let refused =
        client.exchange("POST", "/", &[("content-type", "application/grpc"), ("te", "trailers")], b"");
    let refused = refused.expect("a response");
    assert_eq!((refused.status, refused.get("grpc-status")), (200, Some("14")));
    assert_eq!(refused.get("grpc-message"), Some("envoy overloaded"));
    pressure.set(&proxy, 0.1);
    assert_eq!(client.get("/").status, 200);
}

fn a_refusal_says_so_where_it_is_asked_to(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let http = Http::to("up").hcm("append_local_overload: true");
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap.top(&with_action(&pressure, "stop_accepting_requests")));
    pressure.set(&proxy, 0.95);
    let refused = proxy.client().get("/");
    assert_eq!((refused.status, refused.get("x-envoy-local-overloaded")), (503, Some("true")));
}

fn a_scaled_trigger_refuses_a_share(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let action = format!(
        "actions:\n- {{name: envoy.overload_actions.stop_accepting_requests, triggers: [{{name: {MONITOR}, scaled: \
         {{scaling_threshold: 0.2, saturation_threshold: 0.8}}}}]}}\n"
    );
    let proxy = start(subject, &upstream, &pressure.manager("", &action));
    pressure.set(&proxy, 0.5);
    let mut client = proxy.client();
    let refused = (0..400).filter(|_| client.get("/").status == 503).count();
    assert!((130..270).contains(&refused), "{refused} of 400");
    let of_action =
        |name: &str| proxy.stat(&format!("overload.envoy.overload_actions.stop_accepting_requests.{name}"));
    assert_eq!((of_action("active"), of_action("scale_percent")), (Some(0), Some(50)));
    pressure.set(&proxy, 0.85);
    assert_eq!(client.get("/").status, 503);
    assert_eq!((of_action("active"), of_action("scale_percent")), (Some(1), Some(100)));
}

fn a_reading_that_fails_changes_nothing(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let proxy = start(subject, &upstream, &with_action(&pressure, "stop_accepting_requests"));
    pressure.set(&proxy, 0.95);
    let failed = format!("overload.{MONITOR}.failed_updates");
    for nonsense in ["2", "x", "", "-1"] {
        let before = proxy.stat(&failed).expect("a counter");
        let next = pressure.0.write("next", nonsense);
        std::fs::rename(next, pressure.0.path().join("pressure")).expect("move a file");
        millrace_support::wait::for_true("a failure is counted", || proxy.stat(&failed) > Some(before));
        assert_eq!(proxy.client().get("/").status, 503);
    }
    assert_eq!(proxy.stat(&format!("overload.{MONITOR}.pressure")), Some(95));
}

fn keep_alive_ends(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let proxy = start(subject, &upstream, &with_action(&pressure, "disable_http_keepalive"));
    let mut idle = proxy.client();
    assert!(!idle.get("/").closes());
    pressure.set(&proxy, 0.95);
    let mut client = proxy.client();
    assert!(client.get("/").closes());
    assert!(matches!(client.end(), End::Closed(_)));
    let mut client = h2::Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    millrace_support::wait::for_true("GOAWAY", || {
        _ = client.is_alive();
        !client.session().goaways.is_empty()
    });
    // One that was idle is told with its next response.
    assert!(idle.get("/").closes());
    assert_eq!(proxy.stat("http.main.downstream_cx_overload_disable_keepalive"), Some(3));
    assert_eq!(proxy.stat("http.main.downstream_cx_drain_close"), Some(3));
    pressure.set(&proxy, 0.1);
    assert!(!proxy.client().get("/").closes());
}

fn accepting_stops_and_loses_nothing(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let bootstrap = forward(&upstream, &with_action(&pressure, "stop_accepting_connections"));
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "2"]);
    let mut known = proxy.client();
    assert_eq!(known.get("/").status, 200);
    for _ in 0..3 {
        pressure.set(&proxy, 0.95);
        assert_eq!(known.get("/").status, 200, "who is there already is served");
        let before = upstream.requests().len();
        let mut waiting: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
        for client in &mut waiting {
            client.send(GET);
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(upstream.requests().len(), before, "nobody was accepted");
        pressure.set(&proxy, 0.1);
        for client in &mut waiting {
            assert_eq!(client.response("GET").expect("a response").status, 200);
        }
    }
}

fn connections_are_rejected(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let proxy = start(subject, &upstream, &with_action(&pressure, "reject_incoming_connections"));
    let mut known = proxy.client();
    assert_eq!(known.get("/").status, 200);
    let before = proxy.stat(&format!("{LISTENER}.downstream_cx_total"));
    pressure.set(&proxy, 0.95);
    for _ in 0..5 {
        assert!(matches!(proxy.client().end(), End::Closed(_) | End::Reset));
    }
    assert_eq!(known.get("/").status, 200);
    proxy.wait_stat(&format!("{LISTENER}.downstream_cx_overload_reject"), 5);
    assert_eq!(proxy.stat(&format!("{LISTENER}.downstream_cx_total")), before);
    pressure.set(&proxy, 0.1);
    super::serves_again(&proxy);
}

fn a_listener_may_bypass_it_all(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let names = [
        "stop_accepting_requests",
        "disable_http_keepalive",
        "stop_accepting_connections",
        "reject_incoming_connections",
    ];
    let actions: String =
        names.iter().map(|name| super::at_90(&format!("envoy.overload_actions.{name}"), "")).collect();
    let http = Http::to("up").listener("bypass_overload_manager: true");
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let manager = pressure.manager("", &format!("actions:\n{actions}"));
    let proxy = Proxy::start(subject, &bootstrap.top(&manager));
    pressure.set(&proxy, 0.95);
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.closes()), (200, false));
}

fn timers(pressure: &Pressure, timer: &str, minimum: &str) -> String {
    let config = format!(
        ", typed_config: {{'@type': type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig, \
         timer_scale_factors: [{{timer: {timer}, {minimum}}}]}}"
    );
    let action = super::at_90("envoy.overload_actions.reduce_timeouts", &config);
    pressure.manager("", &format!("actions:\n{action}"))
}

fn streams_wait_less_long(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::start(|_| Reply::hang()));
    let manager = timers(&pressure, "HTTP_DOWNSTREAM_STREAM_IDLE", "min_scale: {value: 10}");
    let http = Http::to("up").hcm("stream_idle_timeout: 8s");
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "").top(&manager);
    let proxy = Proxy::start(subject, &bootstrap);
    // One request waits already when the pressure comes, the other begins under it.
    let mut waiting = proxy.client();
    waiting.send(GET);
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    pressure.set(&proxy, 0.95);
    let began = Instant::now();
    assert_eq!(waiting.response("GET").expect("a response").status, 504);
    assert_eq!(proxy.client().get("/").status, 504);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(proxy.log().line(1).verdict(), ("504", "SI", "stream_idle_timeout"));
    assert_eq!(proxy.stat("http.main.downstream_rq_idle_timeout"), Some(2));
}

fn idle_connections_stay_less_long(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let manager = timers(&pressure, "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout: 0.5s");
    let hcm =
        "common_http_protocol_options: {idle_timeout: 60s}\ndrain_timeout: 0.1s\ndelayed_close_timeout: 0.1s";
    let http = Http::to("up").hcm(hcm);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "").top(&manager);
    let proxy = Proxy::start(subject, &bootstrap);
    let mut before = proxy.client();
    assert_eq!(before.get("/").status, 200);
    pressure.set(&proxy, 0.95);
    assert!(matches!(before.end_within(Duration::from_secs(9)), End::Closed(_)));
    let mut after = proxy.client();
    assert_eq!(after.get("/").status, 200);
    assert!(matches!(after.end_within(Duration::from_secs(9)), End::Closed(_)));
    assert_eq!(proxy.stat("http.main.downstream_cx_idle_timeout"), Some(2));
}

fn heap_is_given_back(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let proxy = start(subject, &upstream, &with_action(&pressure, "shrink_heap"));
    let count = "overload.envoy.overload_actions.shrink_heap.shrink_count";
    assert_eq!(proxy.stat(count), None);
    pressure.set(&proxy, 0.95);
    proxy.wait_stat(count, 1);
    assert_eq!(proxy.client().get("/").status, 200);
}

fn streams_that_hold_most_are_reset(subject: &Subject) {
    let pressure = Pressure::none();
    let big = vec![b'x'; 900_000];
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/big" => Reply::bytes(200, &big),
        _ => Reply::ok("x"),
    });
    let action = super::at_90("envoy.overload_actions.reset_high_memory_stream", "");
    let more =
        format!("buffer_factory_config: {{minimum_account_to_track_power_of_two: 12}}\nactions:\n{action}");
    let proxy = start(subject, &upstream, &pressure.manager("", &more));
    // No window for responses: what comes of them waits in the proxy.
    let mut client = h2::Client::connect_with(proxy.listener("main"), &[(4, 0)]);
    let holds = client.head("GET", "/big", &[], true);
    assert_eq!(client.response_head(holds), Ok(200));
    upstream.wait_for(1);
    std::thread::sleep(Duration::from_millis(200));
    pressure.set(&proxy, 0.95);
    let lost = client.response(holds);
    assert!(matches!(lost, Err(Lost::Reset(_, Some(200)))), "{lost:?}");
    let line = proxy.log().line(0);
    assert_eq!(line.verdict(), ("200", "OM", "overload"));
    assert_eq!(proxy.stat("envoy.overload_actions.reset_high_memory_stream.count"), Some(1));
    // The connection serves on.
    let small = client.head("GET", "/", &[], true);
    assert_eq!(client.response_head(small), Ok(200));
}
