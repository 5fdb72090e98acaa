//! What the contexts of one shard have in common: the clock and the things that are worth computing only once.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use aws_lc_rs::digest;
use millrace_base::{PeerCertificate, WallTime};
use millrace_config::TlsCertificate;
use rustls::pki_types::CertificateDer;

use crate::certificate;
use crate::clock::Clock;
use crate::error::ContextError;
use crate::identity::Identity;
use crate::tickets::Shared;
use crate::verify::TrustCache;

/// Peers whose facts are shared by their connections; more are forgotten, which only costs memory.
const PEERS: usize = 1_024;
/// Facts that are kept although no connection has them now: a peer that comes back costs no reading of its chain.
const RECENT: usize = 16;
/// Identities that are remembered; more are read again.
const IDENTITIES: usize = 256;

/// One shard's part of TLS.
pub struct Local {
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    pub(crate) trust: TrustCache,
    peers: RefCell<HashMap<[u8; 32], Weak<PeerCertificate>>>,
    recent: RefCell<VecDeque<Arc<PeerCertificate>>>,
    identities: RefCell<Vec<(Weak<TlsCertificate>, Weak<Identity>)>>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// For one shard of the process that `shared` stands for. Call [`Self::set_wall`] before the first handshake.
    pub fn new(shared: &Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            shared: shared.clone(),
            clock: Arc::default(),
            trust: TrustCache::default(),
            peers: RefCell::default(),
            recent: RefCell::default(),
            identities: RefCell::default(),
        })
    }

    /// The wall clock, to the second, by which certificates and tickets are judged.
    pub fn set_wall(&self, now: WallTime) {
        self.clock.set(now);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// The parsed form of a certificate and its key, shared by the contexts that use it.
    pub(crate) fn identity(&self, certificate: &Arc<TlsCertificate>) -> Result<Arc<Identity>, ContextError> {
        let mut identities = self.identities.borrow_mut();
        identities.retain(|(_, identity)| identity.strong_count() > 0);
        let known = identities
            .iter()
            .find(|(source, _)| std::ptr::eq(source.as_ptr(), Arc::as_ptr(certificate)))
            .and_then(|(_, identity)| identity.upgrade());
        if let Some(identity) = known {
            return Ok(identity);
        }
        let identity = Arc::new(Identity::new(certificate)?);
        if identities.len() < IDENTITIES {
            identities.push((Arc::downgrade(certificate), Arc::downgrade(&identity)));
        }
        Ok(identity)
    }

    /// The facts of a peer's chain, made once for all of its connections. `None` for a leaf that cannot be read.
    pub(crate) fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<Arc<PeerCertificate>> {
        let mut hash = digest::Context::new(&digest::SHA256);
        for certificate in chain {
            hash.update(&(certificate.len() as u64).to_be_bytes());
            hash.update(certificate);
        }
        let key: [u8; 32] = hash.finish().as_ref().try_into().ok()?;
        let mut peers = self.peers.borrow_mut();
        if let Some(known) = peers.get(&key).and_then(Weak::upgrade) {
            return Some(known);
        }
        let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
        let peer = Arc::new(certificate::peer(&chain).ok()?);
        if peers.len() >= PEERS {
            peers.retain(|_, peer| peer.strong_count() > 0);
        }
        if peers.len() < PEERS {
            peers.insert(key, Arc::downgrade(&peer));
            let mut recent = self.recent.borrow_mut();
            recent.truncate(RECENT - 1);
            recent.push_front(peer.clone());
        }
        Some(peer)
    }
}
