//! `cluster_manager.`: the set of clusters.

use super::metrics;

metrics! {
    values {
        ACTIVE_CLUSTERS = gauge "active_clusters", "Clusters that serve.";
        CLUSTER_ADDED = counter "cluster_added", "Clusters added.";
        CLUSTER_MODIFIED = counter "cluster_modified", "Clusters replaced.";
        CLUSTER_REMOVED = counter "cluster_removed", "Clusters removed.";
        CLUSTER_UPDATED = counter "cluster_updated", "Updates of the endpoints of clusters.";
        CLUSTER_UPDATED_VIA_MERGE = counter "cluster_updated_via_merge", "Updates merged into one.";
        UPDATE_MERGE_CANCELLED = counter "update_merge_cancelled", "Merged updates given up for an immediate one.";
        UPDATE_OUT_OF_MERGE_WINDOW = counter "update_out_of_merge_window", "Updates outside of the merge window.";
        WARMING_CLUSTERS = gauge "warming_clusters", "Clusters that warm.";
    }
    histograms {
    }
}
