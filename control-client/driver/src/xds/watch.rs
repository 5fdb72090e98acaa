//! Watches directories for files that are moved into place, over one inotify instance.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use millrace_ads::source::PathSource;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt as _;

use super::told::{FeedKey, Told, What};

/// Pause before a directory that cannot be watched is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is told about a watched file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was replaced, or may have been while nobody looked.
    Touched,
    /// Its directory cannot be watched; this is tried again until it can.
    Unwatchable(String),
}

/// Which moves count for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interest {
    directory: PathBuf,
    /// `None` for any entry of the directory (`watched_directory`).
    name: Option<OsString>,
}

impl Interest {
    fn of(source: &PathSource) -> Self {
        match &source.watched_directory {
            Some(directory) => Self { directory: directory.clone(), name: None },
            None => {
                let parent = source.path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let directory = parent.unwrap_or(Path::new(".")).to_owned();
                Self { directory, name: source.path.file_name().map(OsStr::to_owned) }
            }
        }
    }
}

/// The files that are watched. Must be made inside the runtime.
pub(super) struct Watcher {
    commands: mpsc::UnboundedSender<Command>,
    task: tokio::task::JoinHandle<()>,
}

enum Command {
    Watch(FeedKey, Interest),
    Unwatch(FeedKey),
}

impl Watcher {
    /// Tells changes into `changes`.
    pub(super) fn start(changes: mpsc::Sender<Told>) -> Self {
        // One command for each subscription to a file, and two for each secret: its owner bounds them.
        let (commands, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(Watching::new(changes).run(inbox));
        Self { commands, task }
    }

    /// Watches for moves onto the file, or into its `watched_directory`. `Touched` follows once when the watch stands, so
    /// that nothing is missed in between.
    pub(super) fn watch(&self, key: FeedKey, source: &PathSource) {
        // The task ends with the last sender only.
        let _ = self.commands.send(Command::Watch(key, Interest::of(source)));
    }

    /// Watches for moves of anything into a directory, as [`Self::watch`].
    pub(super) fn watch_directory(&self, key: FeedKey, directory: PathBuf) {
        let _ = self.commands.send(Command::Watch(key, Interest { directory, name: None }));
    }

    /// Forgets a file or a directory.
    pub(super) fn unwatch(&self, key: FeedKey) {
        let _ = self.commands.send(Command::Unwatch(key));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Entry {
    interest: Interest,
    /// The descriptor of the directory; `None` while it cannot be watched.
    descriptor: Option<WatchDescriptor>,
    complained: bool,
}

struct Watching {
    changes: mpsc::Sender<Told>,
    entries: BTreeMap<FeedKey, Entry>,
    stream: Option<EventStream<[u8; 4096]>>,
    retry_at: Option<Instant>,
}

impl Watching {
    fn new(changes: mpsc::Sender<Told>) -> Self {
        Self { changes, entries: BTreeMap::new(), stream: None, retry_at: None }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let retry_at = self.retry_at;
            let stream = self.stream.as_mut();
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Watch(key, interest)) => {
                        self.entries.insert(key, Entry { interest, descriptor: None, complained: false });
                        self.attach().await;
                    }
                    Some(Command::Unwatch(key)) => self.forget(key),
                    None => return,
                },
                event = next_event(stream) => self.apply(event).await,
                () = until(retry_at) => self.attach().await,
            }
        }
    }

    /// Tries every directory that is not watched yet.
    async fn attach(&mut self) {
        self.retry_at = None;
        let open: Vec<FeedKey> =
            self.entries.iter().filter(|(_, e)| e.descriptor.is_none()).map(|(k, _)| *k).collect();
        for key in open {
            let Some(directory) = self.entries.get(&key).map(|entry| entry.interest.directory.clone()) else {
                continue;
            };
            let added = self.add(&directory);
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let change = match added {
                Ok(descriptor) => {
                    entry.descriptor = Some(descriptor);
                    entry.complained = false;
                    Some(Change::Touched)
                }
                Err(error) => {
                    self.retry_at = Some(Instant::now() + RETRY);
                    let first = !std::mem::replace(&mut entry.complained, true);
                    first.then(|| Change::Unwatchable(format!("{}: {error}", directory.display())))
                }
            };
            if let Some(change) = change {
                // Without a receiver nobody is interested any more.
                let _ = self.changes.send(Told { feed: key, what: What::File(change) }).await;
            }
        }
    }

    fn add(&mut self, directory: &Path) -> std::io::Result<WatchDescriptor> {
        if self.stream.is_none() {
            self.stream = Some(Inotify::init()?.into_event_stream([0; 4096])?);
        }
        let Some(stream) = &self.stream else { return Err(std::io::ErrorKind::Other.into()) };
        let mask = WatchMask::MOVED_TO | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
        stream.watches().add(directory, mask)
    }

    fn forget(&mut self, key: FeedKey) {
        let Some(Entry { descriptor: Some(descriptor), .. }) = self.entries.remove(&key) else { return };
        let shared = self.entries.values().any(|entry| entry.descriptor.as_ref() == Some(&descriptor));
        if let Some(stream) = self.stream.as_ref().filter(|_| !shared) {
            // The directory may be gone, and its watch with it.
            let _ = stream.watches().remove(descriptor);
        }
    }

    async fn apply(&mut self, event: Seen) {
        let mut touched = Vec::new();
        let mut lost = false;
        for (key, entry) in &mut self.entries {
            let Some(descriptor) = &entry.descriptor else { continue };
            match &event {
                Seen::Moved(of, name) if of == descriptor => {
                    if entry.interest.name.as_ref().is_none_or(|wanted| wanted == name) {
                        touched.push(*key);
                    }
                }
                Seen::Gone(of) if of == descriptor => {
                    entry.descriptor = None;
                    lost = true;
                }
                Seen::Moved(..) | Seen::Gone(_) => {}
                Seen::Overflow => touched.push(*key),
                Seen::Broken => {
                    entry.descriptor = None;
                    lost = true;
                }
            }
        }
        if matches!(event, Seen::Broken) {
            self.stream = None;
        }
        for key in touched {
            let _ = self.changes.send(Told { feed: key, what: What::File(Change::Touched) }).await;
        }
        if lost {
            // Whoever replaces the directory makes the new one soon.
            self.retry_at = Some(Instant::now() + RETRY);
        }
    }
}

enum Seen {
    Moved(WatchDescriptor, OsString),
    Gone(WatchDescriptor),
    Overflow,
    Broken,
}

async fn next_event(stream: Option<&mut EventStream<[u8; 4096]>>) -> Seen {
    let Some(stream) = stream else { return std::future::pending().await };
    match stream.next().await {
        Some(Ok(event)) if event.mask.contains(EventMask::Q_OVERFLOW) => Seen::Overflow,
        Some(Ok(event)) if event.mask.contains(EventMask::MOVED_TO) => {
            Seen::Moved(event.wd, event.name.unwrap_or_default())
        }
        // Removed, moved away, unmounted or no longer watched.
        Some(Ok(event)) => Seen::Gone(event.wd),
        Some(Err(_)) | None => Seen::Broken,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
