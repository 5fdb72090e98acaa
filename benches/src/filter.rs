//! What the connection manager and the router do to heads. Every operation changes its head, so every one begins
//! with parsing it again: subtract `http/parse_request_mesh` or `http/parse_response`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Rng, WallTime, Written};
use millrace_config::format::Template;
use millrace_config::{
    AppendAction, HeaderMutations, HeaderOption, HttpConnectionManager, NetworkFilter, Node, PathMatcher,
    RetryConditions, RetryPolicy, Route, RouteAction, RouteConfiguration, Snapshot,
};
use millrace_filter::http::connection_manager::date::DateCache;
use millrace_filter::http::connection_manager::response::ResponseContext;
use millrace_filter::http::connection_manager::{Downstream, request as manager, response as answer};
use millrace_filter::http::router::Render;
use millrace_filter::http::router::mutation::{self, Levels};
use millrace_filter::http::router::request::{RouterOptions, finalize};
use millrace_filter::http::router::response::{self, ResponseFacts};
use millrace_filter::http::router::retry::RetryState;
use millrace_http::h1::{ParseOptions, Parsed, RequestInfo, parse_response};
use millrace_http::{RequestHead, ResponseHead, hop};
use millrace_observe::access_log::StreamInfo;
use millrace_observe::format::{Missing, render};
use millrace_observe::stats::Registry;
use millrace_route::{Selected, cluster, select};
use millrace_sim::fixture::{self, Mode};

use crate::heads::{self, MESH, RESPONSE};
use crate::route::{configuration, route, virtual_host};
use crate::{Bench, Routine, repeat};

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new(
        "filter/manager_request",
        "parse, then what the connection manager does to a request head from a peer sidecar",
        manager_request,
    ),
    Bench::new(
        "filter/mutation",
        "parse, then 2 removals and 4 additions on two levels, one of them a template",
        mutations,
    ),
    Bench::new(
        "filter/router_plan",
        "parse, then route, cluster, timeouts, retry policy and the head for the endpoint",
        router_plan,
    ),
    Bench::new("filter/response", "parse, then what router and connection manager do to a response", respond),
];

/// Templates over nothing but the heads, as the shard evaluates them over its stream.
struct Heads;

impl Render for Heads {
    fn render(
        &self,
        template: &Template,
        request: &RequestHead,
        response: Option<&ResponseHead>,
        out: &mut Vec<u8>,
    ) {
        let info = StreamInfo { request: Some(request), response, ..StreamInfo::default() };
        render(template, &info, Missing::Empty, out);
    }
}

fn snapshot() -> Snapshot {
    let (listen, endpoint) = (([10, 0, 0, 1], 8080).into(), ([10, 0, 1, 1], 9000).into());
    fixture::snapshot(&Registry::new(), Mode::Http, listen, &[endpoint])
}

fn manager() -> Arc<HttpConnectionManager> {
    match &snapshot().listeners[0].filter_chains[0].filters[0] {
        NetworkFilter::HttpConnectionManager(manager) => manager.clone(),
        NetworkFilter::TcpProxy(_) => unreachable!("asked for HTTP"),
    }
}

fn add(name: &str, value: &str, action: AppendAction) -> HeaderOption {
    let value = Template::parse(value).expect("a valid template");
    HeaderOption { name: Arc::from(name.as_bytes()), value, action, keep_empty_value: false }
}

fn selected(config: &RouteConfiguration) -> Selected<'_> {
    select(config, &heads::parsed(MESH), &Written::default(), 0).route().expect("the route for everything")
}

fn everything() -> Route {
    route(PathMatcher::Prefix(Arc::from(&b"/"[..])))
}

fn manager_request() -> Routine {
    let (hcm, node, mut rng) = (manager(), Node::default(), Rng::new(1));
    let (options, mut head, mut scratch) = (ParseOptions::default(), RequestHead::new(), Vec::new());
    repeat(move || {
        heads::parse(black_box(MESH), &options, &mut head);
        let downstream = Downstream {
            peer: Some(([10, 20, 30, 41], 40000).into()),
            local: Some(([10, 0, 0, 1], 8080).into()),
            tls: None,
            host_address: None,
            node: &node,
        };
        black_box(hop::strip_request(&mut head, false)).expect("nothing to refuse");
        black_box(manager::mutate(&hcm, None, &downstream, &mut head, &mut rng, &mut scratch));
    })
}

fn mutations() -> Routine {
    let mut of_route = everything();
    of_route.request_headers = HeaderMutations {
        add: vec![
            add("x-route", "orders", AppendAction::AppendIfExistsOrAdd),
            add("x-original-path", "%REQ(:PATH)%", AppendAction::OverwriteIfExistsOrAdd),
        ],
        remove: vec![Arc::from(&b"cookie"[..])],
    };
    let mut host = virtual_host("*", vec![of_route]);
    host.request_headers = HeaderMutations {
        add: vec![
            add("x-tenant", "shop-eu-west-2", AppendAction::OverwriteIfExistsOrAdd),
            add("x-client-version", "unknown", AppendAction::AddIfAbsent),
        ],
        remove: vec![Arc::from(&b"x-not-there"[..])],
    };
    let config = configuration(vec![host]);
    let (options, mut head, mut scratch) = (ParseOptions::default(), RequestHead::new(), Vec::new());
    repeat(move || {
        heads::parse(black_box(MESH), &options, &mut head);
        let levels = Levels { config: &config, selected: selected_first(&config), weighted: None };
        mutation::request(&levels, &Heads, &mut head, &mut scratch);
        black_box(&head);
    })
}

/// The only route, without looking for it.
fn selected_first(config: &RouteConfiguration) -> Selected<'_> {
    let virtual_host = &config.virtual_hosts[0];
    Selected { virtual_host, route: &virtual_host.routes[0] }
}

fn router_plan() -> Routine {
    let snapshot = snapshot();
    let mut of_route = everything();
    if let RouteAction::Forward(forward) = &mut of_route.action {
        let policy =
            RetryPolicy { on: RetryConditions::parse("connect-failure,reset,5xx").0, ..Default::default() };
        forward.retry_policy = Some(Arc::new(policy));
    }
    let config = configuration(vec![virtual_host("*", vec![of_route])]);
    assert!(Arc::ptr_eq(selected(&config).route, selected_first(&config).route));
    let (options, mut head, mut scratch) = (ParseOptions::default(), RequestHead::new(), Vec::new());
    repeat(move || {
        heads::parse(black_box(MESH), &options, &mut head);
        let Some(selected) = select(&config, &head, &Written::default(), 7).route() else { return };
        let RouteAction::Forward(forward) = &selected.route.action else { return };
        let choice = cluster(forward, &head, |_| 7, &snapshot);
        let levels = Levels { config: &config, selected, weighted: choice.entry(forward) };
        black_box(finalize(&levels, forward, RouterOptions::default(), &Heads, &mut head, &mut scratch));
        black_box(RetryState::new(forward.retry_policy.as_deref(), &mut head));
    })
}

fn respond() -> Routine {
    let (hcm, request, mut date) = (manager(), heads::parsed(MESH), DateCache::default());
    let config = configuration(vec![virtual_host("*", vec![everything()])]);
    let (options, info) = (ParseOptions::default(), RequestInfo::of(&request));
    let (router, mut head, mut scratch) = (RouterOptions::default(), ResponseHead::new(), Vec::new());
    repeat(move || {
        let parsed = parse_response(black_box(RESPONSE), &options, &info, &mut head);
        debug_assert!(matches!(parsed, Ok(Parsed::Complete { .. })), "{parsed:?}");
        hop::strip_response(&mut head);
        let levels = Levels { config: &config, selected: selected_first(&config), weighted: None };
        let facts = ResponseFacts { attempts: 1, service_time: Some(Duration::from_millis(3)) };
        response::finalize(&levels, router, facts, &Heads, &request, &mut head, &mut scratch);
        let now = WallTime(1_700_000_000_000_000_000);
        let context = ResponseContext { hcm: &hcm, request: Some(&request), now, close: false };
        answer::mutate(&context, &mut date, &mut head, &mut scratch);
        black_box(&head);
    })
}
