//! What the cases share: a small mesh of one listener, one route table, one cluster and one endpoint, served by
//! the scripted control plane.

pub mod bad;
pub mod churn;
pub mod corpora;
pub mod planes;
pub mod usage;

use std::time::Duration;

use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Options, Type};
use serde_json::Value;

/// A control plane that serves `main` -> route table `r` -> cluster `up` -> an upstream that says `one`.
pub struct World {
    /// The control plane.
    pub plane: ControlPlane,
    /// The endpoint of `up`.
    pub upstream: Upstream,
    /// How the subject talks to it.
    pub flavor: Flavor,
}

impl World {
    /// With the usual options.
    pub fn start(flavor: Flavor) -> Self {
        Self::with(flavor, Options::default())
    }

    /// With these options.
    pub fn with(flavor: Flavor, options: Options) -> Self {
        let world = Self { plane: ControlPlane::start(options), upstream: Upstream::fixed("one"), flavor };
        world.plane.update(|change| {
            change.set(yaml::eds_cluster("up", flavor, ""));
            change.set(yaml::endpoints("up", &[world.upstream.address()]));
            change.set(yaml::rds_listener("main", "r", flavor));
            change.set(yaml::route("r", "up"));
        });
        world
    }

    /// A subject that this control plane drives, ready and forwarding.
    #[track_caller]
    pub fn proxy(&self, subject: &Subject) -> Proxy {
        self.proxy_with(subject, "")
    }

    /// As [`World::proxy`], with more fields of the CDS and LDS sources.
    #[track_caller]
    pub fn proxy_with(&self, subject: &Subject, fields: &str) -> Proxy {
        let proxy = Proxy::start(subject, &yaml::bootstrap_with(&self.plane, self.flavor, fields));
        proxy.wait_listener("main");
        self.settle();
        proxy
    }

    /// A subject whose control plane may say nothing at first.
    #[track_caller]
    pub fn unready(&self, subject: &Subject, fields: &str) -> Proxy {
        Proxy::start_unready(subject, &yaml::bootstrap_with(&self.plane, self.flavor, fields), &[])
    }

    /// Waits until all four kinds are accepted.
    #[track_caller]
    pub fn settle(&self) {
        for ty in [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route] {
            self.plane.wait_ack(0, ty);
        }
    }

    /// Waits for the ACK of the newest response of this kind.
    #[track_caller]
    pub fn in_force(&self, ty: Type) {
        let last = self.plane.responses().into_iter().rev().find(|r| r.ty == Some(ty));
        let nonce = last.map(|r| r.nonce).unwrap_or_default();
        self.plane
            .wait_for(0, &format!("the last {ty:?} to be accepted"), |r| r.is_ack() && r.nonce == nonce);
    }
}

/// GET / on a new connection to the listener `main`: status and body.
#[track_caller]
pub fn get(proxy: &Proxy) -> (u16, String) {
    let response = proxy.client().get("/");
    (response.status, response.text())
}

/// Waits until GET / on new connections gives this status and body.
#[track_caller]
pub fn wait_get(proxy: &Proxy, status: u16, body: &str) {
    let mut last = None;
    let met = wait::until(wait::PATIENCE, || {
        let address = proxy.bound("main")?;
        let mut client = Client::try_connect(address).ok()?;
        client.request("GET", "/", &[("host", "test.local")], b"");
        let response = client.response("GET").ok()?;
        let found = (response.status, response.text());
        let right = found == (status, body.to_owned());
        last = Some(found);
        right.then_some(())
    });
    assert!(met.is_some(), "waited for {status} {body:?}, the last answer is {last:?}");
}

/// Fails when `probe` becomes true within `time`: the only way to see that nothing happens.
#[track_caller]
pub fn never(time: Duration, what: &str, probe: impl FnMut() -> bool) {
    let mut probe = probe;
    assert!(wait::until(time, || probe().then_some(())).is_none(), "{what}");
}

/// The section of `/config_dump` whose `@type` ends with this name; `Null` when there is none.
#[track_caller]
pub fn dump(proxy: &Proxy, section: &str) -> Value {
    let body = proxy.admin_get("/config_dump?include_eds").body;
    let tree: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let sections = tree["configs"].as_array().cloned().unwrap_or_default();
    let named = |v: &Value| v["@type"].as_str().is_some_and(|t| t.rsplit('.').next() == Some(section));
    sections.into_iter().find(named).unwrap_or(Value::Null)
}

/// Names of the clusters that `/clusters` shows.
#[track_caller]
pub fn clusters(proxy: &Proxy) -> std::collections::BTreeSet<String> {
    let text = proxy.admin_get("/clusters").text();
    text.lines().filter_map(|l| l.split_once("::")).map(|(name, _)| name.to_owned()).collect()
}
