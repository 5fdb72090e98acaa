//! The verifier as rustls asks for it, on either side.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};

use x509_parser::certificate::X509Certificate;

use super::handoff::{Outcome, extra_dns_san, report, report_signature};
use super::{Verified, Verifier};
use crate::certificate::x509::parse;

impl Verifier {
    fn answer(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Verified, Error> {
        let chain: Vec<&[u8]> = std::iter::once(leaf).chain(rest).map(AsRef::as_ref).collect();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match self.verify(&chain, now, extra_dns_san().as_deref()) {
            Ok(verified) => {
                report(Outcome::Accepted(verified));
                Ok(verified)
            }
            Err(error) => {
                report(Outcome::Refused(error));
                Err(Error::InvalidCertificate(error.fault()))
            }
        }
    }
}

/// rustls's check of a signature, of either version.
type Check = fn(
    &[u8],
    &CertificateDer<'_>,
    &DigitallySignedStruct,
    &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error>;

impl Verifier {
    fn signature(
        &self,
        check: Check,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let options = self.options();
        if options.schemes.as_ref().is_some_and(|allowed| !allowed.contains(&dss.scheme)) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        report_signature(dss.scheme.into());
        check(message, cert, dss, &options.algorithms)
    }

    /// In the order of `signature_algorithms`, or of the provider.
    fn schemes(&self) -> Vec<SignatureScheme> {
        let known = self.options().algorithms.supported_schemes();
        match &self.options().schemes {
            Some(allowed) => allowed.iter().copied().filter(|scheme| known.contains(scheme)).collect(),
            None => known,
        }
    }
}

/// What a server's key may be used for (RFC 5280 4.2.1.3): it signs the handshake, in every suite that is left. Envoy 1.40
/// looks at it whatever `enforce_rsa_key_usage` says, also where nothing else is verified.
fn may_sign(leaf: &X509Certificate<'_>) -> bool {
    leaf.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.digital_signature()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.answer(end_entity, intermediates, now)?;
        match parse(end_entity) {
            Ok(leaf) if may_sign(&leaf) => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::InvalidPurpose.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(verify_tls12_signature, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(verify_tls13_signature, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.asks()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.requires()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.root_hints()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.answer(end_entity, intermediates, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(verify_tls12_signature, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(verify_tls13_signature, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
