//! `cluster.<name>.`, with `track_cluster_stats.timeout_budgets`.

use super::metrics;

metrics! {
    values {
    }
    histograms {
        UPSTREAM_RQ_TIMEOUT_BUDGET_PER_TRY_PERCENT_USED = "upstream_rq_timeout_budget_per_try_percent_used", "Share of the try's timeout that a try took, percent.";
        UPSTREAM_RQ_TIMEOUT_BUDGET_PERCENT_USED = "upstream_rq_timeout_budget_percent_used", "Share of the timeout that a request took, percent.";
    }
}
