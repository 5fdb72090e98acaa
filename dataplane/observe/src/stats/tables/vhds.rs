//! `http.<stat_prefix>.rds.vhds.<route configuration>.`: the subscription of the virtual hosts of one route table.

use super::metrics;

metrics! {
    values {
        CONFIG_RELOAD = counter "config_reload", "Updates that changed something.";
        INIT_FETCH_TIMEOUT = counter "init_fetch_timeout", "First answers that did not come in time.";
        UPDATE_ATTEMPT = counter "update_attempt", "Updates that came.";
        UPDATE_EMPTY = counter "update_empty", "Updates without any virtual host.";
        UPDATE_FAILURE = counter "update_failure", "Streams that failed.";
        UPDATE_REJECTED = counter "update_rejected", "Updates of which something was refused.";
        UPDATE_SUCCESS = counter "update_success", "Updates that were taken whole.";
        UPDATE_TIME = gauge "update_time", "Time of the last update that was taken, milliseconds since 1970.";
        VERSION = gauge "version", "Hash of the version in force.";
    }
    histograms {
        UPDATE_DURATION = "update_duration", "Milliseconds that an update took to apply.";
    }
}
