//! The table of flags and the parsing rules of TCLAP, as measured on Envoy 1.40.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CliExit, usage, version};

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Text,
    /// 32 bits, unsigned.
    Number,
    /// May be repeated.
    List,
}

/// One flag.
pub(super) struct Flag {
    /// Without the dashes.
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) kind: Kind,
    pub(super) about: &'static str,
}

const fn flag(name: &'static str, kind: Kind, about: &'static str) -> Flag {
    Flag { name, short: None, kind, about }
}

const fn short(name: &'static str, letter: char, kind: Kind, about: &'static str) -> Flag {
    Flag { name, short: Some(letter), kind, about }
}

/// In the order of the help text.
pub(super) static FLAGS: &[Flag] = &[
    flag("io", Kind::Text, "Back end for sockets: auto (default), uring or epoll (Millrace only)"),
    flag("certificate-rules", Kind::Text, "Of peers: mesh (default), rfc5280 or webpki (Millrace only)"),
    flag(
        "default-overload",
        Kind::Text,
        "Bounds where no overload manager sets them: on (default) or off (Millrace only)",
    ),
    flag(
        "max-waiting-mib",
        Kind::Number,
        "Memory of bytes that wait for slow peers, of all workers (Millrace only)",
    ),
    flag("cpus", Kind::Text, "Cores to pin workers to, for example 2-3,7 (Millrace only)"),
    flag("stats-tag", Kind::List, "A tag:value pair for every statistic; may be repeated"),
    flag("enable-core-dump", Kind::Switch, "Allow core dumps"),
    flag("socket-mode", Kind::Text, "Permission bits of the hot restart socket (no effect)"),
    flag("socket-path", Kind::Text, "Path of the hot restart socket (no effect)"),
    flag("disable-extensions", Kind::Text, "Extensions to disable, separated by commas (no effect)"),
    flag("cpuset-threads", Kind::Switch, "Take the number of workers from the cpuset"),
    flag("enable-mutex-tracing", Kind::Switch, "Trace mutex contention (no effect)"),
    flag("disable-hot-restart", Kind::Switch, "No hot restart"),
    flag("mode", Kind::Text, "serve (default), validate (check the configuration and exit) or init_only"),
    flag("parent-shutdown-time-s", Kind::Number, "Hot restart: life of the parent, seconds (no effect)"),
    flag("drain-strategy", Kind::Text, "gradual (default) or immediate"),
    flag("drain-time-s", Kind::Number, "How long connections may take to drain, seconds (default 600)"),
    flag("file-flush-min-size-kb", Kind::Number, "Flush log files from this size on (no effect)"),
    flag("file-flush-interval-msec", Kind::Number, "Flush log files this often (default 10000)"),
    flag("service-zone", Kind::Text, "node.locality.zone"),
    flag("service-node", Kind::Text, "node.id"),
    flag("service-cluster", Kind::Text, "node.cluster"),
    flag("hot-restart-version", Kind::Switch, "Print the hot restart version and exit"),
    flag("restart-epoch", Kind::Number, "Hot restart epoch"),
    flag("log-path", Kind::Text, "File of the application log (default: stderr)"),
    flag("enable-fine-grain-logging", Kind::Switch, "Log levels per source file (no effect)"),
    flag("log-format-escaped", Kind::Switch, "Escape control characters in log messages"),
    flag("log-format", Kind::Text, "Pattern of the application log in spdlog syntax"),
    flag(
        "component-log-level",
        Kind::Text,
        "Levels of single components, for example upstream:debug,rbac:off",
    ),
    short(
        "log-level",
        'l',
        Kind::Text,
        "trace, debug, info (default), warning or warn, error, critical, off",
    ),
    flag("local-address-ip-version", Kind::Text, "v4 (default) or v6"),
    flag("admin-address-path", Kind::Text, "File to write the address of the admin listener to"),
    flag("log-stacktrace-single-entry", Kind::Switch, "One log entry for a whole stack trace (no effect)"),
    flag("skip-deprecated-logs", Kind::Switch, "No warnings about deprecated fields"),
    flag("ignore-unknown-dynamic-fields", Kind::Switch, "Dynamic configuration: ignore unknown fields"),
    flag("reject-unknown-dynamic-fields", Kind::Switch, "Dynamic configuration: reject unknown fields"),
    flag("allow-unknown-static-fields", Kind::Switch, "Static configuration: allow unknown fields"),
    flag("allow-unknown-fields", Kind::Switch, "Old name of --allow-unknown-static-fields"),
    flag("config-yaml", Kind::Text, "YAML that is merged over the file of --config-path"),
    short("config-path", 'c', Kind::Text, "The bootstrap configuration"),
    flag("concurrency", Kind::Number, "Number of workers (default: one per core)"),
    flag("base-id-path", Kind::Text, "File to write the base id to (no effect)"),
    flag("skip-hot-restart-parent-stats", Kind::Switch, "Hot restart: do not take over statistics"),
    flag("skip-hot-restart-on-no-parent", Kind::Switch, "Hot restart: start without a parent"),
    flag("use-dynamic-base-id", Kind::Switch, "Hot restart: choose a base id (no effect)"),
    flag("base-id", Kind::Number, "Hot restart: base id (no effect)"),
    flag("version", Kind::Switch, "Print the version and exit"),
    short("help", 'h', Kind::Switch, "Print this text and exit"),
];

impl Flag {
    fn matches(&self, word: &str) -> bool {
        match word.strip_prefix("--") {
            Some(name) => name == self.name,
            None => {
                let mut rest = word.strip_prefix('-').unwrap_or("").chars();
                self.short.is_some() && rest.next() == self.short && rest.next().is_none()
            }
        }
    }

    /// As parse errors name it.
    fn label(&self) -> String {
        match self.short {
            Some(letter) => format!("-{letter} (--{})", self.name),
            None => format!("(--{})", self.name),
        }
    }
}

/// Values by flag name.
#[derive(Default)]
pub(super) struct Values(BTreeMap<&'static str, Vec<String>>);

impl Values {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    /// Numbers were checked when they were read.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.text(name).and_then(parse_number)
    }

    pub(super) fn seconds(&self, name: &str, default: u32) -> Duration {
        Duration::from_secs(self.number(name).unwrap_or(default).into())
    }

    pub(super) fn list(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// C++ stream syntax for numbers: leading blanks and a plus sign are taken. Unlike Envoy, a negative number
/// is refused (Envoy wraps it around and hangs).
fn parse_number(text: &str) -> Option<u32> {
    let digits = text.trim_start();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Reads all flags. A value is the next element, whatever it looks like, or the rest of the same element
/// after its first blank; `--flag=value` and `-lvalue` are unknown arguments, and so is all that follows `--`.
pub(super) fn read(program: &str, args: &[String]) -> Result<Values, CliExit> {
    let mut values = Values::default();
    let mut args = args.iter();
    let mut labels_end = false;
    while let Some(arg) = args.next() {
        let (word, joined) = match arg.split_once(' ') {
            Some((word, value)) if word.len() > 1 => (word, Some(value).filter(|value| !value.is_empty())),
            _ => (arg.as_str(), None),
        };
        if arg == "--" && !labels_end {
            labels_end = true;
            continue;
        }
        let found = FLAGS.iter().filter(|_| !labels_end).find(|flag| {
            // A switch takes no value, so the whole element must be its name.
            flag.matches(if flag.kind == Kind::Switch { arg } else { word })
        });
        let Some(flag) = found else {
            return Err(refuse(program, arg, "Couldn't find match for argument"));
        };
        if flag.kind != Kind::List && values.has(flag.name) {
            return Err(refuse(program, &flag.label(), "Argument already set!"));
        }
        match flag.name {
            "help" => return Err(CliExit { stdout: usage::full(program), ..CliExit::default() }),
            "version" => {
                let stdout = format!("\n{program}  version: {}\n\n", version());
                return Err(CliExit { stdout, ..CliExit::default() });
            }
            _ => {}
        }
        let value = match (flag.kind, joined) {
            (Kind::Switch, _) => String::new(),
            (_, Some(value)) => value.to_owned(),
            (_, None) => match args.next() {
                Some(value) => value.clone(),
                None => return Err(refuse(program, &flag.label(), "Missing a value for this argument!")),
            },
        };
        if flag.kind == Kind::Number && parse_number(&value).is_none() {
            let several = value.split_whitespace().count() > 1
                && value.split_whitespace().all(|part| parse_number(part).is_some());
            let what = if several {
                format!("More than one valid value parsed from string '{value}'")
            } else {
                format!("Couldn't read argument value from string '{value}'")
            };
            return Err(refuse(program, &flag.label(), &what));
        }
        values.0.entry(flag.name).or_default().push(value);
    }
    Ok(values)
}

fn refuse(program: &str, argument: &str, what: &str) -> CliExit {
    let brief = usage::brief(program);
    let stderr = format!(
        "PARSE ERROR: Argument: {argument}\n             {what}\n\nBrief USAGE: \n{brief}\n\
         For complete USAGE and HELP type: \n   {program} --help\n\n{argument} -- {what}\n"
    );
    CliExit { code: 1, stdout: String::new(), stderr }
}
