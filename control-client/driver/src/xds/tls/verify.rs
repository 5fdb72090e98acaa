//! Whether the certificate of a control plane is accepted.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::san::{self, Matcher};
use super::{TlsError, Validation, invalid};

/// Checks the chain against the trusted authorities, then the names.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None` accepts any chain.
    roots: Option<RootCertStore>,
    /// The trusted certificates as they are: the peer may show one of them itself.
    pinned: Vec<CertificateDer<'static>>,
    matchers: Vec<Matcher>,
    verify_host: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What a certificate fails at that has no name in rustls.
enum Refusal {
    NoNameMatches,
    Unreadable,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoNameMatches => "no subject alternative name matches",
            Self::Unreadable => "the certificate cannot be read",
        })
    }
}

impl std::fmt::Debug for Refusal {
    /// rustls prints the reasons of others in this form.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Refusal {}

fn refused(why: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

impl Verifier {
    pub(super) fn new(
        roots: Option<RootCertStore>,
        validation: Validation,
        verify_host: bool,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let matchers: Result<Vec<_>, _> = validation.matchers.iter().map(Matcher::new).collect();
        let matchers = matchers.map_err(|reason| invalid("match_typed_subject_alt_names", reason))?;
        let pinned = validation.authorities.unwrap_or_default();
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { roots, pinned, matchers, verify_host, algorithms })
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some(roots) = &self.roots else {
            return Ok(());
        };
        // A self-signed certificate that is trusted by itself; webpki would not take an authority as a leaf.
        if self.pinned.iter().any(|trusted| trusted.as_ref() == leaf.as_ref()) {
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let now = ASN1Time::from_timestamp(seconds).map_err(|_| refused(Refusal::Unreadable))?;
            let valid = parse(leaf)?.validity().is_valid_at(now);
            return if valid { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::Expired)) };
        }
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, self.algorithms.all)
    }

    fn check_names(&self, leaf: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
        if self.verify_host {
            verify_server_name(&ParsedCertificate::try_from(leaf)?, host)?;
        }
        if self.matchers.is_empty() {
            return Ok(());
        }
        let names = san::names(&parse(leaf)?);
        let fits = self.matchers.iter().any(|matcher| names.iter().any(|name| matcher.matches(name)));
        if fits { Ok(()) } else { Err(refused(Refusal::NoNameMatches)) }
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    X509Certificate::from_der(der).map(|(_, parsed)| parsed).map_err(|_| refused(Refusal::Unreadable))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_chain(leaf, intermediates, now)?;
        self.check_names(leaf, host)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
