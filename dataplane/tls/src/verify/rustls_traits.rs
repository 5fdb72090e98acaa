//! The verifier as rustls asks for it, on either side.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::handoff::{Outcome, extra_dns_san, report, report_signature};
use super::{Verified, Verifier};

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

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.answer(end_entity, intermediates, now).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        report_signature(dss.scheme.into());
        verify_tls12_signature(message, cert, dss, &self.options().algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        report_signature(dss.scheme.into());
        verify_tls13_signature(message, cert, dss, &self.options().algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.options().algorithms.supported_schemes()
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
        report_signature(dss.scheme.into());
        verify_tls12_signature(message, cert, dss, &self.options().algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        report_signature(dss.scheme.into());
        verify_tls13_signature(message, cert, dss, &self.options().algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.options().algorithms.supported_schemes()
    }
}
