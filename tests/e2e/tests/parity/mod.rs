//! The same configuration and traffic on Envoy and on millrace, compared figure by figure.
//!
//! Each [`Feature`] is run on one subject and yields a sheet: statuses, response flags, details, requests of each
//! endpoint, and every counter and gauge of the cluster and of the connection manager that is not 0. What Envoy and
//! millrace said stands in `tests/e2e/parity.tsv` (`MILLRACE_RECORD=1` writes it); a run fails when a subject says
//! something else than its column, or millrace's column differs from Envoy's without a reason.
//! docs/configuration.md prints the table.

mod balancing;
mod failures;
mod forward_proxy;
mod record;
mod run;
mod shaping;

use millrace_e2e::Row;
use millrace_support::subject::Subject;

/// One feature with its traffic.
#[derive(Clone, Copy)]
pub(crate) struct Feature {
    /// Rows of one area stand together in the table.
    pub area: &'static str,
    /// Unique; as a user would call it.
    pub name: &'static str,
    /// One endpoint each, in the order of the load assignment.
    pub endpoints: &'static [Endpoint],
    /// More fields of the cluster `up`.
    pub cluster: &'static str,
    /// More fields of the load assignment, as flow YAML with a comma before each.
    pub assignment: &'static str,
    /// More fields of each locality, as flow YAML with a comma after each.
    pub localities: &'static [&'static str],
    /// More fields of the route's action, as flow YAML with a comma before each.
    pub route: &'static str,
    /// More fields of the route, one a line.
    pub around: &'static str,
    /// HTTP filters in front of the router: type and fields.
    pub filters: &'static [(&'static str, &'static str)],
    /// More fields of the connection manager.
    pub manager: &'static str,
    /// More clusters, whole, as a YAML list.
    pub clusters: &'static str,
    /// Top-level fields of the bootstrap.
    pub top: &'static str,
    /// What is asked.
    pub traffic: Traffic,
    /// Statistics whose name begins so are compared, too.
    pub prefixes: &'static [&'static str],
    /// Figures that depend on chance may differ by this share of the requests.
    pub chance: f64,
    /// Which those are, besides the requests of each endpoint: names, or their beginnings before a `*`.
    pub by_chance: &'static [&'static str],
    /// Figures that differ, and why.
    pub differs: &'static [(&'static str, &'static str)],
}

/// Requests, one after the other on one connection.
#[derive(Clone, Copy)]
pub(crate) struct Traffic {
    /// How many.
    pub requests: u32,
    /// All at the same time, each on a connection of its own.
    pub burst: bool,
    /// Header fields of request `n`: `@N@` in a value stands for `n`, `@PORT@` for the port of the first endpoint.
    pub fields: &'static [(&'static str, &'static str)],
    /// The body; a GET without one.
    pub body: &'static str,
}

/// An endpoint of the cluster.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    /// What it does.
    pub does: Does,
    /// More fields of its `LbEndpoint`, as flow YAML with a comma before each.
    pub fields: &'static str,
    /// Index of its locality.
    pub locality: usize,
}

/// What an endpoint does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    /// Answers with this status and no body.
    Answer(u16),
    /// Answers with this status, these fields and this body.
    Say(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Answers so many requests with a status, all later ones with 200.
    Recover(usize, u16),
    /// Answers after so many milliseconds.
    Late(u64),
    /// Never answers.
    Hang,
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
    /// Answers without a length and closes.
    UntilClose,
    /// Announces more than it sends.
    CutShort,
    /// Writes this and closes the connection.
    Write(&'static str),
    /// Answers 200 with so many bytes in one field.
    Head(usize),
    /// Lets a connect wait for ever.
    Swallow,
    /// Does not listen.
    Refuse,
}

pub(crate) const OK: Endpoint = Endpoint { does: Does::Answer(200), fields: "", locality: 0 };

pub(crate) const ONE: Traffic = Traffic { requests: 1, burst: false, fields: &[], body: "" };

pub(crate) const fn requests(requests: u32) -> Traffic {
    Traffic { requests, ..ONE }
}

pub(crate) const fn burst(requests: u32) -> Traffic {
    Traffic { requests, burst: true, ..ONE }
}

pub(crate) const fn does(does: Does) -> Endpoint {
    Endpoint { does, ..OK }
}

/// Three good endpoints, one request, nothing configured.
pub(crate) const PLAIN: Feature = Feature {
    area: "",
    name: "",
    endpoints: &[OK, OK, OK],
    cluster: "",
    assignment: "",
    localities: &[""],
    route: "",
    around: "",
    filters: &[],
    manager: "",
    clusters: "",
    top: "",
    traffic: ONE,
    prefixes: &[],
    chance: 0.0,
    by_chance: &[],
    differs: &[],
};

/// Every feature, in the order of the table.
pub(crate) fn features() -> impl Iterator<Item = &'static Feature> {
    balancing::FEATURES
        .iter()
        .chain(failures::FEATURES)
        .chain(shaping::FEATURES)
        .chain(forward_proxy::FEATURES)
}

/// One test for each feature.
pub(crate) fn rows() -> Vec<Row> {
    let named = |(index, feature): (usize, &Feature)| {
        (format!("parity::{}: {}", feature.area, feature.name), check as _, index)
    };
    features().enumerate().map(named).collect()
}

/// Runs a feature and compares its sheet with what is recorded.
fn check(subject: &Subject, index: usize) {
    if let Some(feature) = features().nth(index) {
        record::check(subject, feature, &run::sheet(subject, feature));
    }
}
