//! `server.`: the process.

use super::metrics;

metrics! {
    values {
        COMPILATION_SETTINGS_FIPS_MODE = gauge "compilation_settings.fips_mode", "";
        CONCURRENCY = gauge "concurrency", "";
        DAYS_UNTIL_FIRST_CERT_EXPIRING = gauge "days_until_first_cert_expiring", "";
        DEBUG_ASSERTION_FAILURES = counter "debug_assertion_failures", "";
        DROPPED_STAT_FLUSHES = counter "dropped_stat_flushes", "";
        DYNAMIC_UNKNOWN_FIELDS = counter "dynamic_unknown_fields", "";
        ENVOY_BUG_FAILURES = counter "envoy_bug_failures", "";
        ENVOY_NOTIFICATIONS = counter "envoy_notifications", "";
        HOT_RESTART_EPOCH = gauge "hot_restart_epoch", "";
        HOT_RESTART_GENERATION = gauge "hot_restart_generation", "";
        LIVE = gauge "live", "";
        MEMORY_ALLOCATED = gauge "memory_allocated", "";
        MEMORY_HEAP_SIZE = gauge "memory_heap_size", "";
        MEMORY_PHYSICAL_SIZE = gauge "memory_physical_size", "";
        PARENT_CONNECTIONS = gauge "parent_connections", "";
        SECONDS_UNTIL_FIRST_OCSP_RESPONSE_EXPIRING = gauge "seconds_until_first_ocsp_response_expiring", "";
        STATE = gauge "state", "";
        STATIC_UNKNOWN_FIELDS = counter "static_unknown_fields", "";
        STATS_RECENT_LOOKUPS = gauge "stats_recent_lookups", "";
        TOTAL_CONNECTIONS = gauge "total_connections", "";
        UPTIME = gauge "uptime", "";
        VERSION = gauge "version", "";
        WIP_PROTOS = counter "wip_protos", "";
    }
    histograms {
        INITIALIZATION_TIME_MS = "initialization_time_ms", "";
    }
}
