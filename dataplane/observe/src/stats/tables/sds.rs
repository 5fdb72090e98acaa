//! `sds.<secret>.`: the subscription of one secret.

use super::metrics;

metrics! {
    values {
        INIT_FETCH_TIMEOUT = counter "init_fetch_timeout", "First answers that did not come in time.";
        KEY_ROTATION_FAILED = counter "key_rotation_failed", "Replaced files of a secret that were refused; those before them stayed.";
        UPDATE_ATTEMPT = counter "update_attempt", "First requests, and responses; of a file, how often it was read.";
        UPDATE_FAILURE = counter "update_failure", "Streams and fetches that failed.";
        UPDATE_REJECTED = counter "update_rejected", "Secrets that were refused; the one before them stayed.";
        UPDATE_SUCCESS = counter "update_success", "Secrets that were taken.";
        UPDATE_TIME = gauge "update_time", "Time of the last one that was taken, milliseconds since 1970.";
        VERSION = gauge "version", "Hash of the version in force.";
    }
    histograms {
        UPDATE_DURATION = "update_duration", "Milliseconds that an update took to apply.";
    }
}
