//! `DownstreamTlsContext`, compiled for one shard.

mod selection;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use millrace_config::{
    DownstreamTls, Secret, SecretId, SecretSource, SessionTickets, TlsCertificate, ValidationContext,
    ValidationSource,
};
use millrace_inspect::ClientHello;
use rustls::NoKeyLog;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ServerConfig};

use crate::error::ContextError;
use crate::identity::Identity;
use crate::local::Local;
use crate::provider::{End, provider, schemes, versions};
use crate::schemes::listed;
use crate::tickets::{KeySource, Tickets, TrustHash};
use crate::verify::{CertificateRules, PeerRole, Verifier, VerifierOptions};

pub(crate) use selection::Selection;

/// Tickets that a client gets after a full handshake: what BoringSSL sends.
const TICKETS: usize = 2;
/// Tickets for a client that comes back with one, which it must not use again (RFC 8446 C.4): its stock stays what it
/// was. BoringSSL sends two again (measured), OpenSSL one.
const TICKETS_AGAIN: usize = 1;

/// Everything that the connections of one filter chain share.
pub struct ServerContext {
    pub(crate) local: Rc<Local>,
    with_alpn: Answers,
    /// For clients that offer no protocol of ours: BoringSSL then goes on without one, rustls would refuse.
    without_alpn: Answers,
    pub(crate) alpn: Box<[Arc<[u8]>]>,
    pub(crate) selection: Arc<Selection>,
    /// A resumed session's certificate was validated when the session began.
    pub(crate) validates: bool,
}

/// How clients are answered that come for the first time, and those that come back.
struct Answers {
    first: Arc<ServerConfig>,
    again: Arc<ServerConfig>,
}

impl Answers {
    fn new(config: ServerConfig) -> Self {
        let first = Arc::new(config);
        let mut again = first.clone();
        if first.send_tls13_tickets > TICKETS_AGAIN {
            Arc::make_mut(&mut again).send_tls13_tickets = TICKETS_AGAIN;
        }
        Self { first, again }
    }
}

impl fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerContext").field("alpn", &self.alpn).finish_non_exhaustive()
    }
}

impl ServerContext {
    /// Compiles `config`. `secret` gives what has come over SDS. Sessions of another context resume here if both
    /// show and believe the same.
    pub fn new(
        config: &DownstreamTls,
        secret: &dyn Fn(SecretId) -> Option<Secret>,
        local: &Rc<Local>,
    ) -> Result<Self, ContextError> {
        let common = &config.common;
        let provider = provider(&common.params, End::Server)?;
        let allowed = schemes(&common.params);
        let context = validation(&common.validation, secret)?;
        let identities = certificates(&common.certificates, secret, local)?;
        if identities.is_empty() {
            return Err(ContextError::NoCertificate);
        }
        let options = VerifierOptions {
            role: PeerRole::Client,
            required: config.require_client_certificate,
            rules: local.shared().rules(),
            algorithms: provider.signature_verification_algorithms,
            schemes: allowed.clone(),
        };
        let asks = context.is_some() || config.require_client_certificate;
        let verifier: Arc<dyn ClientCertVerifier> = if asks {
            Verifier::new(context.as_deref(), options, &local.trust)?
        } else {
            Arc::new(NoClientAuth)
        };
        let trust = trust_hash(config, context.as_deref(), &identities, local.shared().rules());
        let keys = identities
            .into_iter()
            .map(|identity| (listed(&identity.certified, allowed.as_ref()), identity))
            .collect();
        let selection = Arc::new(Selection::new(keys, config.full_scan_certs_on_sni_mismatch));
        let mut compiled = ServerConfig::builder_with_details(provider, local.clock().clone())
            .with_protocol_versions(&versions(&common.params)?)
            .map_err(|_| ContextError::Parameters)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(selection.clone());
        compiled.alpn_protocols = common.alpn.iter().map(|name| name.to_vec()).collect();
        compiled.ignore_client_order = !config.prefer_client_ciphers;
        compiled.enable_secret_extraction = true;
        compiled.max_early_data_size = 0;
        compiled.key_log = Arc::new(NoKeyLog);
        compiled.session_storage = Arc::new(NoServerSessionStorage {});
        compiled.cert_compressors = Vec::new();
        compiled.cert_decompressors = Vec::new();
        compiled.send_tls13_tickets = 0;
        if let Some(source) = ticket_keys(&config.tickets, secret, local)? {
            compiled.send_tls13_tickets = TICKETS;
            let clock = local.clock().clone();
            compiled.ticketer = Arc::new(Tickets::new(source, trust, config.session_timeout, clock));
        }
        let mut without_alpn = compiled.clone();
        without_alpn.alpn_protocols = Vec::new();
        Ok(Self {
            local: local.clone(),
            with_alpn: Answers::new(compiled),
            without_alpn: Answers::new(without_alpn),
            alpn: common.alpn.iter().cloned().collect(),
            selection,
            validates: context.is_some_and(|context| !context.accept_untrusted),
        })
    }

    /// What answers a ClientHello: by whether it offers a protocol of ours, and a session.
    pub(crate) fn config(&self, hello: &ClientHello) -> &Arc<ServerConfig> {
        let overlaps = self.alpn.iter().any(|ours| hello.alpn().any(|theirs| *theirs == **ours));
        let answers = if overlaps { &self.with_alpn } else { &self.without_alpn };
        if hello.offers_psk { &answers.again } else { &answers.first }
    }
}

/// The certificates of a context, in its order.
pub(crate) fn certificates(
    sources: &[SecretSource<TlsCertificate>],
    secret: &dyn Fn(SecretId) -> Option<Secret>,
    local: &Local,
) -> Result<Vec<Arc<Identity>>, ContextError> {
    let load = |source: &SecretSource<TlsCertificate>| match source {
        SecretSource::Inline(certificate) => local.identity(certificate),
        SecretSource::Sds(id) => match secret(*id) {
            Some(Secret::Certificate(certificate)) => local.identity(&certificate),
            _ => Err(ContextError::MissingSecret(*id)),
        },
    };
    sources.iter().map(load).collect()
}

/// What is asked of a peer's certificate, if anything.
pub(crate) fn validation(
    source: &ValidationSource,
    secret: &dyn Fn(SecretId) -> Option<Secret>,
) -> Result<Option<Arc<ValidationContext>>, ContextError> {
    match source {
        ValidationSource::None => Ok(None),
        ValidationSource::Inline(context) => Ok(Some(context.clone())),
        ValidationSource::Sds { default, secret: id } => match secret(*id) {
            Some(Secret::Validation(dynamic)) => Ok(Some(Arc::new(default.merged(&dynamic)))),
            _ => Err(ContextError::MissingSecret(*id)),
        },
    }
}

fn ticket_keys(
    tickets: &SessionTickets,
    secret: &dyn Fn(SecretId) -> Option<Secret>,
    local: &Local,
) -> Result<Option<KeySource>, ContextError> {
    match tickets {
        SessionTickets::Disabled => Ok(None),
        SessionTickets::Own => Ok(Some(KeySource::Own(local.shared().clone()))),
        SessionTickets::Keys(SecretSource::Inline(keys)) => Ok(Some(KeySource::Configured(keys.clone()))),
        SessionTickets::Keys(SecretSource::Sds(id)) => match secret(*id) {
            Some(Secret::TicketKeys(keys)) => Ok(Some(KeySource::Configured(keys))),
            _ => Err(ContextError::MissingSecret(*id)),
        },
    }
}

/// Everything that decides who we are and whom we believe.
fn trust_hash(
    config: &DownstreamTls,
    context: Option<&ValidationContext>,
    identities: &[Arc<Identity>],
    rules: CertificateRules,
) -> [u8; 32] {
    let mut hash = TrustHash::new();
    hash.part(rules.name().as_bytes());
    hash.part(&[u8::from(config.require_client_certificate), u8::from(context.is_some())]);
    for identity in identities {
        hash.part(identity.certified.cert.first().map_or(&[][..], AsRef::as_ref));
    }
    if let Some(context) = context {
        let flags = [context.only_leaf_crl, context.allow_expired, context.accept_untrusted];
        hash.part(&flags.map(u8::from));
        hash.part(format!("{:?} {:?}", context.max_verify_depth, context.san_matchers).as_bytes());
        context.trusted_ca.iter().flat_map(|bundle| bundle.iter()).for_each(|root| hash.part(root));
        hash.part(b"crl");
        context.crls.iter().for_each(|list| hash.part(list));
        hash.part(b"spki");
        context.spki_hashes.iter().for_each(|spki| hash.part(spki));
        hash.part(b"hash");
        context.certificate_hashes.iter().for_each(|certificate| hash.part(certificate));
        for domain in context.spiffe.iter().flat_map(|domains| domains.iter()) {
            hash.part(domain.name.as_bytes());
            domain.bundle.iter().for_each(|root| hash.part(root));
        }
    }
    hash.finish()
}
