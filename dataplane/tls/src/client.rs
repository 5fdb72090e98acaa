//! `UpstreamTlsContext`, compiled for one shard.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use millrace_base::LocalCertificate;
use millrace_config::{Secret, SecretId, UpstreamTls};
use rustls::client::{ClientConfig, ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use rustls::{NoKeyLog, SignatureScheme};

use crate::error::ContextError;
use crate::local::Local;
use crate::provider::{End, provider, schemes, versions};
use crate::schemes::listed;
use crate::server::{certificates, validation};
use crate::sessions::Sessions;
use crate::verify::{PeerRole, Verifier, VerifierOptions};

/// Everything that connections to the endpoints of one transport socket share.
pub struct ClientContext {
    pub(crate) local: Rc<Local>,
    /// For connections whose server's name is not looked at.
    pub(crate) plain: Arc<ClientConfig>,
    /// For connections whose server must have the name that is asked for (`auto_san_validation`): sessions of the
    /// one are never resumed by the other.
    pub(crate) named: Arc<ClientConfig>,
    /// For connections whose server must have yet another name: nothing is resumed.
    pub(crate) unresumed: Arc<ClientConfig>,
    pub(crate) alpn: Box<[Arc<[u8]>]>,
    pub(crate) certificate: Option<Arc<LocalCertificate>>,
    /// A resumed session's certificate was validated when the session began.
    pub(crate) validates: bool,
}

impl fmt::Debug for ClientContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientContext").field("alpn", &self.alpn).finish_non_exhaustive()
    }
}

impl ClientContext {
    /// Compiles `config`. `secret` gives what has come over SDS. Sessions live and end with the context, so whatever
    /// changes in it ends them.
    pub fn new(
        config: &UpstreamTls,
        secret: &dyn Fn(SecretId) -> Option<Secret>,
        local: &Rc<Local>,
    ) -> Result<Self, ContextError> {
        let common = &config.common;
        let provider = provider(&common.params, End::Client)?;
        let allowed = schemes(&common.params);
        let context = validation(&common.validation, secret)?;
        let options = VerifierOptions {
            role: PeerRole::Server,
            required: true,
            rules: local.shared().rules(),
            algorithms: provider.signature_verification_algorithms,
            schemes: allowed.clone(),
        };
        let verifier = Verifier::new(context.as_deref(), options, &local.trust)?;
        let identity = certificates(&common.certificates, secret, local)?.into_iter().next();
        let resolver = Own(identity.as_ref().map(|identity| listed(&identity.certified, allowed.as_ref())));
        let builder = ClientConfig::builder_with_details(provider, local.clock().clone())
            .with_protocol_versions(&versions(&common.params)?)
            .map_err(|_| ContextError::Parameters)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut plain = builder.with_client_cert_resolver(Arc::new(resolver));
        plain.alpn_protocols = common.alpn.iter().map(|name| name.to_vec()).collect();
        plain.enable_secret_extraction = true;
        plain.enable_early_data = false;
        plain.key_log = Arc::new(NoKeyLog);
        plain.cert_decompressors = Vec::new();
        plain.cert_compressors = Vec::new();
        let mut named = plain.clone();
        let mut unresumed = plain.clone();
        unresumed.resumption = Resumption::disabled();
        for resuming in [&mut plain, &mut named] {
            resuming.resumption = match config.max_session_keys {
                0 => Resumption::disabled(),
                keys => Resumption::store(Arc::new(Sessions::new(keys))),
            };
        }
        Ok(Self {
            local: local.clone(),
            plain: Arc::new(plain),
            named: Arc::new(named),
            unresumed: Arc::new(unresumed),
            alpn: common.alpn.iter().cloned().collect(),
            certificate: identity.map(|identity| identity.local.clone()),
            validates: context.is_some_and(|context| !context.accept_untrusted),
        })
    }
}

/// Shows our certificate to every server that asks, as Envoy does, whichever authorities it names.
#[derive(Debug)]
struct Own(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}
