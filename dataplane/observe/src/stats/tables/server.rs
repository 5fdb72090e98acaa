//! `server.`: the process.

use super::metrics;

metrics! {
    values {
        COMPILATION_SETTINGS_FIPS_MODE = gauge "compilation_settings.fips_mode", "1 when built for FIPS.";
        CONCURRENCY = gauge "concurrency", "Workers.";
        DAYS_UNTIL_FIRST_CERT_EXPIRING = gauge "days_until_first_cert_expiring", "Days until a certificate expires; the largest value without one.";
        DEBUG_ASSERTION_FAILURES = counter "debug_assertion_failures", "Assertions that failed in a debug build.";
        DROPPED_STAT_FLUSHES = counter "dropped_stat_flushes", "Flushes of statistics that were dropped.";
        DYNAMIC_UNKNOWN_FIELDS = counter "dynamic_unknown_fields", "Unknown fields in dynamic configuration.";
        ENVOY_BUG_FAILURES = counter "envoy_bug_failures", "Internal faults that were survived.";
        ENVOY_NOTIFICATIONS = counter "envoy_notifications", "Internal faults that were notified.";
        HOT_RESTART_EPOCH = gauge "hot_restart_epoch", "Hot restarts so far.";
        HOT_RESTART_GENERATION = gauge "hot_restart_generation", "Generation of hot restart.";
        LIVE = gauge "live", "1 while live, 0 while draining.";
        MEMORY_ALLOCATED = gauge "memory_allocated", "Bytes allocated.";
        MEMORY_HEAP_SIZE = gauge "memory_heap_size", "Bytes reserved.";
        MEMORY_PHYSICAL_SIZE = gauge "memory_physical_size", "Bytes resident.";
        PARENT_CONNECTIONS = gauge "parent_connections", "Connections of the process that this one replaces.";
        SECONDS_UNTIL_FIRST_OCSP_RESPONSE_EXPIRING = gauge "seconds_until_first_ocsp_response_expiring", "Seconds until an OCSP response expires.";
        STATE = gauge "state", "0 live, 1 draining, 2 pre-initialising, 3 initialising.";
        STATIC_UNKNOWN_FIELDS = counter "static_unknown_fields", "Unknown fields in static configuration.";
        STATS_RECENT_LOOKUPS = gauge "stats_recent_lookups", "Look-ups of statistics by name.";
        TOTAL_CONNECTIONS = gauge "total_connections", "Connections of this process and the one it replaces.";
        UPTIME = gauge "uptime", "Seconds since the start.";
        VERSION = gauge "version", "The version as a number.";
        WIP_PROTOS = counter "wip_protos", "Uses of unfinished configuration.";
    }
    histograms {
        INITIALIZATION_TIME_MS = "initialization_time_ms", "Time to initialise, milliseconds.";
    }
}
