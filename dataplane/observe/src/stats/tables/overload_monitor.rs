//! `overload.<resource monitor>.`: one resource that the overload manager watches.

use super::metrics;

metrics! {
    values {
        FAILED_UPDATES = counter "failed_updates", "Readings that failed; of the limit on connections, connections refused by it.";
        PRESSURE = gauge "pressure", "Share of the resource that is used, percent.";
        SKIPPED_UPDATES = counter "skipped_updates", "Readings left out because the last one was not over.";
    }
    histograms {
    }
}
