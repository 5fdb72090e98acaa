//! `overload.<load shed point>.`: one point at which load is shed.

use super::metrics;

metrics! {
    values {
        SCALE_PERCENT = gauge "scale_percent", "How far its triggers are, percent.";
        SHED_LOAD_COUNT = counter "shed_load_count", "Connections, requests and streams that were shed.";
    }
    histograms {
    }
}
