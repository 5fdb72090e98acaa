//! `runtime.`: the layers of runtime values.

use super::metrics;

metrics! {
    values {
        ADMIN_OVERRIDES_ACTIVE = gauge "admin_overrides_active", "1 while overrides of the admin layer exist.";
        DEPRECATED_FEATURE_SEEN_SINCE_PROCESS_START = gauge "deprecated_feature_seen_since_process_start", "Deprecated features seen, restarts included.";
        DEPRECATED_FEATURE_USE = counter "deprecated_feature_use", "Uses of deprecated features.";
        LOAD_ERROR = counter "load_error", "Loads that failed.";
        LOAD_SUCCESS = counter "load_success", "Loads that succeeded.";
        NUM_KEYS = gauge "num_keys", "Values loaded.";
        NUM_LAYERS = gauge "num_layers", "Layers loaded.";
        OVERRIDE_DIR_EXISTS = counter "override_dir_exists", "Loads with an override directory.";
        OVERRIDE_DIR_NOT_EXISTS = counter "override_dir_not_exists", "Loads without an override directory.";
    }
    histograms {
    }
}
