//! Secrets that come over SDS: small numbers for a name at a source.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{Secret, SecretId, SourceId};

/// What a secret must be where it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKind {
    /// `tls_certificate`.
    Certificate,
    /// `validation_context`.
    Validation,
    /// `session_ticket_keys`.
    TicketKeys,
}

/// A secret that some context names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// `SdsSecretConfig.name`.
    pub name: Arc<str>,
    /// `SdsSecretConfig.sds_config`.
    pub source: SourceId,
    /// Where it is named. One name may stand for secrets of several kinds.
    pub kind: SecretKind,
    /// `sds_config.initial_fetch_timeout`, default 15 s; `None` (0 s) waits for ever. Of several contexts the one
    /// that was translated last counts.
    pub initial_fetch_timeout: Option<Duration>,
}

/// A secret that came over SDS, with what it was made of.
#[derive(Clone, Debug)]
pub struct LoadedSecret {
    /// The secret.
    pub secret: Secret,
    /// A move into one of these directories may have replaced a file of it: its `watched_directory`, or else those
    /// of its files (chain and key, authorities and revocation lists). Without files there are none.
    pub directories: Vec<PathBuf>,
}

type Key = (Arc<str>, SourceId, SecretKind);

/// The secrets that contexts name. An id is given to another one only after its release.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    all: Vec<Option<SecretInfo>>,
    by_key: BTreeMap<Key, SecretId>,
    free: Vec<SecretId>,
}

impl Secrets {
    /// The id of this secret, new when the secret is.
    pub(crate) fn intern(&mut self, info: SecretInfo) -> SecretId {
        let key = (Arc::clone(&info.name), info.source, info.kind);
        let id = self.by_key.get(&key).copied().unwrap_or_else(|| {
            let id = self.free.pop().unwrap_or_else(|| {
                self.all.push(None);
                SecretId(u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX))
            });
            self.by_key.insert(key, id);
            id
        });
        self.all[id.0 as usize] = Some(info);
        id
    }

    /// Nothing names the secret any more. One that is not known is no error.
    pub fn release(&mut self, id: SecretId) {
        if let Some(info) = self.all.get_mut(id.0 as usize).and_then(Option::take) {
            self.by_key.remove(&(info.name, info.source, info.kind));
            self.free.push(id);
        }
    }

    /// What is known of the secret of this id.
    pub fn get(&self, id: SecretId) -> Option<&SecretInfo> {
        self.all.get(id.0 as usize)?.as_ref()
    }

    /// The secrets of this name from this source, one of each kind at most.
    pub fn named(&self, name: &Arc<str>, source: SourceId) -> impl Iterator<Item = SecretId> {
        let kinds = [SecretKind::Certificate, SecretKind::Validation, SecretKind::TicketKeys];
        kinds.into_iter().filter_map(move |kind| self.by_key.get(&(Arc::clone(name), source, kind)).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_name_its_source_and_its_kind() {
        let mut secrets = Secrets::default();
        let info = |name: &str, source, kind| SecretInfo {
            name: name.into(),
            source: SourceId(source),
            kind,
            initial_fetch_timeout: None,
        };
        let first = secrets.intern(info("a", 1, SecretKind::Certificate));
        let other = secrets.intern(info("a", 1, SecretKind::Validation));
        assert_eq!(secrets.intern(info("a", 1, SecretKind::Certificate)), first);
        assert_ne!(secrets.intern(info("a", 2, SecretKind::Certificate)), first);
        assert_eq!(secrets.named(&"a".into(), SourceId(1)).collect::<Vec<_>>(), [first, other]);
        secrets.release(first);
        secrets.release(first);
        assert_eq!((secrets.get(first), secrets.named(&"a".into(), SourceId(1)).count()), (None, 1));
        assert_eq!(secrets.intern(info("b", 1, SecretKind::TicketKeys)), first);
    }
}
