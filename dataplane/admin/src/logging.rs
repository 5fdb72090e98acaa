//! `/logging`.

use std::fmt::Write as _;

use crate::Response;
use crate::endpoint::Call;
use crate::state::{AdminCommand, AdminState, LoggerStatus};

/// The levels that `/logging` takes (`warn` is for the command line only).
const LEVELS: [&str; 7] = ["trace", "debug", "info", "warning", "error", "critical", "off"];

pub(crate) fn serve(call: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let loggers = state.loggers();
    match command(call.query.pairs(), &loggers) {
        Ok(None) => {}
        Ok(Some(command)) => state.execute(command),
        Err(error) => {
            let usage = "usage: /logging?<name>=<level> (change single level)\n\
                 usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
                 usage: /logging?level=<level> (change all levels)\n\
                 usage: /logging?group=<group_name>:<level> (change group of loggers)\n";
            let levels = LEVELS.join(" ");
            let list = list(&loggers);
            return Response::text(400, format!("error: {error}\n\n{usage}levels: {levels} \n{list}"));
        }
    }
    Response::text(200, list(&state.loggers()))
}

fn list(loggers: &[LoggerStatus]) -> String {
    let mut out = String::from("active loggers:\n");
    for logger in loggers {
        let _ = writeln!(out, "  {}: {}", logger.name, logger.level);
    }
    out.push('\n');
    out
}

fn command(
    pairs: &[(String, String)],
    loggers: &[LoggerStatus],
) -> Result<Option<AdminCommand>, &'static str> {
    let (key, value) = match pairs {
        [] => return Ok(None),
        [(key, value)] => (key.as_str(), value.as_str()),
        _ => return Err("invalid number of parameters"),
    };
    match key {
        "level" | "paths" if value.is_empty() => Ok(None),
        "level" => Ok(Some(AdminCommand::SetAllLogLevels(level(value)?))),
        "group" => Err("group parameter requires fine-grain logging to be enabled"),
        "paths" => {
            let changes: Result<Vec<_>, _> = value
                .split(',')
                .map(|change| match change.split_once(':') {
                    Some((name, wanted)) if !name.is_empty() && !wanted.is_empty() => {
                        Ok((name, level(wanted)?))
                    }
                    _ => Err("empty logger name or empty logger level"),
                })
                .map(|change| change.and_then(|(name, level)| Ok((logger(name, loggers)?, level))))
                .collect();
            Ok(Some(AdminCommand::SetLogLevels(changes?)))
        }
        name => {
            let level = level(value)?;
            Ok(Some(AdminCommand::SetLogLevels(vec![(logger(name, loggers)?, level)])))
        }
    }
}

fn level(name: &str) -> Result<&'static str, &'static str> {
    LEVELS.iter().find(|level| **level == name).copied().ok_or("unknown logger level")
}

fn logger(name: &str, loggers: &[LoggerStatus]) -> Result<&'static str, &'static str> {
    loggers.iter().find(|logger| logger.name == name).map(|logger| logger.name).ok_or("unknown logger name")
}
