//! The certificate authority: what a proxy's container finds before it starts, and `Identity.Certify`.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use linkerd2_proxy_api::identity::identity_server::Identity;
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tonic::{Request, Response, Status};

const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(20);

/// Signs for as long as the process lives.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new one and writes `ca.pem`.
    pub(crate) fn create(directory: &Path) -> Result<Self, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "identity.linkerd.cluster.local");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = SystemTime::now();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + 365 * LIFETIME).into();
        let key = KeyPair::generate().map_err(|e| format!("authority: {e}"))?;
        let certificate = params.self_signed(&key).map_err(|e| format!("authority: {e}"))?;
        make(directory)?;
        write(&directory.join("ca.pem"), certificate.pem().as_bytes())?;
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// Signs a request for itself, as the identity service would.
    fn sign(&self, mut signing: CertificateSigningRequestParams) -> Result<rcgen::Certificate, rcgen::Error> {
        let now = SystemTime::now();
        let params = &mut signing.params;
        params.not_before = (now - SKEW).into();
        params.not_after = (now + LIFETIME).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        signing.signed_by(&self.issuer)
    }

    /// What linkerd's proxy container prepares before it starts the proxy: a key, a request to sign, a token. The
    /// signed certificate stands beside them for a client that is in the mesh without a proxy.
    pub(crate) fn prepare_proxy(&self, directory: &Path, id: &str) -> Result<(), String> {
        let named = |e: rcgen::Error| format!("PROXY_ID {id:?}: {e}");
        let key = KeyPair::generate().map_err(named)?;
        let params = CertificateParams::new([id.to_owned()]).map_err(named)?;
        let request = params.serialize_request(&key).map_err(named)?;
        let signing = CertificateSigningRequestParams::from_der(request.der()).map_err(named)?;
        make(directory)?;
        write(&directory.join("key.p8"), &key.serialize_der())?;
        write(&directory.join("key.pem"), key.serialize_pem().as_bytes())?;
        write(&directory.join("cert.pem"), self.sign(signing).map_err(named)?.pem().as_bytes())?;
        write(&directory.join("csr.der"), request.der())?;
        write(&directory.join("token"), b"stub")
    }

    fn certify(&self, request: CertifyRequest) -> Result<CertifyResponse, Status> {
        let CertifyRequest { identity, token, certificate_signing_request } = request;
        if token.is_empty() {
            return Err(Status::unauthenticated("no token"));
        }
        let invalid = |e: rcgen::Error| Status::invalid_argument(e.to_string());
        let signing = CertificateSigningRequestParams::from_der(&certificate_signing_request.into())
            .map_err(invalid)?;
        let ours = |name: &SanType| matches!(name, SanType::DnsName(n) if n.as_str() == identity);
        if !matches!(&signing.params.subject_alt_names[..], [name] if ours(name)) {
            return Err(Status::permission_denied("the request to sign is for another name"));
        }
        let certificate = self.sign(signing).map_err(invalid)?;
        eprintln!("certified {identity}");
        // The API's comments say PEM; the proxy and linkerd's identity controller use DER.
        Ok(CertifyResponse {
            leaf_certificate: certificate.der().to_vec(),
            intermediate_certificates: vec![],
            valid_until: Some((SystemTime::now() + LIFETIME).into()),
        })
    }
}

#[tonic::async_trait]
impl Identity for Authority {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        Authority::certify(self, request.into_inner()).map(Response::new)
    }
}

fn make(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_proxy_is_certified_under_its_own_name_only() -> Result<(), String> {
        let directory = std::env::temp_dir().join(format!("linkerd-control-test-{}", std::process::id()));
        let authority = Authority::create(&directory)?;
        authority.prepare_proxy(&directory.join("0"), "a.bench")?;
        let csr = fs::read(directory.join("0/csr.der")).map_err(|e| e.to_string())?;
        let ask = |identity: &str, token: &[u8]| {
            authority.certify(CertifyRequest {
                identity: identity.to_owned(),
                token: token.to_vec(),
                certificate_signing_request: csr.clone(),
            })
        };
        assert!(ask("a.bench", b"stub").is_ok_and(|answer| !answer.leaf_certificate.is_empty()));
        assert!(ask("b.bench", b"stub").is_err_and(|status| status.message().contains("another name")));
        assert!(ask("a.bench", b"").is_err_and(|status| status.message().contains("token")));
        fs::remove_dir_all(&directory).map_err(|e| e.to_string())
    }
}
