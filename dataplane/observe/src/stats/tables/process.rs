//! Metrics without a common prefix that exist once in a process.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_CX_PROXY_PROTO_ERROR = counter "downstream_cx_proxy_proto_error" in OnUse, "Connections closed for want of a PROXY protocol header or for a malformed one.";
        ENVOY_OVERLOAD_ACTIONS_RESET_HIGH_MEMORY_STREAM_COUNT = counter "envoy.overload_actions.reset_high_memory_stream.count", "Streams reset because memory ran short.";
        MAIN_THREAD_WATCHDOG_MEGA_MISS = counter "main_thread.watchdog_mega_miss", "Long stalls of the control thread.";
        MAIN_THREAD_WATCHDOG_MISS = counter "main_thread.watchdog_miss", "Stalls of the control thread.";
        SERVER_WATCHDOG_MEGA_MISS = counter "server.watchdog_mega_miss" per Threads, "Long stalls of one thread.";
        SERVER_WATCHDOG_MISS = counter "server.watchdog_miss" per Threads, "Stalls of one thread.";
        THREAD_LOCAL_CLUSTER_MANAGER_CLUSTERS_INFLATED = gauge "thread_local_cluster_manager.clusters_inflated" per Threads, "Clusters that a thread has used.";
        WORKERS_WATCHDOG_MEGA_MISS = counter "workers.watchdog_mega_miss", "Long stalls of shards.";
        WORKERS_WATCHDOG_MISS = counter "workers.watchdog_miss", "Stalls of shards.";
    }
    histograms {
        OVERLOAD_REFRESH_INTERVAL_DELAY = "overload.refresh_interval_delay", "Delay of the overload manager's refresh, milliseconds.";
    }
}
