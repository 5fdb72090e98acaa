//! What is retried, where, and how often.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2;
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::tcp::Refused;
use millrace_support::upstream::{Reply, Upstream};

use super::scripted::{self, BACK_OFF};
use super::{route, start, start_http};

pub(crate) const CASES: &[Case] = &[
    case!(conditions_on_responses),
    case!(conditions_on_resets),
    case!(conditions_on_resets_of_streams),
    case!(conditions_of_the_request),
    case!(policies_of_the_cluster),
    case!(tries_are_told_of_their_kind),
    case!(per_try_idle_timeouts),
    case!(a_try_counts_from_the_end_of_the_request),
    case!(canaries_are_omitted),
    case!(endpoints_are_omitted_by_metadata),
    case!(previous_priorities_are_left_out),
    case!(retries_stay_within_their_budget),
    case!(a_budget_remembers_the_requests_of_its_interval),
    case!(retries_take_turns_among_weighted_clusters),
    case!(the_budget_of_the_first_cluster_holds),
    case!(a_retry_to_a_cluster_that_is_missing),
];

const CONDITIONS: [&str; 15] = [
    "5xx",
    "gateway-error",
    "retriable-4xx",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "cancelled",
    "deadline-exceeded",
    "resource-exhausted",
    "unavailable",
    "internal",
    "connect-failure",
    "refused-stream",
    "reset",
    "reset-before-request",
];

/// A route `/<condition>` for each condition, with one retry.
fn by_condition(more: &str) -> String {
    let policy = |on: &str| {
        let lists = "retriable_status_codes: [418], retriable_headers: [{name: x-again}]";
        let policy = format!("retry_policy: {{retry_on: {on}, num_retries: 1, {lists}, {BACK_OFF}{more}}}");
        route(&format!("/{on}/"), &format!("cluster: up, {policy}"))
    };
    CONDITIONS.iter().map(|on| policy(on)).collect()
}

fn conditions_on_responses(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = start(subject, &by_condition(""), &[("up", upstream.address(), "")]);
    let mut client = proxy.client();
    for (answer, conditions) in [
        ("500", &["5xx"][..]),
        ("502", &["5xx", "gateway-error"]),
        ("503", &["5xx", "gateway-error"]),
        ("504", &["5xx", "gateway-error"]),
        ("505", &["5xx"]),
        ("409", &["retriable-4xx"]),
        ("404", &[]),
        ("418", &["retriable-status-codes"]),
        ("200|x-again: 1", &["retriable-headers"]),
        ("503|x-envoy-ratelimited: true", &["envoy-ratelimited"]),
        ("503|x-envoy-overloaded: true", &["5xx", "gateway-error"]),
        ("200|grpc-status: 1", &["cancelled"]),
        ("200|grpc-status: 2", &[]),
        ("200|grpc-status: 4", &["deadline-exceeded"]),
        ("200|grpc-status: 8", &["resource-exhausted"]),
        ("200|grpc-status: 13", &["internal"]),
        ("200|grpc-status: 14", &["unavailable"]),
        ("200|grpc-status: 0", &[]),
    ] {
        for on in CONDITIONS {
            let case = format!("{on} {answer}");
            let text =
                client.get_with(&format!("/{on}/"), &[("x-case", &case), ("x-answers", answer)]).text();
            let expected = if conditions.contains(&on) { "try 2" } else { "try 1" };
            assert_eq!(text, expected, "{case}");
        }
    }
}

/// Attempts of a GET to each condition's route that never succeeds.
fn attempts(proxy: &Proxy, answers: &str) -> Vec<&'static str> {
    let twice = |on: &&&str| {
        let case = format!("{on}-{answers}");
        let fields = [("x-case", &*case), ("x-answers", answers)];
        assert!(proxy.client().get_with(&format!("/{on}/"), &fields).status >= 500, "{case}");
        proxy.log().case(&case).get("attempts") == "2"
    };
    CONDITIONS.iter().filter(twice).copied().collect()
}

fn conditions_on_resets(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = start(subject, &by_condition(", per_try_timeout: 0.15s"), &[("up", upstream.address(), "")]);
    assert_eq!(attempts(&proxy, "reset"), ["5xx", "gateway-error", "reset"]);
    assert_eq!(attempts(&proxy, "hang"), ["5xx", "gateway-error", "reset"]);
    let nobody = Refused::new();
    let proxy = start(subject, &by_condition(""), &[("up", nobody.address(), "")]);
    let expected = ["5xx", "gateway-error", "connect-failure", "reset", "reset-before-request"];
    assert_eq!(attempts(&proxy, ""), expected);
}

fn conditions_on_resets_of_streams(subject: &Subject) {
    let upstream = h2::upstream::Upstream::start(|asked| match asked.get("x-answers") {
        "refused" => h2::reply::Reply::reset(7),
        _ => h2::reply::Reply::reset(2),
    });
    let proxy = start(subject, &by_condition(""), &[("up", upstream.address(), &http2_cluster(""))]);
    assert_eq!(attempts(&proxy, "refused"), ["5xx", "gateway-error", "refused-stream", "reset"]);
    assert_eq!(attempts(&proxy, "internal"), ["5xx", "gateway-error", "reset"]);
}

/// What an internal client asks for itself.
fn conditions_of_the_request(subject: &Subject) {
    let upstream = scripted::upstream();
    let hcm = "use_remote_address: true\ninternal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.2, prefix_len: 32}]}";
    let routes = route("/", "cluster: up");
    let proxy = start_http(subject, Http::routes(&routes).hcm(hcm), &[("up", upstream.address(), "")]);
    for (number, (asked, answers, tries)) in [
        (&[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "3")][..], "503", "try 4"),
        (&[("x-envoy-retry-on", "gateway-error, retriable-4xx")], "409,200", "try 2"),
        (
            &[("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "X-A, x-again")],
            "200|x-again: 1,200",
            "try 2",
        ),
        (
            &[("x-envoy-retry-on", "retriable-status-codes"), ("x-envoy-retriable-status-codes", "404, 418")],
            "418,404,200",
            "try 2",
        ),
        (&[("x-envoy-retry-grpc-on", "cancelled,internal")], "200|grpc-status: 13,200", "try 2"),
        (&[("x-envoy-retry-grpc-on", "5xx")], "503,200", "try 1"),
        (
            &[
                ("x-envoy-retry-on", "5xx"),
                ("x-envoy-upstream-rq-per-try-timeout-ms", "150"),
                ("x-envoy-hedge-on-per-try-timeout", "true"),
            ],
            "200@300,200@500",
            "try 1",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let case = format!("case {number}");
        let fields = [&[("x-case", &*case), ("x-answers", answers)], asked].concat();
        let mut internal = Client::connect_from("127.0.0.2", proxy.listener("main"));
        assert_eq!(internal.get_with("/", &fields).text(), tries, "{asked:?}");
        let mine = |name: &str| {
            upstream.requests().iter().any(|r| r.fields.get("x-case") == Some(&case) && r.fields.has(name))
        };
        for (name, _) in asked {
            assert!(!mine(name), "{name} went upstream");
        }
    }
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
}

/// It takes the place of the route's, but for timeouts of tries; a typed policy of the route does nothing.
fn policies_of_the_cluster(subject: &Subject) {
    let upstream = scripted::upstream();
    let own = |policy: &str| {
        let fields = format!(
            "explicit_http_config: {{http_protocol_options: {{}}}}, retry_policy: {{{policy}, {BACK_OFF}}}"
        );
        millrace_support::any::protocol_options(&fields)
    };
    let twice = own("retry_on: 5xx, num_retries: 2, per_try_timeout: 0.2s");
    let refused = own("retry_on: connect-failure");
    let typed =
        "{\"@type\": type.googleapis.com/envoy.config.route.v3.RetryPolicy, retry_on: 5xx, num_retries: 4}";
    let of_route = format!("retry_policy: {{retry_on: 5xx, num_retries: 1, {BACK_OFF}}}");
    let routes = [
        route("/both", &format!("cluster: twice, timeout: 9s, {of_route}")),
        route("/other", &format!("cluster: refused, {of_route}")),
        route("/typed", &format!("cluster: plain, retry_policy_typed_config: {typed}")),
        route("/", "cluster: twice, timeout: 9s"),
    ];
    let clusters = [("twice", &twice[..]), ("refused", &refused), ("plain", "")];
    let clusters = clusters.map(|(name, fields)| (name, upstream.address(), fields));
    let proxy = start(subject, &routes.concat(), &clusters);
    for (path, answers, last) in [
        ("/", "503", "try 3"),
        ("/both", "503", "try 3"),
        ("/other", "503", "try 1"),
        ("/typed", "503", "try 1"),
        ("/late", "200@500", "try 1"),
    ] {
        let response = proxy.client().get_with(path, &[("x-case", path), ("x-answers", answers)]);
        assert_eq!(response.text(), last, "{path}");
    }
}

fn tries_are_told_of_their_kind(subject: &Subject) {
    let upstream = scripted::upstream();
    let host = "- name: v\n  domains: [\"*\"]\n  include_request_attempt_count: true\n  include_attempt_count_in_response: true\n  \
                include_is_timeout_retry_header: true\n  routes:\n";
    let policy =
        format!("retry_policy: {{retry_on: 5xx, num_retries: 3, per_try_timeout: 0.2s, {BACK_OFF}}}");
    let routes = route("/", &format!("cluster: up, timeout: 5s, {policy}"))
        .replace("- match", "  - match")
        .replace("\n  route", "\n    route");
    let http = Http::virtual_hosts(&format!("{host}{routes}"));
    let proxy = start_http(subject, http, &[("up", upstream.address(), "")]);
    let response = proxy.client().get_with("/", &[("x-case", "a"), ("x-answers", "503,hang,reset,200")]);
    assert_eq!((response.text(), response.get("x-envoy-attempt-count")), ("try 4".into(), Some("4")));
    let seen = upstream.requests();
    let told: Vec<_> = seen.iter().map(|r| r.fields.get("x-envoy-is-timeout-retry")).collect();
    assert_eq!(told, [None, Some("false"), Some("true"), Some("false")]);
    let counts: Vec<_> =
        seen.iter().map(|r| r.fields.get("x-envoy-attempt-count").unwrap_or_default()).collect();
    assert_eq!(counts, ["1", "2", "3", "4"]);
    let expected = seen[0].fields.get("x-envoy-expected-rq-timeout-ms");
    assert_eq!(expected, Some("200"));
}

fn per_try_idle_timeouts(subject: &Subject) {
    let upstream = scripted::upstream();
    let idle = "per_try_idle_timeout: 0.2s";
    let routes = [
        route("/retry", &format!("cluster: up, retry_policy: {{retry_on: reset, {idle}, {BACK_OFF}}}")),
        route("/once", &format!("cluster: up, retry_policy: {{{idle}}}")),
    ]
    .concat();
    let proxy = start(subject, &routes, &[("up", upstream.address(), "")]);
    let ask = |path: &str, case: &str, answers: &str| {
        let mut client = proxy.client();
        client.request("GET", path, &[("host", "a"), ("x-case", case), ("x-answers", answers)], b"");
        client.response("GET")
    };
    assert_eq!(ask("/retry", "a", "hang,200").map(|r| r.text()), Ok("try 2".into()));
    let late = ask("/once", "b", "hang").expect("an answer of the proxy");
    assert_eq!((late.status, late.text()), (504, "upstream request timeout".into()));
    assert_eq!(proxy.log().case("b").verdict(), ("504", "UT", "upstream_per_try_idle_timeout"));
    assert!(ask("/retry", "c", "half").is_err());
    assert_eq!(proxy.log().case("c").verdict(), ("200", "UT", "upstream_per_try_idle_timeout"));
    proxy.wait_stat("cluster.up.upstream_rq_per_try_idle_timeout", 3);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_per_try_timeout"), Some(0));
    // Longer than the limit, but never idle for so long.
    assert_eq!(ask("/once", "d", "200@100").map(|r| r.status), Ok(200));
}

fn a_try_counts_from_the_end_of_the_request(subject: &Subject) {
    let upstream = scripted::upstream();
    let policy = format!("retry_policy: {{retry_on: 5xx, per_try_timeout: 0.3s, {BACK_OFF}}}");
    let routes = route("/", &format!("cluster: up, timeout: 5s, {policy}"));
    let proxy = start(subject, &routes, &[("up", upstream.address(), "")]);
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\nx-case: a\r\nx-answers: 200\r\ncontent-length: 2\r\n\r\na");
    std::thread::sleep(Duration::from_millis(500));
    client.send(b"b");
    assert_eq!(client.response("POST").map(|r| r.text()), Ok("try 1".to_owned()));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_per_try_timeout"), Some(0));
}

/// Endpoints with their metadata and priority, in one cluster `up`.
fn endpoints(list: &[(SocketAddr, &str, u32)]) -> String {
    let one = |(address, metadata, priority): &(SocketAddr, &str, u32)| {
        let (ip, port) = (address.ip(), address.port());
        let endpoint =
            format!("endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}");
        let metadata = format!("metadata: {{filter_metadata: {{envoy.lb: {{{metadata}}}}}}}");
        format!("  - priority: {priority}\n    lb_endpoints:\n    - {{{endpoint}, {metadata}}}\n")
    };
    let list: String = list.iter().map(one).collect();
    format!("lb_policy: ROUND_ROBIN\nload_assignment:\n  cluster_name: up\n  endpoints:\n{list}")
}

fn retrying(subject: &Subject, policy: &str, cluster: &str) -> Proxy {
    let policy = format!("retry_policy: {{retry_on: 5xx, {BACK_OFF}, {policy}}}");
    let host = "- name: v\n  domains: [\"*\"]\n  include_request_attempt_count: true\n  routes:\n  - match: {prefix: /}\n";
    let http = Http::virtual_hosts(&format!("{host}    route: {{cluster: up, {policy}}}\n"));
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], cluster))
}

fn of_try(upstream: &Upstream, number: &str) -> usize {
    let is = |r: &&millrace_support::message::Request| r.fields.get("x-envoy-attempt-count") == Some(number);
    upstream.requests().iter().filter(is).count()
}

fn omitting(subject: &Subject, predicate: &str, metadata: &str) {
    let (first, second) = (Upstream::start(|_| Reply::status(503)), Upstream::start(|_| Reply::status(503)));
    let cluster = endpoints(&[(first.address(), metadata, 0), (second.address(), "other: 1", 0)]);
    let policy = format!("host_selection_retry_max_attempts: 10, retry_host_predicate: [{predicate}]");
    let proxy = retrying(subject, &policy, &cluster);
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 503);
    }
    assert!(of_try(&first, "1") > 0, "the predicate is for retries alone");
    assert_eq!((of_try(&first, "2"), of_try(&second, "2")), (0, 10));
}

fn canaries_are_omitted(subject: &Subject) {
    let kind = "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate";
    let predicate = format!("{{name: omit, typed_config: {{\"@type\": type.googleapis.com/{kind}}}}}");
    omitting(subject, &predicate, "canary: true");
}

fn endpoints_are_omitted_by_metadata(subject: &Subject) {
    let kind = "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig";
    let wanted = "metadata_match: {filter_metadata: {envoy.lb: {stage: old, shard: 2}}}";
    let predicate =
        format!("{{name: omit, typed_config: {{\"@type\": type.googleapis.com/{kind}, {wanted}}}}}");
    omitting(subject, &predicate, "stage: old, shard: 2, more: x");
}

fn previous_priorities_are_left_out(subject: &Subject) {
    let (first, second) = (Upstream::start(|_| Reply::status(503)), Upstream::start(|_| Reply::status(503)));
    let cluster = endpoints(&[(first.address(), "a: 1", 0), (second.address(), "a: 2", 1)]);
    let kind = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
    let priority = format!(
        "retry_priority: {{name: p, typed_config: {{\"@type\": type.googleapis.com/{kind}, update_frequency: 2}}}}"
    );
    let proxy = retrying(subject, &format!("num_retries: 4, {priority}"), &cluster);
    assert_eq!(proxy.client().get("/").status, 503);
    let tries = |upstream: &Upstream| -> Vec<usize> {
        (1..=5).filter(|n| of_try(upstream, &n.to_string()) == 1).collect()
    };
    // After two tries the first level is left out; after four both would be, so none is.
    assert_eq!((tries(&first), tries(&second)), (vec![1, 2, 5], vec![3, 4]));
}

/// Everybody fails and everybody retries: no more retries at a time than the budget has.
fn a_budget_remembers_the_requests_of_its_interval(subject: &Subject) {
    for (interval, retried) in [("", 0), (", budget_interval: 600s", 1)] {
        let upstream = Upstream::start(|request| match request.fields.get("x-fail") {
            Some(_) => Reply::status(503),
            None => Reply::status(200),
        });
        let budget = format!("budget_percent: {{value: 20}}, min_retry_concurrency: 0{interval}");
        let breakers = format!("circuit_breakers: {{thresholds: [{{retry_budget: {{{budget}}}}}]}}\n");
        let cluster = breakers + &endpoints(&[(upstream.address(), "other: 1", 0)]);
        let proxy = retrying(subject, "num_retries: 1", &cluster);
        let mut client = proxy.client();
        for _ in 0..9 {
            assert_eq!(client.get("/").status, 200);
        }
        // Nobody else is active now; ten have begun.
        assert_eq!(client.get_with("/", &[("x-fail", "1")]).status, 503);
        assert_eq!(of_try(&upstream, "2"), retried);
        proxy.wait_stat("cluster.up.upstream_rq_retry_overflow", 1 - retried as u64);
    }
}

fn retries_stay_within_their_budget(subject: &Subject) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static RETRIES: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    MOST.store(0, Ordering::SeqCst);
    let upstream = Upstream::start(|request| {
        let retry = request.fields.get("x-envoy-attempt-count") != Some("1");
        if retry {
            let now = RETRIES.fetch_add(1, Ordering::SeqCst) + 1;
            MOST.fetch_max(now, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(60));
        if retry {
            RETRIES.fetch_sub(1, Ordering::SeqCst);
        }
        Reply::status(503)
    });
    let budget = "retry_budget: {budget_percent: {value: 20}, min_retry_concurrency: 2}";
    let (ip, port) = (upstream.address().ip(), upstream.address().port());
    let cluster = format!(
        "circuit_breakers: {{thresholds: [{{{budget}}}]}}\nload_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{{endpoint: \
         {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}}}]}}]}}"
    );
    let proxy = retrying(subject, "num_retries: 10", &cluster);
    let (clients, rounds) = (20, 4);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            let mut client = proxy.client();
            scope.spawn(move || (0..rounds).for_each(|_| assert_eq!(client.get("/").status, 503)));
        }
    });
    let tries = upstream.requests().len();
    // A fifth of the 20 requests that may be under way.
    assert!(MOST.load(Ordering::SeqCst) <= 4, "{} retries at once", MOST.load(Ordering::SeqCst));
    // Without a budget it is 11 of each; how many fit into it depends on how long the requests take.
    assert!(tries < 4 * clients * rounds, "{tries} tries of {} requests", clients * rounds);
    assert!(proxy.stat("cluster.up.upstream_rq_retry_overflow").is_some_and(|refused| refused > 0));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
}

/// A route to weighted clusters, chosen by `x-n`, whose retries go to another one each.
fn turns(subject: &Subject, clusters: &[(&str, u32)], upstream: &Upstream, fields: &str) -> Proxy {
    let entry = |(name, weight): &(&str, u32)| {
        let marks = |list: &str| format!("{list}: [{{header: {{key: x-{name}, value: \"1\"}}}}]");
        let marks = format!("{}, {}", marks("request_headers_to_add"), marks("response_headers_to_add"));
        format!("{{name: {name}, weight: {weight}, {marks}}}")
    };
    let entries: Vec<String> = clusters.iter().map(entry).collect();
    let policy = format!(
        "retry_policy: {{retry_on: 5xx, num_retries: 4, refresh_cluster_on_retry: true, {BACK_OFF}}}"
    );
    let weighted =
        format!("weighted_clusters: {{header_name: x-n, clusters: [{}]}}, {policy}", entries.join(", "));
    let http = Http::routes(&route("/", &weighted)).route_config("validate_clusters: false");
    let present: Vec<_> = clusters.iter().filter(|(name, _)| *name != "gone").collect();
    let clusters: Vec<_> = present.iter().map(|(name, _)| (*name, upstream.address(), fields)).collect();
    start_http(subject, http, &clusters)
}

fn tries_of(proxy: &Proxy, clusters: &[&str]) -> Vec<u64> {
    let count = |name: &&str| proxy.stat(&format!("cluster.{name}.upstream_rq_total")).unwrap_or(0);
    clusters.iter().map(count).collect()
}

fn retries_take_turns_among_weighted_clusters(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::status(503));
    let proxy = turns(subject, &[("a", 10), ("b", 10), ("c", 10)], &upstream, "");
    let answer = proxy.client().get_with("/", &[("x-n", "25")]);
    // c, a, b, c, a: what is changed in the request is what its first cluster said, in the response its last.
    assert_eq!((answer.status, answer.get("x-a"), answer.get("x-c")), (503, Some("1"), None));
    assert!(
        upstream.requests().iter().all(|r| r.fields.get("x-c") == Some("1") && r.fields.get("x-a").is_none())
    );
    assert_eq!(tries_of(&proxy, &["a", "b", "c"]), [2, 1, 2]);
    let retries = |name: &str| proxy.stat(&format!("cluster.{name}.upstream_rq_retry")).unwrap_or(0);
    assert_eq!(["a", "b", "c"].map(retries), [2, 1, 1]);
    // Entries that weigh nothing have no turn, and end the turns of the others.
    let proxy = turns(subject, &[("a", 5), ("b", 5), ("c", 0)], &upstream, "");
    assert_eq!(proxy.client().get_with("/", &[("x-n", "0")]).status, 503);
    assert_eq!(tries_of(&proxy, &["a", "b", "c"]), [1, 4, 0]);
}

fn the_budget_of_the_first_cluster_holds(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::status(503));
    let none = "circuit_breakers: {thresholds: [{max_retries: 0}]}";
    let proxy = turns(subject, &[("a", 10), ("b", 10)], &upstream, none);
    assert_eq!(proxy.client().get_with("/", &[("x-n", "10")]).status, 503);
    assert_eq!(tries_of(&proxy, &["a", "b"]), [0, 1]);
    assert_eq!(proxy.stat("cluster.b.upstream_rq_retry_overflow"), Some(1));
}

fn a_retry_to_a_cluster_that_is_missing(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::status(503));
    let proxy = turns(subject, &[("a", 1), ("gone", 1)], &upstream, "");
    let fields = [("x-n", "0"), ("x-case", "gone")];
    assert_eq!(proxy.client().get_with("/", &fields).text(), "no healthy upstream");
    let line = proxy.log().case("gone");
    let facts = ["flags", "details", "attempts"].map(|key| line.get(key).to_owned());
    assert_eq!(facts, ["UH", "no_healthy_upstream", "2"]);
    assert_eq!(proxy.stat("cluster.a.external.upstream_rq_503"), Some(1));
}
