//! The table of paths.

use std::fmt::Write as _;

use crate::state::AdminState;
use crate::{Query, Response, clusters, config_dump, html, info, listeners, logging, mutations, stats};

/// The part of a request that an endpoint reads.
pub(crate) struct Call<'a> {
    pub(crate) query: Query,
    pub(crate) body: &'a [u8],
}

/// One path.
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    /// POST only.
    pub(crate) mutates: bool,
    pub(crate) about: &'static str,
    pub(crate) parameters: &'static [(&'static str, &'static str)],
    pub(crate) serve: fn(&Call<'_>, &mut dyn AdminState) -> Response,
}

/// Looks a normalised path up.
pub(crate) fn find(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

/// The body of `/help`.
pub(crate) fn help() -> String {
    let mut out = String::from("admin commands are:\n");
    for endpoint in ENDPOINTS {
        let method = if endpoint.mutates { " (POST)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {}{method}: {}", endpoint.path, endpoint.about);
        for (name, about) in endpoint.parameters {
            let _ = writeln!(out, "      {name}: {about}");
        }
    }
    out
}

const fn get(
    path: &'static str,
    about: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    serve: fn(&Call<'_>, &mut dyn AdminState) -> Response,
) -> Endpoint {
    Endpoint { path, mutates: false, about, parameters, serve }
}

const fn post(
    path: &'static str,
    about: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    serve: fn(&Call<'_>, &mut dyn AdminState) -> Response,
) -> Endpoint {
    Endpoint { path, mutates: true, about, parameters, serve }
}

const REGEX: (&str, &str) = ("filter", "regular expression, found anywhere in the name");
const FORMAT: (&str, &str) = ("format", "one of (text, json)");

/// Sorted by path, as `/help` and the index page list them.
pub(crate) static ENDPOINTS: &[Endpoint] = &[
    get("/", "this list as a web page", &[], html::index),
    post("/allocprofiler", "not supported by this build", &[], |_, _| info::unsupported("alloc profiler")),
    get("/certs", "certificates in use", &[], info::certs),
    get("/clusters", "clusters, their hosts and host statistics", &[REGEX, FORMAT], clusters::serve),
    get(
        "/config_dump",
        "the configuration in use",
        &[
            ("resource", "one repeated field, for example dynamic_active_clusters"),
            ("mask", "field mask; applied to every element when resource is given too"),
            ("name_regex", "only resources with a matching name"),
            ("include_eds", "endpoints too"),
        ],
        config_dump::serve,
    ),
    get("/contention", "mutex contention", &[], info::contention),
    post("/cpuprofiler", "not supported by this build", &[], |_, _| info::unsupported("CPU profiler")),
    post(
        "/drain_listeners",
        "drain and stop the listeners",
        &[
            ("graceful", "close connections gently during the drain time first"),
            ("skip_exit", "keep listening after the drain"),
            ("inboundonly", "only listeners with traffic_direction INBOUND"),
        ],
        mutations::drain_listeners,
    ),
    post("/healthcheck/fail", "answer health checks with a failure", &[], mutations::healthcheck_fail),
    post("/healthcheck/ok", "undo /healthcheck/fail", &[], mutations::healthcheck_ok),
    get("/heap_dump", "not supported by this build", &[], |_, _| info::unsupported("heap dump")),
    post("/heapprofiler", "not supported by this build", &[], |_, _| info::unsupported("heap profiler")),
    get("/help", "this list", &[], |_, _| Response::text(200, help())),
    get("/hot_restart_version", "hot restart compatibility", &[], info::hot_restart_version),
    get("/init_dump", "what start-up still waits for", &[("mask", "field mask")], info::init_dump),
    get("/listeners", "listeners and their addresses", &[FORMAT], listeners::serve),
    post(
        "/logging",
        "show or change log levels",
        &[
            ("level", "level of every logger"),
            ("paths", "comma-separated name:level pairs"),
            ("group", "one name:level pair"),
        ],
        logging::serve,
    ),
    get("/memory", "memory use", &[], info::memory),
    get("/memory/tcmalloc", "not supported by this build", &[], |_, _| info::unsupported("tcmalloc")),
    get("/peak_heap_dump", "not supported by this build", &[], |_, _| info::unsupported("peak heap dump")),
    post("/quitquitquit", "exit now", &[], mutations::quit),
    get("/ready", "200 when the state is LIVE, else 503", &[], info::ready),
    post("/reopen_logs", "reopen access log files", &[], mutations::reopen_logs),
    post("/reset_counters", "set every counter to 0", &[], mutations::reset_counters),
    get("/runtime", "runtime values by layer", &[], info::runtime),
    post(
        "/runtime_modify",
        "set overrides in the admin layer; an empty value removes one",
        &[],
        mutations::runtime_modify,
    ),
    get("/server_info", "version, state and command line", &[], info::server_info),
    get(
        "/stats",
        "statistics",
        &[
            ("usedonly", "leave out what was never written"),
            REGEX,
            ("invert_filter", "print what does not match instead"),
            ("format", "one of (html, active-html, text, json, prometheus)"),
            ("type", "one of (All, Counters, Histograms, Gauges, TextReadouts)"),
            ("histogram_buckets", "one of (cumulative, disjoint, detailed, summary)"),
        ],
        stats::serve,
    ),
    get(
        "/stats/prometheus",
        "statistics in the Prometheus text format",
        &[
            ("usedonly", "leave out what was never written"),
            ("text_readouts", "text readouts as gauges with the value 0"),
            REGEX,
            ("invert_filter", "print what does not match instead"),
            ("histogram_buckets", "one of (cumulative, summary)"),
        ],
        stats::serve_prometheus,
    ),
    get("/stats/recentlookups", "recent name look-ups (never recorded)", &[], info::recent_lookups),
    post("/stats/recentlookups/clear", "forget recent name look-ups", &[], |_, _| Response::ok()),
    post("/stats/recentlookups/disable", "stop recording name look-ups", &[], |_, _| Response::ok()),
    post("/stats/recentlookups/enable", "not supported by this build", &[], |_, _| {
        info::unsupported("recording of stat-name lookups")
    }),
];
