//! The table of bad resources, `data/bad_resources.yaml`; its head says what the columns mean.

use std::path::Path;

use millrace_proto::yaml;
use millrace_support::xds::{Resource, Type, try_from_yaml};
use serde_json::Value;

/// What Envoy does with the good resources of the same response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// It applies them.
    Others,
    /// It refuses them too.
    Nothing,
    /// It depends on the protocol and the order.
    Some,
}

/// What Envoy says to the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envoy {
    /// A NACK with one of these texts.
    Refuses(Vec<String>),
    /// Nothing: the cluster is warming for ever, and its last version stays.
    Silent,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Bad {
    /// Names the line.
    pub id: String,
    /// The resource, whose name is `bad` (or empty).
    pub resource: Resource,
    /// Our NACK must contain one of these.
    pub fields: Vec<String>,
    /// Our NACK must contain the name.
    pub named: bool,
    /// What Envoy says.
    pub envoy: Envoy,
    /// What Envoy does with the others.
    pub applies: Applies,
}

const TABLE: &str = include_str!("../data/bad_resources.yaml");

/// The whole table.
///
/// # Errors
/// The line that is wrong, and why.
pub fn table() -> Result<Vec<Bad>, String> {
    let tree = yaml::parse(TABLE).map_err(|e| e.to_string())?;
    tree.as_array().into_iter().flatten().map(line).collect()
}

/// Where the table is, for messages.
pub fn path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/bad_resources.yaml"))
}

fn line(entry: &Value) -> Result<Bad, String> {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let id = text("id");
    let ty = match text("type").as_str() {
        "cluster" => Type::Cluster,
        "endpoint" => Type::Endpoint,
        "listener" => Type::Listener,
        "route" => Type::Route,
        other => return Err(format!("{id}: type {other:?}")),
    };
    let mut resource = if entry["hex"].is_null() {
        try_from_yaml(ty, &expand(&text("yaml"))).map_err(|e| format!("{id}: {e}"))?
    } else {
        Resource::from_bytes(ty, "bad", bytes_of(&text("hex")).ok_or(format!("{id}: hex"))?)
    };
    if let [from, to] = entry["swap"].as_array().map_or(&[][..], Vec::as_slice) {
        let (from, to) = (from.as_str().unwrap_or_default(), to.as_str().unwrap_or_default());
        resource.body.value =
            swap(&resource.body.value, from.as_bytes(), to.as_bytes()).ok_or(format!("{id}: swap"))?;
    }
    // A resource without a name still needs a key in the store.
    resource.name = "bad".into();
    let envoy = match text("envoy").as_str() {
        "silent" => Envoy::Silent,
        part => Envoy::Refuses(vec![part.into()]),
    };
    let applies = match text("applies").as_str() {
        "others" => Applies::Others,
        "nothing" => Applies::Nothing,
        "some" => Applies::Some,
        other => return Err(format!("{id}: applies {other:?}")),
    };
    let fields = text("field").split('|').map(str::to_owned).collect();
    Ok(Bad { id, resource, fields, named: entry["unnamed"].is_null(), envoy, applies })
}

fn expand(text: &str) -> String {
    const ADDR: &str = "address: {socket_address: {address: 127.0.0.1, port_value: 0}}";
    const DIRECT: &str = "route_config: {virtual_hosts: [{name: v, domains: [\"*\"], routes: \
                          [{match: {prefix: \"/\"}, direct_response: {status: 200}}]}]}";
    let mut out = text
        .replace("$ADDR", ADDR)
        .replace("$ROUTER", "{name: router, typed_config: {$ANY(envoy.extensions.filters.http.router.v3.Router)}}")
        .replace(
            "$HCM",
            "$ANY(envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager), stat_prefix: s",
        )
        .replace("$TCP", "$ANY(envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy), stat_prefix: s")
        .replace("$DIRECT", DIRECT)
        .replace("$LONG", &"x".repeat(5000));
    while let Some(start) = out.find("$ANY(") {
        let Some(len) = out[start..].find(')') else { return out };
        let url = format!("\"@type\": type.googleapis.com/{}", &out[start + 5..start + len]);
        out.replace_range(start..=start + len, &url);
    }
    out
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Exchanges every occurrence; the length stays, so that the lengths in the encoding stay right.
fn swap(bytes: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    if from.len() != to.len() || from.is_empty() {
        return None;
    }
    let mut out = bytes.to_vec();
    let mut found = false;
    for at in 0..=out.len().checked_sub(from.len())? {
        if &out[at..at + from.len()] == from {
            out[at..at + from.len()].copy_from_slice(to);
            found = true;
        }
    }
    found.then_some(out)
}
