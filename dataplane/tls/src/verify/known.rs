//! Chains that were found good: a peer that comes back costs no signatures of its chain.
//!
//! What is kept is a pure function of the bytes of the chain, of the roots and of the rules, as long as every
//! certificate of the path and every revocation list is valid. Names, fingerprints and the handshake's own signature
//! are none of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::chain::ChainRules;
use super::trust::Roots;
use super::{PeerRole, VerifyError};
use crate::certificate::x509::parse;
use crate::tickets::TrustHash;

/// Chains of one generation; there are two of them.
const GENERATION: usize = 448;
/// Bytes of the largest chain that is looked up: no peer makes us hash more for nothing.
const MAX_BYTES: usize = 16 << 10;

/// Seconds since 1970 between which an answer holds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    from: i64,
    until: i64,
}

impl Window {
    const ALWAYS: Self = Self { from: i64::MIN, until: i64::MAX };
    const NEVER: Self = Self { from: i64::MAX, until: i64::MIN };

    pub(super) fn new(from: i64, until: i64) -> Self {
        Self { from, until }
    }

    /// `notBefore` to `notAfter`.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self::new(validity.not_before.timestamp(), validity.not_after.timestamp())
    }

    /// Until `nextUpdate`, at which webpki believes a list no more; never for a list that has none.
    fn of_list(der: &[u8]) -> Self {
        let list = CertificateRevocationList::from_der(der);
        let end = list.ok().and_then(|(_, list)| list.next_update());
        end.map_or(Self::NEVER, |end| Self { until: end.timestamp() - 1, ..Self::ALWAYS })
    }

    /// When both hold.
    fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    fn holds(self, now: i64) -> bool {
        (self.from..=self.until).contains(&now)
    }
}

/// Everything that decides about a chain beside the roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RulesHash([u8; 32]);

impl RulesHash {
    /// Of `rules`, whose `crls` are `lists`.
    fn new(rules: &ChainRules, lists: &[Arc<[u8]>]) -> Self {
        // By name, so that a rule that is added is not forgotten here.
        let ChainRules {
            role,
            certificate_rules,
            algorithms,
            crls: _,
            only_leaf_crl,
            allow_expired,
            max_depth,
        } = rules;
        let mut hash = TrustHash::new();
        let flags = [*role == PeerRole::Server, *only_leaf_crl, *allow_expired].map(u8::from);
        hash.part(&flags);
        hash.part(&[*certificate_rules as u8]);
        hash.part(&max_depth.map_or([0; 5], |most| {
            let [a, b, c, d] = most.to_be_bytes();
            [1, a, b, c, d]
        }));
        // They are static, and there is one such table in this crate.
        hash.part(&algorithms.all.as_ptr().addr().to_ne_bytes());
        lists.iter().for_each(|list| hash.part(list));
        Self(hash.finish())
    }
}

/// What the chain checks of one verifier have in common.
#[derive(Debug)]
pub(super) struct Standing {
    rules: RulesHash,
    lists: Vec<Window>,
    /// Moments other than now decide where expired certificates pass: no answer is kept.
    keeps: bool,
}

impl Standing {
    /// Of `rules`, whose `crls` are `lists`.
    pub(super) fn new(rules: &ChainRules, lists: &[Arc<[u8]>]) -> Self {
        Self {
            rules: RulesHash::new(rules, lists),
            lists: lists.iter().map(|list| Window::of_list(list)).collect(),
            keeps: !rules.allow_expired,
        }
    }

    /// `None` for chains that are not kept.
    pub(super) fn key(&self, chain: &[&[u8]]) -> Option<ChainKey> {
        if self.keeps { ChainKey::new(self.rules, chain) } else { None }
    }

    /// While everything stays valid that is valid at `now` and that may have had a part in the answer: what is not
    /// valid had none. `None` where something cannot be read.
    pub(super) fn window(
        &self,
        roots: &Roots,
        chain: &[&[u8]],
        leaf: &X509Certificate<'_>,
        now: i64,
    ) -> Option<Window> {
        let others = chain.iter().skip(1).map(|der| parse(der).map(|one| Window::of(&one)));
        let others = others.collect::<Result<Vec<_>, _>>().ok()?;
        let roots = roots.facts.iter().map(|root| Window::new(root.not_before, root.not_after));
        let all = others.into_iter().chain(roots).chain(self.lists.iter().copied());
        Some(all.filter(|one| one.holds(now)).fold(Window::of(leaf), Window::and))
    }
}

/// A chain under some rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChainKey {
    rules: RulesHash,
    chain: [u8; 32],
}

impl ChainKey {
    fn new(rules: RulesHash, chain: &[&[u8]]) -> Option<Self> {
        if chain.iter().map(|der| der.len()).sum::<usize>() > MAX_BYTES {
            return None;
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        for der in chain {
            hash.update(&(der.len() as u64).to_be_bytes());
            hash.update(der);
        }
        Some(Self { rules, chain: hash.finish().as_ref().try_into().ok()? })
    }
}

#[derive(Debug, Default)]
struct Generations {
    recent: HashMap<ChainKey, Window>,
    older: HashMap<ChainKey, Window>,
}

impl Generations {
    /// Whatever was not used while a whole generation came is forgotten, in one step.
    fn insert(&mut self, key: ChainKey, window: Window) {
        if self.recent.len() >= GENERATION {
            std::mem::swap(&mut self.recent, &mut self.older);
            self.recent.clear();
        }
        self.recent.insert(key, window);
    }
}

/// Chains that lead to the roots that this belongs to. Refusals are never kept.
#[derive(Debug, Default)]
pub(super) struct KnownChains(Mutex<Generations>);

impl KnownChains {
    /// True when the chain was found good, and still is at `now`.
    pub(super) fn knows(&self, key: &ChainKey, now: i64) -> bool {
        let mut generations = self.generations();
        if let Some(window) = generations.recent.get(key) {
            return window.holds(now);
        }
        match generations.older.remove(key) {
            Some(window) if window.holds(now) => {
                generations.insert(*key, window);
                true
            }
            _ => false,
        }
    }

    /// Keeps a chain that was found good at `now`.
    fn keep(&self, key: ChainKey, window: Window, now: i64) {
        if window.holds(now) {
            self.generations().insert(key, window);
        }
    }

    /// What `verify` says, unless it is known. `window` tells while a good answer holds, if that can be told.
    pub(super) fn or_verify(
        &self,
        key: Option<ChainKey>,
        now: i64,
        verify: impl FnOnce() -> Result<(), VerifyError>,
        window: impl FnOnce() -> Option<Window>,
    ) -> Result<(), VerifyError> {
        if key.is_some_and(|key| self.knows(&key, now)) {
            return Ok(());
        }
        verify()?;
        if let Some(key) = key
            && let Some(window) = window()
        {
            self.keep(key, window, now);
        }
        Ok(())
    }

    /// Only the thread of one shard ever asks.
    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rules: u8, chain: u32) -> ChainKey {
        ChainKey::new(RulesHash([rules; 32]), &[&chain.to_be_bytes()]).expect("short")
    }

    #[test]
    fn answers_hold_within_their_window() {
        let known = KnownChains::default();
        let window = Window::new(10, 20).and(Window::new(5, 15));
        assert_eq!(window, Window::new(10, 15));
        known.keep(key(1, 1), window, 12);
        for (now, holds) in [(9, false), (10, true), (15, true), (16, false)] {
            assert_eq!(known.knows(&key(1, 1), now), holds, "{now}");
        }
        assert!(!known.knows(&key(2, 1), 12) && !known.knows(&key(1, 2), 12));
        known.keep(key(1, 2), window, 16);
        assert!(!known.knows(&key(1, 2), 12), "it did not hold when it was made");
        known.keep(key(1, 3), Window::NEVER, 0);
        assert!(!known.knows(&key(1, 3), 0));
    }

    #[test]
    fn refusals_are_asked_for_again_and_answers_are_not() {
        let known = KnownChains::default();
        let refused = Err(VerifyError::NoCertificate);
        let ask = |key, now, says| known.or_verify(key, now, || says, || Some(Window::new(0, 2)));
        assert_eq!(ask(Some(key(1, 1)), 1, refused), refused);
        assert_eq!(ask(Some(key(1, 1)), 1, Ok(())), Ok(()));
        assert_eq!(ask(Some(key(1, 1)), 2, refused), Ok(()));
        assert_eq!(ask(Some(key(1, 1)), 3, refused), refused);
        assert_eq!(ask(None, 1, Ok(())), Ok(()));
        assert_eq!(ask(None, 1, refused), refused);
        assert_eq!(known.or_verify(Some(key(1, 2)), 1, || Ok(()), || None), Ok(()));
        assert_eq!(ask(Some(key(1, 2)), 1, refused), refused);
    }

    #[test]
    fn there_is_a_bound_and_what_is_used_stays() {
        let known = KnownChains::default();
        let total = || {
            let generations = known.generations();
            generations.recent.len() + generations.older.len()
        };
        for chain in 0..10_000 {
            known.keep(key(1, chain), Window::ALWAYS, 0);
            assert!(known.knows(&key(1, 0), 0), "{chain}");
            assert!(total() <= 2 * GENERATION);
        }
        let last = |age: u32| {
            known.generations().recent.contains_key(&key(1, 9_999 - age))
                || known.generations().older.contains_key(&key(1, 9_999 - age))
        };
        assert!((0..GENERATION as u32 - 2).all(last));
        assert!(!known.knows(&key(1, 5_000), 0));
    }

    #[test]
    fn keys_are_of_whole_certificates_and_of_no_huge_chain() {
        let rules = RulesHash([0; 32]);
        let of = |chain: &[&[u8]]| ChainKey::new(rules, chain);
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab"]), of(&[b"ab", b""]));
        assert!(of(&[&[0; MAX_BYTES]]).is_some());
        assert!(of(&[&[0; MAX_BYTES], &[0]]).is_none());
    }
}
