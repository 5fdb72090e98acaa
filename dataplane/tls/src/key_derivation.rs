//! HKDF of TLS 1.3 (RFC 8446 7.1) that extracts once: AWS-LC's takes salt and secret again for everything that is
//! expanded from them.

use std::sync::LazyLock;

use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::crypto::hmac::Tag;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};

/// AWS-LC's HKDF, of which extraction is done apart.
struct ExtractsOnce {
    inner: &'static dyn Hkdf,
    /// Of the hash: the salt and secret that stand for none.
    zeroes: OkmBlock,
}

impl ExtractsOnce {
    fn new(inner: &'static dyn Hkdf) -> Self {
        let length = inner.hmac_sign(&OkmBlock::new(&[]), &[]).as_ref().len();
        Self { inner, zeroes: OkmBlock::new(&[0; OkmBlock::MAX_LEN][..length]) }
    }

    /// HKDF-Extract is HMAC under the salt (RFC 5869 2.2).
    fn extract(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        let prk = match salt {
            // Salts are outputs of the hash.
            Some(salt) if salt.len() > OkmBlock::MAX_LEN => {
                return self.inner.extract_from_secret(Some(salt), secret);
            }
            Some(salt) => self.inner.hmac_sign(&OkmBlock::new(salt), secret),
            None => self.inner.hmac_sign(&self.zeroes, secret),
        };
        self.inner.expander_for_okm(&OkmBlock::new(prk.as_ref()))
    }
}

impl Hkdf for ExtractsOnce {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.extract(salt, self.zeroes.as_ref())
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        self.extract(salt, secret)
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        self.inner.expander_for_okm(okm)
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        self.inner.hmac_sign(key, message)
    }
}

/// A suite with its HKDF replaced; it lives as long as the process.
fn extracting_once(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let SupportedCipherSuite::Tls13(theirs) = suite else { return suite };
    let hkdf: &'static ExtractsOnce = Box::leak(Box::new(ExtractsOnce::new(theirs.hkdf_provider)));
    let CipherSuiteCommon { suite, hash_provider, confidentiality_limit } = theirs.common;
    let ours = Tls13CipherSuite {
        common: CipherSuiteCommon { suite, hash_provider, confidentiality_limit },
        hkdf_provider: hkdf,
        aead_alg: theirs.aead_alg,
        quic: theirs.quic,
    };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(ours)))
}

/// The suites of TLS 1.3, in BoringSSL's order on machines with AES instructions.
pub(crate) fn tls13_suites() -> [SupportedCipherSuite; 3] {
    static SUITES: LazyLock<[SupportedCipherSuite; 3]> = LazyLock::new(|| {
        [
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
        ]
        .map(extracting_once)
    });
    *SUITES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_derived_is_what_aws_lc_derives() {
        let theirs = [
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        for (ours, theirs) in tls13_suites().into_iter().zip(theirs) {
            assert_eq!(ours.suite(), theirs.suite());
            let (Some(ours), Some(theirs)) = (ours.tls13(), theirs.tls13()) else {
                panic!("suites of TLS 1.3")
            };
            let (ours, theirs) = (ours.hkdf_provider, theirs.hkdf_provider);
            let salts =
                [None, Some(&[][..]), Some(&[0; 32]), Some(&[7; 48]), Some(&[7; 64]), Some(&[7; 200])];
            for salt in salts {
                let pairs = [
                    (ours.extract_from_zero_ikm(salt), theirs.extract_from_zero_ikm(salt)),
                    (ours.extract_from_secret(salt, b"secret"), theirs.extract_from_secret(salt, b"secret")),
                    (ours.extract_from_secret(salt, &[9; 48]), theirs.extract_from_secret(salt, &[9; 48])),
                ];
                for (ours, theirs) in pairs {
                    assert_eq!(ours.hash_len(), theirs.hash_len());
                    for info in [&[&b"tls13 "[..], b"derived"][..], &[]] {
                        assert_eq!(ours.expand_block(info).as_ref(), theirs.expand_block(info).as_ref());
                        let mut long = [[0; 100]; 2];
                        assert!(ours.expand_slice(info, &mut long[0]).is_ok());
                        assert!(theirs.expand_slice(info, &mut long[1]).is_ok());
                        assert_eq!(long[0], long[1]);
                    }
                }
            }
            let okm = OkmBlock::new(&[5; 32]);
            assert_eq!(ours.hmac_sign(&okm, b"x").as_ref(), theirs.hmac_sign(&okm, b"x").as_ref());
        }
    }
}
