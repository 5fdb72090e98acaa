//! Endpoints that print one small fact about the process.

use serde_json::Value;

use crate::Response;
use crate::endpoint::Call;
use crate::json::{Object, pretty};
use crate::state::{AdminState, ServerState};

pub(crate) fn ready(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let now = state.server_state();
    let status = if now == ServerState::Live { 200 } else { 503 };
    Response::text(status, format!("{}\n", now.name()))
}

pub(crate) fn server_info(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let uptime = format!("{}s", state.uptime().as_secs());
    let info = Object::default()
        .with("version", state.version())
        .with("state", state.server_state().name())
        .with("uptime_current_epoch", uptime.as_str())
        .with("uptime_all_epochs", uptime.as_str())
        .with("hot_restart_version", state.hot_restart_version())
        .with("command_line_options", state.command_line_options())
        .with("node", state.node())
        .with("hot_restart_initializing", false);
    Response::json(pretty(&info.build()))
}

pub(crate) fn memory(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let memory = state.memory();
    // 64-bit integers are strings in proto3 JSON.
    let body = Object::default()
        .with("allocated", memory.allocated.to_string())
        .with("heap_size", memory.heap_size.to_string())
        .with("pageheap_unmapped", memory.pageheap_unmapped.to_string())
        .with("pageheap_free", memory.pageheap_free.to_string())
        .with("total_thread_cache", memory.total_thread_cache.to_string())
        .with("total_physical_bytes", memory.total_physical_bytes.to_string());
    Response::json(pretty(&body.build()))
}

pub(crate) fn certs(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    Response::json(pretty(&Object::default().with("certificates", state.certificates()).build()))
}

pub(crate) fn runtime(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let view = state.runtime();
    let mut entries = Object::default();
    for entry in view.entries {
        let value = Object::default()
            .with("final_value", entry.final_value)
            .with("layer_values", entry.layer_values)
            .build();
        entries = entries.with(&entry.key, value);
    }
    let body = Object::default().with("entries", entries.build()).with("layers", view.layers);
    Response::json(pretty(&body.build()))
}

pub(crate) fn init_dump(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    // The only component with names of its own is the listener manager.
    let wanted = call.query.get("mask").is_none_or(|mask| mask == "listener");
    let names = if wanted { state.unready_targets() } else { Vec::new() };
    let targets: Vec<Value> =
        names.into_iter().map(|name| Object::default().with("name", name).build()).collect();
    Response::json(pretty(&Object::default().with_set("unready_targets_dumps", targets).build()))
}

pub(crate) fn contention(_: &Call<'_>, _: &mut dyn AdminState) -> Response {
    Response::text(
        200,
        "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing.",
    )
}

pub(crate) fn hot_restart_version(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    Response::text(200, state.hot_restart_version())
}

pub(crate) fn recent_lookups(_: &Call<'_>, _: &mut dyn AdminState) -> Response {
    Response::text(
        200,
        "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n",
    )
}

pub(crate) fn unsupported(what: &str) -> Response {
    Response::text(501, format!("The current build does not support {what}"))
}
