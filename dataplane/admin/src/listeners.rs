//! `/listeners`.

use std::fmt::Write as _;

use millrace_config::Address;
use serde_json::Value;

use crate::Response;
use crate::endpoint::Call;
use crate::json::{Object, pretty};
use crate::state::AdminState;

/// `envoy.config.core.v3.Address` as JSON.
pub(crate) fn address_json(address: &Address) -> Value {
    match address {
        Address::Inet(socket) => {
            let inner =
                Object::default().with("address", socket.ip().to_string()).with("port_value", socket.port());
            Object::default().with("socket_address", inner.build()).build()
        }
        Address::Pipe { path, .. } => {
            let inner = Object::default().with("path", path.to_string());
            Object::default().with("pipe", inner.build()).build()
        }
    }
}

pub(crate) fn serve(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let listeners = state.listeners();
    if call.query.get("format") != Some("json") {
        let mut out = String::new();
        for listener in &listeners {
            for address in std::iter::once(&listener.local_address).chain(&listener.additional_addresses) {
                let _ = writeln!(out, "{}::{address}", listener.name);
            }
        }
        return Response::text(200, out);
    }
    let statuses: Vec<Value> = listeners
        .iter()
        .map(|listener| {
            let more: Vec<Value> = listener.additional_addresses.iter().map(address_json).collect();
            Object::default()
                .with("name", listener.name.as_str())
                .with("local_address", address_json(&listener.local_address))
                .with_set("additional_local_addresses", more)
                .build()
        })
        .collect();
    Response::json(pretty(&Object::default().with_set("listener_statuses", statuses).build()))
}
