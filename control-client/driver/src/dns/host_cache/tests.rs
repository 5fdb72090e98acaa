//! A cache of hosts against a table of answers.

use std::collections::HashMap;
use std::sync::Mutex;

use millrace_config::{AddressFilter, Cidr, DnsResolver};

use super::*;
use crate::dns::Family;

/// Answers by name; an absent entry is a failure, no address a name that does not exist.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<String, Vec<&'static str>>>>);

impl Table {
    fn set(&self, host: &str, ips: &[&'static str]) {
        self.0.lock().unwrap().insert(host.to_owned(), ips.to_vec());
    }
}

impl Lookup for Table {
    async fn lookup(&self, host: &str, _: Family) -> Result<Answer, LookupError> {
        if host == "silent" {
            std::future::pending::<()>().await;
        }
        let table = self.0.lock().unwrap();
        let ips = table.get(host).ok_or(LookupError::told("down"))?;
        let addresses: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Ok(Answer { not_found: addresses.is_empty(), addresses, ttl: Some(Duration::ZERO) })
    }

    fn configured(&self, _: &DnsResolver) -> Self {
        self.clone()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn cache(config: DnsCacheConfig) -> Arc<DnsCache> {
    Arc::new(DnsCache::new(DnsCacheId(0), ScopeId(9), config))
}

fn v4() -> DnsCacheConfig {
    DnsCacheConfig {
        family: DnsLookupFamily::V4Only,
        refresh_rate: Duration::from_millis(5),
        min_refresh_rate: Duration::from_millis(5),
        query_timeout: Some(Duration::from_millis(50)),
        ..DnsCacheConfig::named("c")
    }
}

fn question(cache: &Arc<DnsCache>, host: &str) -> HostQuestion {
    HostQuestion { cache: Arc::clone(cache), host: host.into(), default_port: 80, anew: false }
}

/// The next end of a question.
async fn answer(caches: &mut HostCaches<Table>) -> HostEvent {
    loop {
        let event = caches.next().await;
        if !event.asked {
            return event;
        }
    }
}

fn told(event: &HostEvent) -> (Vec<String>, String) {
    let Some(HostNews { answer: Some(answer), .. }) = &event.news else { return Default::default() };
    let others = answer.additional_addresses.iter().flat_map(|others| others.iter());
    let all = answer.address.iter().chain(others).map(ToString::to_string).collect();
    (all, answer.details.to_string())
}

#[test]
fn a_host_is_asked_for_once_and_keeps_its_addresses() {
    block_on(async {
        let table = Table::default();
        table.set("a", &["127.0.0.1", "127.0.0.2"]);
        let (cache, mut caches) = (cache(v4()), HostCaches::new(table.clone()));
        let added = caches.ask(&question(&cache, "a:8080"));
        assert_eq!((added.len(), added[0].added, added[0].hosts, added[0].scope), (1, 1, 1, ScopeId(9)));
        assert!(caches.ask(&question(&cache, "a:8080")).is_empty());
        assert!(caches.next().await.asked);
        let event = caches.next().await;
        assert_eq!(told(&event).0, ["127.0.0.1:8080", "127.0.0.2:8080"]);
        assert_eq!(
            (event.member, event.address_changed, event.query),
            (Some(true), true, Some(Query::Found))
        );
        assert_eq!(caches.members(cache.id).count(), 1);
        // The same again is no news, nor is a failure.
        assert!(answer(&mut caches).await.news.is_none());
        table.0.lock().unwrap().clear();
        let event = answer(&mut caches).await;
        assert_eq!((event.query, event.news.is_none()), (Some(Query::Failed), true));
        table.set("a", &["127.0.0.3"]);
        let event = answer(&mut caches).await;
        assert_eq!((told(&event).0, event.member), (vec!["127.0.0.3:8080".to_owned()], None));
    });
}

#[test]
fn what_has_no_address_says_why() {
    block_on(async {
        let table = Table::default();
        table.set("none", &[]);
        let mut caches = HostCaches::new(table);
        let cache = cache(v4());
        for (host, details) in [
            ("none:80", "cares_norecords:Domain_name_not_found"),
            ("down:80", "down"),
            ("silent:80", "resolve_timeout"),
            ("a:b", NO_NAME),
            ("a..b:80", NO_NAME),
            ("[::1]:80", NO_NAME),
        ] {
            caches.ask(&question(&cache, host));
            let mut event = answer(&mut caches).await;
            while &*event.host != host {
                event = answer(&mut caches).await;
            }
            assert_eq!(told(&event), (vec![], details.to_owned()), "{host}");
            assert_eq!(event.timed_out, host == "silent:80");
        }
        caches.ask(&question(&cache, "127.0.0.1:0"));
        assert_eq!(told(&answer(&mut caches).await).0, ["127.0.0.1:0"]);
        assert_eq!(caches.members(cache.id).count(), 1);
    });
}

#[test]
fn a_failure_is_forgotten_by_the_next_request_where_nobody_refreshes_it() {
    block_on(async {
        let table = Table::default();
        let mut caches = HostCaches::new(table.clone());
        let cache = cache(DnsCacheConfig { no_refresh_on_failure: true, ..v4() });
        caches.ask(&question(&cache, "a:80"));
        assert_eq!(answer(&mut caches).await.query, Some(Query::Failed));
        table.set("a", &["127.0.0.1"]);
        let asked = caches.ask(&HostQuestion { anew: true, ..question(&cache, "a:80") });
        let counts: Vec<(u64, u64)> = asked.iter().map(|event| (event.added, event.removed)).collect();
        assert_eq!((counts, asked[0].news.is_none()), (vec![(0, 1), (1, 0)], true));
        assert_eq!(told(&answer(&mut caches).await).0, ["127.0.0.1:80"]);
    });
}

#[test]
fn there_is_room_for_as_many_as_may() {
    block_on(async {
        let mut caches = HostCaches::new(Table::default());
        let cache = cache(DnsCacheConfig { max_hosts: 1, preresolve: vec![("a".into(), 80)], ..v4() });
        assert_eq!(caches.preresolve(&cache).len(), 1);
        assert!(cache.is_full());
        let refused = caches.ask(&question(&cache, "b:80"));
        assert!(matches!(&refused[0].news, Some(HostNews { answer: None, .. })) && refused[0].added == 0);
    });
}

#[test]
fn addresses_may_be_taken_out() {
    block_on(async {
        let table = Table::default();
        table.set("a", &["127.0.0.1", "10.0.0.1"]);
        table.set("b", &["127.0.0.1"]);
        let ranges = vec![Cidr::new("127.0.0.0".parse().unwrap(), 8).unwrap()];
        let filter = Some(AddressFilter { ranges, inverted: false });
        let (cache, mut caches) = (cache(DnsCacheConfig { filter, ..v4() }), HostCaches::new(table));
        caches.ask(&question(&cache, "a:80"));
        let event = answer(&mut caches).await;
        assert_eq!((told(&event).0, event.taken_out), (vec!["10.0.0.1:80".to_owned()], 1));
        caches.ask(&question(&cache, "b:80"));
        let event = answer(&mut caches).await;
        assert_eq!((told(&event), event.taken_out), ((vec![], "address_denied".to_owned()), 1));
    });
}

#[test]
fn who_is_not_used_leaves() {
    let watch = |ttl| Watch {
        cache: Weak::new(),
        config: DnsCacheConfig { host_ttl: Duration::from_secs(ttl), ..v4() },
        host: "a:80".into(),
        name: "a".into(),
        generation: 1,
        last_use: Arc::default(),
    };
    let kept = cache(v4());
    let mut watch = watch(2);
    assert!(watch.is_unused(1), "the cache is gone");
    watch.cache = Arc::downgrade(&kept);
    watch.last_use.touch(5_000_000_000);
    assert!(!watch.is_unused(7_000_000_000) && watch.is_unused(7_000_000_001));
}
