//! `core.v3.GrpcService` with `envoy_grpc`, and what both kinds of service share.

use millrace_ads::source::GrpcService;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;

use super::{google, upstream};
use crate::context::Context;
use crate::error::Rejection;

/// `kind` is the message that holds the service, for Envoy's words.
pub(super) fn service(
    service: &pb::GrpcService,
    kind: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<GrpcService, Rejection> {
    let mut built = match &service.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(envoy)) => {
            let path = path.join("envoy_grpc");
            let target = upstream::named(&envoy.cluster_name, kind, &path.join("cluster_name"), cx)?;
            let authority = if envoy.authority.is_empty() { &target.name } else { &envoy.authority };
            GrpcService {
                authority: authority.clone(),
                initial_metadata: Vec::new(),
                token_files: Vec::new(),
                message_bytes_max: bytes_max(envoy.max_receive_message_length.as_ref().map(|n| n.value)),
                target,
            }
        }
        Some(TargetSpecifier::GoogleGrpc(google)) => google::service(google, &path.join("google_grpc"), cx)?,
        None => return Err(Rejection::new(&path.join("target_specifier"), "is required")),
    };
    for (i, header) in service.initial_metadata.iter().enumerate() {
        built.initial_metadata.push(metadata(header, &path.join("initial_metadata").at(i))?);
    }
    Ok(built)
}

/// 0 stands for the default, as it does in Envoy.
fn bytes_max(bytes: Option<u32>) -> Option<usize> {
    bytes.filter(|bytes| *bytes > 0).and_then(|bytes| usize::try_from(bytes).ok())
}

/// `%%` is a per cent sign; operators would need a request.
fn metadata(header: &pb::HeaderValue, path: &Path) -> Result<(String, String), Rejection> {
    let text = match header.raw_value.is_empty() {
        true => header.value.clone(),
        false => String::from_utf8(header.raw_value.clone())
            .map_err(|_| Rejection::not_served(&path.join("raw_value"), "the value is not text"))?,
    };
    let plain = text.replace("%%", "\u{0}");
    if plain.contains('%') {
        let why = "operators in the metadata of a control plane are not served by this build";
        return Err(Rejection::not_served(&path.join("value"), why));
    }
    Ok((header.key.to_ascii_lowercase(), plain.replace('\u{0}', "%")))
}
