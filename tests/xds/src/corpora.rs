//! The golden files of control planes, made ready to be sent: what one scenario holds, fit for this machine, and what
//! translation says about each resource.
//!
//! What is changed: addresses of listeners become 127.0.0.1 with a port of the kernel's choice; transparent ones are
//! not bound at all, which takes privileges; host names of DNS clusters become `localhost`; files of access logs become
//! `/dev/null`; weights of 0 in dumps, which stand for none, are left out. What is added, so that nobody waits for what the corpora lack: empty assignments and route tables, and
//! clusters without endpoints where files of a scenario are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use millrace_config::ClusterDiscovery;
use millrace_conformance::oracle::{files, judged, scenario};
use millrace_conformance::resource_files::{Found, resources};
use millrace_observe::stats::Registry;
use millrace_proto::schema::Message;
use millrace_proto::{Format, LoadOptions, bootstrap_from_text, message_from_json};
use millrace_support::xds::yaml;
use millrace_support::xds::{Resource, Type};
use millrace_translate::{Context, Overrides, Rejection, RejectionKind, resource};
use serde_json::{Value, json};

/// A resource's kind and name.
pub type Key = (Type, String);

/// Resources of different names that belong together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Corpus and scenario.
    pub id: String,
    /// What Envoy says about the whole scenario, where it was asked.
    pub envoy: Option<bool>,
    /// To be sent.
    pub resources: BTreeMap<Key, Resource>,
    /// Resources of the corpus; the others were added.
    pub original: BTreeSet<Key>,
    /// JSON that fits no message of this build, or no name: nothing that could be sent.
    pub unsendable: usize,
    /// Clusters that are not there may exist.
    incomplete: bool,
}

/// What is to come of a batch.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// By resource; those that nobody asks for are absent.
    pub expected: BTreeMap<Key, Result<(), Rejection>>,
}

impl Verdicts {
    /// The refusals of one kind.
    pub fn refused(&self, ty: Type) -> impl Iterator<Item = (&str, &Rejection)> {
        let of_kind = self.expected.iter().filter(move |((of, _), _)| *of == ty);
        of_kind.filter_map(|((_, name), verdict)| Some((name.as_str(), verdict.as_ref().err()?)))
    }

    /// Names of the resources of one kind that are to be in force.
    pub fn accepted(&self, ty: Type) -> BTreeSet<&str> {
        let of_kind = self.expected.iter().filter(|((of, _), verdict)| *of == ty && verdict.is_ok());
        of_kind.map(|((_, name), _)| name.as_str()).collect()
    }

    /// True when some resource asks for what this build does not have.
    pub fn lacks(&self) -> bool {
        let lacks = |v: &Result<(), Rejection>| matches!(v, Err(r) if r.kind == RejectionKind::NotServed);
        self.expected.values().any(lacks)
    }
}

/// The corpora that Envoy has judged.
pub const JUDGED: [&str; 4] = ["consul", "kuma", "gateway", "envoy"];

/// The batches of a corpus that Envoy has judged.
pub fn of_corpus(root: &Path, corpus: &str) -> Vec<Batch> {
    let mut scenarios: BTreeMap<String, (Vec<Found>, bool, usize)> = BTreeMap::new();
    for row in judged(root, corpus) {
        let entry = scenarios.entry(scenario(&row.file).to_owned()).or_insert((Vec::new(), true, 0));
        entry.0.extend(resources(&root.join(&row.file)));
        entry.1 &= row.accepted;
        entry.2 = entry.2.max(row.clusters);
    }
    let one = |(name, (found, accepted, clusters)): (String, (Vec<Found>, bool, usize))| {
        let here = found.iter().filter(|f| f.type_url == resource::CLUSTER).count();
        batches(&format!("{corpus}/{name}"), found, Some(accepted), here < clusters)
    };
    scenarios.into_iter().flat_map(one).collect()
}

/// The batches of Istio's golden files and of recorded dumps, which nobody has judged.
pub fn of_istio(root: &Path) -> Vec<Batch> {
    let mut all = Vec::new();
    for folder in ["istio/pilot/pkg/xds/testdata", "istio/istioctl", "envoy/transcripts"] {
        files(&root.join(folder), &mut |path| {
            // These dumps hold resources that a server broke on purpose.
            if !path.to_string_lossy().contains("failures") {
                let id = path.strip_prefix(root).unwrap_or(path).display().to_string();
                all.extend(batches(&id, resources(path), None, true));
            }
        });
    }
    all
}

/// One batch, or more where a name comes twice.
fn batches(id: &str, found: Vec<Found>, envoy: Option<bool>, incomplete: bool) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    let mut unsendable = 0;
    for one in found {
        let Some(resource) = sendable(&one) else {
            unsendable += 1;
            continue;
        };
        let key = (resource.ty, resource.name.clone());
        let same = all.iter().any(|b| b.resources.get(&key) == Some(&resource));
        let free = all.iter().position(|b| !b.resources.contains_key(&key));
        let at = free.unwrap_or(all.len());
        if !same {
            if at == all.len() {
                all.push(Batch { id: format!("{id}#{at}"), envoy, incomplete, ..Batch::default() });
            }
            all[at].original.insert(key.clone());
            all[at].resources.insert(key, resource);
        }
    }
    let several = all.len() > 1;
    for batch in &mut all {
        batch.incomplete |= several;
    }
    if let Some(first) = all.first_mut() {
        first.unsendable = unsendable;
    }
    all
}

/// The resource, fit for this machine.
fn sendable(found: &Found) -> Option<Resource> {
    let ty = Type::from_url(found.type_url)?;
    // The control plane's own cluster is static here.
    let is_own = ty == Type::Cluster && found.name == "xds";
    let bytes = found.bytes.as_ref().ok().filter(|_| !found.name.is_empty() && !is_own)?;
    let mut tree = millrace_proto::to_json(found.type_url, bytes).ok()?;
    match ty {
        Type::Listener => {
            move_listener(&mut tree);
            silence(&mut tree);
        }
        Type::Cluster => localize(&mut tree),
        Type::Endpoint => weigh(&mut tree),
        _ => return Some(Resource::from_bytes(ty, &found.name, bytes.clone())),
    }
    let bytes = message_from_json(Message::by_type_url(found.type_url)?, &tree).ok()?;
    Some(Resource::from_bytes(ty, &found.name, bytes))
}

fn move_listener(tree: &mut Value) {
    if tree["transparent"] == json!(true) || tree["freebind"] == json!(true) {
        tree["bind_to_port"] = json!(false);
    }
    if let Some(address) = tree.get_mut("address") {
        loopback(address);
    }
    let more = tree.get_mut("additional_addresses").and_then(Value::as_array_mut);
    for address in more.into_iter().flatten().filter_map(|a| a.get_mut("address")) {
        loopback(address);
    }
}

fn loopback(address: &mut Value) {
    if let Some(socket) = address.get_mut("socket_address") {
        socket["address"] = json!("127.0.0.1");
        socket["port_value"] = json!(0);
        if let Some(fields) = socket.as_object_mut() {
            fields.remove("named_port");
        }
    }
}

/// Dumps print the weight of a locality that has none as 0, which no control plane may send.
fn weigh(tree: &mut Value) {
    walk(tree, &mut |fields| {
        if fields.get("load_balancing_weight") == Some(&json!(0)) {
            fields.remove("load_balancing_weight");
        }
    });
}

fn silence(tree: &mut Value) {
    walk(tree, &mut |fields| {
        let kind = fields.get("@type").and_then(Value::as_str).unwrap_or_default();
        if kind.ends_with(".FileAccessLog") {
            fields.insert("path".into(), json!("/dev/null"));
        }
    });
}

fn localize(tree: &mut Value) {
    if !matches!(tree["type"].as_str(), Some("STRICT_DNS" | "LOGICAL_DNS")) && tree["cluster_type"].is_null()
    {
        return;
    }
    let is_name = |a: &str| a.parse::<IpAddr>().is_err();
    if let Some(load) = tree.get_mut("load_assignment") {
        walk(load, &mut |fields| {
            if let Some(address) = fields.get_mut("address").filter(|a| a.as_str().is_some_and(is_name)) {
                *address = json!("localhost");
            }
        });
    }
}

fn walk(value: &mut Value, visit: &mut dyn FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|v| walk(v, visit)),
        Value::Object(fields) => {
            visit(fields);
            fields.values_mut().for_each(|v| walk(v, visit));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Adds what the batch lacks, and says what is to come of it under this bootstrap.
///
/// # Panics
/// When the bootstrap is not accepted: the test is wrong.
pub fn judge(batch: &mut Batch, bootstrap: &str) -> Verdicts {
    let options = LoadOptions::default();
    let parsed = bootstrap_from_text(Format::Yaml, bootstrap.as_bytes(), &options).expect("a bootstrap");
    let mut cx = Context::new(Registry::new(), Overrides::default());
    millrace_translate::bootstrap(&parsed.bytes, &mut cx).expect("a bootstrap that is served");
    let mut verdicts = Verdicts::default();
    let services = clusters(batch, &mut cx, &mut verdicts);
    for (service, cluster) in services {
        let key = (Type::Endpoint, service);
        let filler = || yaml::endpoints(&key.1, &[]);
        let assignment = batch.resources.entry(key.clone()).or_insert_with(filler);
        let verdict = resource::load_assignment(&assignment.body.value, &cluster, &mut cx).map(drop);
        verdicts.expected.insert(key, verdict);
    }
    for table in listeners(batch, &mut cx, &mut verdicts) {
        let key = (Type::Route, table);
        let filler = || yaml::routes(&key.1, "");
        let table = batch.resources.entry(key.clone()).or_insert_with(filler);
        let verdict = resource::route_configuration(&table.body.value, &mut cx).map(drop);
        verdicts.expected.insert(key, verdict);
    }
    verdicts
}

fn of_kind(batch: &Batch, ty: Type) -> Vec<(Key, Vec<u8>)> {
    let own = batch.resources.iter().filter(|((of, _), _)| *of == ty);
    own.map(|(key, resource)| (key.clone(), resource.body.value.clone())).collect()
}

/// Leaves out what warms for a secret: the corpora have none to send.
fn set_aside(batch: &mut Batch, key: &Key) {
    batch.resources.remove(key);
    batch.unsendable += 1;
    // Whoever names it gets another one of its name.
    batch.incomplete = true;
}

fn cluster_secrets(cluster: &millrace_config::Cluster) -> bool {
    let matched = cluster.transport_matches.iter().map(|choice| &choice.transport);
    let contexts = matched.chain([&cluster.transport]).filter_map(|transport| transport.tls.as_ref());
    contexts.into_iter().any(|tls| tls.common.secrets().next().is_some())
}

fn listener_secrets(listener: &millrace_config::Listener) -> bool {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    chains.filter_map(|chain| chain.tls.as_ref()).any(|tls| tls.secrets().next().is_some())
}

/// Judges the clusters; what they ask for, each with a cluster that asks.
fn clusters(
    batch: &mut Batch,
    cx: &mut Context,
    verdicts: &mut Verdicts,
) -> BTreeMap<String, millrace_config::Cluster> {
    let mut services = BTreeMap::new();
    for (key, bytes) in of_kind(batch, Type::Cluster) {
        let verdict = match resource::cluster(&bytes, None, cx) {
            Ok(translated) if cluster_secrets(&translated.value) => {
                set_aside(batch, &key);
                continue;
            }
            Ok(translated) => {
                cx.cluster_added(&key.1.as_str().into());
                if let ClusterDiscovery::Eds { service_name, .. } = &translated.value.discovery {
                    services.insert(service_name.to_string(), translated.value);
                }
                Ok(())
            }
            Err(rejection) => Err(rejection),
        };
        verdicts.expected.insert(key, verdict);
    }
    services
}

/// Judges the listeners, with the clusters that they miss added; the route tables they ask for.
fn listeners(batch: &mut Batch, cx: &mut Context, verdicts: &mut Verdicts) -> BTreeSet<String> {
    let mut tables = BTreeSet::new();
    for (key, bytes) in of_kind(batch, Type::Listener) {
        let verdict = loop {
            let rejection = match resource::listener(&bytes, None, cx) {
                Ok(translated) if listener_secrets(&translated.value) => break None,
                Ok(_) => break Some(Ok(())),
                Err(rejection) => rejection,
            };
            let unknown = rejection.reason.strip_prefix("route: unknown ");
            let unknown = unknown.and_then(|rest| rest.split('\'').nth(1)).map(str::to_owned);
            let cluster = unknown.map(|name| (Type::Cluster, name));
            match cluster.filter(|key| batch.incomplete && !batch.resources.contains_key(key)) {
                Some(key) => {
                    cx.cluster_added(&key.1.as_str().into());
                    batch.resources.insert(key.clone(), yaml::static_cluster(&key.1, &[], ""));
                    verdicts.expected.insert(key, Ok(()));
                }
                None => break Some(Err(rejection)),
            }
        };
        let Some(verdict) = verdict else {
            set_aside(batch, &key);
            continue;
        };
        if verdict.is_ok() {
            let mut tree = millrace_proto::to_json(&Type::Listener.url(), &bytes).unwrap_or_default();
            walk(&mut tree, &mut |fields| {
                let name = fields.get("rds").and_then(|rds| rds["route_config_name"].as_str());
                tables.extend(name.map(str::to_owned));
            });
        }
        verdicts.expected.insert(key, verdict);
    }
    tables
}
