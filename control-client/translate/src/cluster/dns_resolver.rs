//! Whom names are asked of: `typed_dns_resolver_config`, `dns_resolution_config` and what came before them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::DnsResolver;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::bootstrap::v3 as bootstrap;
use millrace_proto::pb::envoy::config::cluster::v3 as clusters;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use millrace_proto::pb::envoy::extensions::network::dns_resolver as resolvers;

use crate::error::Rejection;
use crate::{address, extension, value};

const CARES: &str = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";
const GETADDRINFO: &str = "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig";
const HICKORY: &str = "envoy.extensions.network.dns_resolver.hickory.v3.HickoryDnsResolverConfig";
const PORT: u16 = 53;

type Found = Result<Option<Arc<DnsResolver>>, Rejection>;

/// That of a cluster, unless it has none. As in Envoy `use_tcp_for_dns_lookups` counts beside `dns_resolvers` only.
pub(super) fn of_cluster(cluster: &clusters::Cluster, path: &Path) -> Found {
    if let Some(config) = &cluster.typed_dns_resolver_config {
        return typed(config, &path.join("typed_dns_resolver_config"));
    }
    if let Some(config) = cluster.dns_resolution_config.as_ref().filter(|own| !own.resolvers.is_empty()) {
        return resolution(config, &path.join("dns_resolution_config"));
    }
    if cluster.dns_resolvers.is_empty() {
        return Ok(None);
    }
    let servers = servers(&cluster.dns_resolvers, &path.join("dns_resolvers"))?;
    Ok(Some(Arc::new(DnsResolver {
        servers,
        use_tcp: cluster.use_tcp_for_dns_lookups,
        ..DnsResolver::default()
    })))
}

/// That of a cache of hosts, unless it has none.
pub(crate) fn of_cache(config: &DnsCacheConfig, path: &Path) -> Found {
    if let Some(config) = &config.typed_dns_resolver_config {
        return typed(config, &path.join("typed_dns_resolver_config"));
    }
    if let Some(config) = &config.dns_resolution_config {
        return resolution(config, &path.join("dns_resolution_config"));
    }
    let with_tcp = || Arc::new(DnsResolver { use_tcp: true, ..DnsResolver::default() });
    Ok(config.use_tcp_for_dns_lookups.then(with_tcp))
}

/// That of all clusters without their own.
pub(crate) fn of_bootstrap(bootstrap: &bootstrap::Bootstrap) -> Found {
    let path = Path::default();
    if let Some(config) = &bootstrap.typed_dns_resolver_config {
        return typed(config, &path.join("typed_dns_resolver_config"));
    }
    if let Some(config) = &bootstrap.dns_resolution_config {
        return resolution(config, &path.join("dns_resolution_config"));
    }
    let with_tcp = || Arc::new(DnsResolver { use_tcp: true, ..DnsResolver::default() });
    Ok(bootstrap.use_tcp_for_dns_lookups.then(with_tcp))
}

/// A resolver given as an extension.
pub(super) fn typed(config: &core::TypedExtensionConfig, path: &Path) -> Found {
    let path = path.join("typed_config");
    let Some(any) = &config.typed_config else { return Ok(None) };
    let default = DnsResolver::default();
    let resolver = match extension::type_of(any).as_str() {
        CARES => {
            let from: resolvers::cares::v3::CaresDnsResolverConfig = extension::open(any, &path)?;
            let options = from.dns_resolver_options.as_ref();
            DnsResolver {
                servers: servers(&from.resolvers, &path.join("resolvers"))?,
                servers_are_fallback: from.use_resolvers_as_fallback,
                use_tcp: options.is_some_and(|options| options.use_tcp_for_dns_lookups),
                no_search_domains: options.is_some_and(|options| options.no_default_search_domain),
                query_timeout: from
                    .query_timeout_seconds
                    .as_ref()
                    .map_or(default.query_timeout, |seconds| Duration::from_secs(seconds.value)),
                query_tries: value::number(from.query_tries.as_ref(), default.query_tries),
                rotate: from.rotate_nameservers,
            }
        }
        GETADDRINFO => return Ok(None),
        HICKORY => {
            let from: resolvers::hickory::v3::HickoryDnsResolverConfig = extension::open(any, &path)?;
            DnsResolver {
                servers: servers(&from.resolvers, &path.join("resolvers"))?,
                query_timeout: from.query_timeout.as_ref().map_or(default.query_timeout, value::duration),
                query_tries: value::number(from.query_tries.as_ref(), default.query_tries),
                ..default
            }
        }
        _ => return Err(extension::not_served("DNS resolver", &config.name, Some(any), &path)),
    };
    Ok(Some(Arc::new(resolver)))
}

fn resolution(config: &core::DnsResolutionConfig, path: &Path) -> Found {
    let options = config.dns_resolver_options.as_ref();
    Ok(Some(Arc::new(DnsResolver {
        servers: servers(&config.resolvers, &path.join("resolvers"))?,
        use_tcp: options.is_some_and(|options| options.use_tcp_for_dns_lookups),
        no_search_domains: options.is_some_and(|options| options.no_default_search_domain),
        ..DnsResolver::default()
    })))
}

fn servers(list: &[core::Address], path: &Path) -> Result<Vec<SocketAddr>, Rejection> {
    let mut out = Vec::with_capacity(list.len());
    for (i, one) in list.iter().enumerate() {
        let path = path.at(i);
        let Some(core::address::Address::SocketAddress(socket)) = &one.address else {
            return Err(Rejection::new(&path, "a name server needs a socket address"));
        };
        // Name servers are asked over both.
        let socket = core::SocketAddress { protocol: 0, ..socket.clone() };
        let mut found = address::socket_address(&socket, &path.join("socket_address"))?;
        if found.port() == 0 {
            found.set_port(PORT);
        }
        out.push(found);
    }
    Ok(out)
}
