//! Who is measured: one proxy for each TOML file in `perf/peers/`, with its configuration templates beside it.

mod binary;
mod running;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub(crate) use binary::{Binary, output};
pub(crate) use running::Running;

use crate::credentials::KeyType;
use crate::scenario::{Kind, Load};

/// What a peer can do besides forwarding everything to one origin.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Feature {
    /// Its template makes as many clusters as the load asks for.
    Clusters,
    AccessLog,
    Mesh,
    /// More than 1,000 connections: its template bounds the upstream connections.
    ManyConnections,
    /// HTTP/2 without TLS on both sides.
    Http2,
    /// HTTP/2 in front, HTTP/1.1 behind, and the other way round.
    Translates,
    /// Mutual TLS with certificates of either type.
    Tls,
    /// And towards the origin.
    UpstreamTls,
}

/// The credentials that a client needs where they are not the lab's own; templates. They are ECDSA.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Foreign {
    ca: String,
    certificate: String,
    key: String,
    name: String,
    /// Offered protocol.
    #[serde(default)]
    alpn: String,
}

/// How to tell that a process is ready.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ready {
    /// Its error output has this text.
    Log(String),
    /// A GET of this `address:port/path` answers 200.
    Http(String),
}

/// One process of a peer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) binary: Binary,
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// User and group id to run as; needs root.
    #[serde(default)]
    pub(crate) user: Option<u32>,
    /// Part of the proxy: on core 0, and its cost counts. Otherwise on core 1 with the client.
    #[serde(default)]
    pub(crate) measured: bool,
    pub(crate) ready: Option<Ready>,
}

/// One proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    #[serde(skip)]
    pub(crate) name: String,
    /// Takes part only where a scenario names it.
    #[serde(default)]
    pub(crate) on_request: bool,
    pub(crate) binary: Option<Binary>,
    #[serde(default)]
    version: Vec<String>,
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) user: Option<u32>,
    /// Template of the configuration for HTTP, for TCP. With neither it forwards bytes and needs none.
    http: Option<String>,
    tcp: Option<String>,
    /// Serves HTTP only.
    #[serde(default)]
    http_only: bool,
    #[serde(default)]
    features: Vec<Feature>,
    /// Every turn has a network namespace of its own, client and origin included.
    #[serde(default)]
    pub(crate) namespace: bool,
    /// Where clients connect to; 127.0.0.1 and the template's `listen` otherwise.
    pub(crate) address: Option<String>,
    /// Commands before the first process.
    #[serde(default)]
    pub(crate) setup: Vec<Vec<String>>,
    /// Processes that must be ready before the proxy starts, in order.
    #[serde(default)]
    pub(crate) before: Vec<Process>,
    pub(crate) ready: Option<Ready>,
    /// Whom its TLS clients have to be.
    pub(crate) tls: Option<Foreign>,
    /// Further templates, rendered into the directory under their own names.
    #[serde(default)]
    pub(crate) files: Vec<String>,
}

/// Every peer, by name.
pub(crate) fn load_all(folder: &Path) -> Result<Vec<Peer>, String> {
    let mut all = Vec::new();
    for (name, text) in crate::files(&folder.join("peers"), "toml")? {
        let mut peer: Peer = toml::from_str(&text).map_err(|e| format!("peer {name}: {e}"))?;
        peer.name = name;
        all.push(peer);
    }
    Ok(all)
}

impl Peer {
    /// True for "no proxy at all": the client talks to the origin.
    pub(crate) fn is_direct(&self) -> bool {
        self.binary.is_none()
    }

    /// The executable; an empty path when there is nothing to execute.
    pub(crate) fn locate(&self) -> Result<PathBuf, String> {
        for process in &self.before {
            process.binary.locate()?;
        }
        self.binary.as_ref().map_or(Ok(PathBuf::new()), Binary::locate)
    }

    /// The line in which the program names its version.
    pub(crate) fn version(&self, path: &Path) -> String {
        if self.is_direct() {
            return "no proxy".into();
        }
        binary::version(path, &self.version)
    }

    /// Why it cannot run under this load, if it cannot.
    pub(crate) fn lacks(&self, load: &Load) -> Option<&'static str> {
        let has = |feature| self.features.contains(&feature);
        if !load.is_http() && self.http_only {
            return Some("serves HTTP only");
        }
        let forwards_bytes = self.forwards_bytes();
        if load.tls.is_some() && !has(Feature::Tls) && !forwards_bytes && self.tls.is_none() {
            return Some("TLS is not set up here");
        }
        if load.upstream_tls && !has(Feature::UpstreamTls) && !forwards_bytes {
            return Some("TLS to the origin is not set up here");
        }
        if load.tls == Some(KeyType::Rsa) && self.tls.is_some() {
            return Some("its identities are ECDSA");
        }
        if load.tls.is_none() && self.tls.is_some() {
            return Some("is set up for mutual TLS only");
        }
        if (load.http2 || load.upstream_http2) && !has(Feature::Http2) && !forwards_bytes {
            return Some("does not speak HTTP/2 here");
        }
        if load.translates() && !has(Feature::Translates) {
            return Some("does not translate between HTTP/1.1 and HTTP/2");
        }
        if load.clusters > 1 && !has(Feature::Clusters) {
            return Some("has one cluster only");
        }
        if load.access_log && !has(Feature::AccessLog) {
            return Some("its access log is not set up here");
        }
        if (load.mesh || load.filters > 0) && !has(Feature::Mesh) {
            return Some("is not set up with a mesh's policies here");
        }
        if load.connections > 1000 && !has(Feature::ManyConnections) && load.kind != Kind::Idle {
            return Some(
                "would open an upstream connection for each downstream one: beyond the descriptor limit",
            );
        }
        if self.namespace && !rustix::process::geteuid().is_root() {
            return Some("needs root for a network namespace of its own");
        }
        None
    }

    /// A relay: whatever comes, in clear text or not, is the origin's business.
    pub(crate) fn forwards_bytes(&self) -> bool {
        self.http.is_none() && !self.http_only
    }

    pub(crate) fn template(&self, load: &Load) -> Option<&String> {
        if load.is_http() { self.http.as_ref() } else { self.tcp.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_speak_http2_or_translate_is_left_out() {
        let all = load_all(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let lacks = |name: &str, lines: &str| {
            let load = crate::scenario::tests::load(lines);
            all.iter().find(|p| p.name == name).unwrap().lacks(&load)
        };
        let (both, front) =
            ("downstream = 'http2'\nupstream = 'http2'\n", "downstream = 'http2'\nupstream = 'http1'\n");
        assert_eq!(lacks("pingora", both), Some("does not speak HTTP/2 here"));
        assert_eq!(lacks("floor", both), None, "it forwards whatever comes");
        assert!(lacks("floor", front).is_some_and(|reason| reason.contains("translate")));
        assert_eq!((lacks("envoy", both), lacks("envoy", front)), (None, None));
    }

    #[test]
    fn every_peer_of_the_repository_is_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let all = load_all(folder).unwrap();
        for name in ["envoy", "floor", "haproxy", "nginx", "millrace-uring", "millrace-epoll", "direct"] {
            assert!(all.iter().any(|p| p.name == name), "{name}");
        }
        for peer in &all {
            for file in [&peer.http, &peer.tcp].into_iter().flatten().chain(&peer.files) {
                assert!(folder.join("peers").join(file).is_file(), "{}: {file}", peer.name);
            }
        }
    }
}
