//! `filesystem.`: access-log files.

use super::metrics;

metrics! {
    values {
        FLUSHED_BY_TIMER = counter "flushed_by_timer", "Buffers written because they were old.";
        REOPEN_FAILED = counter "reopen_failed", "Files that could not be opened again.";
        WRITE_BUFFERED = counter "write_buffered", "Lines handed to the writer.";
        WRITE_COMPLETED = counter "write_completed", "Writes that succeeded.";
        WRITE_DROPPED = counter "write_dropped" in OnUse, "Lines dropped because the writer fell behind (ours, not Envoy's).";
        WRITE_FAILED = counter "write_failed", "Writes that failed.";
        WRITE_TOTAL_BUFFERED = gauge "write_total_buffered", "Bytes that wait to be written.";
    }
    histograms {
    }
}
