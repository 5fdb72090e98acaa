//! One resolution: hosts file, name servers, address families.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use millrace_config::DnsLookupFamily;

use super::ADDRESSES_MAX;
use super::hosts;

/// Addresses of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// In the order of the answer; empty when the name has none.
    pub addresses: Vec<IpAddr>,
    /// The smallest time to live; `None` when the answer has none.
    pub ttl: Option<Duration>,
}

/// No answer; ask again later. The text says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupError(pub String);

/// One of the two kinds of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Family {
    V4,
    V6,
}

/// Something that can answer for one name and family.
pub trait Lookup: Send + Sync + 'static {
    /// Asks. "No such name" and "no such record" are an empty answer, not an error.
    fn lookup(&self, host: &str, family: Family) -> impl Future<Output = Result<Answer, LookupError>> + Send;
}

/// The resolver of `/etc/hosts` and `/etc/resolv.conf`. The name servers are read at the first question, so
/// that a process without DNS clusters holds no resolver.
#[derive(Default)]
pub struct SystemResolver {
    resolver: tokio::sync::OnceCell<TokioResolver>,
    servers: Vec<SocketAddr>,
}

impl SystemResolver {
    /// Asks these name servers instead of those of `/etc/resolv.conf`.
    pub fn with_servers(servers: Vec<SocketAddr>) -> Self {
        Self { resolver: tokio::sync::OnceCell::new(), servers }
    }

    fn builder(&self) -> Result<ResolverBuilder<TokioRuntimeProvider>, LookupError> {
        if self.servers.is_empty() {
            return TokioResolver::builder_tokio().map_err(|error| LookupError(error.to_string()));
        }
        let servers = self.servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    async fn resolver(&self) -> Result<&TokioResolver, LookupError> {
        let build = async || {
            let mut builder = self.builder()?;
            let options = builder.options_mut();
            // The schedule decides when to ask, not a cache.
            options.cache_size = 0;
            builder.build().map_err(|error| LookupError(error.to_string()))
        };
        self.resolver.get_or_try_init(build).await
    }
}

impl Lookup for SystemResolver {
    async fn lookup(&self, host: &str, family: Family) -> Result<Answer, LookupError> {
        if let Some(addresses) = hosts::lookup(host, family) {
            return Ok(Answer { addresses, ttl: None });
        }
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let found = match self.resolver().await?.lookup(host, kind).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Ok(Answer::default()),
            Err(error) => return Err(LookupError(error.to_string())),
        };
        let addresses = found.answers().iter().filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
        let addresses = addresses.take(ADDRESSES_MAX).collect();
        Ok(Answer { addresses, ttl: Some(found.valid_until().saturating_duration_since(Instant::now())) })
    }
}

/// Asks for the families that `dns_lookup_family` wants, in Envoy's order.
pub(super) async fn resolve(
    lookup: &impl Lookup,
    host: &str,
    family: DnsLookupFamily,
) -> Result<Answer, LookupError> {
    let (first, second) = match family {
        DnsLookupFamily::V4Only => return lookup.lookup(host, Family::V4).await,
        DnsLookupFamily::V6Only => return lookup.lookup(host, Family::V6).await,
        DnsLookupFamily::Auto => (Family::V6, Family::V4),
        DnsLookupFamily::V4Preferred => (Family::V4, Family::V6),
        DnsLookupFamily::All => return all(lookup, host).await,
    };
    match lookup.lookup(host, first).await {
        Ok(answer) if !answer.addresses.is_empty() => Ok(answer),
        _ => lookup.lookup(host, second).await,
    }
}

/// Both families; one of them may fail.
async fn all(lookup: &impl Lookup, host: &str) -> Result<Answer, LookupError> {
    let (v4, v6) = tokio::join!(lookup.lookup(host, Family::V4), lookup.lookup(host, Family::V6));
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.addresses.extend(v6.addresses);
            v4.ttl = v4.ttl.into_iter().chain(v6.ttl).min();
            Ok(v4)
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.addresses.is_empty() => Ok(one),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}
