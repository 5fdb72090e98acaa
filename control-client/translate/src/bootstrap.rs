//! `config.bootstrap.v3.Bootstrap`: everything static, clusters first so that routes can name them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{AccessLogSink, Cluster, Listener, Node, OverloadManager, Snapshot};
use millrace_proto::pb::envoy::config::bootstrap::v3 as pb;
use millrace_proto::pb::envoy::config::bootstrap::v3::bootstrap::application_log_config::log_format::LogFormat as PbFormat;
use millrace_proto::pb::envoy::config::cluster::v3 as clusters;
use millrace_proto::pb::google::protobuf::{Value, value::Kind};
use millrace_proto::{BOOTSTRAP, Message, Path, schema, validate};

use crate::admin::{AdminConfig, admin};
use crate::cluster::{bootstrap_resolver, cluster, manager_bind};
use crate::context::{Context, Source};
use crate::dynamic::{Dynamic, dynamic};
use crate::error::{Rejection, RejectionKind, Unsupported};
use crate::listener::listener;
use crate::overload::overload_manager;
use crate::runtime::{Runtime, layered};
use crate::source::{StaticResources, cluster_path, upstream};
use crate::stats_config::{StatsConfig, stats_config};
use crate::{fields, value};

/// A static resource as it was written, for `config_dump`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawResource {
    /// Its name.
    pub name: Arc<str>,
    /// Its wire bytes.
    pub bytes: Vec<u8>,
}

/// `application_log_config.log_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// spdlog verbs.
    Text(String),
    /// The encoded `google.protobuf.Struct`; its values hold spdlog verbs.
    Json(Vec<u8>),
}

/// A bootstrap that can be served.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What the shards read.
    pub snapshot: Snapshot,
    /// The admin server.
    pub admin: AdminConfig,
    /// Names and tags of statistics.
    pub stats: StatsConfig,
    /// `stats_flush_interval`, default 5 s; `None` with `stats_flush_on_admin`.
    pub stats_flush_interval: Option<Duration>,
    /// `stats_server_version_override`.
    pub stats_server_version_override: Option<u64>,
    /// `layered_runtime`, for `/runtime`.
    pub runtime: Runtime,
    /// `application_log_config`, unless the command line says otherwise.
    pub log_format: Option<LogFormat>,
    /// `dynamic_resources`, `load_stats_config` and `hds_config`. What RTDS layers name stands in `runtime`, what resources name in the resources.
    pub dynamic: Dynamic,
    /// Fields without effect.
    pub unsupported: Vec<Unsupported>,
    /// The bootstrap's wire bytes, command line merged in.
    pub bootstrap: Vec<u8>,
    /// The wire bytes of `node`, command line merged in: what control planes are told, but for the version and the
    /// extensions of this build.
    pub node: Vec<u8>,
    /// Static listeners as written.
    pub static_listeners: Vec<RawResource>,
    /// Static clusters as written.
    pub static_clusters: Vec<RawResource>,
    /// Static clusters that only the control client uses, without what makes them unfit for traffic: for `/clusters`.
    pub control_clusters: Vec<Arc<Cluster>>,
}

/// Checks and translates the wire bytes of a bootstrap.
///
/// # Errors
/// The first thing that cannot be served as written. Nothing is half done: the context only learnt names.
pub fn bootstrap(bytes: &[u8], cx: &mut Context) -> Result<Compiled, Rejection> {
    let root = Path::default();
    let message = schema::Message::by_name(BOOTSTRAP)
        .ok_or_else(|| Rejection::new(&root, "this build has no schema of the bootstrap"))?;
    cx.source = Source::Static;
    validate::validate(message, bytes, &root)?;
    let aside = fields::check_bootstrap(message, bytes, cx)?;
    let mut typed = pb::Bootstrap::decode(bytes)
        .map_err(|error| Rejection::new(&root, format!("not a bootstrap: {error}")))?;
    let node = node(&mut typed, cx);
    know_locality(&typed, cx);
    cx.dns_resolver = bootstrap_resolver(&typed)?;
    let manager = typed.cluster_manager.as_ref();
    cx.reports_load = manager.is_some_and(|manager| manager.load_stats_config.is_some());
    cx.bind = manager_bind(manager.and_then(|manager| manager.upstream_bind_config.as_ref()), cx)?;
    cx.statics = Arc::new(StaticResources::of(&typed)?);
    cx.runtime = layered(typed.layered_runtime.as_ref(), &Path::from("layered_runtime"), cx)?;
    let overload = overload(&typed, cx)?;
    let stats = stats_config(typed.stats_config.as_ref(), &Path::from("stats_config"))?;
    let admin = admin(typed.admin.as_ref(), &Path::from("admin"), cx)?;
    let log_format = log_format(&typed)?;
    let resources = typed.static_resources.take().unwrap_or_default();
    let static_clusters = raw(&resources.clusters, |cluster| &cluster.name);
    let (clusters, control_clusters) = clusters(&resources, aside, cx)?;
    check_local_cluster(&typed, cx)?;
    let dynamic = dynamic(&typed, cx)?;
    let static_listeners = raw(&resources.listeners, |listener| &listener.name);
    let listeners = listeners(&resources, cx)?;
    typed.static_resources = Some(resources);
    Ok(Compiled {
        snapshot: Snapshot {
            outlier_log: outlier_log(&typed),
            overload,
            ..snapshot(node, listeners, clusters, cx)
        },
        admin,
        stats,
        stats_flush_interval: flush_interval(&typed),
        stats_server_version_override: typed.stats_server_version_override.as_ref().map(|v| v.value),
        runtime: cx.runtime.clone(),
        log_format,
        dynamic,
        unsupported: cx.take_reports(),
        bootstrap: typed.encode_to_vec(),
        node: typed.node.as_ref().map(Message::encode_to_vec).unwrap_or_default(),
        static_listeners,
        static_clusters,
        control_clusters,
    })
}

fn raw<M: Message>(messages: &[M], name: impl Fn(&M) -> &String) -> Vec<RawResource> {
    let one =
        |message: &M| RawResource { name: name(message).as_str().into(), bytes: message.encode_to_vec() };
    messages.iter().map(one).collect()
}

/// Zone-aware routing compares localities with the node's.
fn know_locality(bootstrap: &pb::Bootstrap, cx: &mut Context) {
    let own = bootstrap.node.as_ref().and_then(|node| node.locality.as_ref());
    let own = own.map(|own| (value::text(&own.region), value::text(&own.zone), value::text(&own.sub_zone)));
    cx.node_locality = own
        .filter(|(region, zone, sub)| ![region, zone, sub].iter().all(|part| part.is_empty()))
        .map(Arc::new);
    let name = bootstrap.cluster_manager.as_ref().map_or("", |manager| &manager.local_cluster_name);
    cx.local_cluster = (!name.is_empty()).then(|| cx.cluster_ids.intern(name));
}

fn check_local_cluster(bootstrap: &pb::Bootstrap, cx: &Context) -> Result<(), Rejection> {
    let name = bootstrap.cluster_manager.as_ref().map_or("", |manager| &manager.local_cluster_name);
    if name.is_empty() || cx.known_clusters.contains(name) {
        return Ok(());
    }
    let why = format!("local cluster '{name}' must be defined");
    Err(Rejection::new(&Path::from("cluster_manager.local_cluster_name"), why))
}

/// The command line wins over the file, and the file as dumped shows it.
fn node(bootstrap: &mut pb::Bootstrap, cx: &Context) -> Node {
    let node = bootstrap.node.get_or_insert_default();
    if let Some(id) = &cx.overrides.service_node {
        node.id.clone_from(id);
    }
    if let Some(cluster) = &cx.overrides.service_cluster {
        node.cluster.clone_from(cluster);
    }
    if let Some(zone) = &cx.overrides.service_zone {
        node.locality.get_or_insert_default().zone.clone_from(zone);
    }
    let zone = node.locality.as_ref().map_or("", |locality| &locality.zone);
    Node { id: node.id.as_str().into(), cluster: node.cluster.as_str().into(), zone: zone.into() }
}

/// A cluster that traffic cannot use, but the control client can, is kept out of the snapshot: nothing that names it
/// is served, so that no traffic leaves in another form than configured.
fn clusters(
    resources: &pb::bootstrap::StaticResources,
    mut aside: BTreeMap<usize, Rejection>,
    cx: &mut Context,
) -> Result<(Vec<Cluster>, Vec<Arc<Cluster>>), Rejection> {
    let mut control = Vec::new();
    cx.known_clusters.clear();
    cx.control_clusters.clear();
    let mut out = Vec::with_capacity(resources.clusters.len());
    for (i, message) in resources.clusters.iter().enumerate() {
        let path = cluster_path(i);
        let name: Arc<str> = message.name.as_str().into();
        if cx.known_clusters.contains(&name) || cx.control_clusters.contains_key(&name) {
            let why = format!("cluster manager: duplicate cluster '{name}'");
            return Err(Rejection::new(&path.join("name"), why));
        }
        let reported = cx.unsupported.len();
        let built = match aside.remove(&i) {
            Some(refused) => Err(refused),
            None => cluster(message, None, &path, cx),
        };
        match built {
            Ok(built) => {
                cx.known_clusters.insert(name);
                out.push(built);
            }
            Err(refused) if refused.kind == RejectionKind::NotServed => {
                cx.unsupported.truncate(reported);
                if let Err(also) = upstream(message, &path, cx) {
                    return Err(if also.kind == RejectionKind::Invalid { also } else { refused.nor(&also) });
                }
                cx.report(&path, format!("only the control client uses the cluster: {refused}"));
                cx.control_clusters.insert(name, refused);
                control.extend(plain(message, &path, cx).map(Arc::new));
            }
            Err(invalid) => return Err(invalid),
        }
    }
    Ok((out, control))
}

/// Who the cluster is and where its endpoints are, without the options that traffic cannot have.
fn plain(message: &clusters::Cluster, path: &Path, cx: &mut Context) -> Option<Cluster> {
    let reported = cx.unsupported.len();
    let message = clusters::Cluster {
        name: message.name.clone(),
        alt_stat_name: message.alt_stat_name.clone(),
        cluster_discovery_type: message.cluster_discovery_type.clone(),
        load_assignment: message.load_assignment.clone(),
        connect_timeout: message.connect_timeout,
        circuit_breakers: message.circuit_breakers.clone(),
        ..clusters::Cluster::default()
    };
    let built = cluster(&message, None, path, cx).ok();
    cx.unsupported.truncate(reported);
    built
}

fn listeners(
    resources: &pb::bootstrap::StaticResources,
    cx: &mut Context,
) -> Result<Vec<Arc<Listener>>, Rejection> {
    let path = Path::from("static_resources").join("listeners");
    let mut out: Vec<Arc<Listener>> = Vec::with_capacity(resources.listeners.len());
    for (i, message) in resources.listeners.iter().enumerate() {
        let path = path.at(i);
        let built = listener(message, None, &path, cx)?;
        if let Some(at) = out.iter().position(|earlier| earlier.name == built.name) {
            cx.report(
                &path.join("name"),
                format!("the listener '{}' replaces an earlier one of this name", built.name),
            );
            out.remove(at);
        }
        for address in built.addresses.iter().filter(|_| built.bind_to_port) {
            let taken = |other: &&Arc<Listener>| other.bind_to_port && other.addresses.contains(address);
            if !is_any_port(address) && out.iter().any(|other| taken(&other)) {
                let why = format!(
                    "error adding listener: '{}' has duplicate address '{address}' as existing listener",
                    built.name
                );
                return Err(Rejection::new(&path.join("address"), why));
            }
        }
        out.push(Arc::new(built));
    }
    Ok(out)
}

/// Port 0 lets the kernel choose, so two of them never collide.
fn is_any_port(address: &millrace_config::Address) -> bool {
    matches!(address, millrace_config::Address::Inet(socket) if socket.port() == 0)
}

fn snapshot(node: Node, listeners: Vec<Arc<Listener>>, clusters: Vec<Cluster>, cx: &Context) -> Snapshot {
    let names = cx.cluster_ids.names();
    let mut slots: Vec<Option<Arc<Cluster>>> = vec![None; names.len()];
    for cluster in clusters {
        let at = cluster.id.0 as usize;
        slots[at] = Some(Arc::new(cluster));
    }
    Snapshot {
        version: 1,
        node: Arc::new(node),
        listeners,
        clusters: slots,
        cluster_names: Arc::new(names.clone()),
        route_tables: Vec::new(),
        scope_tables: Vec::new(),
        secrets: Vec::new(),
        outlier_log: None,
        overload: None,
    }
}

fn overload(bootstrap: &pb::Bootstrap, cx: &mut Context) -> Result<Option<Arc<OverloadManager>>, Rejection> {
    let Some(manager) = &bootstrap.overload_manager else { return Ok(None) };
    overload_manager(manager, &Path::from("overload_manager"), cx).map(|manager| Some(Arc::new(manager)))
}

/// The file of `cluster_manager.outlier_detection.event_log_path`.
fn outlier_log(bootstrap: &pb::Bootstrap) -> Option<Arc<AccessLogSink>> {
    let config = bootstrap.cluster_manager.as_ref()?.outlier_detection.as_ref()?;
    let path = Some(config.event_log_path.as_str()).filter(|path| !path.is_empty())?;
    Some(Arc::new(AccessLogSink::File(path.into())))
}

fn flush_interval(bootstrap: &pb::Bootstrap) -> Option<Duration> {
    if bootstrap.stats_flush.is_some() {
        return None;
    }
    Some(bootstrap.stats_flush_interval.as_ref().map_or(Duration::from_secs(5), value::duration))
}

fn log_format(bootstrap: &pb::Bootstrap) -> Result<Option<LogFormat>, Rejection> {
    let config = bootstrap.application_log_config.as_ref().and_then(|config| config.log_format.as_ref());
    let Some(format) = config.and_then(|format| format.log_format.as_ref()) else {
        return Ok(None);
    };
    Ok(Some(match format {
        PbFormat::TextFormat(text) => LogFormat::Text(text.clone()),
        PbFormat::JsonFormat(tree) => {
            for verb in ["%v", "%_"] {
                if tree.fields.values().any(|value| mentions(value, verb)) {
                    let path = Path::from("application_log_config").join("log_format").join("json_format");
                    let why = format!("Usage of {verb} is unavailable for JSON log formats");
                    return Err(Rejection::new(&path, why));
                }
            }
            LogFormat::Json(tree.encode_to_vec())
        }
    }))
}

fn mentions(value: &Value, verb: &str) -> bool {
    match &value.kind {
        Some(Kind::StringValue(text)) => text.contains(verb),
        Some(Kind::StructValue(tree)) => tree.fields.values().any(|inner| mentions(inner, verb)),
        Some(Kind::ListValue(list)) => list.values.iter().any(|inner| mentions(inner, verb)),
        _ => false,
    }
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
