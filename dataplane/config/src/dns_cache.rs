//! Names that requests bring along: caches of their addresses
//! (`extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig`), and what is configured of those who ask them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::{Address, Cidr, DnsLookupFamily, DnsResolver, ScopeId};

/// A cache of one process, from its first user to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsCacheId(pub u32);

/// `DnsCacheConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsCacheConfig {
    /// `name`: one cache for all that name it.
    pub name: Arc<str>,
    /// `dns_lookup_family`.
    pub family: DnsLookupFamily,
    /// `dns_refresh_rate`, default 60 s: for names that never had an address.
    pub refresh_rate: Duration,
    /// `dns_min_refresh_rate`, default 5 s: no time to live counts as less.
    pub min_refresh_rate: Duration,
    /// `host_ttl`, default 5 min: names that were not used for so long are dropped when they would be asked for again.
    pub host_ttl: Duration,
    /// `max_hosts`, default 1024.
    pub max_hosts: u32,
    /// `dns_failure_refresh_rate`: `(base_interval, max_interval)` of the back-off; without it the refresh rate.
    pub failure_refresh: Option<(Duration, Duration)>,
    /// `disable_dns_refresh_on_failure`: the next request asks again instead.
    pub no_refresh_on_failure: bool,
    /// `dns_cache_circuit_breaker.max_pending_requests`, default 1024.
    pub max_pending_requests: u32,
    /// `dns_query_timeout`, default 5 s; `None` (0 s) leaves it to the resolver.
    pub query_timeout: Option<Duration>,
    /// `typed_dns_resolver_config`; `None` for the system's settings.
    pub resolver: Option<Arc<DnsResolver>>,
    /// `preresolve_hostnames`: names and ports.
    pub preresolve: Vec<(Arc<str>, u16)>,
    /// `resolved_address_filter`: addresses that are taken out of answers.
    pub filter: Option<AddressFilter>,
}

impl DnsCacheConfig {
    /// A cache of which nothing is said but its name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            family: DnsLookupFamily::Auto,
            refresh_rate: Duration::from_secs(60),
            min_refresh_rate: Duration::from_secs(5),
            host_ttl: Duration::from_secs(300),
            max_hosts: 1024,
            failure_refresh: None,
            no_refresh_on_failure: false,
            max_pending_requests: 1024,
            query_timeout: Some(Duration::from_secs(5)),
            resolver: None,
            preresolve: Vec::new(),
            filter: None,
        }
    }
}

/// `type.matcher.v3.AddressMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressFilter {
    /// `ranges`.
    pub ranges: Vec<Cidr>,
    /// `invert_match`.
    pub inverted: bool,
}

impl AddressFilter {
    /// True for an address that is taken out.
    pub fn matches(&self, ip: IpAddr) -> bool {
        // An IPv4 address in the clothes of an IPv6 one leads to the same place.
        let canonical = ip.to_canonical();
        self.ranges.iter().any(|range| range.contains(ip) || range.contains(canonical)) != self.inverted
    }
}

/// A cache as everybody sees it: its settings, and the two counts that all shards go by. Shards write to neither of them
/// for a name that is known.
#[derive(Debug)]
pub struct DnsCache {
    /// Which one.
    pub id: DnsCacheId,
    /// Statistics scope `dns_cache.<name>.`.
    pub scope: ScopeId,
    /// Its settings.
    pub config: DnsCacheConfig,
    /// Requests that wait for an answer.
    pending: AtomicU32,
    /// Names that it holds, resolved or not.
    hosts: AtomicU32,
}

impl DnsCache {
    /// An empty cache.
    pub fn new(id: DnsCacheId, scope: ScopeId, config: DnsCacheConfig) -> Self {
        Self { id, scope, config, pending: AtomicU32::new(0), hosts: AtomicU32::new(0) }
    }

    /// As many requests wait as may: as in Envoy nobody gets through then, whether the name is known or not.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.pending() >= self.config.max_pending_requests
    }

    /// Counts one request that waits; false when there are as many as may. Undo with [`Self::end_wait`].
    #[must_use]
    pub fn begin_wait(&self) -> bool {
        let more = |waiting: u32| (waiting < self.config.max_pending_requests).then_some(waiting + 1);
        self.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// A request waits no longer.
    pub fn end_wait(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests that wait.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// No further name is taken.
    pub fn is_full(&self) -> bool {
        self.hosts.load(Ordering::Relaxed) >= self.config.max_hosts
    }

    /// So many names are held now. Told by who keeps them.
    pub fn set_hosts(&self, count: usize) {
        self.hosts.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

/// When a name was used last, by the wall clock: shards write now and then, the control thread reads.
#[derive(Debug, Default)]
pub struct LastUse(AtomicU64);

impl LastUse {
    /// Used at this time, in nanoseconds since the epoch.
    pub fn touch(&self, wall_nanos: u64) {
        self.0.store(wall_nanos, Ordering::Relaxed);
    }

    /// The last time.
    pub fn wall_nanos(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What came of a name. Never edited: the next answer is another one.
#[derive(Debug)]
pub struct ResolvedHost {
    /// Name and port, as [`normalize`] writes them.
    pub name: Arc<str>,
    /// The first address; `None` when it never had one.
    pub address: Option<Address>,
    /// Those behind it.
    pub additional_addresses: Option<Arc<[Address]>>,
    /// Why it has none, as Envoy words it between the braces of `dns_resolution_failure{}`.
    pub details: Arc<str>,
    /// The resolver failed. A name that does not exist, or has no address, is no failure.
    pub failed: bool,
    /// Shared by all answers for the name.
    pub last_use: Arc<LastUse>,
}

/// A shard wants to know the addresses of a host.
#[derive(Clone, Debug)]
pub struct HostQuestion {
    /// The cache that shall hold them.
    pub cache: Arc<DnsCache>,
    /// Host and port, as [`normalize`] writes them.
    pub host: Arc<str>,
    /// The port, where that of `host` is none.
    pub default_port: u16,
    /// What is known is a failure, which does not count.
    pub anew: bool,
}

/// What all shards are told of a host.
#[derive(Clone, Debug)]
pub struct HostNews {
    /// The cache that holds it.
    pub cache: DnsCacheId,
    /// As in the question.
    pub host: Arc<str>,
    /// What is known of it; `None` when it was dropped.
    pub answer: Option<Arc<ResolvedHost>>,
}

/// `envoy.clusters.dynamic_forward_proxy`.
#[derive(Clone, Debug)]
pub struct ForwardProxyCluster {
    /// `dns_cache_config`.
    pub cache: Arc<DnsCache>,
    /// The port of hosts without one: 443 where the cluster speaks TLS, otherwise 80.
    pub default_port: u16,
}

/// `extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig`.
#[derive(Clone, Debug)]
pub struct ForwardProxyFilter {
    /// `dns_cache_config`.
    pub cache: Arc<DnsCache>,
    /// `allow_dynamic_host_from_filter_state`. The cluster reads it in any case.
    pub reads_state: bool,
}

/// `extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig`: which host the request goes to instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardProxyHost {
    /// Its own: nothing was set.
    Own,
    /// `host_rewrite_literal`.
    Literal(Arc<[u8]>),
    /// `host_rewrite_header`, lower case: the first value of this field, if it is there.
    Header(Arc<[u8]>),
}

/// `extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig`.
#[derive(Debug)]
pub struct SniForwardProxy {
    /// `dns_cache_config`.
    pub cache: Arc<DnsCache>,
    /// `port_value`.
    pub port: u16,
}

/// Where the port of a host begins: behind its last colon, unless that is part of an IPv6 address in brackets.
fn port_at(host: &str) -> Option<usize> {
    let colon = host.rfind(':')?;
    host.rfind(']').is_none_or(|bracket| bracket < colon).then_some(colon)
}

/// Writes a host with a port into `out`, which is cleared: its own, whatever that is, or `default_port`.
pub fn normalize(host: &str, default_port: u16, out: &mut String) {
    use std::fmt::Write as _;
    out.clear();
    out.push_str(host);
    if port_at(host).is_none() {
        let _ = write!(out, ":{default_port}");
    }
}

/// The name to resolve of a host, without brackets, and its port. A port that is none belongs to the name, which then
/// cannot be resolved.
pub fn split(host: &str) -> (&str, Option<u16>) {
    let parsed = port_at(host).and_then(|at| Some((host.get(..at)?, parse_port(host.get(at + 1..)?)?)));
    let (name, port) = parsed.map_or((host, None), |(name, port)| (name, Some(port)));
    let bare = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    (bare.filter(|inner| inner.parse::<IpAddr>().is_ok()).unwrap_or(name), port)
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_get_a_port_as_in_envoy() {
        let mut out = String::new();
        for (host, port, want) in [
            ("localhost:80", 443, "localhost:80"),
            ("localhost", 443, "localhost:443"),
            ("[fc00::1]:443", 80, "[fc00::1]:443"),
            ("[fc00::1]", 80, "[fc00::1]:80"),
            ("a:", 80, "a:"),
            ("a:b", 80, "a:b"),
        ] {
            normalize(host, port, &mut out);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn names_and_ports_are_told_apart() {
        assert_eq!(split("a.test:80"), ("a.test", Some(80)));
        assert_eq!(split("[::1]:8080"), ("::1", Some(8080)));
        assert_eq!(split("1.2.3.4:0"), ("1.2.3.4", Some(0)));
        for bad in ["a:", "a:b", "a:65536", "a:+1", "a", "[::1]x"] {
            assert_eq!(split(bad), (bad, None));
        }
    }

    #[test]
    fn addresses_are_taken_out_in_either_form() {
        let ranges = vec![Cidr::new("127.0.0.0".parse().unwrap(), 8).unwrap()];
        let mut filter = AddressFilter { ranges, inverted: false };
        let matches = |filter: &AddressFilter, ip: &str| filter.matches(ip.parse().unwrap());
        assert!(matches(&filter, "127.1.2.3") && matches(&filter, "::ffff:127.0.0.1"));
        assert!(!matches(&filter, "10.0.0.1") && !matches(&filter, "::1"));
        filter.inverted = true;
        assert!(!matches(&filter, "127.1.2.3") && matches(&filter, "10.0.0.1"));
    }

    #[test]
    fn no_more_wait_than_may() {
        let config = DnsCacheConfig { max_pending_requests: 1, max_hosts: 2, ..DnsCacheConfig::named("c") };
        let cache = DnsCache::new(DnsCacheId(0), ScopeId(0), config);
        assert!(!cache.is_busy() && cache.begin_wait() && !cache.begin_wait() && cache.is_busy());
        cache.end_wait();
        assert!(!cache.is_busy() && !cache.is_full());
        cache.set_hosts(2);
        assert!(cache.is_full());
    }
}
