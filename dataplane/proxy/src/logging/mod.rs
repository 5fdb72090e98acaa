//! The application log: what the process says about itself, on stderr or in a file.
//!
//! Written by the control thread and, rarely, by a shard (start, stop, an invariant that broke); never per
//! request. A disabled call costs one relaxed atomic load. Lines are written whole, each with one call.

mod clock;
mod level;
mod pattern;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::panic::Location;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

pub use level::{Component, Level, component};
pub use pattern::{DEFAULT_FORMAT, Pattern};

use clock::Calendar;
use pattern::Record;

/// Capacity that a thread's line buffer may keep.
const LINE_BYTES_KEPT: usize = 4096;

enum Sink {
    Stderr,
    File { path: PathBuf, file: File },
}

struct Inner {
    levels: [AtomicU8; level::NAMES.len()],
    pattern: RwLock<Arc<Pattern>>,
    sink: Mutex<Sink>,
}

/// A handle to the log; clones write to the same place.
#[derive(Clone)]
pub struct Logger(Arc<Inner>);

impl Logger {
    /// Logs to stderr from `level` on, with Envoy's default format.
    pub fn new(level: Level) -> Self {
        Self(Arc::new(Inner {
            levels: std::array::from_fn(|_| AtomicU8::new(level as u8)),
            pattern: RwLock::new(Arc::new(Pattern::new(DEFAULT_FORMAT, false))),
            sink: Mutex::new(Sink::Stderr),
        }))
    }

    /// The log that the command line asks for. Fails when `--log-path` cannot be opened.
    pub fn from_options(options: &crate::cli::Options) -> io::Result<Self> {
        let logger = Self::new(options.log_level);
        logger.set_pattern(Pattern::new(&options.log_format, options.log_format_escaped));
        for (name, level) in &options.component_levels {
            logger.set_level_by_name(name, *level);
        }
        if !options.log_path.is_empty() {
            let path = PathBuf::from(&options.log_path);
            let file = open(&path)?;
            *self::lock(&logger.0.sink) = Sink::File { path, file };
        }
        Ok(logger)
    }

    /// Replaces the format, for example by `application_log_config` of the bootstrap.
    pub fn set_pattern(&self, pattern: Pattern) {
        *self.0.pattern.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pattern);
    }

    /// Sets every component's level.
    pub fn set_all_levels(&self, level: Level) {
        for component in Component::all() {
            self.set_level(component, level);
        }
    }

    /// Sets one component's level.
    pub fn set_level(&self, component: Component, level: Level) {
        if let Some(slot) = self.0.levels.get(component.index()) {
            slot.store(level as u8, Ordering::Relaxed);
        }
    }

    /// Sets the level of the component with this name; false when there is none.
    pub fn set_level_by_name(&self, name: &str, level: Level) -> bool {
        let component = Component::from_name(name);
        if let Some(component) = component {
            self.set_level(component, level);
        }
        component.is_some()
    }

    /// One component's level.
    #[inline]
    pub fn level(&self, component: Component) -> Level {
        let slot = self.0.levels.get(component.index());
        slot.map_or(Level::Off, |slot| Level::from_byte(slot.load(Ordering::Relaxed)))
    }

    /// Every component and its level, as `/logging` prints them.
    pub fn levels(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        Component::all().map(|component| (component.name(), self.level(component).name()))
    }

    /// True when a message of this severity would be written.
    #[inline]
    pub fn enabled(&self, component: Component, level: Level) -> bool {
        level >= self.level(component) && level != Level::Off
    }

    /// True when such a message appears on stderr.
    pub fn reaches_stderr(&self, component: Component, level: Level) -> bool {
        self.enabled(component, level) && matches!(*lock(&self.0.sink), Sink::Stderr)
    }

    /// Writes one line. Errors of the sink are dropped: there is nowhere left to report them.
    #[track_caller]
    #[inline]
    pub fn log(&self, component: Component, level: Level, message: fmt::Arguments<'_>) {
        if self.enabled(component, level) {
            self.write(component, level, message, Location::caller());
        }
    }

    /// Opens the file again, so that a rotated log is let go. On failure the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        let mut sink = lock(&self.0.sink);
        if let Sink::File { path, file } = &mut *sink {
            *file = open(path)?;
        }
        Ok(())
    }

    #[cold]
    fn write(
        &self,
        component: Component,
        level: Level,
        message: fmt::Arguments<'_>,
        location: &'static Location<'static>,
    ) {
        thread_local! {
            static BUFFERS: RefCell<(String, String)> = const { RefCell::new((String::new(), String::new())) };
        }
        let pattern = Arc::clone(&self.0.pattern.read().unwrap_or_else(PoisonError::into_inner));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        BUFFERS.with_borrow_mut(|(text, line)| {
            text.clear();
            line.clear();
            // A Display that fails leaves what it wrote so far.
            let _ = text.write_fmt(message);
            let record = Record {
                time: Calendar::new(now.as_secs(), now.subsec_nanos()),
                thread: thread_id(),
                process: std::process::id(),
                level,
                component: component.name(),
                file: location.file(),
                line: location.line(),
                message: text,
            };
            pattern.render(&record, line);
            let _ = match &mut *lock(&self.0.sink) {
                Sink::Stderr => io::stderr().write_all(line.as_bytes()),
                Sink::File { file, .. } => file.write_all(line.as_bytes()),
            };
            text.shrink_to(LINE_BYTES_KEPT);
            line.shrink_to(LINE_BYTES_KEPT);
        });
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn thread_id() -> u64 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> crate::cli::Options {
        let args: Vec<String> =
            std::iter::once(&"millrace").chain(args).map(|arg| (*arg).to_owned()).collect();
        crate::cli::parse(&args).unwrap()
    }

    #[test]
    fn levels_decide_per_component() {
        let logger =
            Logger::from_options(&options(&["-l", "error", "--component-log-level", "dns:trace"])).unwrap();
        assert!(logger.enabled(Component::DNS, Level::Trace));
        assert!(!logger.enabled(Component::MAIN, Level::Warning));
        assert!(logger.enabled(Component::MAIN, Level::Error));
        logger.set_all_levels(Level::Off);
        assert!(
            !logger.enabled(Component::DNS, Level::Critical) && !logger.enabled(Component::DNS, Level::Off)
        );
        assert!(
            logger.set_level_by_name("dns", Level::Info) && !logger.set_level_by_name("none", Level::Info)
        );
        assert_eq!(logger.levels().find(|(name, _)| *name == "dns"), Some(("dns", "info")));
    }

    #[test]
    fn a_disabled_message_is_not_formatted() {
        struct Loud;
        impl fmt::Display for Loud {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("formatted")
            }
        }
        Logger::new(Level::Info).log(Component::MAIN, Level::Debug, format_args!("{Loud}"));
    }

    #[test]
    fn lines_go_to_a_file_that_can_be_rotated() {
        let dir = std::env::temp_dir().join(format!("millrace-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("app.log");
        let path_text = path.to_str().unwrap();
        let logger =
            Logger::from_options(&options(&["--log-path", path_text, "--log-format", "%l %n %s %v"]))
                .unwrap();
        logger.log(Component::MAIN, Level::Info, format_args!("one {}", 1));
        std::fs::rename(&path, dir.join("old.log")).unwrap();
        logger.log(Component::MAIN, Level::Info, format_args!("two"));
        logger.reopen().unwrap();
        logger.log(Component::IO, Level::Warning, format_args!("three"));
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read("old.log"), "info main mod.rs one 1\ninfo main mod.rs two\n");
        assert_eq!(read("app.log"), "warning io mod.rs three\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_unusable_path_is_an_error() {
        assert!(Logger::from_options(&options(&["--log-path", "/nonexistent/dir/x.log"])).is_err());
    }
}
