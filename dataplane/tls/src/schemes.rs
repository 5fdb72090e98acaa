//! `signature_algorithms`: rustls's verifiers and signing keys, held to a list.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureAlgorithm, SignatureScheme,
};

use crate::verify::Verifier;

/// A verifier that believes only signatures of listed schemes.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) inner: Arc<Verifier>,
    pub(crate) allowed: Arc<[SignatureScheme]>,
}

impl Listed {
    fn check(&self, dss: &DigitallySignedStruct) -> Result<(), Error> {
        if self.allowed.contains(&dss.scheme) {
            return Ok(());
        }
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn narrowed(&self, schemes: &[SignatureScheme]) -> Vec<SignatureScheme> {
        self.allowed.iter().copied().filter(|scheme| schemes.contains(scheme)).collect()
    }
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(dss)?;
        ServerCertVerifier::verify_tls12_signature(&*self.inner, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(dss)?;
        ServerCertVerifier::verify_tls13_signature(&*self.inner, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.narrowed(&ServerCertVerifier::supported_verify_schemes(&*self.inner))
    }
}

impl ClientCertVerifier for Listed {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        ClientCertVerifier::root_hint_subjects(&*self.inner)
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(dss)?;
        ClientCertVerifier::verify_tls12_signature(&*self.inner, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(dss)?;
        ClientCertVerifier::verify_tls13_signature(&*self.inner, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.narrowed(&ClientCertVerifier::supported_verify_schemes(&*self.inner))
    }
}

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
