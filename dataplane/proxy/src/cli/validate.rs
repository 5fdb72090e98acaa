//! The meaning of single values; errors in Envoy's words.

use millrace_tls::CertificateRules;

use super::flags::Values;
use super::{CliExit, DrainStrategy, IoChoice, IpVersion, Mode, Options};
use crate::logging::{Level, component};

/// More cores than any machine this runs on has.
const CPU_MAX: usize = 4096;

pub(super) fn level(name: &str) -> Result<Level, CliExit> {
    Level::from_name(name).ok_or_else(|| CliExit::refuse(format!("invalid log level specified '{name}'")))
}

pub(super) fn component_levels(text: &str) -> Result<Vec<(&'static str, Level)>, CliExit> {
    let items = text.split(',').filter(|item| !item.is_empty());
    items
        .map(|item| {
            let parts: Vec<&str> = item.split(':').collect();
            let [name, wanted] = parts.as_slice() else {
                let text = format!("component log level not correctly specified '{item}'");
                return Err(CliExit::refuse(text));
            };
            let wanted = level(wanted)?;
            let known = component(name)
                .ok_or_else(|| CliExit::refuse(format!("invalid component specified '{name}'")))?;
            Ok((known, wanted))
        })
        .collect()
}

pub(super) fn mode(value: Option<&str>) -> Result<Mode, CliExit> {
    match value {
        None | Some("serve") => Ok(Mode::Serve),
        Some("validate") => Ok(Mode::Validate),
        Some("init_only") => Ok(Mode::InitOnly),
        Some(other) => Err(CliExit::refuse(format!("unknown mode '{other}'"))),
    }
}

pub(super) fn drain_strategy(value: Option<&str>) -> Result<DrainStrategy, CliExit> {
    match value {
        None | Some("gradual") => Ok(DrainStrategy::Gradual),
        Some("immediate") => Ok(DrainStrategy::Immediate),
        Some(other) => Err(CliExit::refuse(format!("unknown drain-strategy '{other}'"))),
    }
}

pub(super) fn ip_version(value: Option<&str>) -> Result<IpVersion, CliExit> {
    match value {
        None | Some("v4") => Ok(IpVersion::V4),
        Some("v6") => Ok(IpVersion::V6),
        Some(other) => Err(CliExit::refuse(format!("unknown IP address version '{other}'"))),
    }
}

pub(super) fn default_overload(value: Option<&str>) -> Result<bool, CliExit> {
    match value {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => {
            Err(CliExit::refuse(format!("unknown default-overload '{other}', expected on or off")))
        }
    }
}

pub(super) fn io(value: Option<&str>) -> Result<IoChoice, CliExit> {
    match value {
        None | Some("auto") => Ok(IoChoice::Auto),
        Some("uring") => Ok(IoChoice::Uring),
        Some("epoll") => Ok(IoChoice::Epoll),
        Some(other) => Err(CliExit::refuse(format!("unknown io '{other}', expected auto, uring or epoll"))),
    }
}

pub(super) fn certificate_rules(value: Option<&str>) -> Result<CertificateRules, CliExit> {
    let Some(value) = value else { return Ok(CertificateRules::default()) };
    let found = CertificateRules::ALL.into_iter().find(|rules| rules.name() == value);
    found.ok_or_else(|| {
        CliExit::refuse(format!("unknown certificate-rules '{value}', expected mesh, rfc5280 or webpki"))
    })
}

/// A list such as `2-3,7`, in the given order and without repetitions.
pub(super) fn cpus(text: &str) -> Result<Vec<usize>, CliExit> {
    let refuse = || CliExit::refuse(format!("misformatted cpus '{text}', expected for example 2-3,7"));
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<usize>().ok()).flatten().filter(|cpu| *cpu < CPU_MAX).ok_or_else(refuse)
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(refuse());
        }
        for cpu in first..=last {
            if !cpus.contains(&cpu) {
                cpus.push(cpu);
            }
        }
    }
    Ok(cpus)
}

pub(super) fn stats_tags(items: &[String]) -> Result<Vec<(String, String)>, CliExit> {
    let mut tags: Vec<(String, String)> = Vec::new();
    for item in items {
        let Some((name, value)) = item.split_once(':') else {
            return Err(CliExit::refuse(format!("misformatted stats-tag '{item}'")));
        };
        let name_is_valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        for (part, valid) in [(name, name_is_valid), (value, !value.contains('.'))] {
            if !valid {
                let text = format!("misformatted stats-tag '{item}' contains invalid char in '{part}'");
                return Err(CliExit::refuse(text));
            }
        }
        if tags.iter().any(|(known, _)| known == name) {
            return Err(CliExit::refuse(format!("stats-tag '{name}' is given more than once")));
        }
        tags.push((name.to_owned(), value.to_owned()));
    }
    Ok(tags)
}

pub(super) fn comma_list(text: &str) -> Vec<String> {
    text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// A later epoch means that a parent still serves and waits to be told to stop. There is no hot restart
/// here, so starting would leave two generations serving side by side.
pub(super) fn hot_restart(options: &Options) -> Result<(), CliExit> {
    if options.restart_epoch > 0 && !options.disable_hot_restart && !options.skip_hot_restart_on_no_parent {
        let epoch = options.restart_epoch;
        return Err(CliExit::refuse(format!(
            "--restart-epoch {epoch}: hot restart is not supported; use --disable-hot-restart"
        )));
    }
    Ok(())
}

/// Flags that are accepted and change nothing.
pub(super) fn without_effect(values: &Values) -> Vec<(&'static str, &'static str)> {
    const HOT_RESTART: &str = "hot restart is not supported";
    let known = [
        ("restart-epoch", HOT_RESTART),
        ("base-id", HOT_RESTART),
        ("base-id-path", HOT_RESTART),
        ("use-dynamic-base-id", HOT_RESTART),
        ("socket-path", HOT_RESTART),
        ("socket-mode", HOT_RESTART),
        ("parent-shutdown-time-s", HOT_RESTART),
        ("skip-hot-restart-parent-stats", HOT_RESTART),
        ("skip-hot-restart-on-no-parent", HOT_RESTART),
        ("enable-mutex-tracing", "nothing on the forwarding path takes a mutex"),
        ("enable-fine-grain-logging", "levels are set per component"),
        ("log-stacktrace-single-entry", "stack traces are always one entry"),
        ("enable-core-dump", "core dumps follow the process limits"),
        ("disable-extensions", "the extensions of this build cannot be disabled"),
        ("file-flush-min-size-kb", "a buffer of log lines is handed over at 64 KiB"),
    ];
    known.into_iter().filter(|(name, _)| values.has(name)).collect()
}
