//! Stateless session tickets (RFC 5077, RFC 8446 4.6.1): sealed under keys that every shard derives for itself.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::sync::{Arc, Mutex, Once, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::{digest, hmac};
use millrace_config::TicketKeys;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::verify::CertificateRules;

/// Seconds for which one seed makes tickets; those of the epoch before still open.
const EPOCH: u64 = 4 * 3_600;
/// Envoy's and BoringSSL's `session_timeout` where none is configured.
const DEFAULT_LIFETIME: u64 = 7_200;
/// Tells under which key a ticket was sealed.
const NAME: usize = 8;
const TIME: usize = 8;
const TAG: usize = 16;

type Seed = Zeroizing<[u8; 32]>;

/// What all shards of a process have in common: the rules for certificates and the seed of their tickets. Seeds of past epochs are forgotten, so a
/// memory image opens no older tickets than those of two epochs.
pub struct Shared {
    ratchet: Mutex<Ratchet>,
    rules: CertificateRules,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared { [redacted] }")
    }
}

#[derive(Clone)]
struct Ratchet {
    epoch: u64,
    current: Seed,
    previous: Seed,
}

/// Gathers entropy for the process's random numbers, on a thread of its own. The first handshake would have to do it
/// otherwise, and it takes AWS-LC a tenth of a second: call this when a configuration with TLS is seen.
pub fn warm_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Whoever needs random bytes later asks again, and fails by itself.
        let gather = || _ = aws_lc_rs::rand::fill(&mut [0; 8]);
        _ = std::thread::Builder::new().name("entropy".into()).spawn(gather);
    });
}

impl Shared {
    /// Starts from the system's randomness. Peers' certificates are held to `rules`.
    pub fn random(rules: CertificateRules) -> Arc<Self> {
        let mut seed = [0; 32];
        // From the kernel itself: AWS-LC gathers entropy of its own for a tenth of a second, at every start.
        let kernel = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut seed));
        if kernel.is_err() && aws_lc_rs::rand::fill(&mut seed).is_err() {
            // Neither was ever seen to fail; the standard library has a third way to the same source.
            for part in seed.chunks_mut(8) {
                part.copy_from_slice(&RandomState::new().hash_one(0).to_ne_bytes()[..part.len()]);
            }
        }
        Self::with_rules(seed, rules)
    }

    /// Starts from 32 random bytes, with the default rules.
    pub fn new(seed: [u8; 32]) -> Arc<Self> {
        Self::with_rules(seed, CertificateRules::default())
    }

    /// Starts from 32 random bytes.
    pub fn with_rules(seed: [u8; 32], rules: CertificateRules) -> Arc<Self> {
        let previous = Zeroizing::new(derive(&seed, b"before", b""));
        let ratchet = Ratchet { epoch: 0, current: Zeroizing::new(seed), previous };
        Arc::new(Self { ratchet: Mutex::new(ratchet), rules })
    }

    pub(crate) fn rules(&self) -> CertificateRules {
        self.rules
    }

    /// The seeds of an epoch and of the one before it. Called once in an epoch by every context of a shard.
    fn seeds(&self, epoch: u64) -> (Seed, Seed) {
        let mut ratchet = self.ratchet.lock().unwrap_or_else(PoisonError::into_inner);
        if ratchet.epoch == 0 {
            ratchet.epoch = epoch;
        }
        // A leap of the clock by years must not cost a step for each epoch of it.
        if epoch > ratchet.epoch + 64 {
            ratchet.epoch = epoch - 2;
        }
        while ratchet.epoch < epoch {
            let next = Zeroizing::new(derive(&*ratchet.current, b"next", b""));
            ratchet.previous = std::mem::replace(&mut ratchet.current, next);
            ratchet.epoch += 1;
        }
        // A clock that was set back gets what there is.
        (ratchet.current.clone(), ratchet.previous.clone())
    }
}

/// Derives 32 bytes by HMAC-SHA-256, which is a PRF.
fn derive(secret: &[u8], label: &[u8], context: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut signing = hmac::Context::with_key(&key);
    signing.update(label);
    signing.update(context);
    let mut out = [0; 32];
    out.copy_from_slice(signing.sign().as_ref());
    out
}

/// A running hash of everything that decides whom a context believes and who it is: tickets of a context whose hash
/// is another do not open.
pub(crate) struct TrustHash(digest::Context);

impl TrustHash {
    pub(crate) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Adds one part, with its length so that parts cannot run into each other.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

/// Where a context's ticket keys come from.
pub(crate) enum KeySource {
    /// The process's own seeds.
    Own(Arc<Shared>),
    /// `session_ticket_keys`.
    Configured(Arc<TicketKeys>),
}

struct TicketKey {
    name: [u8; NAME],
    key: LessSafeKey,
}

impl TicketKey {
    fn new(secret: &[u8], trust: &[u8; 32]) -> Option<Self> {
        let key = Zeroizing::new(derive(secret, b"ticket key", trust));
        let name = *derive(secret, b"ticket name", trust).first_chunk::<NAME>()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).ok()?);
        Some(Self { name, key })
    }
}

/// Seals and opens the tickets of one context on one shard.
pub(crate) struct Tickets {
    source: KeySource,
    trust: [u8; 32],
    lifetime: u64,
    clock: Arc<Clock>,
    /// Epoch and keys; only this shard's thread ever asks for them.
    keys: Mutex<(u64, Vec<TicketKey>)>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets { [redacted] }")
    }
}

impl Tickets {
    pub(crate) fn new(
        source: KeySource,
        trust: [u8; 32],
        lifetime: Option<std::time::Duration>,
        clock: Arc<Clock>,
    ) -> Self {
        // Own seeds open tickets for one whole epoch at least.
        let lifetime = lifetime.map_or(DEFAULT_LIFETIME, |lifetime| lifetime.as_secs()).min(EPOCH);
        Self { source, trust, lifetime, clock, keys: Mutex::new((u64::MAX, Vec::new())) }
    }

    fn with_keys<R>(&self, use_keys: impl FnOnce(&[TicketKey]) -> Option<R>) -> Option<R> {
        let epoch = match &self.source {
            KeySource::Own(_) => self.clock.seconds() / EPOCH,
            KeySource::Configured(_) => 0,
        };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.0 != epoch {
            *keys = (epoch, self.derive_keys(epoch)?);
        }
        use_keys(&keys.1)
    }

    fn derive_keys(&self, epoch: u64) -> Option<Vec<TicketKey>> {
        match &self.source {
            KeySource::Own(shared) => {
                let (current, previous) = shared.seeds(epoch);
                [current, previous].iter().map(|seed| TicketKey::new(&**seed, &self.trust)).collect()
            }
            KeySource::Configured(keys) => {
                keys.0.iter().map(|key| TicketKey::new(key, &self.trust)).collect()
            }
        }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.lifetime).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        self.with_keys(|keys| {
            let TicketKey { name, key } = keys.first()?;
            let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + TIME + plain.len() + TAG);
            ticket.extend_from_slice(name);
            ticket.extend_from_slice(&nonce);
            let body = ticket.len();
            ticket.extend_from_slice(&self.clock.seconds().to_be_bytes());
            ticket.extend_from_slice(plain);
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from(name), &mut ticket[body..]).ok()?;
            ticket.extend_from_slice(tag.as_ref());
            Some(ticket)
        })
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_first_chunk::<NAME>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let length = self.with_keys(|keys| {
            let key = keys.iter().find(|key| key.name == *name)?;
            let nonce = Nonce::assume_unique_for_key(*nonce);
            key.key.open_in_place(nonce, Aad::from(name), &mut body).ok().map(|plain| plain.len())
        })?;
        body.truncate(length);
        let issued = u64::from_be_bytes(*body.first_chunk::<TIME>()?);
        if self.clock.seconds().saturating_sub(issued) > self.lifetime {
            return None;
        }
        Some(body.split_off(TIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::WallTime;
    use std::time::Duration;

    fn at(seconds: u64) -> Arc<Clock> {
        let clock = Arc::new(Clock::default());
        clock.set(WallTime(seconds * 1_000_000_000));
        clock
    }

    fn own(shared: &Arc<Shared>, trust: u8, clock: &Arc<Clock>) -> Tickets {
        Tickets::new(
            KeySource::Own(shared.clone()),
            [trust; 32],
            Some(Duration::from_secs(EPOCH)),
            clock.clone(),
        )
    }

    #[test]
    fn shards_agree_and_another_trust_does_not() {
        let (shared, clock) = (Shared::new([1; 32]), at(1_000_000));
        let (one, two, other) = (own(&shared, 1, &clock), own(&shared, 1, &clock), own(&shared, 2, &clock));
        let ticket = one.encrypt(b"state").expect("sealed");
        assert_eq!(two.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(other.decrypt(&ticket), None);
        for flipped in 0..ticket.len() {
            let mut bad = ticket.clone();
            bad[flipped] ^= 1;
            assert_eq!(two.decrypt(&bad), None, "{flipped}");
            assert_eq!(two.decrypt(&ticket[..flipped]), None);
        }
    }

    #[test]
    fn tickets_end_with_their_lifetime_and_with_their_seed() {
        let (shared, start) = (Shared::new([1; 32]), 100 * EPOCH);
        let clock = at(start + EPOCH - 1);
        let early = own(&shared, 1, &clock);
        let ticket = early.encrypt(b"state").expect("sealed");
        clock.set(WallTime((start + EPOCH + 5) * 1_000_000_000));
        assert!(early.decrypt(&ticket).is_some(), "the epoch before still opens");
        assert!(own(&shared, 1, &clock).decrypt(&ticket).is_some());
        clock.set(WallTime((start + 2 * EPOCH) * 1_000_000_000));
        assert!(early.decrypt(&ticket).is_none(), "older than its lifetime");
        clock.set(WallTime((start + 3 * EPOCH) * 1_000_000_000));
        let late = own(&shared, 1, &clock);
        let fresh = late.encrypt(b"new").expect("sealed");
        assert_ne!(fresh[..NAME], ticket[..NAME]);
        // A clock that goes back must not find forgotten seeds.
        let back = at(start);
        assert!(own(&shared, 1, &back).decrypt(&ticket).is_none());
        let short =
            Tickets::new(KeySource::Own(shared), [1; 32], Some(Duration::from_secs(10)), clock.clone());
        let ticket = short.encrypt(b"x").expect("sealed");
        clock.set(WallTime((start + 3 * EPOCH + 11) * 1_000_000_000));
        assert!(short.decrypt(&ticket).is_none());
    }

    #[test]
    fn configured_keys_all_open_and_the_first_seals() {
        let clock = at(5);
        let make = |keys: &[u8]| {
            let keys = TicketKeys(keys.iter().map(|key| [*key; 80]).collect());
            Tickets::new(KeySource::Configured(Arc::new(keys)), [0; 32], None, clock.clone())
        };
        let ticket = make(&[1]).encrypt(b"s").expect("sealed");
        assert!(make(&[2, 1]).decrypt(&ticket).is_some());
        assert!(make(&[2]).decrypt(&ticket).is_none());
        assert_eq!(make(&[2, 1]).encrypt(b"s").map(|t| t[..NAME] == ticket[..NAME]), Some(false));
    }
}
