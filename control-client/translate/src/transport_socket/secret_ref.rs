//! `SdsSecretConfig`: a secret of the bootstrap by its name, or one that comes over SDS.

use std::sync::Arc;

use millrace_config::SecretId;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use millrace_proto::{Message, Path, schema};

use crate::context::Context;
use crate::error::Rejection;
use crate::secrets::{SecretInfo, SecretKind};
use crate::{fields, resource, source};

/// What a reference leads to.
pub(super) enum Referred {
    /// A secret of the bootstrap, and where it stands.
    Static(Box<(Path, Type)>),
    /// One that comes over SDS.
    Sds(SecretId),
}

pub(super) fn referred(
    config: &pb::SdsSecretConfig,
    kind: SecretKind,
    path: &Path,
    cx: &mut Context,
) -> Result<Referred, Rejection> {
    let name = &config.name;
    source::refuse_locator(name, &path.join("name"))?;
    if config.sds_config.is_some() {
        let from = source::subscription(config.sds_config.as_ref(), &path.join("sds_config"), cx)?;
        let info = SecretInfo {
            name: name.as_str().into(),
            source: from.source,
            kind,
            initial_fetch_timeout: from.initial_fetch_timeout,
        };
        return Ok(Referred::Sds(cx.secrets.intern(info)));
    }
    let statics = Arc::clone(&cx.statics);
    let found = statics.secret(name, kind.into());
    match found.and_then(|(at, secret)| Some((at, secret, secret.r#type.clone()?))) {
        Some((at, secret, found)) => {
            let message = schema::Message::by_type_url(resource::SECRET)
                .ok_or_else(|| Rejection::new(&at, "this build has no schema of secrets"))?;
            fields::check(message, &secret.encode_to_vec(), &at, cx)?;
            Ok(Referred::Static(Box::new((at, found))))
        }
        None => {
            let what = match kind {
                SecretKind::Certificate => "static secret",
                SecretKind::Validation => "static certificate validation context",
                SecretKind::TicketKeys => "tls session ticket keys",
            };
            Err(Rejection::new(&path.join("name"), format!("Unknown {what}: {name}")))
        }
    }
}
