//! One resolution: hosts file, name servers, address families.

use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use millrace_config::{DnsLookupFamily, DnsResolver};

use super::ADDRESSES_MAX;
use super::hosts;

/// Addresses of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// In the order of the answer; empty when the name has none.
    pub addresses: Vec<IpAddr>,
    /// The smallest time to live; `None` when the answer has none.
    pub ttl: Option<Duration>,
    /// The name does not exist.
    pub not_found: bool,
}

/// No answer; ask again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupError {
    /// Why.
    pub reason: String,
    /// Nobody answered in time.
    pub timed_out: bool,
    /// The same in the words of Envoy's resolver, for `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
}

impl LookupError {
    fn new(error: impl ToString) -> Self {
        let details = "cares_failure:Could_not_contact_DNS_servers";
        Self { reason: error.to_string(), timed_out: false, details }
    }

    /// One that needs no other words.
    pub(super) fn told(details: &'static str) -> Self {
        Self { reason: details.to_owned(), timed_out: false, details }
    }

    fn of(error: &NetError) -> Self {
        let details = match error {
            NetError::Timeout => "cares_failure:Timeout_while_contacting_DNS_servers",
            NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => {
                "cares_failure:DNS_server_refused_query"
            }
            NetError::Dns(_) => "cares_failure:DNS_server_returned_general_failure",
            _ => return Self::new(error),
        };
        Self { reason: error.to_string(), timed_out: matches!(error, NetError::Timeout), details }
    }
}

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

    /// The same with settings of its own instead of the system's.
    #[must_use]
    fn configured(&self, config: &DnsResolver) -> Self;
}

/// The resolver of `/etc/hosts` and `/etc/resolv.conf`. The name servers are read at the first question, so
/// that a process without DNS clusters holds no resolver.
#[derive(Default)]
pub struct SystemResolver {
    resolver: tokio::sync::OnceCell<TokioResolver>,
    config: Option<DnsResolver>,
}

impl SystemResolver {
    /// With settings of its own.
    pub fn with(config: DnsResolver) -> Self {
        Self { resolver: tokio::sync::OnceCell::new(), config: Some(config) }
    }

    fn builder(&self) -> Result<ResolverBuilder<TokioRuntimeProvider>, LookupError> {
        let Some(own) = &self.config else { return TokioResolver::builder_tokio().map_err(LookupError::new) };
        let system = read_system_conf();
        let (mut config, options) = match system {
            Ok(found) => found,
            // Without a file there are only the servers of the configuration.
            Err(_) if !own.servers.is_empty() => (ResolverConfig::default(), ResolverOpts::default()),
            Err(error) => return Err(LookupError::new(error)),
        };
        if !own.servers.is_empty() && (!own.servers_are_fallback || config.name_servers.is_empty()) {
            let mut servers = Vec::with_capacity(own.servers.len());
            for server in &own.servers {
                let mut one = NameServerConfig::udp_and_tcp(server.ip());
                one.connections.iter_mut().for_each(|connection| connection.port = server.port());
                servers.push(one);
            }
            config.name_servers = servers;
        }
        if own.use_tcp {
            for server in &mut config.name_servers {
                server.connections.retain(|connection| matches!(connection.protocol, ProtocolConfig::Tcp));
            }
        }
        if own.no_search_domains {
            (config.domain, config.search) = (None, Vec::new());
        }
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let ours = builder.options_mut();
        *ours = options;
        ours.timeout = own.query_timeout;
        // The first try is none of them.
        ours.attempts = (own.query_tries.max(1) - 1) as usize;
        ours.server_ordering_strategy = match own.rotate {
            true => ServerOrderingStrategy::RoundRobin,
            false => ServerOrderingStrategy::UserProvidedOrder,
        };
        Ok(builder)
    }

    async fn resolver(&self) -> Result<&TokioResolver, LookupError> {
        let build = async || {
            let mut builder = self.builder()?;
            let options = builder.options_mut();
            // The schedule decides when to ask, not a cache.
            options.cache_size = 0;
            builder.build().map_err(LookupError::new)
        };
        self.resolver.get_or_try_init(build).await
    }
}

impl Lookup for SystemResolver {
    async fn lookup(&self, host: &str, family: Family) -> Result<Answer, LookupError> {
        if let Some(addresses) = hosts::lookup(host, family) {
            return Ok(Answer { addresses, ..Answer::default() });
        }
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let found = match self.resolver().await?.lookup(host, kind).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => {
                return Ok(Answer { not_found: error.is_nx_domain(), ..Answer::default() });
            }
            Err(error) => return Err(LookupError::of(&error)),
        };
        let addresses = found.answers().iter().filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
        let addresses = addresses.take(ADDRESSES_MAX).collect();
        let ttl = found.valid_until().saturating_duration_since(Instant::now());
        Ok(Answer { addresses, ttl: Some(ttl), not_found: false })
    }

    fn configured(&self, config: &DnsResolver) -> Self {
        Self::with(config.clone())
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
