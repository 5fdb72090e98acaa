//! `ProxyProtocolUpstreamTransport`: the PROXY protocol in front of another transport socket.

use std::sync::Arc;

use millrace_config::{ProxyProtocolVersion, UpstreamProxyProtocol, UpstreamTransport};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use millrace_proto::pb::envoy::config::core::v3::proxy_protocol_pass_through_tl_vs::PassTlVsMatchType;
use millrace_proto::pb::envoy::extensions::transport_sockets::proxy_protocol::v3 as pb;
use millrace_proto::pb::google::protobuf::Any;

use crate::context::Context;
use crate::error::Rejection;
use crate::extension;

pub(super) fn upstream(any: &Any, path: &Path, cx: &mut Context) -> Result<UpstreamTransport, Rejection> {
    let outer: pb::ProxyProtocolUpstreamTransport = extension::open(any, path)?;
    let inner_path = path.join("transport_socket");
    let Some(inner) = &outer.transport_socket else {
        return Err(Rejection::new(&inner_path, "value is required"));
    };
    let mut built = super::upstream(Some(inner), &inner_path, cx)?;
    if built.proxy_protocol.is_some() {
        return Err(Rejection::not_served(&inner_path, "one PROXY protocol header is written, not two"));
    }
    let config = outer.config.unwrap_or_default();
    let (pass_all_tlvs, pass_tlvs) = pass_through(config.pass_through_tlvs.as_ref());
    built.proxy_protocol = Some(Arc::new(UpstreamProxyProtocol {
        version: match config.version() {
            Version::V1 => ProxyProtocolVersion::V1,
            Version::V2 => ProxyProtocolVersion::V2,
        },
        pass_all_tlvs,
        pass_tlvs,
        added_tlvs: added(&config.added_tlvs, &path.join("config").join("added_tlvs"))?,
    }));
    Ok(built)
}

/// `(all, or these)`.
pub(crate) fn pass_through(from: Option<&core::ProxyProtocolPassThroughTlVs>) -> (bool, Vec<u8>) {
    match from {
        None => (false, Vec::new()),
        Some(from) if from.match_type() == PassTlVsMatchType::IncludeAll => (true, Vec::new()),
        Some(from) => (false, from.tlv_type.iter().filter_map(|tlv| u8::try_from(*tlv).ok()).collect()),
    }
}

fn added(from: &[core::TlvEntry], path: &Path) -> Result<Vec<(u8, Vec<u8>)>, Rejection> {
    let one = |(i, entry): (usize, &core::TlvEntry)| {
        let path = path.at(i);
        let tlv = u8::try_from(entry.r#type)
            .map_err(|_| Rejection::new(&path.join("type"), "value must be less than 256"))?;
        match entry.value.is_empty() {
            true => {
                let why = "Invalid TLV configuration: one of 'value' or 'format_string' must be set.";
                Err(Rejection::new(&path, why))
            }
            false => Ok((tlv, entry.value.clone())),
        }
    };
    from.iter().enumerate().map(one).collect()
}
