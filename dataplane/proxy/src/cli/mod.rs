//! The command line: Envoy 1.40's flags with Envoy's parsing rules, plus `--io`, `--cpus`, `--certificate-rules`,
//! `--default-overload`, `--max-waiting-mib` and `demo`.
//!
//! [`parse`] is pure. `flags` knows the table and the parsing rules, this module gives the values their
//! meaning, `usage` prints help. What Envoy accepts is accepted; a flag without effect here is listed in
//! [`Options::without_effect`] so that it is reported, never dropped in silence.

mod flags;
mod options_json;
mod usage;
mod validate;

use std::time::Duration;

use millrace_tls::CertificateRules;

use crate::logging::Level;
use flags::Values;

/// The Envoy release whose behaviour this build promises; control planes gate features on it.
pub const COMPATIBLE_ENVOY: &str = "1.40.0";

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Run.
    Serve,
    /// Check the configuration and exit.
    Validate,
    /// Initialise, then exit.
    InitOnly,
}

/// `--drain-strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStrategy {
    /// The chance of closing a connection grows during the drain time.
    Gradual,
    /// Every connection is asked to close at once.
    Immediate,
}

/// `--local-address-ip-version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// `--io`: which back end moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring if the kernel allows it, else epoll.
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// The parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `millrace demo`: run the demonstration instead of a configuration.
    pub demo: bool,
    /// `-c`, `--config-path`; empty when absent.
    pub config_path: String,
    /// `--config-yaml`; empty when absent.
    pub config_yaml: String,
    /// `--mode`.
    pub mode: Mode,
    /// `--concurrency`, at least 1; `None`: from the machine.
    pub concurrency: Option<u32>,
    /// `--cpuset-threads`.
    pub cpuset_threads: bool,
    /// `--cpus`: pin shards to these cores, one shard each unless `--concurrency` says otherwise.
    pub cpus: Option<Vec<usize>>,
    /// `--io`.
    pub io: IoChoice,
    /// `--certificate-rules`: what certificates of peers must look like.
    pub certificate_rules: CertificateRules,
    /// `--default-overload`: bounds where the bootstrap sets none.
    pub default_overload: bool,
    /// `--max-waiting-mib`: bytes that wait for slow peers, of all shards; `None`: from the limit on memory.
    pub max_waiting_mib: Option<u32>,
    /// `-l`, `--log-level`.
    pub log_level: Level,
    /// `--component-log-level`, as given.
    pub component_log_level: String,
    /// The same, parsed: component name and level.
    pub component_levels: Vec<(&'static str, Level)>,
    /// `--log-format`.
    pub log_format: String,
    /// True when `--log-format` was given (it excludes `application_log_config.log_format`).
    pub log_format_set: bool,
    /// `--log-format-escaped`.
    pub log_format_escaped: bool,
    /// `--log-path`; empty for stderr.
    pub log_path: String,
    /// `--enable-fine-grain-logging`.
    pub fine_grain_logging: bool,
    /// `--log-stacktrace-single-entry`.
    pub log_stacktrace_single_entry: bool,
    /// `--skip-deprecated-logs`.
    pub skip_deprecated_logs: bool,
    /// `--admin-address-path`; empty when absent.
    pub admin_address_path: String,
    /// `--local-address-ip-version`.
    pub local_address_ip_version: IpVersion,
    /// `--allow-unknown-static-fields` or `--allow-unknown-fields`.
    pub allow_unknown_static_fields: bool,
    /// `--reject-unknown-dynamic-fields`.
    pub reject_unknown_dynamic_fields: bool,
    /// `--ignore-unknown-dynamic-fields`.
    pub ignore_unknown_dynamic_fields: bool,
    /// `--service-cluster`; empty leaves `node.cluster`.
    pub service_cluster: String,
    /// `--service-node`; empty leaves `node.id`.
    pub service_node: String,
    /// `--service-zone`; empty leaves `node.locality.zone`.
    pub service_zone: String,
    /// `--file-flush-interval-msec`, default 10 s.
    pub file_flush_interval: Duration,
    /// `--file-flush-min-size-kb` in bytes, default 64 KiB.
    pub file_flush_min_bytes: u64,
    /// `--drain-time-s`, default 600 s.
    pub drain_time: Duration,
    /// `--drain-strategy`.
    pub drain_strategy: DrainStrategy,
    /// `--parent-shutdown-time-s`, default 900 s.
    pub parent_shutdown_time: Duration,
    /// `--stats-tag`, in order.
    pub stats_tags: Vec<(String, String)>,
    /// `--disable-extensions`, split at commas.
    pub disabled_extensions: Vec<String>,
    /// `--disable-hot-restart`.
    pub disable_hot_restart: bool,
    /// `--enable-mutex-tracing`.
    pub enable_mutex_tracing: bool,
    /// `--enable-core-dump`.
    pub enable_core_dump: bool,
    /// `--base-id`.
    pub base_id: u32,
    /// `--use-dynamic-base-id`.
    pub use_dynamic_base_id: bool,
    /// `--base-id-path`.
    pub base_id_path: String,
    /// `--restart-epoch`.
    pub restart_epoch: u32,
    /// `--socket-path`.
    pub socket_path: String,
    /// `--skip-hot-restart-on-no-parent`.
    pub skip_hot_restart_on_no_parent: bool,
    /// `--skip-hot-restart-parent-stats`.
    pub skip_hot_restart_parent_stats: bool,
    /// Flags that were given and change nothing in this build, with the reason; to be logged as warnings.
    pub without_effect: Vec<(&'static str, &'static str)>,
}

/// Why the process ends before it starts: help, version or an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CliExit {
    /// Exit status.
    pub code: u8,
    /// To be written to stdout.
    pub stdout: String,
    /// To be written to stderr.
    pub stderr: String,
}

impl CliExit {
    fn refuse(message: impl std::fmt::Display) -> Self {
        Self { code: 1, stdout: String::new(), stderr: format!("error: {message}\n") }
    }
}

/// The five-part version that Kuma and Consul parse: revision, compatible Envoy release, tree state, build
/// type and, where Envoy names its TLS library, our own name and version; `+pgo` is a build of `perf/pgo.sh`.
pub fn version() -> String {
    let guided = if option_env!("MILLRACE_PROFILE_GUIDED").is_some() { "+pgo" } else { "" };
    let revision = option_env!("MILLRACE_REVISION").unwrap_or("0000000000000000000000000000000000000000");
    let build = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("{revision}/{COMPATIBLE_ENVOY}/Clean/{build}/millrace-{}{guided}", env!("CARGO_PKG_VERSION"))
}

/// Parses `args` (`args[0]` is the program). Errors have Envoy's text and exit status 1; help and version
/// are a [`CliExit`] with status 0.
pub fn parse(args: &[String]) -> Result<Options, CliExit> {
    let program = args.first().map_or("millrace", String::as_str);
    let mut rest = args.get(1..).unwrap_or(&[]);
    let demo = rest.first().is_some_and(|arg| arg == "demo");
    if demo {
        rest = rest.get(1..).unwrap_or(&[]);
    }
    let values = flags::read(program, rest)?;
    if values.has("hot-restart-version") {
        // Envoy writes it without a newline.
        return Err(CliExit { stdout: "disabled".to_owned(), ..CliExit::default() });
    }
    build(&values, demo)
}

fn build(values: &Values, demo: bool) -> Result<Options, CliExit> {
    let text = |name: &str| values.text(name).unwrap_or_default().to_owned();
    let log_level = values.text("log-level").map_or(Ok(Level::Info), validate::level)?;
    let component_log_level = text("component-log-level");
    let component_levels = validate::component_levels(&component_log_level)?;
    let options = Options {
        demo,
        config_path: text("config-path"),
        config_yaml: text("config-yaml"),
        mode: validate::mode(values.text("mode"))?,
        concurrency: values.number("concurrency").map(|count| count.max(1)),
        cpuset_threads: values.has("cpuset-threads"),
        cpus: values.text("cpus").map(validate::cpus).transpose()?,
        io: validate::io(values.text("io"))?,
        default_overload: validate::default_overload(values.text("default-overload"))?,
        max_waiting_mib: values.number("max-waiting-mib"),
        certificate_rules: validate::certificate_rules(values.text("certificate-rules"))?,
        log_level,
        component_levels,
        component_log_level,
        log_format: values.text("log-format").unwrap_or(crate::logging::DEFAULT_FORMAT).to_owned(),
        log_format_set: values.has("log-format"),
        log_format_escaped: values.has("log-format-escaped"),
        log_path: text("log-path"),
        fine_grain_logging: values.has("enable-fine-grain-logging"),
        log_stacktrace_single_entry: values.has("log-stacktrace-single-entry"),
        skip_deprecated_logs: values.has("skip-deprecated-logs"),
        admin_address_path: text("admin-address-path"),
        local_address_ip_version: validate::ip_version(values.text("local-address-ip-version"))?,
        allow_unknown_static_fields: values.has("allow-unknown-static-fields")
            || values.has("allow-unknown-fields"),
        reject_unknown_dynamic_fields: values.has("reject-unknown-dynamic-fields"),
        ignore_unknown_dynamic_fields: values.has("ignore-unknown-dynamic-fields"),
        service_cluster: text("service-cluster"),
        service_node: text("service-node"),
        service_zone: text("service-zone"),
        file_flush_interval: Duration::from_millis(
            values.number("file-flush-interval-msec").unwrap_or(10_000).into(),
        ),
        file_flush_min_bytes: u64::from(values.number("file-flush-min-size-kb").unwrap_or(64)) * 1024,
        drain_time: values.seconds("drain-time-s", 600),
        drain_strategy: validate::drain_strategy(values.text("drain-strategy"))?,
        parent_shutdown_time: values.seconds("parent-shutdown-time-s", 900),
        stats_tags: validate::stats_tags(values.list("stats-tag"))?,
        disabled_extensions: validate::comma_list(&text("disable-extensions")),
        disable_hot_restart: values.has("disable-hot-restart"),
        enable_mutex_tracing: values.has("enable-mutex-tracing"),
        enable_core_dump: values.has("enable-core-dump"),
        base_id: values.number("base-id").unwrap_or(0),
        use_dynamic_base_id: values.has("use-dynamic-base-id"),
        base_id_path: text("base-id-path"),
        restart_epoch: values.number("restart-epoch").unwrap_or(0),
        socket_path: values.text("socket-path").unwrap_or("@envoy_domain_socket").to_owned(),
        skip_hot_restart_on_no_parent: values.has("skip-hot-restart-on-no-parent"),
        skip_hot_restart_parent_stats: values.has("skip-hot-restart-parent-stats"),
        without_effect: validate::without_effect(values),
    };
    validate::hot_restart(&options)?;
    Ok(options)
}

#[cfg(test)]
mod tests;
