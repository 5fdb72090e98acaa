//! `extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig`, and the caches of the process: one for each name.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use millrace_config::{AddressFilter, DnsCache, DnsCacheConfig, DnsCacheId, ScopeId};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::CidrRange;
use millrace_proto::pb::envoy::extensions::common::dynamic_forward_proxy::v3 as pb;
use millrace_proto::pb::envoy::r#type::matcher::v3::AddressMatcher;
use millrace_proto::pb::xds::core::v3 as xds;

use crate::cluster::{cache_resolver, failure_refresh, lookup_family};
use crate::context::Context;
use crate::error::Rejection;
use crate::{address, value};

/// Most caches of one process; a control plane cannot make us keep more.
const CACHES_MAX: usize = 256;

/// The caches that somebody uses.
#[derive(Clone, Debug, Default)]
pub struct DnsCaches {
    by_name: BTreeMap<Arc<str>, Weak<DnsCache>>,
    made: u32,
    new: Vec<Arc<DnsCache>>,
}

impl DnsCaches {
    /// The cache with these settings, new when its name is. Why there is none otherwise.
    fn intern(
        &mut self,
        config: DnsCacheConfig,
        scope: impl FnOnce() -> ScopeId,
    ) -> Result<Arc<DnsCache>, String> {
        self.by_name.retain(|_, cache| cache.strong_count() > 0);
        if let Some(known) = self.by_name.get(&config.name).and_then(Weak::upgrade) {
            return match known.config == config {
                true => Ok(known),
                false => Err(format!("config specified DNS cache '{}' with different settings", config.name)),
            };
        }
        if self.by_name.len() >= CACHES_MAX {
            return Err(format!("there are {CACHES_MAX} DNS caches already"));
        }
        let id = DnsCacheId(self.made);
        self.made += 1;
        let cache = Arc::new(DnsCache::new(id, scope(), config));
        self.by_name.insert(Arc::clone(&cache.config.name), Arc::downgrade(&cache));
        self.new.push(Arc::clone(&cache));
        Ok(cache)
    }

    /// Those that were made since the last call.
    pub fn take_new(&mut self) -> Vec<Arc<DnsCache>> {
        std::mem::take(&mut self.new)
    }

    /// All that somebody uses.
    pub fn living(&self) -> impl Iterator<Item = Arc<DnsCache>> {
        self.by_name.values().filter_map(Weak::upgrade)
    }
}

/// The cache that a configuration names.
pub(crate) fn cache(
    config: Option<&pb::DnsCacheConfig>,
    path: &Path,
    cx: &mut Context,
) -> Result<Arc<DnsCache>, Rejection> {
    let path = path.join("dns_cache_config");
    let Some(config) = config else { return Err(Rejection::new(&path, "value is required")) };
    let settings = settings(config, &path, cx)?;
    let name = settings.name.replace(':', "_");
    let registry = cx.registry.clone();
    let scope = || registry.scope(ScopeKind::DnsCache, &name);
    cx.dns_caches.intern(settings, scope).map_err(|why| Rejection::new(&path, why))
}

fn settings(config: &pb::DnsCacheConfig, path: &Path, cx: &Context) -> Result<DnsCacheConfig, Rejection> {
    let default = DnsCacheConfig::named(&config.name);
    let time = |given: Option<&_>, default: Duration| given.map_or(default, value::duration);
    let breaker = config.dns_cache_circuit_breaker.as_ref();
    let failure = config.dns_failure_refresh_rate.as_ref();
    let failure = failure.map(|rate| (rate.base_interval.as_ref(), rate.max_interval.as_ref()));
    let max_hosts = value::number(config.max_hosts.as_ref(), default.max_hosts);
    let names = &config.preresolve_hostnames;
    if names.len() > max_hosts as usize {
        let why = format!(
            "DNS Cache [{}] configured with preresolve_hostnames={} larger than max_hosts={max_hosts}",
            config.name,
            names.len()
        );
        return Err(Rejection::new(&path.join("preresolve_hostnames"), why));
    }
    let mut preresolve = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        let port = address::port(name, &path.join("preresolve_hostnames").at(i))?;
        preresolve.push((Arc::from(name.address.as_str()), port));
    }
    let resolver = cache_resolver(config, path)?.or_else(|| cx.dns_resolver.clone());
    let filter = config.resolved_address_filter.as_ref();
    let filter = filter.map(|filter| address_filter(filter, &path.join("resolved_address_filter")));
    Ok(DnsCacheConfig {
        family: lookup_family(config.dns_lookup_family()),
        refresh_rate: time(config.dns_refresh_rate.as_ref(), default.refresh_rate),
        min_refresh_rate: time(config.dns_min_refresh_rate.as_ref(), default.min_refresh_rate),
        host_ttl: time(config.host_ttl.as_ref(), default.host_ttl),
        max_hosts,
        failure_refresh: failure_refresh(failure, path)?,
        no_refresh_on_failure: config.disable_dns_refresh_on_failure,
        max_pending_requests: value::number(
            breaker.and_then(|breaker| breaker.max_pending_requests.as_ref()),
            default.max_pending_requests,
        ),
        query_timeout: value::limit_or(config.dns_query_timeout.as_ref(), Duration::from_secs(5)),
        resolver,
        preresolve,
        filter: filter.transpose()?,
        name: default.name,
    })
}

fn address_filter(filter: &AddressMatcher, path: &Path) -> Result<AddressFilter, Rejection> {
    let ours = |range: &xds::CidrRange| CidrRange {
        address_prefix: range.address_prefix.clone(),
        prefix_len: range.prefix_len,
    };
    let ranges: Vec<CidrRange> = filter.ranges.iter().map(ours).collect();
    let ranges = address::cidrs(&ranges, &path.join("ranges"))?;
    Ok(AddressFilter { ranges, inverted: filter.invert_match })
}

#[cfg(test)]
mod tests;
