//! The filter against a cache of one host.

use millrace_config::{DnsCacheConfig, DnsCacheId, HttpFilter, HttpFilterKind, ScopeId};

use super::*;
use crate::http::stream_filters::StreamFilters;
use crate::http::test::{Room, hcm, head};

/// What a cache says, and the hosts that it was asked for.
struct Names {
    says: fn(&Arc<ResolvedHost>) -> Asked<'_>,
    host: Arc<ResolvedHost>,
    asked: Vec<(String, u16, bool)>,
}

impl HostNames for Names {
    fn ask(&mut self, _: &Arc<DnsCache>, host: &[u8], port: u16, again: bool) -> Asked<'_> {
        self.asked.push((String::from_utf8_lossy(host).into_owned(), port, again));
        (self.says)(&self.host)
    }
}

fn names(says: fn(&Arc<ResolvedHost>) -> Asked<'_>, address: Option<&str>) -> Names {
    let address = address.map(|text| millrace_config::Address::Inet(text.parse().unwrap()));
    let host = ResolvedHost {
        name: "a.test:80".into(),
        address,
        additional_addresses: None,
        details: "why".into(),
        failed: true,
        last_use: Arc::default(),
    };
    Names { says, host: Arc::new(host), asked: Vec::new() }
}

fn cache(pending: u32) -> Arc<DnsCache> {
    let config = DnsCacheConfig { max_pending_requests: pending, ..DnsCacheConfig::named("c") };
    Arc::new(DnsCache::new(DnsCacheId(0), ScopeId(0), config))
}

/// The verdict about a request for `authority`, and about it again after a while.
fn ask(names: &mut Names, pending: u32, authority: &str) -> (Verdict, Option<Box<StreamFilters>>) {
    let mut hcm = hcm();
    let kind = HttpFilterKind::ForwardProxy(Arc::new(ForwardProxyFilter {
        cache: cache(pending),
        reads_state: false,
    }));
    let id = millrace_config::FilterConfigId(0);
    hcm.http_filters.insert(0, HttpFilter { name: "f".into(), id, disabled: false, kind });
    let start = Start { forward_port: Some(80), ..Start::of(&hcm, None) };
    let (mut room, mut slot) = (Room::new(), None);
    let mut head = head("/", &[]);
    head.set_authority(authority.as_bytes());
    let verdict = room.begin_with(&mut slot, &start, &mut head, names);
    (verdict, slot)
}

fn details(verdict: &Verdict) -> (u16, &str) {
    match verdict {
        Verdict::Reply(reply) => (reply.status, &reply.details),
        _ => (0, ""),
    }
}

#[test]
fn a_known_host_goes_on_and_takes_no_part() {
    let mut names = names(|host| Asked::Known(host), Some("127.0.0.1:80"));
    let (verdict, slot) = ask(&mut names, 1, "a.test");
    assert_eq!((verdict, slot.is_none()), (Verdict::Continue, true));
    assert_eq!(names.asked, [("a.test".to_owned(), 80, false)]);
}

#[test]
fn every_refusal_is_worded_as_in_envoy() {
    let mut nobody = names(|host| Asked::Known(host), None);
    let (verdict, _) = ask(&mut nobody, 1, "a.test");
    assert_eq!(details(&verdict), (503, "dns_resolution_failure{why}"));
    let Verdict::Reply(reply) = &verdict else { panic!("{verdict:?}") };
    assert_eq!(
        (&*reply.body, reply.flag),
        (&b"DNS resolution failure"[..], Some(ResponseFlag::DnsResolutionFailed))
    );
    let (verdict, _) = ask(&mut names(|_| Asked::Full, None), 1, "a.test");
    assert_eq!(details(&verdict), (503, "dns_cache_overflow"));
    let busy = (503, "dynamic_forward_proxy_pending_request_overflow");
    let (verdict, _) = ask(&mut names(|_| Asked::Busy, None), 1, "a.test");
    assert_eq!(details(&verdict), busy);
    // Nobody is even asked when no request may wait.
    let mut unasked = names(|host| Asked::Known(host), Some("127.0.0.1:80"));
    let (verdict, _) = ask(&mut unasked, 0, "a.test");
    assert_eq!((details(&verdict), unasked.asked.len()), (busy, 0));
    let (verdict, _) = ask(&mut unasked, 1, "");
    assert_eq!(details(&verdict), (400, "empty_host_header"));
}

#[test]
fn a_request_that_waits_has_a_bound() {
    let (verdict, slot) = ask(&mut names(|_| Asked::Waits, None), 1, "a.test");
    assert_eq!(verdict, Verdict::Wait(Time::ZERO + Duration::from_secs(10)));
    assert!(slot.is_some_and(|filters| filters.waits()));
}
