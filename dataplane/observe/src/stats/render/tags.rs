//! Labels: parts of a name that become tags, Envoy's defaults and `stats_tags` of the bootstrap.

use std::ops::Range;

use super::super::registry::Scope;
use super::super::scope::ScopeKind;

/// One entry of `stats_config.stats_tags`.
#[derive(Clone, Debug)]
pub enum TagRule {
    /// `fixed_value`: on every statistic.
    Fixed {
        /// `tag_name`.
        name: String,
        /// The value.
        value: String,
    },
    /// `regex`: the first group is cut out of the name, the second (or else the first) is the value.
    /// Look-ahead works; a pattern that backtracks too far does not match.
    Regex {
        /// `tag_name`.
        name: String,
        /// The compiled pattern.
        regex: Box<fancy_regex::Regex>,
    },
}

impl TagRule {
    /// Compiles a `regex` rule; the error is one line.
    pub fn regex(name: &str, pattern: &str) -> Result<Self, String> {
        // POSIX classes inside brackets and everything else that ECMAScript allows stand in both syntaxes.
        let regex = fancy_regex::RegexBuilder::new(pattern).backtrack_limit(100_000).build();
        let regex = regex.map_err(|e| e.to_string().lines().next().unwrap_or_default().to_owned())?;
        Ok(Self::Regex { name: name.to_owned(), regex: Box::new(regex) })
    }
}

/// How names become a metric and labels.
#[derive(Clone, Debug)]
pub struct TagRules {
    /// `use_all_default_tags`, default true.
    pub defaults: bool,
    /// `stats_tags` in order.
    pub rules: Vec<TagRule>,
}

impl Default for TagRules {
    fn default() -> Self {
        Self { defaults: true, rules: Vec::new() }
    }
}

/// Labels found and the bytes of the name that they took.
#[derive(Debug, Default)]
pub(super) struct Tags {
    pub(super) labels: Vec<(String, String)>,
    cut: Vec<Range<usize>>,
}

impl Tags {
    fn take(&mut self, label: &str, value: &str, cut: Range<usize>) {
        self.labels.push((label.to_owned(), value.to_owned()));
        self.cut.push(cut);
    }

    /// The name without what the labels took.
    pub(super) fn rest(&mut self, name: &str) -> String {
        self.cut.sort_by_key(|cut| cut.start);
        let (mut rest, mut at) = (String::with_capacity(name.len()), 0);
        for cut in &self.cut {
            rest.push_str(name.get(at..cut.start).unwrap_or_default());
            at = at.max(cut.end);
        }
        rest.push_str(name.get(at..).unwrap_or_default());
        rest
    }
}

impl TagRules {
    pub(super) fn extract(&self, scope: &Scope, name: &str) -> Tags {
        let mut tags = Tags::default();
        if self.defaults {
            response_code(name, &mut tags);
            handshake(scope, name, &mut tags);
            prefixes(scope, name, &mut tags);
        }
        for rule in &self.rules {
            match rule {
                TagRule::Fixed { name, value } => tags.labels.push((name.clone(), value.clone())),
                TagRule::Regex { name: label, .. } if tags.labels.iter().any(|(l, _)| l == label) => {}
                TagRule::Regex { name: label, regex } => {
                    let Ok(Some(found)) = regex.captures(name) else { continue };
                    let Some(cut) = found.get(1) else { continue };
                    let value = found.get(2).unwrap_or(cut).as_str();
                    tags.take(label, value, cut.range());
                }
            }
        }
        tags
    }
}

/// `_rq_<code>` and `_rq_<class>xx`.
fn response_code(name: &str, tags: &mut Tags) {
    let Some((head, last)) = name.rsplit_once("_rq_") else { return };
    let digits = last.bytes().take_while(u8::is_ascii_digit).count();
    let at = head.len() + "_rq_".len();
    match (digits, &last[digits..]) {
        (3, "") => tags.take("envoy_response_code", last, at - 1..name.len()),
        (1, "xx") => tags.take("envoy_response_code_class", &last[..1], at..at + 1),
        _ => {}
    }
}

/// What a handshake agreed upon: the last part of names like `ssl.ciphers.<name>`, which may have dots.
fn handshake(scope: &Scope, name: &str, tags: &mut Tags) {
    let cipher = match scope.kind {
        ScopeKind::ListenerSsl => "envoy_ssl_cipher",
        ScopeKind::ClusterSsl => "cipher_suite",
        _ => return,
    };
    let start = scope.kind.prefix().len() + 1 + scope.name.len() + 1;
    let Some((family, value)) = name.get(start..).and_then(|own| own.split_once('.')) else { return };
    let label = match family {
        "ciphers" => cipher,
        "curves" => "envoy_ssl_curve",
        "sigalgs" => "envoy_ssl_sigalg",
        "versions" => "envoy_ssl_version",
        _ => return,
    };
    tags.take(label, value, start + family.len()..name.len());
}

/// `proxy_proto.[<stat_prefix>.]versions.v<n>.<what>`.
fn proxy_protocol(scope: &Scope, name: &str, tags: &mut Tags) {
    let start = scope.kind.prefix().len() + 1;
    let own = start + scope.name.len() + usize::from(!scope.name.is_empty());
    if own > start {
        tags.take("envoy_proxy_protocol_prefix", &scope.name, start..own);
    }
    let Some(rest) = name.get(own..).and_then(|own| own.strip_prefix("versions.v")) else { return };
    if let Some((version, _)) = rest.split_once('.') {
        let end = own + "versions.v".len() + version.len() + 1;
        tags.take("envoy_proxy_protocol_version", version, own..end);
    }
}

/// `cluster.<name>.grpc.<service>.<method>.`: names without dots only, as in Envoy.
fn grpc_call(name: &str, tags: &mut Tags) {
    let mut tokens = name.split('.').scan(0, |at, token| {
        let start = std::mem::replace(at, *at + token.len() + 1);
        Some((start, token))
    });
    if tokens.nth(2).is_none_or(|(_, token)| token != "grpc") {
        return;
    }
    let rest: Vec<(usize, &str)> = tokens.take(3).collect();
    // What is left behind a service or method is at least the statistic's own name.
    for (label, at) in [("envoy_grpc_bridge_method", 1), ("envoy_grpc_bridge_service", 0)] {
        if let (Some((start, token)), true) = (rest.get(at), rest.len() > at + 1) {
            tags.take(label, token, *start..*start + token.len() + 1);
        }
    }
}

/// What the scope's own name says. Cuts take the dot behind the value.
fn prefixes(scope: &Scope, name: &str, tags: &mut Tags) {
    let first = |from: usize| name.get(from..).and_then(|rest| rest.find('.')).map(|len| from..from + len);
    let mut token = |label: &str, from: usize| {
        if let Some(range) = first(from) {
            tags.take(label, &name[range.clone()], range.start..range.end + 1);
        }
    };
    let start = scope.kind.prefix().len() + 1;
    match scope.kind {
        ScopeKind::Tcp => token("envoy_tcp_prefix", start),
        ScopeKind::Cluster
        | ScopeKind::ClusterSsl
        | ScopeKind::ClusterSecrets
        | ScopeKind::ClusterBudgets
        | ScopeKind::ClusterSizes
        | ScopeKind::ClusterZone => {
            token("envoy_cluster_name", start);
        }
        ScopeKind::ProxyProto => proxy_protocol(scope, name, tags),
        ScopeKind::ListenerSsl | ScopeKind::ListenerSecrets => {
            let address = scope.name.rsplit_once('.').map_or(&*scope.name, |(address, _)| address);
            tags.take("envoy_listener_address", address, start..start + address.len() + 1);
        }
        ScopeKind::Grpc => {
            grpc_call(name, tags);
            if let Some(range) = first(start) {
                tags.take("envoy_cluster_name", &name[range.clone()], range.start..range.end + 1);
            }
        }
        ScopeKind::Http
        | ScopeKind::HttpFault
        | ScopeKind::HttpCors
        | ScopeKind::HttpCsrf
        | ScopeKind::HttpHealthCheck
        | ScopeKind::HttpStatefulSession
        | ScopeKind::ScopedRds => token("envoy_http_conn_manager_prefix", start),
        ScopeKind::CustomResponse if !scope.name.is_empty() => {
            token("envoy_http_conn_manager_prefix", "http.".len());
        }
        ScopeKind::HttpLocalRateLimit => token("envoy_local_http_ratelimit_prefix", 0),
        ScopeKind::LocalRateLimit => token("envoy_local_network_ratelimit_prefix", start),
        ScopeKind::ConnectionLimit => token("envoy_connection_limit_prefix", start),
        ScopeKind::Rds | ScopeKind::Vhds => {
            token("envoy_http_conn_manager_prefix", start);
            if let Some(at) = scope.name.find(".rds.") {
                let from = at + ".rds.".len();
                let value = &scope.name[from..];
                tags.take("envoy_rds_route_config", value, start + from..start + scope.name.len() + 1);
            }
        }
        ScopeKind::Listener | ScopeKind::HttpListener => {
            let address_len = scope.name.find(".http.").unwrap_or(scope.name.len());
            if scope.kind == ScopeKind::HttpListener {
                token("envoy_http_conn_manager_prefix", start + address_len + ".http.".len());
            }
            worker(name, start + address_len + 1, tags);
            if &scope.name[..address_len] != "admin" {
                tags.take(
                    "envoy_listener_address",
                    &scope.name[..address_len],
                    start..start + address_len + 1,
                );
            }
        }
        ScopeKind::Route => {
            let vhost_len = scope.name.find(".vcluster.").or_else(|| scope.name.find(".route."));
            let vhost_len = vhost_len.unwrap_or(scope.name.len());
            let tail = &scope.name[vhost_len..];
            if tail.starts_with(".vcluster.") {
                token("envoy_virtual_cluster", start + vhost_len + ".vcluster.".len());
            }
            token("envoy_virtual_host", start);
            if tail.starts_with(".route.") {
                let mut route = |from| {
                    if let Some(range) = first(from) {
                        tags.take("envoy_route", &name[range.clone()], range.start..range.end + 1);
                    }
                };
                route(start + vhost_len + ".route.".len());
            }
        }
        ScopeKind::Process => {
            for prefix in ["server.", "thread_local_cluster_manager."] {
                if name.starts_with(prefix) {
                    worker(name, prefix.len(), tags);
                }
            }
        }
        _ => {}
    }
}

/// `worker_<id>.`
fn worker(name: &str, at: usize, tags: &mut Tags) {
    let Some(id) = name.get(at..).and_then(|rest| rest.strip_prefix("worker_")) else { return };
    let digits = id.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 && id[digits..].starts_with('.') {
        let from = at + "worker_".len();
        tags.take("envoy_worker_id", &id[..digits], from..from + digits + 1);
    }
}
