//! Endpoints that change something.

use crate::endpoint::Call;
use crate::state::{AdminCommand, AdminState};
use crate::{Query, Response};

fn accept(state: &mut dyn AdminState, command: AdminCommand) -> Response {
    state.execute(command);
    Response::ok()
}

pub(crate) fn healthcheck_fail(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    accept(state, AdminCommand::HealthCheckFail)
}

pub(crate) fn healthcheck_ok(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    accept(state, AdminCommand::HealthCheckOk)
}

pub(crate) fn quit(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    accept(state, AdminCommand::Quit)
}

pub(crate) fn reopen_logs(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    accept(state, AdminCommand::ReopenLogs)
}

pub(crate) fn reset_counters(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    accept(state, AdminCommand::ResetCounters)
}

pub(crate) fn drain_listeners(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let command = AdminCommand::DrainListeners {
        graceful: call.query.has("graceful"),
        inbound_only: call.query.has("inboundonly"),
        skip_exit: call.query.has("skip_exit"),
    };
    accept(state, command)
}

pub(crate) fn runtime_modify(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let mut pairs = call.query.pairs().to_vec();
    if pairs.is_empty() {
        // Form values instead of a query.
        pairs = Query::parse(&String::from_utf8_lossy(call.body)).pairs().to_vec();
    }
    if pairs.is_empty() {
        return Response::text(
            400,
            "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       \
             or send the parameters as form values\nuse an empty value to remove a previously added override",
        );
    }
    if !state.runtime().has_admin_layer {
        return Response::text(503, "No admin layer specified");
    }
    accept(state, AdminCommand::RuntimeModify(pairs))
}
