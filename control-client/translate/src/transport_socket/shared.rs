//! One copy of equal certificates: a mesh repeats ours and its authorities in every listener and cluster.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use millrace_config::TlsCertificate;

/// A bundle of authorities.
type Bundle = [Arc<[u8]>];

/// What is in somebody's use, found by its content.
#[derive(Debug, Default)]
pub(crate) struct SharedCredentials {
    hasher: RandomState,
    certificates: HashMap<u64, Weak<TlsCertificate>>,
    bundles: HashMap<u64, Weak<Bundle>>,
}

impl SharedCredentials {
    /// The copy that is in use already, or this one from now on.
    pub fn certificate(&mut self, new: TlsCertificate) -> Arc<TlsCertificate> {
        let key = self.hasher.hash_one((&new.chain, &new.origin));
        match self.certificates.get(&key).and_then(Weak::upgrade) {
            Some(known) if *known == new => known,
            _ => {
                let new = Arc::new(new);
                make_room(&mut self.certificates);
                self.certificates.insert(key, Arc::downgrade(&new));
                new
            }
        }
    }

    /// As [`Self::certificate`].
    pub fn bundle(&mut self, new: Arc<Bundle>) -> Arc<Bundle> {
        let key = self.hasher.hash_one(&new);
        match self.bundles.get(&key).and_then(Weak::upgrade) {
            Some(known) if known == new => known,
            _ => {
                make_room(&mut self.bundles);
                self.bundles.insert(key, Arc::downgrade(&new));
                new
            }
        }
    }
}

/// Forgets what nobody uses before a table would grow.
fn make_room<T: ?Sized>(table: &mut HashMap<u64, Weak<T>>) {
    if table.len() == table.capacity() {
        table.retain(|_, weak| weak.strong_count() > 0);
    }
}
