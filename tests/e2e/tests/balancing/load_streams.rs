//! Endpoints weigh by the load that they report on a stream of its own (`enable_oob_load_report`).

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::{Asked, Reply, Upstream};
use millrace_support::process::{Directory, Proxy};
use millrace_support::subject::Subject;
use millrace_support::tls::server::Options;
use millrace_support::tls::{Context, Leaf, Server, authority};
use millrace_support::wait;

use super::loads::{NAME, WEIGHTS, expect_shares};
use super::{cluster, policy, routed};
use crate::health_checks::membership::discover;

pub(crate) const CASES: &[Case] = &[
    case!(streams_are_asked_for_and_weigh),
    case!(a_stream_that_ends_comes_again),
    case!(a_silent_stream_is_replaced),
    case!(an_endpoint_without_reports_is_asked_no_more),
    case!(what_is_no_report_ends_the_stream),
    case!(reports_of_no_weight_are_errors),
    case!(port_and_authority_may_be_others),
    case!(criteria_choose_a_socket_for_streams_alone),
    case!(responses_report_as_well),
    case!(endpoints_that_leave_are_asked_no_more),
];

const PATH: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";

fn asks_for_load(asked: &Asked) -> bool {
    asked.get(":path") == PATH
}

/// A message of gRPC.
fn message(flags: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&[flags][..], &length.to_be_bytes(), bytes].concat()
}

/// `cpu_utilization` and `rps_fractional`.
fn report(cpu: f64, rps: f64) -> Vec<u8> {
    message(0, &[&[0x09][..], &cpu.to_le_bytes(), &[0x31], &rps.to_le_bytes()].concat())
}

/// An answer that goes on.
fn stream(bytes: &[u8]) -> Reply {
    Reply::default().head(200, &[("content-type", "application/grpc")], false).data(bytes, false)
}

/// An upstream that answers with its position, and so when it is asked for its load.
fn reporter(position: usize, load: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |asked| match asks_for_load(asked) {
        true => load(asked),
        false => Reply::ok(&position.to_string()),
    })
}

fn steady(position: usize, cpu: f64) -> Upstream {
    reporter(position, move |_| stream(&report(cpu, 100.0)))
}

/// What an upstream was asked of its load.
fn asked(upstream: &Upstream) -> Vec<Asked> {
    upstream.requests().into_iter().filter(asks_for_load).collect()
}

fn proxy(subject: &Subject, fields: &str, all: &[&Upstream]) -> Proxy {
    let one = |upstream: &&Upstream| {
        let port = upstream.address().port();
        format!("{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}")
    };
    let list: Vec<String> = all.iter().map(one).collect();
    let kind = format!("{WEIGHTS}, enable_oob_load_report: true, {fields}");
    let fields = format!("load_balancing_policy: {}\n{}", policy(&kind), http2_cluster(""));
    routed(subject, "", &cluster(&fields, &[format!("{{lb_endpoints: [{}]}}", list.join(", "))]))
}

fn name(stat: &str) -> String {
    format!("cluster.up.lb_orca_oob.{stat}")
}

#[track_caller]
fn wait_for_more(proxy: &Proxy, stat: &str, least: u64) {
    wait::for_true(stat, || proxy.stat(&name(stat)).is_some_and(|value| value >= least));
}

fn streams_are_asked_for_and_weigh(subject: &Subject) {
    let all = [steady(0, 1.0), steady(1, 0.2)];
    let proxy = proxy(subject, "oob_reporting_period: 1.5s", &[&all[0], &all[1]]);
    expect_shares(&proxy, &[1, 5], "streams");
    for upstream in &all {
        let asked = asked(upstream).swap_remove(0);
        let mut names = asked.fields.names();
        names[..4].sort();
        let expected = [":authority", ":method", ":path", ":scheme", "te", "content-type"];
        assert_eq!(names, expected, "{asked:?}");
        let values = [":method", ":scheme", ":authority", "te", "content-type"].map(|name| asked.get(name));
        let authority = upstream.address().to_string();
        assert_eq!(values, ["POST", "http", authority.as_str(), "trailers", "application/grpc"]);
        // 1 s and 500,000,000 ns.
        let interval = [0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
        assert_eq!(asked.body, message(0, &[&[0x0a, 8][..], &interval].concat()));
        assert!(asked.ended);
    }
    assert_eq!(proxy.stat(&name("active_sessions")), Some(2));
    assert_eq!(proxy.stat(&name("report_errors")), Some(0));
    assert_eq!(proxy.stat(&name("stream_terminated")), Some(0));
    let connections: usize = all.iter().map(Upstream::connections).sum();
    let counted = proxy.stat("cluster.up.upstream_cx_total").expect("a counter");
    assert!(counted as usize + 2 <= connections, "streams have connections that do not count");
    all.iter().for_each(Upstream::assert_strict);
}

fn a_stream_that_ends_comes_again(subject: &Subject) {
    let ending = |upstream: &Asked| match upstream.connection {
        0 => stream(&report(1.0, 100.0)).trailers(&[("grpc-status", "14")]),
        _ => stream(&report(1.0, 100.0)),
    };
    let upstream = reporter(0, ending);
    let proxy = proxy(subject, "oob_reporting_period: 1s", &[&upstream]);
    wait_for_more(&proxy, "reports_received", 2);
    wait_for_more(&proxy, "stream_failures", 1);
    assert_eq!(proxy.stat(&name("active_sessions")), Some(1));
    assert_eq!(proxy.stat(&name("stream_terminated")), Some(0));
    let connections: Vec<usize> = asked(&upstream).iter().map(|asked| asked.connection).collect();
    assert_eq!(connections[..2], [0, 1], "a connection for each");
}

fn a_silent_stream_is_replaced(subject: &Subject) {
    let upstream = reporter(0, |_| Reply::hang());
    let proxy = proxy(subject, "oob_reporting_period: 0.1s", &[&upstream]);
    wait_for_more(&proxy, "stream_failures", 2);
    assert!(asked(&upstream).len() >= 2);
    assert_eq!(proxy.stat(&name("reports_received")), Some(0));
}

fn an_endpoint_without_reports_is_asked_no_more(subject: &Subject) {
    let trailers_only = |_: &Asked| {
        let fields = [("content-type", "application/grpc"), ("grpc-status", "12")];
        Reply::default().head(200, &fields, true)
    };
    let at_the_end = |_: &Asked| stream(b"").trailers(&[("grpc-status", "12")]);
    let not_found = |_: &Asked| Reply::with(404, &[], b"no");
    let all = [steady(0, 1.0), reporter(1, trailers_only), reporter(2, at_the_end), reporter(3, not_found)];
    let proxy = proxy(subject, "oob_reporting_period: 1s", &all.each_ref());
    wait_for_more(&proxy, "stream_terminated", 3);
    assert_eq!(proxy.stat(&name("stream_terminated")), Some(3));
    assert_eq!(proxy.stat(&name("active_sessions")), Some(1));
    wait_for_more(&proxy, "reports_received", 2);
    assert!(all[1..].iter().all(|one| asked(one).len() == 1), "each was asked once");
}

fn what_is_no_report_ends_the_stream(subject: &Subject) {
    let long = [&[0, 0, 1, 0, 1][..], &[0; 65_537]].concat();
    for bad in [message(1, &[0x09]), message(0, &[0x09]), long] {
        let upstream = reporter(0, move |asked| match asked.connection {
            0 => stream(&bad),
            _ => stream(&report(1.0, 100.0)),
        });
        let proxy = proxy(subject, "oob_reporting_period: 0.5s", &[&upstream]);
        wait_for_more(&proxy, "reports_received", 1);
        assert!(proxy.stat(&name("stream_failures")) >= Some(1));
    }
    // HTTP that is not gRPC, and a reset.
    for bad in [
        Reply::with(503, &[], b"no"),
        Reply::with(200, &[("content-type", "text/plain")], b"x"),
        Reply::reset(7),
    ] {
        let upstream = reporter(0, move |asked| match asked.connection {
            0 => bad.clone(),
            _ => stream(&report(1.0, 100.0)),
        });
        let proxy = proxy(subject, "oob_reporting_period: 0.5s", &[&upstream]);
        wait_for_more(&proxy, "reports_received", 1);
        assert!(proxy.stat(&name("stream_failures")) >= Some(1));
    }
}

fn reports_of_no_weight_are_errors(subject: &Subject) {
    let three = [report(0.0, 100.0), report(0.5, 0.0), message(0, b""), report(0.5, 100.0)].concat();
    let upstream = reporter(0, move |_| stream(&three));
    let proxy = proxy(subject, "oob_reporting_period: 0.9s", &[&upstream]);
    wait_for_more(&proxy, "reports_received", 3);
    let (reports, errors) = (proxy.stat(&name("reports_received")), proxy.stat(&name("report_errors")));
    assert_eq!(reports.map(|count| count / 3 * 2), errors);
}

fn port_and_authority_may_be_others(subject: &Subject) {
    let beside = steady(9, 1.0);
    let plain = Upstream::fixed("0");
    let fields = format!(
        "oob_reporting_period: 0.5s, oob_reporting_config: {{port_value: {}, authority: orca.test}}",
        beside.address().port()
    );
    let proxy = proxy(subject, &fields, &[&plain]);
    wait_for_more(&proxy, "reports_received", 1);
    assert_eq!(asked(&beside)[0].get(":authority"), "orca.test");
    assert_eq!(plain.connections(), 0);
}

fn criteria_choose_a_socket_for_streams_alone(subject: &Subject) {
    let (plain, beside) = (Upstream::fixed("0"), steady(9, 1.0));
    let identity = authority::shared().issue(&Leaf::dns("orca.test"));
    let server = Server::start(Options::new(&identity, beside.address()).alpn(&["h2"]));
    let context = Context::new().trusts(&authority::shared()).field("sni: orca.test");
    let kind = format!(
        "{WEIGHTS}, enable_oob_load_report: true, oob_reporting_period: 0.5s, oob_reporting_config: {{port_value: {}, \
         transport_socket_match_criteria: {{streams: secure}}}}",
        server.address().port()
    );
    let fields = format!(
        "load_balancing_policy: {}\n{}transport_socket_matches:\n- {{name: secure, match: {{streams: secure}}, transport_socket: {}}}\n",
        policy(&kind),
        http2_cluster(""),
        context.socket("UpstreamTlsContext")
    );
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[plain.address()], &fields);
    let proxy = Proxy::start(subject, &bootstrap);
    wait_for_more(&proxy, "reports_received", 1);
    let seen = server.wait_seen(0);
    assert_eq!((seen.name.as_deref(), seen.offered), (Some("orca.test"), vec!["h2".to_owned()]));
    assert_eq!(asked(&beside)[0].get(":scheme"), "https");
    assert_eq!(proxy.client().get("/").text(), "0", "traffic goes in the clear");
}

fn endpoints_that_leave_are_asked_no_more(subject: &Subject) {
    let (stays, leaves) = (steady(0, 1.0), steady(1, 0.2));
    let directory = Directory::new();
    discover(directory.path(), 1, &[stays.address(), leaves.address()]);
    let source = format!(
        "{{resource_api_version: V3, path_config_source: {{path: \"{}\"}}}}",
        directory.path().join("eds.json").display()
    );
    let kind = format!("{WEIGHTS}, enable_oob_load_report: true, oob_reporting_period: 0.5s");
    let yaml = format!(
        "type: EDS\neds_cluster_config: {{eds_config: {source}}}\nload_balancing_policy: {}\n{}",
        policy(&kind),
        http2_cluster("")
    );
    let bootstrap = Bootstrap::new().top("node: {id: tested, cluster: tests}").http(Http::to("up"));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[], &yaml));
    wait_for_more(&proxy, "reports_received", 2);
    discover(directory.path(), 2, &[stays.address()]);
    proxy.wait_stat(&name("active_sessions"), 1);
    wait::for_true("its connections end", || leaves.active() == 0);
    discover(directory.path(), 3, &[stays.address(), leaves.address()]);
    proxy.wait_stat(&name("active_sessions"), 2);
    wait::for_true("a new stream", || leaves.active() == 1);
}

fn responses_report_as_well(subject: &Subject) {
    let both = |position: usize, load: &'static str| {
        Upstream::start(move |asked| match asks_for_load(asked) {
            true => Reply::hang(),
            false => Reply::with(200, &[(NAME, load)], position.to_string().as_bytes()),
        })
    };
    let all = [
        both(0, "TEXT cpu_utilization=1,rps_fractional=100"),
        both(1, "TEXT cpu_utilization=0.2,rps_fractional=100"),
    ];
    let proxy = proxy(subject, "oob_reporting_period: 1s", &all.each_ref());
    expect_shares(&proxy, &[1, 5], "responses");
}
