//! One bad resource among good ones: it is named in the NACK, the good ones are in force, and the last good
//! version of the bad one keeps serving.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Http;
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Change, ControlPlane, Options, Resource, Type};
use millrace_xds_tests::bad::{Applies, Bad, Envoy, path, table};

pub(crate) const CASES: &[Case] = &[
    case!(the_table_is_large),
    case!(clusters_in_sotw),
    case!(clusters_in_delta),
    case!(endpoints_in_sotw),
    case!(endpoints_in_delta),
    case!(listeners_in_sotw),
    case!(listeners_in_delta),
    case!(routes_in_sotw),
    case!(routes_in_delta),
];

fn all() -> Vec<Bad> {
    table().unwrap_or_else(|e| unreachable!("{}: {e}", path().display()))
}

fn the_table_is_large(_: &Subject) {
    let table = all();
    assert!(table.len() >= 60, "{} bad resources", table.len());
    let ids: BTreeSet<&str> = table.iter().map(|b| b.id.as_str()).collect();
    assert_eq!(ids.len(), table.len(), "every line has a name of its own");
}

const GOOD: [&str; 5] = ["g1", "g2", "g3", "g4", "g5"];

/// The good ones and `bad`.
const NAMES: [&str; 6] = ["g1", "g2", "g3", "g4", "g5", "bad"];
/// Endpoints of round `n` have the port behind this one by `n`; nobody talks to them.
const PORT: usize = 1000;
/// Rounds that repair what a round left behind count from here.
const RECOVERED: usize = 500;

fn address(port: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap_or(1)))
}

/// The good form of a resource in round `n`; what it does tells the round.
fn good(ty: Type, name: &str, n: usize, flavor: Flavor) -> Resource {
    let say = format!(
        "{{match: {{prefix: \"/\"}}, direct_response: {{status: 200, body: {{inline_string: n{n}}}}}}}"
    );
    match ty {
        Type::Cluster => yaml::static_cluster(name, &[address(PORT + n)], ""),
        Type::Endpoint => yaml::endpoints(name, &[address(PORT + n)]),
        Type::Listener => {
            let route = format!("- {say}\n");
            yaml::listener(&Http::routes(&route).named(name))
        }
        Type::Route => yaml::routes(name, &say),
        other => unreachable!("{other:?} has no table, {flavor:?}"),
    }
}

/// What the other kinds need so that `ty` is asked for.
fn parents(change: &mut Change<'_>, ty: Type, flavor: Flavor) {
    change.set(yaml::static_cluster("good", &[address(1)], ""));
    for name in NAMES {
        match ty {
            Type::Endpoint => change.set(yaml::eds_cluster(name, flavor, "")),
            Type::Route => change.set(yaml::rds_listener(name, name, flavor)),
            _ => return,
        };
    }
}

/// The round that a resource shows.
fn shown(proxy: &Proxy, ty: Type, name: &str) -> Option<usize> {
    if matches!(ty, Type::Cluster | Type::Endpoint) {
        let text = proxy.admin_get("/clusters").text();
        let prefix = format!("{name}::127.0.0.1:");
        let port: usize =
            text.lines().find_map(|l| l.strip_prefix(&prefix)?.split_once("::")?.0.parse().ok())?;
        return port.checked_sub(PORT);
    }
    let mut client = Client::try_connect(proxy.bound(name)?).ok()?;
    client.request("GET", "/", &[("host", "test.local")], b"");
    client.response("GET").ok()?.text().strip_prefix('n')?.parse().ok()
}

/// True when all these show the round in time.
fn all_show(proxy: &Proxy, ty: Type, names: &[&str], n: usize) -> bool {
    wait::until(wait::PATIENCE, || names.iter().all(|x| shown(proxy, ty, x) == Some(n)).then_some(()))
        .is_some()
}

fn isolation(subject: &Subject, ty: Type, flavor: Flavor) {
    let plane = ControlPlane::start(Options::default());
    plane.update(|change| {
        parents(change, ty, flavor);
        for name in NAMES {
            change.set(good(ty, name, 0, flavor));
        }
    });
    let proxy = Proxy::start(subject, &yaml::bootstrap(&plane, flavor));
    assert!(all_show(&proxy, ty, &NAMES, 0), "the first round");
    let mut complaints = Vec::new();
    for (n, bad) in (1..).zip(all().into_iter().filter(|b| b.resource.ty == ty)) {
        let mark = plane.mark();
        if let Err(complaint) = round(&plane, &proxy, flavor, n, &bad, subject.is_envoy()) {
            complaints.push(format!("{}: {complaint}", bad.id));
        }
        // The good form again, so that every round starts alike.
        plane.update(|change| {
            for name in NAMES {
                change.set(good(ty, name, RECOVERED + n, flavor));
            }
        });
        if !all_show(&proxy, ty, &NAMES, RECOVERED + n) {
            complaints.push(format!("{}: no recovery\n{}", bad.id, plane.transcript(mark)));
            break;
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Sends the bad one among good ones and judges the answer.
fn round(
    plane: &ControlPlane,
    proxy: &Proxy,
    flavor: Flavor,
    n: usize,
    bad: &Bad,
    envoy: bool,
) -> Result<(), String> {
    let ty = bad.resource.ty;
    let before = shown(proxy, ty, "bad");
    let mark = plane.mark();
    plane.update(|change| {
        for name in GOOD {
            change.set(good(ty, name, n, flavor));
        }
        change.set(bad.resource.clone());
    });
    let last = plane.responses().pop().map(|r| r.nonce).unwrap_or_default();
    let verdict = if envoy { bad.envoy.clone() } else { Envoy::Refuses(bad.fields.clone()) };
    let limit = if verdict == Envoy::Silent { Duration::from_millis(300) } else { wait::PATIENCE };
    let answer = plane.wait_within(mark, limit, |entry| {
        entry.request().filter(|r| r.nonce == last && (r.is_nack() || r.is_ack())).cloned()
    });
    let expected = match (verdict, &answer) {
        (Envoy::Silent, None) => return Ok(()),
        (Envoy::Refuses(expected), Some(answer)) if answer.is_nack() => expected,
        (verdict, Some(answer)) if answer.is_ack() => return Err(format!("accepted, not {verdict:?}")),
        (verdict, _) => return Err(format!("{verdict:?}, but\n{}", plane.transcript(mark))),
    };
    let text = answer.map(|a| a.reason().to_owned()).unwrap_or_default();
    let named = envoy || !bad.named || text.contains("bad");
    if !expected.iter().any(|part| text.contains(part)) || !named {
        let whole = text.rsplit("\n: ").next().unwrap_or_default();
        let applied = if shown(proxy, ty, "g1") == Some(n) { "others" } else { "nothing" };
        return Err(format!("{expected:?} is not in the NACK ({applied} applied): {whole}"));
    }
    if envoy && bad.applies == Applies::Nothing {
        return match GOOD.into_iter().find(|name| shown(proxy, ty, name) == Some(n)) {
            Some(name) => Err(format!("{name} is in force, although Envoy was to refuse all: {text}")),
            None => Ok(()),
        };
    }
    if envoy && bad.applies == Applies::Some {
        return Ok(());
    }
    if !all_show(proxy, ty, &GOOD, n) {
        return Err(format!("good ones are not in force: {text}"));
    }
    let after = shown(proxy, ty, "bad");
    if after == before { Ok(()) } else { Err(format!("the last good version {before:?} became {after:?}")) }
}

fn clusters_in_sotw(subject: &Subject) {
    isolation(subject, Type::Cluster, Flavor::AdsSotw);
}

fn clusters_in_delta(subject: &Subject) {
    isolation(subject, Type::Cluster, Flavor::AdsDelta);
}

fn endpoints_in_sotw(subject: &Subject) {
    isolation(subject, Type::Endpoint, Flavor::AdsSotw);
}

fn endpoints_in_delta(subject: &Subject) {
    isolation(subject, Type::Endpoint, Flavor::AdsDelta);
}

fn listeners_in_sotw(subject: &Subject) {
    isolation(subject, Type::Listener, Flavor::AdsSotw);
}

fn listeners_in_delta(subject: &Subject) {
    isolation(subject, Type::Listener, Flavor::AdsDelta);
}

fn routes_in_sotw(subject: &Subject) {
    isolation(subject, Type::Route, Flavor::AdsSotw);
}

fn routes_in_delta(subject: &Subject) {
    isolation(subject, Type::Route, Flavor::AdsDelta);
}
