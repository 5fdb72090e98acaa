//! The Millrace binary.

use std::io::Write as _;
use std::process::ExitCode;

use millrace_proxy::cli;
use millrace_proxy::logging::{Component, Level, Logger};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let options = match cli::parse(&args) {
        Ok(options) => options,
        Err(exit) => {
            // A closed stdout or stderr leaves nobody to tell.
            let _ = std::io::stdout().write_all(exit.stdout.as_bytes());
            let _ = std::io::stderr().write_all(exit.stderr.as_bytes());
            return ExitCode::from(exit.code);
        }
    };
    let logger = match Logger::from_options(&options) {
        Ok(logger) => logger,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: cannot open '{}': {error}", options.log_path);
            return ExitCode::FAILURE;
        }
    };
    for (flag, reason) in &options.without_effect {
        logger.log(Component::MAIN, Level::Warning, format_args!("--{flag} has no effect: {reason}"));
    }
    millrace_proxy::run::run(options, &logger)
}
