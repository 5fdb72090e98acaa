//! Verdicts, headers and counters; descriptors of every action.

use std::sync::Arc;

use millrace_base::{Metadata, Time};
use millrace_config::{
    DescriptorLimit, FilterConfigId, Fraction, HttpFilter, HttpFilterKind, MetadataSource, RateLimitAction,
    ScopeId, TokenBucketConfig,
};
use millrace_observe::stats::ScopeKind;

use super::*;
use crate::http::test::{Room, hcm, head, lines, option};

const ALL: Fraction = Fraction { numerator: 100, denominator: 100 };

fn bucket(max_tokens: u32) -> TokenBucketConfig {
    TokenBucketConfig { max_tokens, tokens_per_fill: 1, fill_interval: Duration::from_secs(10) }
}

fn policy(actions: Vec<RateLimitAction>) -> RateLimitPolicy {
    RateLimitPolicy {
        stage: 0,
        disable_key: false,
        on_stream_done: false,
        hits: None,
        gives_back: false,
        headers: RateLimitHeaders::Unspecified,
        actions,
    }
}

fn ask(room: &mut Room, limit: &Arc<LocalRateLimit>, head: &mut RequestHead) -> Verdict {
    let mut hcm = hcm();
    let kind = HttpFilterKind::LocalRateLimit(Arc::clone(limit));
    hcm.http_filters
        .insert(0, HttpFilter { name: "limit".into(), id: FilterConfigId(0), disabled: false, kind });
    let start = Start {
        cluster: Some("up"),
        node_cluster: "us",
        remote: Some([10, 1, 2, 3].into()),
        ..Start::of(&hcm, None)
    };
    room.begin(&mut None, &start, head)
}

#[test]
fn what_is_above_the_limit_is_refused_and_told_why() {
    let mut room = Room::new();
    let scope = room.registry.scope(ScopeKind::HttpLocalRateLimit, "x.http_local_rate_limit");
    let limit = LocalRateLimit {
        bucket: Some(bucket(1)),
        enabled: ALL,
        enforced: ALL,
        retry_after: true,
        response_headers: vec![option("x-rl", "yes", millrace_config::AppendAction::AppendIfExistsOrAdd)],
        ..LocalRateLimit::unlimited(scope)
    };
    let limit = Arc::new(limit.with_buckets());
    assert_eq!(ask(&mut room, &limit, &mut head("/", &[])), Verdict::Continue);
    room.now = Time(150_000_000);
    let Verdict::Reply(reply) = ask(&mut room, &limit, &mut head("/", &[])) else { panic!("a refusal") };
    assert_eq!(
        (reply.status, &*reply.details, reply.flag),
        (429, "local_rate_limited", Some(ResponseFlag::RateLimited))
    );
    assert_eq!(reply.headers[0], (Cow::Borrowed(&b"x-rl"[..]), b"yes".to_vec()));
    assert_eq!(reply.headers[1], (Cow::Borrowed(&b"retry-after"[..]), b"10".to_vec()));
    room.now = Time(10_000_000_000);
    assert_eq!(ask(&mut room, &limit, &mut head("/", &[])), Verdict::Continue);
    let count = |counter| room.registry.counter(scope, counter);
    let counters = [metric::ENABLED, metric::OK, metric::RATE_LIMITED, metric::ENFORCED];
    assert_eq!(counters.map(count), [3, 2, 1, 1]);
}

#[test]
fn what_is_not_enforced_is_marked() {
    let mut room = Room::new();
    let limit = LocalRateLimit {
        bucket: Some(bucket(0)),
        enabled: ALL,
        request_headers: vec![option("x-limited", "1", millrace_config::AppendAction::AppendIfExistsOrAdd)],
        ..LocalRateLimit::unlimited(ScopeId(0))
    };
    let mut head = head("/", &[]);
    assert_eq!(ask(&mut room, &Arc::new(limit.with_buckets()), &mut head), Verdict::Continue);
    assert_eq!(lines(&head.headers), "x-limited: 1");
}

#[test]
fn every_connection_may_have_buckets_of_its_own() {
    let limit = LocalRateLimit {
        bucket: Some(bucket(1)),
        enabled: ALL,
        enforced: ALL,
        per_connection: true,
        ..LocalRateLimit::unlimited(ScopeId(0))
    };
    let limit = Arc::new(limit.with_buckets());
    for _ in 0..2 {
        let mut room = Room::new();
        assert_eq!(ask(&mut room, &limit, &mut head("/", &[])), Verdict::Continue);
        assert_ne!(ask(&mut room, &limit, &mut head("/", &[])), Verdict::Continue);
    }
}

#[test]
fn descriptors_are_made_of_all_actions_or_not_at_all() {
    let text = |text: &str| -> Arc<str> { text.into() };
    let name = |text: &str| -> Arc<[u8]> { text.as_bytes().into() };
    let mut dynamic = Metadata::default();
    dynamic.namespace_mut("ns").insert("a", "1".into());
    let entries = |actions: Vec<RateLimitAction>, list: &[(&str, &str)]| {
        let policy = policy(actions);
        let hcm = hcm();
        let start = Start {
            cluster: Some("up"),
            node_cluster: "us",
            remote: Some([10, 1, 2, 3].into()),
            ..Start::of(&hcm, None)
        };
        let head = head("/p?q=1", list);
        let made = descriptor(&policy, &start, &head, Some(&dynamic))?;
        Some(made.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
    };
    let metadata = |path: &str, default: Option<&str>, skip_if_absent| RateLimitAction::Metadata {
        source: MetadataSource::Dynamic,
        namespace: "ns".into(),
        path: vec![path.into()],
        key: text("m"),
        default: default.map(text),
        skip_if_absent,
    };
    let header = |skip_if_absent| RateLimitAction::RequestHeader {
        header: name("x-k"),
        key: text("k"),
        skip_if_absent,
    };
    let all = vec![
        RateLimitAction::SourceCluster,
        RateLimitAction::DestinationCluster,
        RateLimitAction::RemoteAddress,
        RateLimitAction::MaskedRemoteAddress { v4: 16, v6: 128 },
        RateLimitAction::GenericKey { key: text("generic_key"), value: text("g") },
        RateLimitAction::QueryParameter { parameter: name("q"), key: text("q"), skip_if_absent: false },
        header(false),
    ];
    let expected = "source_cluster=us,destination_cluster=up,remote_address=10.1.2.3,\
                    masked_remote_address=10.1.0.0/16,generic_key=g,q=1,k=v";
    let both = vec![metadata("a", None, false), metadata("b", Some("d"), false), metadata("c", None, true)];
    assert_eq!(entries(both, &[]).as_deref(), Some("m=1,m=d"));
    assert_eq!(entries(vec![metadata("a", None, false), metadata("c", None, false)], &[]), None);
    assert_eq!(entries(all.clone(), &[("x-k", "v")]).as_deref(), Some(expected));
    assert_eq!(entries(all, &[]), None);
    assert_eq!(
        entries(vec![RateLimitAction::SourceCluster, header(true)], &[]).as_deref(),
        Some("source_cluster=us")
    );
    assert_eq!(entries(vec![header(true)], &[]), None);
}

#[test]
fn the_strictest_of_matching_descriptors_comes_first() {
    let limit = |key: &str, max: u32, seconds| DescriptorLimit {
        entries: vec![(key.into(), "v".into())],
        bucket: TokenBucketConfig {
            max_tokens: max,
            tokens_per_fill: 1,
            fill_interval: Duration::from_secs(seconds),
        },
        shadow: false,
    };
    let policy = policy(Vec::new());
    let limits = [limit("a", 9, 1), limit("b", 9, 60), limit("c", 9, 30)];
    let made = |keys: &[&'static str]| -> Vec<_> {
        keys.iter()
            .zip(1..)
            .map(|(key, hits)| (vec![(*key, Cow::Borrowed("v"))], &policy, Hits::Take(hits)))
            .collect()
    };
    let found: Vec<_> =
        matching(&limits, &made(&["a", "c", "b", "none"])).iter().map(|one| (one.at, one.hits)).collect();
    assert_eq!(found, [(1, Hits::Take(3)), (2, Hits::Take(2)), (0, Hits::Take(1))]);
}

#[test]
fn every_value_has_a_bucket_of_its_own() {
    let text = |text: &str| -> Arc<str> { text.into() };
    let by_header = || RateLimitAction::RequestHeader {
        header: b"x-k"[..].into(),
        key: text("k"),
        skip_if_absent: false,
    };
    let limit = |value: &str, max| DescriptorLimit {
        entries: vec![(text("k"), text(value))],
        bucket: bucket(max),
        shadow: false,
    };
    for per_connection in [false, true] {
        let limit = LocalRateLimit {
            descriptors: vec![limit("", 1), limit("b", 2)],
            max_dynamic: 2,
            enabled: ALL,
            enforced: ALL,
            per_connection,
            rate_limits: vec![policy(vec![by_header()])],
            ..LocalRateLimit::unlimited(ScopeId(0))
        };
        let limit = Arc::new(limit.with_buckets());
        let mut room = Room::new();
        let mut passes = |value: &str, at: u64| {
            room.now = Time(at);
            ask(&mut room, &limit, &mut head("/", &[("x-k", value)])) == Verdict::Continue
        };
        assert_eq!(
            [passes("a", 1), passes("a", 2), passes("c", 3), passes("c", 4)],
            [true, false, true, false]
        );
        // The exact one comes first.
        assert_eq!([passes("b", 5), passes("b", 6), passes("b", 7)], [true, true, false]);
        // A third value has the first one forgotten, which begins anew.
        assert_eq!([passes("d", 8), passes("c", 9), passes("a", 10)], [true, false, true]);
    }
}
