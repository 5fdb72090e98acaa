//! The access-log writer: a thread that owns the files.

use std::sync::Arc;

use millrace_config::{AccessLog, NetworkFilter};
use millrace_driver::log_writer::{FlushLogs, LogWriter};
use millrace_observe::access_log::{LogQueue, LogWriter as Files};
use millrace_observe::stats::{Registry, ScopeKind, ShardStats};
use millrace_translate::Compiled;

use crate::cli::Options;

struct Writer {
    files: Files,
    stats: ShardStats,
}

impl FlushLogs for Writer {
    fn flush(&mut self) {
        while self.files.run(&mut self.stats) > 0 {}
    }

    fn reopen(&mut self) {
        self.files.reopen(&mut self.stats);
    }
}

/// Opens every sink that the configuration names and starts the thread.
///
/// # Errors
/// A file that cannot be opened, by its path.
pub fn start(
    queue: &Arc<LogQueue>,
    registry: &Registry,
    compiled: &Compiled,
    options: &Options,
) -> Result<Arc<LogWriter>, String> {
    let scope = registry.scope(ScopeKind::Filesystem, "");
    let mut files = Files::new(queue.clone(), scope);
    let checks =
        compiled.snapshot.clusters.iter().flatten().filter_map(|cluster| cluster.health_check.as_deref());
    let events = compiled
        .snapshot
        .outlier_log
        .as_deref()
        .into_iter()
        .chain(checks.flat_map(|check| &check.event_logs));
    for sink in sinks(compiled).into_iter().map(|log| &log.sink).chain(events) {
        files.open(sink).map_err(|error| format!("unable to open file {sink:?}: {error}"))?;
    }
    let writer = Writer { files, stats: registry.attach_shard("access_log_writer") };
    let started = LogWriter::start(writer, options.file_flush_interval);
    started.map(Arc::new).map_err(|error| format!("cannot start the log writer: {error}"))
}

fn sinks(compiled: &Compiled) -> Vec<&Arc<AccessLog>> {
    let mut all: Vec<&Arc<AccessLog>> = compiled.admin.access_logs.iter().collect();
    for listener in &compiled.snapshot.listeners {
        all.extend(&listener.access_logs);
        for chain in listener.filter_chains.iter().chain(&listener.default_filter_chain) {
            for filter in &chain.filters {
                match filter {
                    NetworkFilter::TcpProxy(proxy) => all.extend(&proxy.access_logs),
                    NetworkFilter::HttpConnectionManager(hcm) => all.extend(&hcm.access_logs),
                }
            }
        }
    }
    all
}
