//! What is measured: one scenario for each file in `perf/scenarios/`, named after the file.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The shape of the load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// `wrk` against the HTTP origin, closed loop.
    Http,
    /// Own client, open loop: a fixed rate of requests that nobody's slowness delays.
    Latency,
    /// Own client, closed loop: one message out, the same message back.
    TcpEcho,
    /// Own client reads what the origin sends without end.
    TcpStream,
    /// Connections that have served one request and stay.
    Idle,
    /// From exec to the first response, with many clusters in the configuration.
    Start,
    /// Size of the executable.
    Size,
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) kind: Kind,
    /// Downstream connections.
    pub(crate) connections: usize,
    /// Octets of a response body or message.
    pub(crate) body: usize,
    /// Part of `perf quick`.
    #[serde(default)]
    pub(crate) quick: bool,
    /// Peers that cannot run it.
    #[serde(default)]
    pub(crate) skip: Vec<String>,
}

impl Scenario {
    /// True when the proxy works on HTTP.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self.kind, Kind::Http | Kind::Idle)
    }
}

/// Every scenario, by name.
pub(crate) fn load_all(folder: &Path) -> Result<Vec<Scenario>, String> {
    let mut all = Vec::new();
    for (name, text) in crate::files(&folder.join("scenarios"), "toml")? {
        let mut scenario: Scenario = toml::from_str(&text).map_err(|e| format!("scenario {name}: {e}"))?;
        scenario.name = name;
        all.push(scenario);
    }
    Ok(all)
}
