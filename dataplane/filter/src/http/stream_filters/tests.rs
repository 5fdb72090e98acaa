//! Chains of several filters, and what is counted.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::Rng;
use millrace_config::{
    FilterConfigId, GrpcHttp1Bridge, GrpcMethods, GrpcStats as StatsConfig, HttpFilter, HttpFilterKind,
    PerFilterConfig,
};
use millrace_http::HeaderMap;
use millrace_observe::stats::{Registry, ScopeKind, grpc as metric};

use super::*;
use crate::http::test::{Running, fields, hcm, head, lines, response, text};

fn filter(name: &str, kind: HttpFilterKind) -> HttpFilter {
    HttpFilter { name: name.into(), id: FilterConfigId(0), disabled: false, kind }
}

fn stats(methods: GrpcMethods) -> HttpFilterKind {
    HttpFilterKind::GrpcStats(Arc::new(StatsConfig { methods, upstream_time: true, replace_dots: false }))
}

fn bridge() -> HttpFilterKind {
    HttpFilterKind::GrpcHttp1Bridge(GrpcHttp1Bridge { upgrade_protobuf: true, ignore_query: false })
}

fn chain_of(kinds: Vec<HttpFilterKind>) -> HttpConnectionManager {
    let mut hcm = hcm();
    for (at, kind) in kinds.into_iter().enumerate() {
        hcm.http_filters.insert(at, filter(&format!("f{at}"), kind));
    }
    hcm
}

fn start<'h>(hcm: &'h HttpConnectionManager, head: &mut RequestHead) -> Option<Running<'h>> {
    Running::begin(Start { buffer_limit: 1000, ..Start::of(hcm, None) }, head)
}

fn request(content_type: &str) -> RequestHead {
    head("/s.S/M", &[("content-type", content_type)])
}

fn trailers(list: &[(&str, &str)]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    fields(&mut trailers, list);
    trailers
}

#[test]
fn most_requests_have_no_filters() {
    assert!(start(&hcm(), &mut request("application/grpc")).is_none());
    let hcm = chain_of(vec![stats(GrpcMethods::None), HttpFilterKind::GrpcWeb, bridge()]);
    assert!(start(&hcm, &mut request("application/json")).is_none());
    assert!(start(&hcm, &mut request("application/grpc")).is_some());
}

#[test]
fn routes_switch_filters_off() {
    let hcm = chain_of(vec![HttpFilterKind::GrpcWeb]);
    let mut config = RouteConfiguration::default();
    let start = |config: &RouteConfiguration| {
        Running::begin(Start::of(&hcm, Some(config)), &mut request("application/grpc-web")).is_some()
    };
    assert!(start(&config));
    config.per_filter.push(("f0".into(), PerFilterConfig::Disabled(true)));
    assert!(!start(&config));
}

#[test]
fn stats_only_look_on() {
    let hcm = chain_of(vec![stats(GrpcMethods::None)]);
    let mut filters = start(&hcm, &mut request("application/grpc")).unwrap();
    assert_eq!((filters.request_use(), filters.response_use()), (BodyUse::Observe, BodyUse::Bypass));
    let mut head = response(200, &[("content-type", "application/grpc")]);
    filters.response_head(&mut head, false);
    assert_eq!((filters.response_use(), filters.holds_response()), (BodyUse::Observe, false));
    assert!(!filters.take_new_route());
    // A path that is no call is not counted.
    let mut other = crate::http::test::head("/a", &[("content-type", "application/grpc")]);
    assert_eq!(start(&hcm, &mut other).unwrap().request_use(), BodyUse::Bypass);
}

#[test]
fn calls_are_counted_once_reported() {
    let registry = Registry::new();
    let (cluster, mut shard) = (registry.scope(ScopeKind::Cluster, "c"), registry.attach_shard("worker_0"));
    let listed = GrpcMethods::Listed(vec![("s.S".into(), "M".into())]);
    let hcm = chain_of(vec![stats(listed), HttpFilterKind::GrpcWeb]);
    let mut filters = start(&hcm, &mut request("application/grpc")).unwrap();
    filters.observe_request(b"\0\0\0\0\0\0\0\0\0\0");
    filters.report(&mut shard, None, None);
    filters.observe_request(b"\0\0\0\0\0");
    filters.report(&mut shard, Some(cluster), None);
    let mut head = response(200, &[("content-type", "application/grpc")]);
    filters.response_head(&mut head, false);
    filters.observe_response(b"\0\0\0\0\0\0");
    let mut trailers = trailers(&[("grpc-status", "5")]);
    filters.response_trailers(&mut trailers, &mut head, &mut Vec::new()).unwrap();
    filters.report(&mut shard, Some(cluster), Some(Duration::from_millis(7)));
    filters.report(&mut shard, Some(cluster), Some(Duration::from_millis(7)));
    let scope = registry.scope(ScopeKind::Grpc, "c.grpc.s.S.M");
    let counted = |counter| registry.counter(scope, counter);
    assert_eq!([counted(metric::REQUEST_MESSAGE_COUNT), counted(metric::RESPONSE_MESSAGE_COUNT)], [3, 2]);
    assert_eq!([counted(metric::TOTAL), counted(metric::FAILURE), counted(metric::SUCCESS)], [1, 1, 0]);
    assert_eq!([counted(metric::STATUS_5), counted(metric::STATUS_0)], [1, 0]);
    // Another method counts for the cluster alone.
    let mut other = crate::http::test::head("/s.S/N", &[("content-type", "application/grpc")]);
    let mut filters = start(&hcm, &mut other).unwrap();
    filters.response_head(&mut response(200, &[("grpc-status", "99")]), true);
    filters.report(&mut shard, Some(cluster), None);
    let scope = registry.scope(ScopeKind::Grpc, "c.grpc");
    assert_eq!([metric::STATUS_OTHER, metric::FAILURE].map(|c| registry.counter(scope, c)), [1, 1]);
}

#[test]
fn web_in_front_of_stats_shows_them_grpc() {
    let registry = Registry::new();
    let (cluster, mut shard) = (registry.scope(ScopeKind::Cluster, "c"), registry.attach_shard("worker_0"));
    let hcm = chain_of(vec![HttpFilterKind::GrpcWeb, stats(GrpcMethods::None)]);
    let mut request = head(
        "/s.S/M",
        &[("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text")],
    );
    let mut filters = start(&hcm, &mut request).unwrap();
    let mut out = Vec::new();
    filters.request_data(b"AAAA", false, &mut out).unwrap();
    filters.request_data(b"AAA=", true, &mut out).unwrap();
    assert_eq!(out, [0; 5]);
    let mut head = response(200, &[("content-type", "application/grpc")]);
    filters.response_head(&mut head, false);
    out.clear();
    filters.response_data(b"\0\0\0\0\0", false, &mut head, &mut out).unwrap();
    filters.response_trailers(&mut trailers(&[("grpc-status", "0")]), &mut head, &mut out).unwrap();
    assert_eq!(text(&out), "AAAAAAA=gAAAAA9ncnBjLXN0YXR1czowDQo=");
    filters.report(&mut shard, Some(cluster), None);
    let count = |name, counter| registry.counter(registry.scope(ScopeKind::Grpc, name), counter);
    assert_eq!(count("c.grpc", metric::REQUEST_MESSAGE_COUNT), 1);
    assert_eq!(count("c.grpc", metric::SUCCESS), 1);
    assert_eq!(count("c.grpc-web.s.S.M", metric::SUCCESS), 1);
    // Behind them it comes too late: they see gRPC-Web.
    let hcm = chain_of(vec![stats(GrpcMethods::None), HttpFilterKind::GrpcWeb]);
    let mut request = self::request("application/grpc-web");
    assert_eq!(start(&hcm, &mut request).unwrap().request_use(), BodyUse::Bypass);
}

/// Web is nearer to the client, so it has the head when the bridge lets go of it.
#[test]
fn a_held_head_reaches_the_next_filter_when_it_is_released() {
    let hcm = chain_of(vec![HttpFilterKind::GrpcWeb, bridge()]);
    let mut filters = start(&hcm, &mut request("application/grpc-web")).unwrap();
    let mut head = response(200, &[("content-type", "application/grpc")]);
    filters.response_head(&mut head, false);
    assert!(filters.holds_response());
    let mut out = Vec::new();
    filters.response_data(b"\0\0\0\0\0", false, &mut head, &mut out).unwrap();
    assert!(filters.holds_response() && out.is_empty());
    let mut trailers = trailers(&[("grpc-status", "0")]);
    filters.response_trailers(&mut trailers, &mut head, &mut out).unwrap();
    assert!(!filters.holds_response() && trailers.is_empty());
    assert_eq!(out, b"\0\0\0\0\0\x80\0\0\0\x0fgrpc-status:0\r\n");
    assert_eq!(lines(&head.headers), "content-type: application/grpc-web+proto | grpc-status: 0");
}

#[test]
fn local_replies_pass_the_filters_unless_a_response_began() {
    let hcm = chain_of(vec![HttpFilterKind::GrpcWeb]);
    let reply =
        || (response(503, &[("content-length", "2"), ("content-type", "text/plain")]), b"no".to_vec());
    let mut filters = start(&hcm, &mut request("application/grpc-web")).unwrap();
    let (mut head, mut body) = reply();
    filters.local_reply(&mut head, &mut body);
    assert!(body.is_empty() && head.headers.contains_name(b"grpc-message"));
    let mut filters = start(&hcm, &mut request("application/grpc-web")).unwrap();
    filters.response_head(&mut response(200, &[]), false);
    let (mut head, mut body) = reply();
    filters.local_reply(&mut head, &mut body);
    assert_eq!(
        (&*body, &*lines(&head.headers)),
        (&b"no"[..], "content-length: 2 | content-type: text/plain")
    );
}

#[test]
fn protobufs_ask_for_another_route() {
    let hcm = chain_of(vec![bridge(), stats(GrpcMethods::None)]);
    let mut filters = start(&hcm, &mut request("application/x-protobuf")).unwrap();
    assert!(filters.take_new_route());
    let mut out = Vec::new();
    filters.request_data(b"abc", true, &mut out).unwrap();
    assert_eq!(out, b"\0\0\0\0\x03abc");
}

/// What a request or response becomes must not depend on how its bytes are cut, and no bytes may do harm.
#[test]
fn cuts_and_noise_change_nothing() {
    let chains = [
        vec![HttpFilterKind::GrpcWeb],
        vec![HttpFilterKind::GrpcWeb, stats(GrpcMethods::All), bridge()],
        vec![bridge(), HttpFilterKind::GrpcWeb],
    ];
    let types =
        ["application/grpc-web-text", "application/grpc-web", "application/grpc", "application/x-protobuf"];
    let mut rng = Rng::new(7);
    for round in 0..300u64 {
        let hcm = chain_of(chains[round as usize % chains.len()].clone());
        let content_type = types[rng.next_u64() as usize % types.len()];
        let list = [("content-type", content_type), ("accept", types[round as usize % 2])];
        let answer = [("content-type", types[rng.next_u64() as usize % types.len()])];
        let letters: Vec<u8> =
            (0..rng.next_u64() % 200).map(|_| b"AQgw=%\0"[rng.next_u64() as usize % 7]).collect();
        let octets: Vec<u8> = (0..rng.next_u64() % 300).map(|_| (rng.next_u64() % 3) as u8).collect();
        let run = |piece: usize| {
            let mut filters = start(&hcm, &mut head("/s.S/M", &list))?;
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            let asked =
                letters.chunks(piece).try_for_each(|data| filters.request_data(data, false, &mut sent));
            let asked = asked.and_then(|()| filters.request_data(&[], true, &mut sent));
            let mut answer = response(200, &answer);
            filters.response_head(&mut answer, false);
            for data in octets.chunks(piece) {
                filters.response_data(data, false, &mut answer, &mut got).unwrap();
            }
            let mut trailers = trailers(&[("grpc-status", "0")]);
            filters.response_trailers(&mut trailers, &mut answer, &mut got).unwrap();
            assert!(!filters.holds_response());
            let refused = asked.err().map(|reply| reply.status);
            // How much had been decoded before an error was found may differ.
            Some((refused, refused.is_none().then_some(sent), got, lines(&answer.headers), lines(&trailers)))
        };
        let whole = run(1000);
        for piece in [1, 2, 3, 5, 64] {
            assert_eq!(run(piece), whole, "round {round}, pieces of {piece}, {list:?} {answer:?}");
        }
    }
}
