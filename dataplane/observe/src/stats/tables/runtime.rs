//! `runtime.`: the layers of runtime values.

use super::metrics;

metrics! {
    values {
        ADMIN_OVERRIDES_ACTIVE = gauge "admin_overrides_active", "";
        DEPRECATED_FEATURE_SEEN_SINCE_PROCESS_START = gauge "deprecated_feature_seen_since_process_start", "";
        DEPRECATED_FEATURE_USE = counter "deprecated_feature_use", "";
        LOAD_ERROR = counter "load_error", "";
        LOAD_SUCCESS = counter "load_success", "";
        NUM_KEYS = gauge "num_keys", "";
        NUM_LAYERS = gauge "num_layers", "";
        OVERRIDE_DIR_EXISTS = counter "override_dir_exists", "";
        OVERRIDE_DIR_NOT_EXISTS = counter "override_dir_not_exists", "";
    }
    histograms {
    }
}
