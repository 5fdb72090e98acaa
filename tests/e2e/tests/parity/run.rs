//! One feature on one subject: start, ask, read what there is to read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Blackhole, Refused};
use millrace_support::upstream::{Reply, Step, Then, Upstream};
use millrace_support::wait;

use super::{Does, Endpoint, Feature};

/// Figures by name.
pub(super) type Sheet = BTreeMap<String, String>;

/// Statistics that depend on lengths of names, on the clock, or on how often somebody looks.
const NOT_COMPARED: &[&str] = &["bytes", "_length", "version", "_ms", "assignment_", "update_"];

enum Running {
    Serving(Upstream),
    Refusing(Refused),
    Swallowing(Blackhole),
}

impl Running {
    fn start(does: Does) -> Self {
        let upstream = match does {
            Does::Answer(status) => Upstream::start(move |_| Reply::status(status)),
            Does::Say(status, fields, body) => {
                Upstream::start(move |_| Reply::with(status, fields, body.as_bytes()))
            }
            Does::Recover(failures, status) => {
                let seen = AtomicUsize::new(0);
                Upstream::start(move |_| {
                    let failing = seen.fetch_add(1, Ordering::SeqCst) < failures;
                    Reply::status(if failing { status } else { 200 })
                })
            }
            Does::Late(millis) => {
                Upstream::start(move |_| Reply::status(200).after(Duration::from_millis(millis)))
            }
            Does::Hang => Upstream::start(|_| Reply::hang()),
            Does::Reset => Upstream::start(|_| Reply::reset()),
            Does::Close => Upstream::start(|_| Reply::close()),
            Does::UntilClose => {
                Upstream::start(|_| Reply::raw("HTTP/1.1 200 OK\r\n\r\nall").then(Then::Close))
            }
            Does::CutShort => Upstream::start(|_| {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
                Reply::raw(head).step(Step::Sleep(Duration::from_millis(100))).then(Then::Close)
            }),
            Does::Write(text) => Upstream::start(move |_| {
                // Apart from the end, so that both are seen.
                Reply::raw(text).step(Step::Sleep(Duration::from_millis(100))).then(Then::Close)
            }),
            Does::Head(bytes) => {
                let long = "a".repeat(bytes);
                Upstream::start(move |_| Reply::with(200, &[("x-long", &long)], b""))
            }
            Does::Refuse => return Self::Refusing(Refused::new()),
            Does::Swallow => return Self::Swallowing(Blackhole::new()),
        };
        Self::Serving(upstream)
    }

    fn port(&self) -> u16 {
        match self {
            Self::Serving(upstream) => upstream.address().port(),
            Self::Refusing(refused) => refused.address().port(),
            Self::Swallowing(hole) => hole.address().port(),
        }
    }

    fn requests(&self) -> usize {
        match self {
            Self::Serving(upstream) => upstream.requests().len(),
            Self::Refusing(_) | Self::Swallowing(_) => 0,
        }
    }
}

pub(super) fn sheet(subject: &Subject, feature: &Feature) -> Sheet {
    let endpoints: Vec<Running> = feature.endpoints.iter().map(|e| Running::start(e.does)).collect();
    let proxy = Proxy::start(subject, &bootstrap(feature, &endpoints));
    let port = endpoints.first().map_or(0, Running::port).to_string();
    let (statuses, clients) = ask(&proxy, feature, &port);
    let wanted = feature.traffic.requests as usize;
    wait::for_true("a line for each request", || proxy.log().lines().len() >= wanted);
    wait::for_true("the requests to end", || {
        ["cluster.up.upstream_rq_active", "http.main.downstream_rq_active"]
            .iter()
            .all(|name| proxy.stat(name).unwrap_or(0) == 0)
    });
    proxy.wait_stat("http.main.downstream_cx_active", clients.len() as u64);
    let mut sheet = Sheet::new();
    sheet.insert("statuses".into(), tally(statuses));
    let log = proxy.log().lines();
    sheet.insert("response flags".into(), tally(log.iter().map(|line| line.get("flags").to_owned())));
    sheet.insert("details".into(), tally(log.iter().map(|line| line.get("details").to_owned())));
    for (n, endpoint) in endpoints.iter().enumerate() {
        sheet.insert(format!("requests of endpoint {n}"), endpoint.requests().to_string());
    }
    sheet.extend(statistics(&proxy, feature));
    sheet
}

/// `200 x7, 503 x3`.
fn tally(values: impl IntoIterator<Item = String>) -> String {
    let mut counts = BTreeMap::<String, u32>::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let parts: Vec<String> = counts.into_iter().map(|(value, count)| format!("{value} x{count}")).collect();
    parts.join(", ")
}

fn statistics(proxy: &Proxy, feature: &Feature) -> Sheet {
    let text = proxy.admin_get("/stats").text();
    let compared = |name: &str| {
        let prefixes = ["cluster.up.", "http.main."];
        let known = prefixes.iter().chain(feature.prefixes).any(|prefix| name.starts_with(prefix));
        known && !NOT_COMPARED.iter().any(|part| name.contains(part))
    };
    let figure = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        let value: u64 = value.parse().ok()?;
        (value > 0 && compared(name)).then(|| (name.to_owned(), value.to_string()))
    };
    text.lines().filter_map(figure).collect()
}

/// Statuses, and the connections that stay open: whether the proxy has seen the end of one would depend on the moment.
fn ask(proxy: &Proxy, feature: &Feature, port: &str) -> (Vec<String>, Vec<Client>) {
    let traffic = feature.traffic;
    let target = proxy.listener("main");
    let method = if traffic.body.is_empty() { "GET" } else { "POST" };
    let send = |client: &mut Client, n: u32| {
        let own: Vec<(&str, String)> = traffic
            .fields
            .iter()
            .map(|(name, value)| (*name, value.replace("@N@", &n.to_string()).replace("@PORT@", port)))
            .collect();
        let mut fields = vec![("host", "a")];
        fields.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
        client.request(method, "/", &fields, traffic.body.as_bytes());
    };
    let status = |client: &mut Client| match client.response(method) {
        Ok(response) => (response.status.to_string(), response.closes()),
        Err(_) => ("cut short".to_owned(), true),
    };
    if traffic.burst {
        let mut clients: Vec<Client> = (0..traffic.requests).map(|_| Client::connect(target)).collect();
        for (n, client) in (0..).zip(&mut clients) {
            send(client, n);
        }
        let (seen, closed): (Vec<_>, Vec<_>) = clients.iter_mut().map(status).unzip();
        let open = clients.into_iter().zip(closed).filter(|(_, closed)| !closed);
        return (seen, open.map(|(client, _)| client).collect());
    }
    let (mut open, mut seen) = (None, Vec::new());
    for n in 0..traffic.requests {
        let mut client = open.take().unwrap_or_else(|| Client::connect(target));
        send(&mut client, n);
        let (status, closes) = status(&mut client);
        seen.push(status);
        open = (!closes).then_some(client);
    }
    (seen, open.into_iter().collect())
}

fn bootstrap(feature: &Feature, endpoints: &[Running]) -> Bootstrap {
    let routes = format!(
        "- match: {{prefix: \"/\"}}\n  route: {{cluster: up{}}}\n{}",
        feature.route,
        feature.around.lines().map(|line| format!("  {line}\n")).collect::<String>()
    );
    let kind = "type.googleapis.com/envoy.extensions.filters.http";
    let mut filters = String::from("http_filters:\n");
    for (name, fields) in feature.filters.iter().chain(&[("router.v3.Router", "")]) {
        let (short, _) = name.split_once('.').unwrap_or((name, ""));
        let comma = if fields.is_empty() { "" } else { ", " };
        filters.push_str(&format!(
            "- name: {short}\n  typed_config: {{\"@type\": {kind}.{name}{comma}{fields}}}\n"
        ));
    }
    let http = Http::routes(&routes).hcm(&format!("{filters}{}", feature.manager));
    let cluster = format!("{}\n{}", feature.cluster, assignment(feature, endpoints));
    let mut bootstrap = Bootstrap::new().http(http).cluster("up", &[], &cluster);
    if !feature.clusters.is_empty() {
        bootstrap = bootstrap.cluster("other", &[], feature.clusters);
    }
    if feature.top.is_empty() { bootstrap } else { bootstrap.top(feature.top) }
}

fn assignment(feature: &Feature, endpoints: &[Running]) -> String {
    let locality = |(index, fields): (usize, &&str)| {
        let one = |(n, (endpoint, running)): (usize, (&Endpoint, &Running))| {
            let port = running.port();
            // Host names are told apart in logs.
            format!(
                "{{endpoint: {{hostname: e{n}, address: {{socket_address: {{address: 127.0.0.1, \
                 port_value: {port}}}}}}}{}}}",
                endpoint.fields
            )
        };
        let all = feature.endpoints.iter().zip(endpoints).enumerate();
        let list: Vec<String> = all.filter(|(_, (e, _))| e.locality == index).map(one).collect();
        format!("{{locality: {{zone: z{index}}}, {fields} lb_endpoints: [{}]}}", list.join(", "))
    };
    let groups: Vec<String> = feature.localities.iter().enumerate().map(locality).collect();
    format!(
        "load_assignment: {{cluster_name: up, endpoints: [{}]{}}}\n",
        groups.join(", "),
        feature.assignment
    )
}
