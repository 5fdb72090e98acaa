//! `signature_algorithms` of ours: signing keys held to a list.

use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

/// A key that signs with listed schemes only, the first of them that the peer offers and the key can do.
#[derive(Debug)]
struct ListedKey {
    inner: Arc<dyn SigningKey>,
    allowed: Arc<[SignatureScheme]>,
}

impl SigningKey for ListedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.allowed
            .iter()
            .filter(|scheme| offered.contains(scheme))
            .find_map(|scheme| self.inner.choose_scheme(std::slice::from_ref(scheme)))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.inner.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }
}

/// `key` held to `allowed`, or as it is where nothing is configured.
pub(crate) fn listed(key: &Arc<CertifiedKey>, allowed: Option<&Arc<[SignatureScheme]>>) -> Arc<CertifiedKey> {
    let Some(allowed) = allowed else { return key.clone() };
    let mut narrowed = CertifiedKey::clone(key);
    narrowed.key = Arc::new(ListedKey { inner: key.key.clone(), allowed: allowed.clone() });
    Arc::new(narrowed)
}
