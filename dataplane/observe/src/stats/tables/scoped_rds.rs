//! `http.<stat_prefix>.scoped_rds.<scoped routes>.`: the subscription of the scopes of one connection manager.

use super::metrics;

metrics! {
    values {
        ACTIVE_SCOPES = gauge "active_scopes", "Scopes whose route tables are asked for.";
        ALL_SCOPES = gauge "all_scopes", "Scopes.";
        CONFIG_RELOAD = counter "config_reload", "Updates that changed something.";
        CONFIG_RELOAD_TIME_MS = gauge "config_reload_time_ms", "Time of the last one, milliseconds since 1970.";
        INIT_FETCH_TIMEOUT = counter "init_fetch_timeout", "First answers that did not come in time.";
        ON_DEMAND_SCOPES = gauge "on_demand_scopes", "Always 0: no route table waits for a request.";
        UPDATE_ATTEMPT = counter "update_attempt", "Updates that came.";
        UPDATE_EMPTY = counter "update_empty", "Updates without any scope.";
        UPDATE_FAILURE = counter "update_failure", "Streams and fetches that failed.";
        UPDATE_REJECTED = counter "update_rejected", "Updates of which something was refused.";
        UPDATE_SUCCESS = counter "update_success", "Updates that were taken whole.";
        UPDATE_TIME = gauge "update_time", "Time of the last update that was taken, milliseconds since 1970.";
        VERSION = gauge "version", "Hash of the version in force.";
    }
    histograms {
        UPDATE_DURATION = "update_duration", "Milliseconds that an update took to apply.";
    }
}
