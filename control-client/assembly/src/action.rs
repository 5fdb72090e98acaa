//! What the control loop does for the assembly.

use std::path::PathBuf;
use std::sync::Arc;

use millrace_ads::{Interest, ResourceType, UpdateId, Verdict};
use millrace_config::{Address, Cluster, ClusterId, Listener, SecretId, SourceId, Update};

/// How loud a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Warning,
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Give this to every shard.
    Publish(Arc<Update>),
    /// Serve this new listener; its sockets are open.
    Listen(Arc<Listener>),
    /// Ask a control plane for resources.
    Subscribe(SourceId, ResourceType, Interest),
    /// Ask no more.
    Unsubscribe(SourceId, ResourceType, Interest),
    /// Ask again for a resource that we have (state of the world only).
    Refresh(SourceId, ResourceType, Arc<str>),
    /// Answer an update.
    Verdict(SourceId, UpdateId, Verdict),
    /// Tell [`crate::Assembly::secret_files_moved`] of moves into these directories from now on, instead of those that
    /// were named for the secret before; none ends it.
    WatchFiles(SourceId, SecretId, Vec<PathBuf>),
    /// Resolve the names of this cluster from now on, instead of what was resolved under its id.
    WatchDns(Arc<Cluster>),
    /// Resolve no more.
    UnwatchDns(ClusterId),
    /// Every cluster that start-up waits for is warm.
    ClustersReady,
    /// Every listener that start-up waits for is warm.
    ListenersReady,
    /// For the log.
    Log(Level, String),
}

/// What the assembly asks at once: listening sockets, because the answer is part of the verdict, and what health checks
/// have found out.
pub trait Host {
    /// Opens the sockets of a new listener.
    ///
    /// # Errors
    /// Why an address cannot be had; nothing stays open.
    fn bind(&mut self, listener: &Arc<Listener>) -> Result<(), String>;

    /// The listener keeps its sockets and has a new configuration.
    fn replace(&mut self, listener: &Arc<Listener>);

    /// The listener is gone. Shards close the sockets that they were given; others are closed here.
    fn unbind(&mut self, listener: &Arc<Listener>);

    /// True when every endpoint of the cluster that is checked actively has had a check.
    fn is_checked(&self, _cluster: &Cluster) -> bool {
        true
    }

    /// True while an endpoint passes its active checks.
    fn passes_checks(&self, _cluster: ClusterId, _endpoint: &Address) -> bool {
        false
    }
}
