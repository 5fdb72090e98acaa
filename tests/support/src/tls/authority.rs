//! Authorities, and the certificates that they issue: right ones, and ones that are wrong in a single way.

use std::sync::Arc;

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    NameConstraints, PublicKeyData, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The kind of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with P-256.
    #[default]
    P256,
    /// ECDSA with P-384.
    P384,
    /// RSA with 2,048 bits.
    Rsa2048,
    /// Ed25519, which Envoy does not take by default.
    Ed25519,
}

impl Algorithm {
    fn generate(self) -> KeyPair {
        let algorithm = match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
        };
        KeyPair::generate_for(algorithm).expect("a key pair")
    }
}

/// What a leaf says; issued by [`Authority::issue`]. Good for both usages and until 2090 unless told otherwise.
#[derive(Clone, Debug)]
pub struct Leaf {
    names: Vec<SanType>,
    common_name: Option<String>,
    years: (i32, i32),
    usages: Vec<ExtendedKeyUsagePurpose>,
    key_usages: Vec<KeyUsagePurpose>,
    algorithm: Algorithm,
}

fn ia5(text: &str) -> rcgen::string::Ia5String {
    text.try_into().expect("an ASCII name")
}

impl Leaf {
    /// Without any name.
    pub fn nameless() -> Self {
        Self {
            names: Vec::new(),
            common_name: None,
            years: (2020, 2090),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            key_usages: vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment],
            algorithm: Algorithm::P256,
        }
    }

    /// A SPIFFE leaf: one URI and an empty subject.
    pub fn spiffe(uri: &str) -> Self {
        Self::nameless().uri(uri)
    }

    /// A leaf with one DNS name, which is its common name, too.
    pub fn dns(name: &str) -> Self {
        Self::nameless().dns_name(name).common_name(name)
    }

    /// One more URI.
    #[must_use]
    pub fn uri(mut self, uri: &str) -> Self {
        self.names.push(SanType::URI(ia5(uri)));
        self
    }

    /// One more DNS name.
    #[must_use]
    pub fn dns_name(mut self, name: &str) -> Self {
        self.names.push(SanType::DnsName(ia5(name)));
        self
    }

    /// One more address.
    #[must_use]
    pub fn ip(mut self, address: &str) -> Self {
        self.names.push(SanType::IpAddress(address.parse().expect("an address")));
        self
    }

    /// One more mail address.
    #[must_use]
    pub fn email(mut self, address: &str) -> Self {
        self.names.push(SanType::Rfc822Name(ia5(address)));
        self
    }

    /// The subject's common name.
    #[must_use]
    pub fn common_name(mut self, name: &str) -> Self {
        self.common_name = Some(name.into());
        self
    }

    /// Over since 2021.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.years = (2020, 2021);
        self
    }

    /// Good from 2089.
    #[must_use]
    pub fn not_yet_valid(mut self) -> Self {
        self.years = (2089, 2090);
        self
    }

    /// Good for these usages only: `server`, `client`, `code`.
    #[must_use]
    pub fn only_for(mut self, usage: &str) -> Self {
        self.usages = match usage {
            "server" => vec![ExtendedKeyUsagePurpose::ServerAuth],
            "client" => vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => vec![ExtendedKeyUsagePurpose::CodeSigning],
        };
        self
    }

    /// `keyUsage` has these bits only: `signature`, `encipherment`, `agreement`; without the extension when there are none.
    #[must_use]
    pub fn key_usage(mut self, bits: &[&str]) -> Self {
        let usage = |bit: &&str| match *bit {
            "signature" => KeyUsagePurpose::DigitalSignature,
            "encipherment" => KeyUsagePurpose::KeyEncipherment,
            _ => KeyUsagePurpose::KeyAgreement,
        };
        self.key_usages = bits.iter().map(usage).collect();
        self
    }

    /// With a key of this kind.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }
}

/// A chain and the key of its leaf.
#[derive(Clone, Debug)]
pub struct Identity {
    /// DER, leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo.
    pub spki_sha256: Vec<u8>,
    serial: SerialNumber,
    pems: Vec<String>,
    key: Vec<u8>,
    key_pem: String,
}

impl Identity {
    /// The chain as PEM.
    pub fn pem(&self) -> String {
        self.pems.concat()
    }

    /// The leaf alone as PEM.
    pub fn leaf_pem(&self) -> &str {
        &self.pems[0]
    }

    /// The key as PEM (PKCS#8).
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The key for rustls.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// The same chain with the key of another identity.
    #[must_use]
    pub fn with_key_of(&self, other: &Self) -> Self {
        Self { key: other.key.clone(), key_pem: other.key_pem.clone(), ..self.clone() }
    }

    /// The same leaf with other certificates behind it.
    #[must_use]
    pub fn with_behind(&self, behind: &[&Authority]) -> Self {
        let mut all = self.clone();
        all.chain.truncate(1);
        all.pems.truncate(1);
        for authority in behind {
            all.chain.push(authority.der.clone());
            all.pems.push(authority.pem.clone());
        }
        all
    }

    /// SHA-256 of the leaf, lower-case hexadecimal.
    pub fn sha256_hex(&self) -> String {
        hex(&sha256(&self.chain[0]))
    }

    /// SHA-1 of the leaf, lower-case hexadecimal.
    pub fn sha1_hex(&self) -> String {
        hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.chain[0]).as_ref())
    }

    /// The serial number, lower-case hexadecimal without leading zeros.
    pub fn serial_hex(&self) -> String {
        hex(&self.serial.to_bytes()).trim_start_matches('0').to_owned()
    }

    /// `verify_certificate_spki`: Base64 of the hash.
    pub fn spki_base64(&self) -> String {
        base64(&self.spki_sha256)
    }
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    /// Intermediates up to, without the root; empty for a root.
    chain: Vec<(CertificateDer<'static>, String)>,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Tests");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1));
    params.use_authority_key_identifier_extension = true;
    params
}

impl Authority {
    /// A root with an ECDSA key.
    pub fn root(name: &str) -> Self {
        Self::root_with(name, Algorithm::P256)
    }

    /// A root with a key of this kind.
    pub fn root_with(name: &str, algorithm: Algorithm) -> Self {
        let (params, key) = (authority_params(name), algorithm.generate());
        let certificate = params.self_signed(&key).expect("a root");
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), der, pem, chain: Vec::new() }
    }

    /// An authority below this one.
    #[must_use]
    pub fn intermediate(&self, name: &str) -> Self {
        self.below(authority_params(name))
    }

    /// An authority below this one that may vouch for DNS names below a domain only.
    #[must_use]
    pub fn constrained(&self, name: &str, domain: &str) -> Self {
        let mut params = authority_params(name);
        let permitted_subtrees = vec![GeneralSubtree::DnsName(domain.into())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        self.below(params)
    }

    fn below(&self, params: CertificateParams) -> Self {
        let key = Algorithm::P256.generate();
        let certificate = params.signed_by(&key, &self.issuer).expect("an intermediate");
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        let chain = [vec![(der.clone(), pem.clone())], self.chain.clone()].concat();
        Self { issuer: Issuer::new(params, key), der, pem, chain }
    }

    /// An authority this many levels below.
    #[must_use]
    pub fn deep(&self, levels: usize) -> Self {
        (1..levels).fold(self.intermediate("level 0"), |above, n| above.intermediate(&format!("level {n}")))
    }

    /// Issues a leaf.
    pub fn issue(&self, leaf: &Leaf) -> Identity {
        let key = leaf.algorithm.generate();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &leaf.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.subject_alt_names.clone_from(&leaf.names);
        params.key_usages.clone_from(&leaf.key_usages);
        params.extended_key_usages.clone_from(&leaf.usages);
        params.not_before = date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = date_time_ymd(leaf.years.1, 1, 1);
        params.use_authority_key_identifier_extension = true;
        let spki_sha256 = sha256(&key.subject_public_key_info());
        // As rcgen would, but known: the first bytes of the key's hash, positive and without a leading zero.
        let mut serial = spki_sha256[..8].to_vec();
        serial[0] = (serial[0] & 0x7f) | 0x40;
        let serial = SerialNumber::from(serial);
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).expect("a leaf");
        let mut identity = Identity {
            chain: vec![certificate.der().clone()],
            spki_sha256,
            serial,
            pems: vec![certificate.pem()],
            key: key.serialize_der(),
            key_pem: key.serialize_pem(),
        };
        for (der, pem) in &self.chain {
            identity.chain.push(der.clone());
            identity.pems.push(pem.clone());
        }
        identity
    }

    /// The authority's own certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's own certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A revocation list with these leaves, as PEM.
    pub fn crl(&self, revoked: &[&Identity]) -> String {
        let revoked_certs = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: identity.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2089, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a list")
    }
}

/// One authority for every test that does not care: its root, shared.
pub fn shared() -> Arc<Authority> {
    static SHARED: std::sync::OnceLock<Arc<Authority>> = std::sync::OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| Arc::new(Authority::root("shared"))))
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, b| (word << 8) | u32::from(*b)) << (8 * (3 - group.len()));
        for n in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * n)) as usize & 63];
            out.push(if n > group.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        assert_eq!([base64(b""), base64(b"f"), base64(b"fo"), base64(b"foo")], ["", "Zg==", "Zm8=", "Zm9v"]);
    }

    #[test]
    fn chains_have_every_intermediate_and_no_root() {
        let root = Authority::root("r");
        assert_eq!(root.issue(&Leaf::dns("a.test")).chain.len(), 1);
        let deep = root.deep(10).issue(&Leaf::spiffe("spiffe://test/a"));
        assert_eq!((deep.chain.len(), deep.pem().matches("BEGIN").count()), (11, 11));
    }
}
