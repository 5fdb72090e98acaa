//! `cluster_manager.`: the set of clusters.

use super::metrics;

metrics! {
    values {
        ACTIVE_CLUSTERS = gauge "active_clusters", "";
        CLUSTER_ADDED = counter "cluster_added", "";
        CLUSTER_MODIFIED = counter "cluster_modified", "";
        CLUSTER_REMOVED = counter "cluster_removed", "";
        CLUSTER_UPDATED = counter "cluster_updated", "";
        CLUSTER_UPDATED_VIA_MERGE = counter "cluster_updated_via_merge", "";
        UPDATE_MERGE_CANCELLED = counter "update_merge_cancelled", "";
        UPDATE_OUT_OF_MERGE_WINDOW = counter "update_out_of_merge_window", "";
        WARMING_CLUSTERS = gauge "warming_clusters", "";
    }
    histograms {
    }
}
