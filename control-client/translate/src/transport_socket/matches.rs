//! `Cluster.transport_socket_matches`, and the metadata of endpoints that chooses among them.

use millrace_config::TransportMatch;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use millrace_proto::pb::envoy::config::core::v3::Metadata;

use crate::context::Context;
use crate::error::Rejection;
use crate::metadata::{Pairs, pairs};

const FILTER: &str = "envoy.transport_socket_match";

pub(crate) fn transport_matches(
    from: &[TransportSocketMatch],
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<TransportMatch>, Rejection> {
    let mut out = Vec::with_capacity(from.len());
    for (i, one) in from.iter().enumerate() {
        let path = path.at(i).join("transport_socket");
        // One that says nothing is refused like an extension without a name, as in Envoy.
        let socket = one.transport_socket.clone().unwrap_or_default();
        out.push(TransportMatch {
            name: one.name.as_str().into(),
            criteria: one.r#match.as_ref().map(pairs).unwrap_or_default(),
            transport: super::upstream(Some(&socket), &path, cx)?,
        });
    }
    Ok(out)
}

/// What of an endpoint's or a locality's metadata chooses a transport socket.
pub(crate) fn metadata(from: Option<&Metadata>) -> Option<Pairs> {
    Some(pairs(from?.filter_metadata.get(FILTER)?))
}
