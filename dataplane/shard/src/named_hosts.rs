//! What this shard knows of the hosts that requests name (dynamic forward proxy), and who waits for one.
//!
//! The control thread resolves names and tells every shard what came of it ([`HostNews`]); a shard asks it for a host only
//! when it knows nothing ([`HostQuestion`], through `Shared`). A host that is known costs a look into a table of the shard's own.

use std::collections::HashMap;
use std::sync::Arc;

use millrace_base::{Key, WallTime};
use millrace_config::{DnsCache, DnsCacheId, HostNews, HostQuestion, ResolvedHost, dns_cache};
use millrace_filter::http::forward_proxy::{Asked, HostNames};

use crate::shard::Shard;
use crate::shared::Shared;

/// A host that is used is told to the control thread this often at the most.
const TOLD_EVERY_NANOS: u64 = 250_000_000;

/// Who waits for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Waiter {
    /// A request.
    Stream(Key),
    /// A TCP connection.
    Connection(Key),
}

#[derive(Debug, Default)]
struct Entry {
    answer: Option<Arc<ResolvedHost>>,
    waiters: Vec<Waiter>,
    /// When its use was told last.
    told: u64,
}

type Hosts = HashMap<Arc<str>, Entry>;

/// All caches that this shard has asked or heard of.
#[derive(Debug, Default)]
pub(crate) struct NamedHosts {
    caches: Vec<(DnsCacheId, Hosts)>,
    waiting: HashMap<Waiter, (Arc<DnsCache>, Arc<str>)>,
    /// Work space: a host with its port.
    text: String,
}

impl NamedHosts {
    /// True when nobody waits.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    fn of(&mut self, cache: DnsCacheId) -> &mut Hosts {
        let at = self.caches.iter().position(|(id, _)| *id == cache).unwrap_or_else(|| {
            self.caches.push((cache, Hosts::new()));
            self.caches.len() - 1
        });
        &mut self.caches[at].1
    }

    fn write(&mut self, host: &[u8], port: u16) {
        // What is no text cannot be resolved, either way.
        dns_cache::normalize(&String::from_utf8_lossy(host), port, &mut self.text);
    }

    /// What is known of a host that an endpoint is needed of; its use is noted.
    pub(crate) fn find(
        &mut self,
        cache: DnsCacheId,
        host: &[u8],
        port: u16,
        wall: WallTime,
    ) -> Option<&Arc<ResolvedHost>> {
        self.write(host, port);
        let hosts = &mut self.caches.iter_mut().find(|(id, _)| *id == cache)?.1;
        let entry = hosts.get_mut(self.text.as_str())?;
        let answer = entry.answer.as_ref()?;
        if answer.address.is_some() && wall.0.saturating_sub(entry.told) > TOLD_EVERY_NANOS {
            entry.told = wall.0;
            answer.last_use.touch(wall.0);
        }
        Some(answer)
    }

    /// As [`HostNames::ask`], on behalf of `who`.
    pub(crate) fn ask(
        &mut self,
        cache: &Arc<DnsCache>,
        (host, port): (&[u8], u16),
        (who, again): (Waiter, bool),
        shared: &Shared,
    ) -> Asked<'_> {
        self.write(host, port);
        let text = std::mem::take(&mut self.text);
        let (waits, anew) = {
            let known = self.of(cache.id).get(text.as_str()).and_then(|entry| entry.answer.as_ref());
            let failed = known.is_some_and(|known| known.failed && cache.config.no_refresh_on_failure);
            (known.is_none() || (failed && !again), failed)
        };
        let refusal = if waits { self.wait(cache, &text, port, (who, anew), shared) } else { None };
        self.text = text;
        match (waits, refusal) {
            (true, None) => Asked::Waits,
            (true, Some(refusal)) => refusal,
            (false, _) => {
                let at = self.caches.iter().position(|(id, _)| *id == cache.id).unwrap_or_default();
                let hosts = self.caches.get(at).map(|(_, hosts)| hosts);
                let answer = hosts.and_then(|hosts| hosts.get(self.text.as_str())?.answer.as_ref());
                answer.map_or(Asked::Busy, Asked::Known)
            }
        }
    }

    /// Notes who waits, and asks for the host unless somebody has. An answer says why that cannot be.
    fn wait(
        &mut self,
        cache: &Arc<DnsCache>,
        host: &str,
        default_port: u16,
        (who, anew): (Waiter, bool),
        shared: &Shared,
    ) -> Option<Asked<'static>> {
        if cache.is_full() {
            return Some(Asked::Full);
        }
        if !cache.begin_wait() {
            return Some(Asked::Busy);
        }
        let hosts = self.of(cache.id);
        let name = hosts.get_key_value(host).map_or_else(|| Arc::from(host), |(name, _)| Arc::clone(name));
        let entry = hosts.entry(Arc::clone(&name)).or_default();
        if entry.waiters.is_empty() {
            let host = Arc::clone(&name);
            let question = HostQuestion { cache: Arc::clone(cache), host, default_port, anew };
            if !shared.ask_control(question) {
                cache.end_wait();
                return Some(Asked::Busy);
            }
        }
        entry.waiters.push(who);
        if let Some((before, _)) = self.waiting.insert(who, (Arc::clone(cache), name)) {
            debug_assert!(false, "nobody waits for two hosts");
            before.end_wait();
        }
        None
    }

    /// Who waited is gone, or waits no longer.
    #[cold]
    pub(crate) fn withdraw(&mut self, who: Waiter) {
        let Some((cache, host)) = self.waiting.remove(&who) else { return };
        cache.end_wait();
        if let Some(entry) = self.of(cache.id).get_mut(&host) {
            entry.waiters.retain(|waiter| *waiter != who);
        }
    }

    /// Takes over what is known of a host now. Those who waited for it are returned.
    fn hear(&mut self, news: &HostNews) -> Vec<Waiter> {
        let hosts = self.of(news.cache);
        let waiters = match &news.answer {
            Some(answer) => {
                let entry = hosts.entry(Arc::clone(&news.host)).or_default();
                entry.answer = Some(Arc::clone(answer));
                std::mem::take(&mut entry.waiters)
            }
            None => hosts.remove(&news.host).map(|entry| entry.waiters).unwrap_or_default(),
        };
        if hosts.is_empty() {
            self.caches.retain(|(id, _)| *id != news.cache);
        }
        for waiter in &waiters {
            if let Some((cache, _)) = self.waiting.remove(waiter) {
                cache.end_wait();
            }
        }
        waiters
    }
}

/// The shard's hosts as one request asks for them.
pub(crate) struct NamesOf<'a> {
    pub(crate) hosts: &'a mut NamedHosts,
    pub(crate) shared: &'a Shared,
    pub(crate) who: Waiter,
}

impl HostNames for NamesOf<'_> {
    fn ask(&mut self, cache: &Arc<DnsCache>, host: &[u8], port: u16, again: bool) -> Asked<'_> {
        self.hosts.ask(cache, (host, port), (self.who, again), self.shared)
    }
}

impl Shard {
    /// The control thread tells of a host.
    #[cold]
    pub(crate) fn hear_of_host(&mut self, news: &HostNews) {
        let waiters = self.named_hosts.hear(news);
        if news.answer.is_none() {
            self.drop_host(news);
        }
        for waiter in waiters {
            match waiter {
                Waiter::Stream(id) => self.host_resolved(id),
                Waiter::Connection(key) => self.tcp_host_resolved(key),
            }
        }
    }

    /// No cluster has the endpoint of a host any more.
    fn drop_host(&mut self, news: &HostNews) {
        for id in self.clusters.ids() {
            let Some(state) = self.clusters.get_mut(id) else { continue };
            let own = state.config().discovery.forward_proxy();
            if own.is_none_or(|own| own.cache.id != news.cache) {
                continue;
            }
            let mut dropped = millrace_upstream::Dropped::default();
            state.forget_host(&news.host, &mut dropped, &mut self.actions);
            dropped.scopes.into_iter().for_each(|scope| self.stats.registry().retire(scope));
            self.run_pool_actions(id);
            self.sweeps = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_config::{DnsCacheConfig, ScopeId};

    use super::*;

    fn cache(config: DnsCacheConfig) -> Arc<DnsCache> {
        Arc::new(DnsCache::new(DnsCacheId(3), ScopeId(0), config))
    }

    fn news(host: &str, address: Option<&str>, failed: bool) -> HostNews {
        let address = address.map(|text| millrace_config::Address::Inet(text.parse().unwrap()));
        let answer = ResolvedHost {
            name: host.into(),
            address,
            additional_addresses: None,
            details: "".into(),
            failed,
            last_use: Arc::default(),
        };
        HostNews { cache: DnsCacheId(3), host: host.into(), answer: Some(Arc::new(answer)) }
    }

    fn stream(slot: u32) -> Waiter {
        Waiter::Stream(Key { slot, generation: 0 })
    }

    #[test]
    fn one_question_for_all_who_wait_and_none_for_what_is_known() {
        let (shared, mut hosts) = (Shared::new(1), NamedHosts::default());
        let cache = cache(DnsCacheConfig { max_pending_requests: 2, ..DnsCacheConfig::named("c") });
        for slot in 0..2 {
            assert!(matches!(hosts.ask(&cache, (b"a", 80), (stream(slot), false), &shared), Asked::Waits));
        }
        assert!(matches!(hosts.ask(&cache, (b"a", 80), (stream(2), false), &shared), Asked::Busy));
        let questions = shared.take_questions();
        assert_eq!((questions.len(), &*questions[0].host, cache.pending()), (1, "a:80", 2));
        hosts.withdraw(stream(0));
        hosts.withdraw(stream(0));
        assert_eq!(cache.pending(), 1);
        assert_eq!(hosts.hear(&news("a:80", Some("127.0.0.1:80"), false)), [stream(1)]);
        assert!(hosts.is_quiet() && cache.pending() == 0);
        assert!(matches!(hosts.ask(&cache, (b"a:80", 1), (stream(3), false), &shared), Asked::Known(_)));
        assert!(shared.take_questions().is_empty());
        let found = hosts.find(DnsCacheId(3), b"a", 80, WallTime(7_000_000_000)).unwrap();
        assert_eq!(found.last_use.wall_nanos(), 7_000_000_000);
        // Once in a while is enough.
        let found = hosts.find(DnsCacheId(3), b"a", 80, WallTime(7_000_000_001)).unwrap();
        assert_eq!(found.last_use.wall_nanos(), 7_000_000_000);
        hosts.hear(&HostNews { answer: None, ..news("a:80", None, false) });
        assert!(hosts.find(DnsCacheId(3), b"a", 80, WallTime(0)).is_none());
    }

    #[test]
    fn a_full_cache_takes_no_host() {
        let (shared, mut hosts) = (Shared::new(1), NamedHosts::default());
        let cache = cache(DnsCacheConfig { max_hosts: 1, ..DnsCacheConfig::named("c") });
        cache.set_hosts(1);
        assert!(matches!(hosts.ask(&cache, (b"a", 80), (stream(0), false), &shared), Asked::Full));
        assert!(hosts.is_quiet() && cache.pending() == 0 && shared.take_questions().is_empty());
    }

    #[test]
    fn failures_are_asked_anew_where_nobody_refreshes_them() {
        let (shared, mut hosts) = (Shared::new(1), NamedHosts::default());
        let cache = cache(DnsCacheConfig { no_refresh_on_failure: true, ..DnsCacheConfig::named("c") });
        hosts.hear(&news("a:80", None, true));
        hosts.hear(&news("b:80", None, false));
        assert!(matches!(hosts.ask(&cache, (b"a", 80), (stream(0), false), &shared), Asked::Waits));
        assert!(shared.take_questions()[0].anew);
        assert!(matches!(hosts.ask(&cache, (b"b", 80), (stream(1), false), &shared), Asked::Known(_)));
        // Who has waited takes the failure.
        hosts.hear(&news("a:80", None, true));
        assert!(matches!(hosts.ask(&cache, (b"a", 80), (stream(0), true), &shared), Asked::Known(_)));
    }
}
