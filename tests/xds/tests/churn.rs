//! Traffic through changes; `examples/churn.rs` is the long form.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::subject::Subject;
use millrace_support::xds::yaml::Flavor;
use millrace_xds_tests::churn::{Plan, run};

pub(crate) const CASES: &[Case] = &[case!(sotw), case!(delta), case!(separate_streams)];

fn short(subject: &Subject, flavor: Flavor, workers: &str) {
    let plan = Plan {
        updates: 150,
        time: Duration::from_secs(5),
        rate: 300,
        connections: 6,
        max_body: 20_000,
        flavor,
    };
    let report = run(subject, &plan, &["--concurrency", workers]);
    report.assert_undisturbed();
    assert!(report.books.answered() > 300, "{} requests", report.books.answered());
}

fn sotw(subject: &Subject) {
    short(subject, Flavor::AdsSotw, "1");
}

fn delta(subject: &Subject) {
    short(subject, Flavor::AdsDelta, "2");
}

fn separate_streams(subject: &Subject) {
    short(subject, Flavor::Sotw, "2");
}
