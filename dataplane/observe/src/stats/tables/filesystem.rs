//! `filesystem.`: access-log files.

use super::metrics;

metrics! {
    values {
        FLUSHED_BY_TIMER = counter "flushed_by_timer", "";
        REOPEN_FAILED = counter "reopen_failed", "";
        WRITE_BUFFERED = counter "write_buffered", "";
        WRITE_COMPLETED = counter "write_completed", "";
        WRITE_DROPPED = counter "write_dropped" in OnUse, "";
        WRITE_FAILED = counter "write_failed", "";
        WRITE_TOTAL_BUFFERED = gauge "write_total_buffered", "";
    }
    histograms {
    }
}
