//! `overload.<action>.`: one action of the overload manager.

use super::metrics;

metrics! {
    values {
        ACTIVE = gauge "active", "1 while a trigger is saturated.";
        SCALE_PERCENT = gauge "scale_percent", "How far its triggers are, percent.";
        SHRINK_COUNT = counter "shrink_count" in OnUse, "Times that free memory was given back.";
    }
    histograms {
    }
}
