//! Directories with the files of secrets: which secret a move into one of them is told for.

use std::collections::BTreeMap;

use millrace_config::{SecretId, SourceId};

use super::Event;
use super::SourceEvent;
use super::told::{FeedKey, What};
use super::watch::Change;

/// Whose files are watched under which key. A secret has two directories at most, and its owner bounds the secrets.
#[derive(Debug, Default)]
pub(super) struct SecretFiles {
    by_key: BTreeMap<FeedKey, (SourceId, SecretId)>,
}

impl SecretFiles {
    /// A directory of this secret is watched under this key.
    pub(super) fn add(&mut self, key: FeedKey, source: SourceId, secret: SecretId) {
        self.by_key.insert(key, (source, secret));
    }

    /// The keys of the secret, which are forgotten.
    pub(super) fn take(&mut self, secret: SecretId) -> Vec<FeedKey> {
        self.by_key.extract_if(.., |_, (_, of)| *of == secret).map(|(key, _)| key).collect()
    }

    /// What to tell when this happened under this key; `None` when the key is none of ours.
    pub(super) fn event(&self, key: FeedKey, what: &What) -> Option<SourceEvent> {
        let (source, secret) = *self.by_key.get(&key)?;
        let event = match what {
            What::File(Change::Unwatchable(reason)) => {
                Event::Warning(format!("files of a secret cannot be watched: {reason}"))
            }
            _ => Event::FilesMoved(secret),
        };
        Some(SourceEvent { source, event })
    }
}
