//! `listener_manager.`: the set of listeners.

use super::metrics;

metrics! {
    values {
        LISTENER_ADDED = counter "listener_added", "";
        LISTENER_CREATE_FAILURE = counter "listener_create_failure", "";
        LISTENER_CREATE_SUCCESS = counter "listener_create_success", "";
        LISTENER_IN_PLACE_UPDATED = counter "listener_in_place_updated", "";
        LISTENER_MODIFIED = counter "listener_modified", "";
        LISTENER_REMOVED = counter "listener_removed", "";
        LISTENER_STOPPED = counter "listener_stopped", "";
        TOTAL_FILTER_CHAINS_DRAINING = gauge "total_filter_chains_draining", "";
        TOTAL_LISTENERS_ACTIVE = gauge "total_listeners_active", "";
        TOTAL_LISTENERS_DRAINING = gauge "total_listeners_draining", "";
        TOTAL_LISTENERS_WARMING = gauge "total_listeners_warming", "";
        WORKERS_PINNED = gauge "workers_pinned", "";
        WORKERS_STARTED = gauge "workers_started", "";
    }
    histograms {
    }
}
