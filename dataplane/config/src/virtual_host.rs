//! Route configurations and the choice of a virtual host.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use millrace_base::Metadata;

use crate::route::{PerFilterConfigs, RouteFilterFields};
use crate::{HeaderMatcher, HeaderMutations, RetryPolicy, Route, ScopeId};

/// `VirtualHost.require_tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RequireTls {
    #[default]
    None,
    ExternalOnly,
    All,
}

/// `envoy.config.route.v3.VirtualHost`.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// `name`.
    pub name: Arc<str>,
    /// `domains`, lower case, as configured (`*`, `*.suffix`, `prefix.*`, exact).
    pub domains: Vec<Arc<str>>,
    /// In configuration order: the first match wins.
    pub routes: Vec<Arc<Route>>,
    /// `require_tls`.
    pub require_tls: RequireTls,
    /// Changes to requests.
    pub request_headers: HeaderMutations,
    /// Changes to responses.
    pub response_headers: HeaderMutations,
    /// `include_request_attempt_count`.
    pub include_request_attempt_count: bool,
    /// `include_attempt_count_in_response`.
    pub include_attempt_count_in_response: bool,
    /// `include_is_timeout_retry_header`.
    pub include_is_timeout_retry: bool,
    /// `retry_policy`, for routes without their own (already merged into the routes).
    pub retry_policy: Option<Arc<RetryPolicy>>,
    /// `typed_per_filter_config`.
    pub per_filter: PerFilterConfigs,
    /// `rate_limits` and `cors`.
    pub for_filters: RouteFilterFields,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
    /// `virtual_clusters` in configuration order, then the one of all other requests; empty without any.
    pub virtual_clusters: Vec<VirtualCluster>,
}

/// `VirtualCluster`: requests that are counted together.
#[derive(Clone, Debug)]
pub struct VirtualCluster {
    /// All must match.
    pub headers: Vec<HeaderMatcher>,
    /// Statistics scope `vhost.<virtual host>.vcluster.<name>.`.
    pub scope: ScopeId,
}

/// `envoy.config.route.v3.RouteConfiguration` with its domain tables.
#[derive(Clone, Debug, Default)]
pub struct RouteConfiguration {
    /// `name`.
    pub name: Arc<str>,
    /// In configuration order.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Changes to requests.
    pub request_headers: HeaderMutations,
    /// Changes to responses.
    pub response_headers: HeaderMutations,
    /// `internal_only_headers`, lower case.
    pub internal_only_headers: Vec<Arc<[u8]>>,
    /// `most_specific_header_mutations_wins`.
    pub most_specific_mutations_win: bool,
    /// `ignore_port_in_host_matching`.
    pub ignore_port_in_host: bool,
    /// `typed_per_filter_config`.
    pub per_filter: PerFilterConfigs,
    domains: DomainTable,
}

/// Exact names, `*suffix` and `prefix*` by length (longest first), and the catch-all.
#[derive(Clone, Debug, Default)]
struct DomainTable {
    exact: Domains,
    suffixes: Vec<(usize, Domains)>,
    prefixes: Vec<(usize, Domains)>,
    any: Option<u32>,
}

type Domains = HashMap<Domain, u32, BuildHasherDefault<DomainHasher>>;

/// The virtual host's own text, or what of a wildcard is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Domain(Arc<str>);

impl Borrow<[u8]> for Domain {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As the bytes that are looked up.
        self.0.as_bytes().hash(state);
    }
}

/// Fast, and with no secret: only configured names are stored, so whoever chooses the name that is looked up cannot
/// make two of them collide, let alone many.
#[derive(Clone, Debug, Default)]
pub(crate) struct DomainHasher(u64);

impl DomainHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for DomainHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        match bytes.last_chunk() {
            Some(_) if rest.is_empty() => {}
            // Bytes that were mixed already do no harm.
            Some(last) => self.mix(u64::from_le_bytes(*last)),
            None => self.mix(rest.iter().fold(0, |word, b| word << 8 | u64::from(*b))),
        }
    }

    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.mix(!(n as u64));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl RouteConfiguration {
    /// Builds the domain tables from `virtual_hosts`.
    ///
    /// # Errors
    /// The first domain that appears twice (Envoy: "Only unique values for domains are permitted").
    pub fn compile(mut self) -> Result<Self, Arc<str>> {
        let mut table = DomainTable::default();
        for (index, host) in self.virtual_hosts.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            for domain in &host.domains {
                if !table.add(domain, index) {
                    return Err(domain.clone());
                }
            }
        }
        table.suffixes.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
        table.prefixes.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
        self.domains = table;
        Ok(self)
    }

    /// Envoy's order: exact, longest suffix wildcard, longest prefix wildcard, `*`. `host` is lower case
    /// and has lost its port when `ignore_port_in_host` says so.
    pub fn virtual_host(&self, host: &[u8]) -> Option<&Arc<VirtualHost>> {
        self.domains.find(host).and_then(|index| self.virtual_hosts.get(index as usize))
    }
}

impl DomainTable {
    fn add(&mut self, domain: &Arc<str>, index: u32) -> bool {
        if &**domain == "*" {
            return self.any.replace(index).is_none();
        }
        if let Some(suffix) = domain.strip_prefix('*') {
            let table = by_length(&mut self.suffixes, suffix.len());
            return table.insert(Domain(suffix.into()), index).is_none();
        }
        if let Some(prefix) = domain.strip_suffix('*') {
            let table = by_length(&mut self.prefixes, prefix.len());
            return table.insert(Domain(prefix.into()), index).is_none();
        }
        self.exact.insert(Domain(domain.clone()), index).is_none()
    }

    fn find(&self, host: &[u8]) -> Option<u32> {
        if let Some(index) = self.exact.get(host) {
            return Some(*index);
        }
        // A wildcard stands for at least one character.
        for (len, table) in self.suffixes.iter().filter(|(len, _)| *len < host.len()) {
            let tail = host.get(host.len() - len..);
            if let Some(index) = tail.and_then(|tail| table.get(tail)) {
                return Some(*index);
            }
        }
        for (len, table) in self.prefixes.iter().filter(|(len, _)| *len < host.len()) {
            if let Some(index) = host.get(..*len).and_then(|head| table.get(head)) {
                return Some(*index);
            }
        }
        self.any
    }
}

fn by_length(tables: &mut Vec<(usize, Domains)>, len: usize) -> &mut Domains {
    let at = tables.iter().position(|(l, _)| *l == len).unwrap_or_else(|| {
        tables.push((len, Domains::default()));
        tables.len() - 1
    });
    &mut tables[at].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, domains: &[&str]) -> Arc<VirtualHost> {
        Arc::new(VirtualHost {
            name: name.into(),
            domains: domains.iter().map(|d| Arc::from(*d)).collect(),
            routes: Vec::new(),
            require_tls: RequireTls::None,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
            include_is_timeout_retry: false,
            retry_policy: None,
            per_filter: Vec::new(),
            for_filters: RouteFilterFields::default(),
            metadata: None,
            virtual_clusters: Vec::new(),
        })
    }

    #[test]
    fn domains_are_chosen_in_envoys_order() {
        let hosts = vec![
            host("any", &["*"]),
            host("suffix", &["*.example.com"]),
            host("longer", &["*-bar.example.com"]),
            host("prefix", &["www.*"]),
            host("exact", &["www.example.com"]),
        ];
        let config = RouteConfiguration { virtual_hosts: hosts, ..Default::default() }.compile().unwrap();
        let name = |h: &str| config.virtual_host(h.as_bytes()).map(|v| v.name.to_string());
        assert_eq!(name("www.example.com").as_deref(), Some("exact"));
        assert_eq!(name("foo-bar.example.com").as_deref(), Some("longer"));
        assert_eq!(name("foo.example.com").as_deref(), Some("suffix"));
        assert_eq!(name("www.other.org").as_deref(), Some("prefix"));
        assert_eq!(name(".example.com").as_deref(), Some("any"));
        assert_eq!(name("").as_deref(), Some("any"));
    }

    #[test]
    fn a_domain_may_appear_once_only() {
        let hosts = vec![host("a", &["x.com"]), host("b", &["x.com"])];
        let failed = RouteConfiguration { virtual_hosts: hosts, ..Default::default() }.compile();
        assert_eq!(failed.err().as_deref(), Some("x.com"));
    }
}
