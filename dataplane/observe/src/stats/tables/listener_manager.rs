//! `listener_manager.`: the set of listeners.

use super::metrics;

metrics! {
    values {
        LISTENER_ADDED = counter "listener_added", "Listeners added.";
        LISTENER_CREATE_FAILURE = counter "listener_create_failure", "Listeners that could not be created on a worker.";
        LISTENER_CREATE_SUCCESS = counter "listener_create_success", "Listeners created on a worker.";
        LISTENER_IN_PLACE_UPDATED = counter "listener_in_place_updated", "Listeners whose filter chains alone changed.";
        LISTENER_MODIFIED = counter "listener_modified", "Listeners replaced.";
        LISTENER_REMOVED = counter "listener_removed", "Listeners removed.";
        LISTENER_STOPPED = counter "listener_stopped", "Listeners stopped.";
        TOTAL_FILTER_CHAINS_DRAINING = gauge "total_filter_chains_draining", "Filter chains that drain.";
        TOTAL_LISTENERS_ACTIVE = gauge "total_listeners_active", "Listeners that serve.";
        TOTAL_LISTENERS_DRAINING = gauge "total_listeners_draining", "Listeners that drain.";
        TOTAL_LISTENERS_WARMING = gauge "total_listeners_warming", "Listeners that warm.";
        WORKERS_PINNED = gauge "workers_pinned", "Workers pinned to a core.";
        WORKERS_STARTED = gauge "workers_started", "1 once the workers run.";
    }
    histograms {
    }
}
