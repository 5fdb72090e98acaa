//! Hosts that requests name (`DnsCacheConfig`): asked for once, kept fresh while they are used, dropped when nobody does.
//!
//! One task for each host asks and waits; what it finds out comes to [`HostCaches::next`], whose caller tells the shards.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use millrace_base::Rng;
use millrace_config::{
    Address, DnsCache, DnsCacheConfig, DnsCacheId, DnsLookupFamily, HostNews, HostQuestion, LastUse,
    ResolvedHost, ScopeId, dns_cache,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::lookup::{Answer, Lookup, LookupError, resolve};
use super::resolvers::Resolvers;
use super::{ADDRESSES_MAX, Query};

/// c-ares's words for a name that is none.
const NO_NAME: &str = "cares_failure:Misformatted_domain_name";

/// What happened in a cache, to be counted and told.
#[derive(Clone, Debug)]
pub struct HostEvent {
    /// Statistics scope of the cache.
    pub scope: ScopeId,
    /// Which one.
    pub cache: DnsCacheId,
    /// Host and port.
    pub host: Arc<str>,
    /// A question leaves.
    pub asked: bool,
    /// A question has ended.
    pub query: Option<Query>,
    /// It took longer than `dns_query_timeout`.
    pub timed_out: bool,
    /// Addresses that `resolved_address_filter` took out.
    pub taken_out: u64,
    /// The host has other addresses now.
    pub address_changed: bool,
    /// Hosts that came, and that left.
    pub added: u64,
    /// See `added`.
    pub removed: u64,
    /// Hosts of the cache now.
    pub hosts: usize,
    /// The host has its first address (true), or left with one (false): an endpoint came or went.
    pub member: Option<bool>,
    /// For the shards.
    pub news: Option<HostNews>,
}

enum Step {
    Asking,
    Answered(Result<Answer, LookupError>),
    Unused,
}

struct Told {
    cache: DnsCacheId,
    host: Arc<str>,
    generation: u64,
    step: Step,
}

struct Host {
    task: JoinHandle<()>,
    generation: u64,
    port: u16,
    addresses: Vec<SocketAddr>,
    /// The first question has ended.
    complete: bool,
    answer: Option<Arc<ResolvedHost>>,
    last_use: Arc<LastUse>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Cache {
    cache: Weak<DnsCache>,
    scope: ScopeId,
    hosts: BTreeMap<Arc<str>, Host>,
}

/// The hosts of all caches.
pub struct HostCaches<L> {
    resolvers: Resolvers<L>,
    caches: BTreeMap<DnsCacheId, Cache>,
    generation: u64,
    sender: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
}

impl<L: Lookup> HostCaches<L> {
    /// No host is known yet.
    pub fn new(lookup: L) -> Self {
        let (sender, told) = mpsc::channel(64);
        Self { resolvers: Resolvers::new(lookup), caches: BTreeMap::new(), generation: 0, sender, told }
    }

    /// A shard asks for a host. Nothing follows for one that is being resolved or that all shards were told of. Must run
    /// inside the runtime.
    pub fn ask(&mut self, question: &HostQuestion) -> Vec<HostEvent> {
        let mut events = Vec::new();
        let (cache, host) = (&question.cache, &question.host);
        let entry = self.caches.entry(cache.id).or_insert_with(|| Cache {
            cache: Arc::downgrade(cache),
            scope: cache.scope,
            hosts: BTreeMap::new(),
        });
        match entry.hosts.get(host) {
            Some(known) if !question.anew || !known.complete => return events,
            Some(_) => events.extend(entry.remove(cache.id, host)),
            // Shards that see it refuse on their own; those that wait must hear of it.
            None if entry.hosts.len() >= cache.config.max_hosts as usize => {
                let news = HostNews { cache: cache.id, host: Arc::clone(host), answer: None };
                events.push(HostEvent { news: Some(news), ..entry.event(cache.id, host) });
                return events;
            }
            None => {}
        }
        // The shards keep what they know until there is news, or those that wait would be woken for nothing.
        events.iter_mut().for_each(|event| event.news = None);
        self.generation += 1;
        let (name, port) = dns_cache::split(host);
        let last_use = Arc::new(LastUse::default());
        last_use.touch(wall_nanos());
        let watch = Watch {
            cache: Arc::downgrade(cache),
            config: cache.config.clone(),
            host: Arc::clone(host),
            name: name.into(),
            generation: self.generation,
            last_use: Arc::clone(&last_use),
        };
        let lookup = self.resolvers.of(cache.config.resolver.as_ref());
        let task = tokio::spawn(watch.run(cache.id, lookup, self.sender.clone()));
        let new = Host {
            task,
            generation: self.generation,
            port: port.unwrap_or(question.default_port),
            addresses: Vec::new(),
            complete: false,
            answer: None,
            last_use,
        };
        entry.hosts.insert(Arc::clone(host), new);
        cache.set_hosts(entry.hosts.len());
        events.push(HostEvent { added: 1, ..entry.event(cache.id, host) });
        events
    }

    /// Asks for what a new cache shall know from the start.
    pub fn preresolve(&mut self, cache: &Arc<DnsCache>) -> Vec<HostEvent> {
        let mut events = Vec::new();
        for (name, port) in &cache.config.preresolve {
            let mut host = String::new();
            dns_cache::normalize(name, *port, &mut host);
            let cache = Arc::clone(cache);
            let question = HostQuestion { cache, host: host.into(), default_port: *port, anew: false };
            events.extend(self.ask(&question));
        }
        events
    }

    /// The hosts of a cache that have an address, by name.
    pub fn members(&self, cache: DnsCacheId) -> impl Iterator<Item = &Arc<ResolvedHost>> {
        let hosts = self.caches.get(&cache).into_iter().flat_map(|cache| cache.hosts.values());
        hosts.filter_map(|host| host.answer.as_ref()).filter(|answer| answer.address.is_some())
    }

    /// What happened next. Cancel safe; never ends.
    pub async fn next(&mut self) -> HostEvent {
        loop {
            // `self` holds a sender, so the channel is never closed.
            let Some(told) = self.told.recv().await else { std::future::pending().await };
            if let Some(event) = self.take(told) {
                return event;
            }
        }
    }

    fn take(&mut self, told: Told) -> Option<HostEvent> {
        let cache = self.caches.get_mut(&told.cache)?;
        let host = cache.hosts.get(&told.host).filter(|host| host.generation == told.generation);
        host?;
        match told.step {
            Step::Asking => Some(HostEvent { asked: true, ..cache.event(told.cache, &told.host) }),
            Step::Answered(result) => cache.answered(told.cache, &told.host, result),
            Step::Unused => {
                let event = cache.remove(told.cache, &told.host);
                if cache.hosts.is_empty() && cache.cache.strong_count() == 0 {
                    self.caches.remove(&told.cache);
                }
                event
            }
        }
    }
}

impl Cache {
    fn event(&self, cache: DnsCacheId, host: &Arc<str>) -> HostEvent {
        HostEvent {
            scope: self.scope,
            cache,
            host: Arc::clone(host),
            asked: false,
            query: None,
            timed_out: false,
            taken_out: 0,
            address_changed: false,
            added: 0,
            removed: 0,
            hosts: self.hosts.len(),
            member: None,
            news: None,
        }
    }

    fn remove(&mut self, id: DnsCacheId, host: &Arc<str>) -> Option<HostEvent> {
        let removed = self.hosts.remove(host)?;
        if let Some(cache) = self.cache.upgrade() {
            cache.set_hosts(self.hosts.len());
        }
        let news = HostNews { cache: id, host: Arc::clone(host), answer: None };
        let member = (!removed.addresses.is_empty()).then_some(false);
        Some(HostEvent { removed: 1, member, news: Some(news), ..self.event(id, host) })
    }

    /// Takes the end of a question. As in Envoy a host keeps its addresses whatever comes after them, unless it is others.
    fn answered(
        &mut self,
        id: DnsCacheId,
        name: &Arc<str>,
        result: Result<Answer, LookupError>,
    ) -> Option<HostEvent> {
        let mut event = self.event(id, name);
        let filter = self.cache.upgrade().and_then(|cache| cache.config.filter.clone());
        let host = self.hosts.get_mut(name)?;
        event.query = Some(Query::of(&result));
        event.timed_out = result.as_ref().is_err_and(|error| error.details == RESOLVE_TIMEOUT);
        let failed = result.is_err();
        let mut details = match &result {
            Err(error) => error.details,
            Ok(answer) if answer.not_found => "cares_norecords:Domain_name_not_found",
            Ok(_) => "cares_norecords:DNS_server_returned_answer_with_no_data",
        };
        let mut ips = result.map(|answer| answer.addresses).unwrap_or_default();
        ips.truncate(ADDRESSES_MAX);
        if let Some(filter) = filter {
            let before = ips.len();
            ips.retain(|ip| !filter.matches(*ip));
            event.taken_out = (before - ips.len()) as u64;
            if ips.is_empty() && before > 0 {
                details = "address_denied";
            }
        }
        let addresses: Vec<SocketAddr> = ips.into_iter().map(|ip| SocketAddr::new(ip, host.port)).collect();
        let first = !std::mem::replace(&mut host.complete, true);
        event.address_changed = !addresses.is_empty() && addresses != host.addresses;
        if event.address_changed {
            event.member = host.addresses.is_empty().then_some(true);
            host.addresses = addresses;
        }
        let nothing = host.addresses.is_empty();
        let known = host.answer.as_ref();
        let told_anew =
            nothing && known.is_none_or(|known| known.failed != failed || &*known.details != details);
        if first || event.address_changed || told_anew {
            let mut all = host.addresses.iter().map(|address| Address::Inet(*address));
            let address = all.next();
            let others: Arc<[Address]> = all.collect();
            let answer = Arc::new(ResolvedHost {
                name: Arc::clone(name),
                address,
                additional_addresses: (!others.is_empty()).then_some(others),
                details: if nothing { details.into() } else { "".into() },
                failed: failed && nothing,
                last_use: Arc::clone(&host.last_use),
            });
            host.answer = Some(Arc::clone(&answer));
            event.news = Some(HostNews { cache: id, host: Arc::clone(name), answer: Some(answer) });
        }
        Some(event)
    }
}

/// Envoy's words when `dns_query_timeout` is over.
const RESOLVE_TIMEOUT: &str = "resolve_timeout";

/// One host of one cache.
struct Watch {
    cache: Weak<DnsCache>,
    config: DnsCacheConfig,
    host: Arc<str>,
    /// What is resolved.
    name: Box<str>,
    generation: u64,
    last_use: Arc<LastUse>,
}

impl Watch {
    /// Resolves until nobody uses the host, or the cache, any more.
    async fn run(self, id: DnsCacheId, lookup: Arc<impl Lookup>, sender: mpsc::Sender<Told>) {
        let mut rng = Rng::new(wall_nanos() ^ (self.generation << 32));
        let mut failures = 0;
        let tell = |step| {
            sender.send(Told { cache: id, host: Arc::clone(&self.host), generation: self.generation, step })
        };
        loop {
            if tell(Step::Asking).await.is_err() {
                return;
            }
            let result = self.ask(&*lookup).await;
            let wait = self.wait(&result, &mut failures, &mut rng);
            if tell(Step::Answered(result)).await.is_err() {
                return;
            }
            // Without a refresh the next request asks.
            let Some(wait) = wait else { return };
            tokio::time::sleep(wait).await;
            if self.is_unused(wall_nanos()) {
                let _ = tell(Step::Unused).await;
                return;
            }
        }
    }

    async fn ask(&self, lookup: &impl Lookup) -> Result<Answer, LookupError> {
        if let Ok(ip) = self.name.parse::<IpAddr>() {
            let fits = match self.config.family {
                DnsLookupFamily::V4Only => ip.is_ipv4(),
                DnsLookupFamily::V6Only => ip.is_ipv6(),
                DnsLookupFamily::Auto | DnsLookupFamily::V4Preferred | DnsLookupFamily::All => true,
            };
            let answer = || Answer { addresses: vec![ip], ..Answer::default() };
            return fits.then(answer).ok_or_else(|| LookupError::told(NO_NAME));
        }
        if !is_host_name(&self.name) {
            return Err(LookupError::told(NO_NAME));
        }
        let question = resolve(lookup, &self.name, self.config.family);
        match self.config.query_timeout {
            Some(limit) => {
                let ended = tokio::time::timeout(limit, question).await;
                ended.unwrap_or_else(|_| Err(LookupError::told(RESOLVE_TIMEOUT)))
            }
            None => question.await,
        }
    }

    /// The answer's time to live, `dns_refresh_rate` without an address; after failures in a row their back-off, or
    /// nothing at all.
    fn wait(
        &self,
        result: &Result<Answer, LookupError>,
        failures: &mut u32,
        rng: &mut Rng,
    ) -> Option<Duration> {
        let config = &self.config;
        let wait = match result {
            Ok(answer) => {
                *failures = 0;
                match answer.addresses.is_empty() {
                    true => config.refresh_rate,
                    false => answer.ttl.unwrap_or_default().max(config.min_refresh_rate),
                }
            }
            Err(_) if config.no_refresh_on_failure => return None,
            Err(_) => match config.failure_refresh {
                None => config.refresh_rate,
                Some((base, max)) => {
                    let bound = base.saturating_mul(1 << (*failures).min(20)).min(max);
                    *failures += 1;
                    let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
                    Duration::from_millis(rng.below(bound.max(1)))
                }
            },
        };
        Some(wait.max(Duration::from_millis(1)))
    }

    fn is_unused(&self, wall: u64) -> bool {
        let idle = Duration::from_nanos(wall.saturating_sub(self.last_use.wall_nanos()));
        idle > self.config.host_ttl || self.cache.strong_count() == 0
    }
}

fn wall_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The characters and lengths that c-ares asks about: everything else never leaves this host.
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/*".contains(&byte);
    name.len() <= 253
        && name.bytes().all(allowed)
        && name.split('.').all(|label| !label.is_empty() && label.len() <= 63)
}

#[cfg(test)]
mod tests;
