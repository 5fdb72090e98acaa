//! From a parsed command line to a serving process: load, translate, bind, start, serve, end.
//!
//! Nothing serves before everything is known to be good: the configuration, the admin address and every
//! listening socket. [`control`] is the loop that runs from then on.

mod admin_state;
mod breakers;
mod certificates;
mod cluster_gauges;
mod config_dump;
mod control;
mod demo;
mod health;
mod health_discovery;
mod listeners;
mod loads;
mod logs;
mod outbox;
mod overload;
mod process;
mod redact;
mod stats;
mod workers;
mod xds;

use std::process::ExitCode;
use std::sync::Arc;

use millrace_base::Limits;
use millrace_driver::admin_server::AdminServer;
use millrace_driver::bootstrap_file;
use millrace_observe::access_log::LogQueue;
use millrace_observe::stats::Registry;
use millrace_proto::LoadOptions;
use millrace_translate::{Compiled, Context, LogFormat, Overrides};

use crate::cli::{IpVersion, Mode, Options};
use crate::logging::{Component, Level, Logger, Pattern};
use control::Control;

/// Log batches of 64 KiB that may wait for the disk.
const LOG_BATCHES: usize = 64;

/// Runs until the process shall end. The exit code is Envoy's: 0 after a signal or a good `--mode
/// validate`, 1 for anything that kept it from serving.
pub fn run(options: Options, logger: &Logger) -> ExitCode {
    match prepare_and_serve(options, logger) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            logger.log(Component::MAIN, Level::Critical, format_args!("error initializing: {message}"));
            // A log level above critical, or a log file, must not hide why nothing runs.
            if !logger.reaches_stderr(Component::MAIN, Level::Critical) {
                use std::io::Write as _;
                let _ = writeln!(std::io::stderr(), "{message}");
            }
            ExitCode::FAILURE
        }
    }
}

fn prepare_and_serve(mut options: Options, logger: &Logger) -> Result<u8, String> {
    let demo = options.demo.then(|| demo::Demo::start(&mut options)).transpose()?;
    let source = source_name(&options);
    let registry = Registry::new();
    let (mut compiled, context) = load(&options, &registry, &source, logger)?;
    if options.mode == Mode::Validate {
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "configuration '{source}' OK");
        return Ok(0);
    }
    if options.log_format_set && compiled.log_format.is_some() {
        return Err(
            "Only one of ApplicationLogConfig.log_format or CLI option --log-format can be specified.".into(),
        );
    }
    apply_log_format(&compiled, logger)?;
    for unsupported in &compiled.unsupported {
        let message = format_args!("{}: {}", unsupported.path, unsupported.why);
        logger.log(Component::CONFIG, Level::Warning, message);
    }
    stats::configure(&registry, &compiled, &options)?;
    let plan = workers::Plan::of_machine(&options);
    let files_max = millrace_ring::sockets::raise_nofile_limit().ok();
    let bounds_connections =
        compiled.snapshot.overload.as_ref().is_some_and(|overload| overload.connections_max().is_some());
    if options.default_overload {
        let configured = compiled.snapshot.overload.as_ref();
        compiled.snapshot.overload = overload::with_defaults(configured, &registry, files_max);
        if !bounds_connections
            && let Some(max) = compiled.snapshot.overload.as_ref().and_then(|o| o.connections_max())
        {
            let message = format_args!("at most {max} downstream connections (--default-overload)");
            logger.log(Component::MAIN, Level::Info, message);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the control thread: {error}"))?;
    let admin = {
        let _guard = runtime.enter();
        bind_admin(&compiled, &options, logger)?
    };
    let bound = listeners::bind_all(&compiled.snapshot.listeners, plan.shards)?;
    let queue = LogQueue::new(LOG_BATCHES);
    let writer = logs::start(&queue, &registry, &compiled, &options)?;
    let waker = Arc::downgrade(&writer);
    let parts = Arc::new(workers::Parts {
        snapshot: Arc::new(compiled.snapshot.clone()),
        registry: registry.clone(),
        log_queue: queue.clone(),
        log_interval: options.file_flush_interval,
        wake_writer: Arc::new(move || {
            if let Some(writer) = waker.upgrade() {
                writer.flush_soon();
            }
        }),
        hostname: process::hostname(),
        host_address: process::host_address(options.local_address_ip_version == IpVersion::V6),
        limits: Limits {
            waiting_bytes_max: overload::waiting_bytes_max(&options, plan.shards),
            ..Limits::default()
        },
        io: workers::io_choice(options.io),
        certificate_rules: options.certificate_rules,
    });
    let (workers, line) = workers::Workers::start(&plan, &parts)?;
    drop(parts);
    logger.log(Component::MAIN, Level::Info, format_args!("{line}; {} shards", plan.shards));
    let code = runtime.block_on(async {
        let control = Control::new(
            options,
            logger.clone(),
            registry,
            context,
            compiled,
            workers,
            bound,
            (writer, queue),
            (bounds_connections, demo),
        );
        control.serve(admin).await
    })?;
    process::exit_now(code)
}

/// Reads and translates the configuration; errors are one line that names the file and the field.
fn load(
    options: &Options,
    registry: &Registry,
    source: &str,
    logger: &Logger,
) -> Result<(Compiled, Context), String> {
    let load_options = LoadOptions { allow_unknown: options.allow_unknown_static_fields };
    let parsed = bootstrap_file::load(&options.config_path, &options.config_yaml, &load_options)
        .map_err(|error| error.to_string())?;
    for unknown in &parsed.unknown {
        logger.log(Component::CONFIG, Level::Warning, format_args!("unknown field ignored: {unknown}"));
    }
    let given = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
    let overrides = Overrides {
        service_node: given(&options.service_node),
        service_cluster: given(&options.service_cluster),
        service_zone: given(&options.service_zone),
        allow_unknown_static_fields: options.allow_unknown_static_fields,
        reject_unknown_dynamic_fields: options.reject_unknown_dynamic_fields,
        ignore_unknown_dynamic_fields: options.ignore_unknown_dynamic_fields,
    };
    let mut context = Context::new(registry.clone(), overrides);
    let compiled = millrace_translate::bootstrap(&parsed.bytes, &mut context);
    let compiled = compiled.map_err(|rejection| format!("{source}: {rejection}"))?;
    Ok((compiled, context))
}

fn source_name(options: &Options) -> String {
    if options.config_path.is_empty() { "--config-yaml".to_owned() } else { options.config_path.clone() }
}

/// `application_log_config`, unless `--log-format` was given.
fn apply_log_format(compiled: &Compiled, logger: &Logger) -> Result<(), String> {
    match &compiled.log_format {
        None => Ok(()),
        Some(LogFormat::Text(text)) => {
            logger.set_pattern(Pattern::new(text, false));
            Ok(())
        }
        Some(LogFormat::Json(bytes)) => {
            let tree = millrace_proto::to_json("type.googleapis.com/google.protobuf.Struct", bytes)
                .map_err(|error| format!("application_log_config.log_format.json_format: {error}"))?;
            logger.set_pattern(Pattern::json(&tree).map_err(|e| format!("application_log_config: {e}"))?);
            Ok(())
        }
    }
}

fn bind_admin(
    compiled: &Compiled,
    options: &Options,
    logger: &Logger,
) -> Result<Option<AdminServer>, String> {
    let Some(address) = &compiled.admin.address else { return Ok(None) };
    let server =
        AdminServer::bind(address).map_err(|error| format!("admin: cannot bind '{address}': {error}"))?;
    if !options.admin_address_path.is_empty() {
        let path = &options.admin_address_path;
        // Not fatal, as in Envoy: the file is for whoever started us, who will miss it.
        if let Err(error) = server.write_address_file(path) {
            let message = format_args!("cannot open admin address output file '{path}': {error}");
            logger.log(Component::MAIN, Level::Critical, message);
        }
    }
    Ok(Some(server))
}
