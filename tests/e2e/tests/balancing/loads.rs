//! Endpoints weigh by the load that they report (ORCA).

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;

use super::{Host, cluster, counts, locality, policy, routed};

pub(crate) const CASES: &[Case] =
    &[case!(reports_in_every_form), case!(reports_in_trailers), case!(weighed_within_localities)];

pub(super) const NAME: &str = "endpoint-load-metrics";
pub(super) const WEIGHTS: &str = "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin, blackout_period: 0.1s, \
                       weight_update_period: 0.1s, error_utilization_penalty: 1.0, \
                       metric_names_for_computing_utilization: [named_metrics.x, \"utilization.*\"]";

/// An upstream that answers with its position and reports in a header field.
fn reporter(position: usize, name: &str, report: &str) -> Host {
    let (name, report, body) = (name.to_owned(), report.to_owned(), position.to_string());
    let upstream = Upstream::start(move |_| Reply::with(200, &[(name.as_str(), &report)], body.as_bytes()));
    Host { upstream, fields: String::new() }
}

/// Asks until the shares of 60 requests are about these, as weights that were reported take time to count.
pub(super) fn expect_shares(proxy: &Proxy, shares: &[usize], what: &str) {
    let mut client = proxy.client();
    let total: usize = shares.iter().sum();
    let mut last = Vec::new();
    let met = wait::until(Duration::from_secs(20), || {
        last = counts(&mut client, 60, shares.len(), &[]);
        let near = |(got, share): (&usize, &usize)| got.abs_diff(60 * share / total) <= 3;
        last.iter().zip(shares).all(near).then_some(())
    });
    assert!(met.is_some(), "{what}: {last:?} instead of {shares:?}");
}

fn balanced(subject: &Subject, kind: &str, localities: &[String]) -> Proxy {
    routed(subject, "", &cluster(&format!("load_balancing_policy: {}", policy(kind)), localities))
}

fn reports_in_every_form(subject: &Subject) {
    // Beside one that does a hundred requests a second at full load, and so weighs 100.
    let base = "TEXT cpu_utilization=1,rps_fractional=100";
    let forms: &[(&str, &str, usize)] = &[
        (NAME, "TEXT cpu_utilization=0.2,rps_fractional=100", 5),
        (NAME, "TEXT cpu_utilization:0.2, rps_fractional:100", 5),
        (NAME, "JSON {\"cpuUtilization\": 0.2, \"rps_fractional\": 100}", 5),
        // cpu 0.5, rps_fractional 100.
        (NAME, "BIN CQAAAAAAAOA/MQAAAAAAAFlA", 2),
        ("endpoint-load-metrics-bin", "CQAAAAAAAOA/MQAAAAAAAFlA", 2),
        (NAME, "TEXT named_metrics.x=0.2,application_utilization=0.5,rps_fractional=100", 5),
        (NAME, "TEXT application_utilization=0.5,cpu_utilization=0.1,rps_fractional=100", 2),
        (NAME, "TEXT cpu_utilization=0.1,rps_fractional=100,eps=10", 5),
        // Nothing that counts: the median of the others.
        (NAME, "TEXT cpu_utilization=0.1,rps_fractional=100,other=1", 1),
        (NAME, "TEXT cpu_utilization=0.1", 1),
    ];
    for (name, report, share) in forms {
        let all = [reporter(0, NAME, base), reporter(1, name, report)];
        let proxy = balanced(subject, WEIGHTS, &[locality("", &all)]);
        expect_shares(&proxy, &[1, *share], report);
        let response = proxy.client().get("/");
        assert!(
            response.get(NAME).or(response.get("endpoint-load-metrics-bin")).is_some(),
            "it is passed on"
        );
    }
}

fn reports_in_trailers(subject: &Subject) {
    let trailing = |position: &'static str, report: &'static str| {
        let script = move |_: &_| Reply::chunked(&[], &[position.as_bytes()], &[(NAME, report)]);
        Host { upstream: Upstream::start(script), fields: String::new() }
    };
    let all = [
        trailing("0", "TEXT cpu_utilization=1,rps_fractional=100"),
        trailing("1", "TEXT cpu_utilization=0.2,rps_fractional=100"),
    ];
    let fields = format!(
        "load_balancing_policy: {}\nhttp_protocol_options: {{enable_trailers: true}}",
        policy(WEIGHTS)
    );
    let proxy = routed(subject, "", &cluster(&fields, &[locality("", &all)]));
    expect_shares(&proxy, &[1, 5], "trailers");
}

fn weighed_within_localities(subject: &Subject) {
    let report = |cpu: &str| format!("TEXT cpu_utilization={cpu},rps_fractional=100");
    let all: Vec<Host> =
        ["1", "0.5", "0.1"].iter().enumerate().map(|(n, cpu)| reporter(n, NAME, &report(cpu))).collect();
    let kind = format!("wrr_locality.v3.WrrLocality, endpoint_picking_policy: {}", policy(WEIGHTS));
    let groups = [
        locality("locality: {zone: a}, load_balancing_weight: 1,", &all[..2]),
        locality("locality: {zone: b}, load_balancing_weight: 3,", &all[2..]),
    ];
    let proxy = balanced(subject, &kind, &groups);
    expect_shares(&proxy, &[1, 2, 9], "localities");
}
