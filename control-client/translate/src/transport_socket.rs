//! `core.v3.TransportSocket`. Plain sockets only; a configuration that asks for TLS is refused, because serving
//! it in the clear would betray it.

use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};

use crate::error::Rejection;
use crate::extension;

const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// Of a filter chain.
pub(crate) fn downstream(socket: Option<&TransportSocket>, path: &Path) -> Result<(), Rejection> {
    plain(socket, path)
}

/// Of a cluster.
pub(crate) fn upstream(socket: Option<&TransportSocket>, path: &Path) -> Result<(), Rejection> {
    plain(socket, path)
}

fn plain(socket: Option<&TransportSocket>, path: &Path) -> Result<(), Rejection> {
    let Some(socket) = socket else {
        return Ok(());
    };
    let any = socket.config_type.as_ref().map(|ConfigType::TypedConfig(any)| any);
    match any.map(extension::type_of).as_deref() {
        Some(RAW_BUFFER) => Ok(()),
        None if matches!(socket.name.as_str(), "envoy.transport_sockets.raw_buffer" | "raw_buffer") => Ok(()),
        _ => Err(extension::not_served("transport socket", &socket.name, any, path)),
    }
}
