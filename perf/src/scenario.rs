//! What is measured: one scenario for each file in `perf/scenarios/`, named after the file.
//!
//! At most one of `connections`, `body`, `clusters` and `filters` may be a list: the scenario then has a point for
//! each of its values.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::credentials::KeyType;

/// The shape of the load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// `wrk` (HTTP/1.1) or `h2load` (HTTP/2) against the HTTP origin, closed loop: as fast as the proxy can.
    Http,
    /// Own client, open loop: a fixed rate of requests that nobody's slowness delays.
    Latency,
    /// Own client, closed loop: one message out, the same message back.
    TcpEcho,
    /// Own client reads what the origin sends without end.
    TcpStream,
    /// Connections that have served one request and stay.
    Idle,
    /// HTTP/2 streams that wait for their answers, all at once.
    Streams,
    /// Own client, closed loop: TLS handshakes, and no request.
    Handshakes,
    /// Active health checks, and nobody who asks for anything.
    Checks,
    /// From exec to the first response, with many clusters in the configuration.
    Start,
    /// Size of the executable.
    Size,
}

/// Which of the clusters get requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Traffic {
    /// Ten of them.
    #[default]
    Few,
    All,
}

/// What one side of the proxy speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Protocol {
    #[default]
    Http1,
    /// Without TLS, by prior knowledge.
    Http2,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    One(usize),
    Many(Vec<usize>),
}

impl Values {
    fn all(&self) -> Vec<usize> {
        match self {
            Self::One(value) => vec![*value],
            Self::Many(values) => values.clone(),
        }
    }
}

/// A peer that does not take part, and why; with bounds, only at the points from them on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    peer: String,
    reason: String,
    #[serde(default)]
    connections_from: usize,
    #[serde(default)]
    clusters_from: usize,
}

/// A scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    title: String,
    group: String,
    kind: Option<Kind>,
    connections: Values,
    body: Values,
    clusters: Values,
    filters: Values,
    endpoints: usize,
    checked: usize,
    traffic: Traffic,
    downstream: Protocol,
    upstream: Protocol,
    streams: usize,
    request_body: usize,
    grpc: bool,
    request_headers: usize,
    response_headers: usize,
    access_log: bool,
    mesh: bool,
    close: bool,
    tls: Option<KeyType>,
    upstream_tls: bool,
    resumed: bool,
    rounds: Option<usize>,
    seconds: Option<f64>,
    quick: bool,
    peers: Vec<String>,
    also: Vec<String>,
    skip: Vec<Skip>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            title: String::new(),
            group: String::new(),
            kind: None,
            connections: Values::One(64),
            body: Values::One(128),
            clusters: Values::One(1),
            filters: Values::One(0),
            endpoints: 1,
            checked: 0,
            traffic: Traffic::Few,
            downstream: Protocol::Http1,
            upstream: Protocol::Http1,
            streams: 1,
            request_body: 0,
            grpc: false,
            request_headers: 0,
            response_headers: 0,
            access_log: false,
            mesh: false,
            close: false,
            tls: None,
            upstream_tls: false,
            resumed: false,
            rounds: None,
            seconds: None,
            quick: false,
            peers: Vec::new(),
            also: Vec::new(),
            skip: Vec::new(),
        }
    }
}

/// One scenario, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) title: String,
    /// Section of the report.
    pub(crate) group: String,
    pub(crate) kind: Kind,
    /// Part of `perf quick`.
    pub(crate) quick: bool,
    /// What the scenario asks for itself; a command line wins over it.
    pub(crate) rounds: Option<usize>,
    pub(crate) seconds: Option<f64>,
    /// What is varied; empty for one point.
    pub(crate) axis: String,
    pub(crate) loads: Vec<Load>,
    /// Only these peers; empty: every one that is not on request, and those of `also`.
    peers: Vec<String>,
    also: Vec<String>,
    skip: Vec<Skip>,
}

/// The load of one point.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Value on the scenario's axis, 0 without one.
    pub(crate) at: usize,
    pub(crate) kind: Kind,
    /// Downstream connections.
    pub(crate) connections: usize,
    /// Octets of a response body or message.
    pub(crate) body: usize,
    /// Clusters in the configuration, each with a virtual host of its own, and how many are asked for.
    pub(crate) clusters: usize,
    pub(crate) asked: usize,
    /// HTTP filters in front of the router, each of which looks at every request: none or ten.
    pub(crate) filters: usize,
    /// Addresses in each cluster, at most 3.
    pub(crate) endpoints: usize,
    /// So many addresses instead, each of them checked every second.
    pub(crate) checked: usize,
    /// The client, and the origin, speak HTTP/2.
    pub(crate) http2: bool,
    pub(crate) upstream_http2: bool,
    /// Requests at once on each downstream connection.
    pub(crate) streams: usize,
    /// Octets of a request's body; with some it is a POST.
    pub(crate) request_body: usize,
    /// Requests and answers have the shape of unary gRPC calls.
    pub(crate) grpc: bool,
    /// Further fields in every request, and in every response.
    pub(crate) request_headers: usize,
    pub(crate) response_headers: usize,
    /// The proxy writes an access log.
    pub(crate) access_log: bool,
    /// As a mesh configures a route: least_request, retries, outlier detection, circuit breakers.
    pub(crate) mesh: bool,
    /// Every request on a connection of its own.
    pub(crate) close: bool,
    /// Client and proxy speak TLS and prove themselves with certificates of this type.
    pub(crate) tls: Option<KeyType>,
    /// So do proxy and origin.
    pub(crate) upstream_tls: bool,
    /// Handshakes resume sessions.
    pub(crate) resumed: bool,
}

impl Load {
    /// True when the proxy works on HTTP.
    pub(crate) fn is_http(&self) -> bool {
        !matches!(self.kind, Kind::TcpEcho | Kind::TcpStream)
    }

    /// The protocol that a client offers over TLS.
    pub(crate) fn alpn(&self) -> &'static str {
        if self.http2 { "h2" } else { "http/1.1" }
    }

    /// True when the proxy speaks something else to the origin than to the client.
    pub(crate) fn translates(&self) -> bool {
        self.http2 != self.upstream_http2
    }
}

impl Scenario {
    fn new(name: String, file: File) -> Result<Self, String> {
        let kind = file.kind.ok_or("`kind` is missing")?;
        check(kind, &file)?;
        let loads = loads(kind, &file)?;
        let axis =
            axes(&file).iter().find(|(_, values)| matches!(values, Values::Many(_))).map_or("", |a| a.0);
        if file.title.is_empty() || file.group.is_empty() {
            return Err("`title` and `group` are needed".into());
        }
        Ok(Self {
            name,
            title: file.title,
            group: file.group,
            kind,
            quick: file.quick,
            rounds: file.rounds,
            seconds: file.seconds,
            axis: axis.to_owned(),
            loads,
            peers: file.peers,
            also: file.also,
            skip: file.skip,
        })
    }

    /// Whether a peer belongs to it; `on_request` peers only where they are named.
    pub(crate) fn wants(&self, peer: &str, on_request: bool) -> bool {
        let names = |list: &[String]| list.iter().any(|name| name == peer);
        if self.peers.is_empty() { !on_request || names(&self.also) } else { names(&self.peers) }
    }

    /// Why a peer has no part in a point, if it has none.
    pub(crate) fn skips(&self, peer: &str, load: &Load) -> Option<&str> {
        let applies = |s: &&Skip| {
            s.peer == peer && load.connections >= s.connections_from && load.clusters >= s.clusters_from
        };
        self.skip.iter().find(applies).map(|s| s.reason.as_str())
    }

    /// How a point is named: "10000 connections".
    pub(crate) fn point_name(&self, load: &Load) -> String {
        if self.axis.is_empty() { String::new() } else { format!("{} {}", load.at, self.axis) }
    }
}

/// What can be varied.
fn axes(file: &File) -> [(&'static str, &Values); 4] {
    [
        ("connections", &file.connections),
        ("body", &file.body),
        ("clusters", &file.clusters),
        ("filters", &file.filters),
    ]
}

/// What only some load generators and origins can do.
fn check(kind: Kind, file: &File) -> Result<(), String> {
    let http2 = file.downstream == Protocol::Http2;
    let one_cluster = file.clusters.all().iter().all(|clusters| *clusters == 1);
    let shaped = file.grpc || file.request_body > 0 || file.request_headers > 0;
    let wrong = [
        (file.streams == 0, "`streams` must not be 0"),
        (!http2 && (file.streams > 1 || file.request_body > 0), "`streams` and `request_body` need HTTP/2"),
        (!http2 && kind == Kind::Streams, "kind `streams` needs HTTP/2"),
        (http2 && !matches!(kind, Kind::Http | Kind::Streams), "HTTP/2 has kinds `http` and `streams`"),
        (http2 && (file.close || !one_cluster), "HTTP/2 has one cluster, and connections that stay"),
        (file.grpc && !(http2 && file.upstream == Protocol::Http2), "`grpc` needs HTTP/2 on both sides"),
        (kind == Kind::Streams && file.upstream != Protocol::Http2, "kind `streams` needs an HTTP/2 origin"),
        (kind == Kind::Handshakes && file.tls.is_none(), "kind `handshakes` needs `tls`"),
        (file.resumed && kind != Kind::Handshakes, "`resumed` is for kind `handshakes`"),
        (file.upstream_tls && file.tls.is_none(), "`upstream_tls` needs `tls`"),
        (
            file.tls.is_some() && !matches!(kind, Kind::Http | Kind::Idle | Kind::Handshakes),
            "`tls` has kinds `http`, `idle` and `handshakes`",
        ),
        (
            file.tls.is_some() && (shaped || file.close || !one_cluster),
            "`tls` has plain requests, one cluster, and connections that stay",
        ),
        (!http2 && file.upstream == Protocol::Http2 && kind != Kind::Http, "only kind `http` translates"),
        ((kind == Kind::Checks) != (file.checked > 0), "`checked` is for kind `checks`, which needs it"),
        (file.filters.all().iter().any(|n| ![0, 10].contains(n)), "`filters` is 0 or 10"),
    ];
    wrong.iter().find(|(is, _)| *is).map_or(Ok(()), |(_, reason)| Err((*reason).to_owned()))
}

fn loads(kind: Kind, file: &File) -> Result<Vec<Load>, String> {
    let axes = axes(file).map(|(_, values)| values);
    let mut lists = axes.iter().enumerate().filter(|(_, values)| matches!(values, Values::Many(_)));
    let varied = lists.next().map(|(axis, _)| axis);
    if lists.next().is_some() {
        return Err("only one of connections, body, clusters and filters can be a list".into());
    }
    let points = varied.map_or(1, |axis| axes[axis].all().len());
    if points == 0 {
        return Err("a list of points is empty".into());
    }
    let point = |n| {
        let [connections, body, clusters, filters] =
            axes.map(|values| *values.all().get(n).unwrap_or(&values.all()[0]));
        let asked = if file.traffic == Traffic::All { clusters } else { clusters.min(10) };
        Load {
            at: varied.map_or(0, |axis| [connections, body, clusters, filters][axis]),
            kind,
            connections,
            body,
            clusters,
            asked,
            filters,
            endpoints: file.endpoints.clamp(1, 3),
            checked: file.checked,
            http2: file.downstream == Protocol::Http2,
            upstream_http2: file.upstream == Protocol::Http2,
            streams: file.streams,
            request_body: file.request_body,
            grpc: file.grpc,
            request_headers: file.request_headers,
            response_headers: file.response_headers,
            access_log: file.access_log,
            mesh: file.mesh,
            close: file.close,
            tls: file.tls,
            upstream_tls: file.upstream_tls,
            resumed: file.resumed,
        }
    };
    Ok((0..points).map(point).collect())
}

fn parse(name: &str, text: &str) -> Result<Scenario, String> {
    let file: File = toml::from_str(text).map_err(|e| format!("scenario {name}: {e}"))?;
    Scenario::new(name.to_owned(), file).map_err(|e| format!("scenario {name}: {e}"))
}

/// Every scenario, by name.
pub(crate) fn load_all(folder: &Path) -> Result<Vec<Scenario>, String> {
    let files = crate::files(&folder.join("scenarios"), "toml")?;
    files.iter().map(|(name, text)| parse(name, text)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const HEAD: &str = "title = 't'\ngroup = 'g'\n";

    /// The only point of a scenario of kind `http` with these lines.
    pub(crate) fn load(lines: &str) -> Load {
        parse("s", &format!("{HEAD}kind = 'http'\n{lines}")).unwrap().loads.remove(0)
    }

    #[test]
    fn a_list_makes_points() {
        let text = format!("{HEAD}kind = 'http'\nclusters = [10, 1000]\ntraffic = 'few'\n");
        let scenario = parse("s", &text).unwrap();
        assert_eq!(scenario.axis, "clusters");
        let points: Vec<_> = scenario.loads.iter().map(|l| (l.at, l.clusters, l.asked)).collect();
        assert_eq!(points, [(10, 10, 10), (1000, 1000, 10)]);
        assert_eq!(scenario.point_name(&scenario.loads[1]), "1000 clusters");
    }

    #[test]
    fn a_bound_skips_the_points_from_there_on() {
        let text = format!(
            "{HEAD}kind = 'http'\nconnections = [1, 100]\n\
             skip = [{{ peer = 'a', reason = 'r', connections_from = 50 }}, {{ peer = 'b', reason = 'q' }}]\n"
        );
        let scenario = parse("s", &text).unwrap();
        let [one, hundred] = &scenario.loads[..] else { unreachable!("two points") };
        assert_eq!(scenario.skips("a", one), None);
        assert_eq!(scenario.skips("a", hundred), Some("r"));
        assert_eq!(scenario.skips("b", one), Some("q"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_file_named() {
        for (text, word) in [
            ("kind = 'http'\n".to_owned(), "title"),
            (format!("{HEAD}kind = 'udp'\n"), "udp"),
            (format!("{HEAD}kind = 'http'\nconnections = [1]\nbody = [2]\n"), "only one"),
            (format!("{HEAD}kind = 'http'\nconnections = []\n"), "empty"),
            (format!("{HEAD}kind = 'http'\nconection = 1\n"), "conection"),
            (HEAD.to_owned(), "kind"),
            (format!("{HEAD}kind = 'http'\nstreams = 8\n"), "need HTTP/2"),
            (format!("{HEAD}kind = 'latency'\ndownstream = 'http2'\n"), "kinds"),
            (format!("{HEAD}kind = 'streams'\ndownstream = 'http2'\n"), "origin"),
            (format!("{HEAD}kind = 'http'\ngrpc = true\n"), "both sides"),
            (format!("{HEAD}kind = 'handshakes'\n"), "needs `tls`"),
            (format!("{HEAD}kind = 'http'\nupstream_tls = true\n"), "needs `tls`"),
            (format!("{HEAD}kind = 'http'\ntls = 'rsa'\nresumed = true\n"), "handshakes"),
            (format!("{HEAD}kind = 'http'\ntls = 'rsa'\nclose = true\n"), "connections that stay"),
            (format!("{HEAD}kind = 'http'\ntls = 'dsa'\n"), "dsa"),
            (format!("{HEAD}kind = 'http'\nchecked = 5\n"), "checks"),
            (format!("{HEAD}kind = 'http'\nfilters = 3\n"), "0 or 10"),
        ] {
            let said = parse("bad", &text).unwrap_err();
            assert!(said.contains("scenario bad") && said.contains(word), "{said}");
        }
    }

    #[test]
    fn every_scenario_of_the_repository_is_sound() {
        let all = load_all(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(all.len() >= 10, "{} scenarios", all.len());
        assert!(all.iter().any(|s| s.quick));
    }
}
