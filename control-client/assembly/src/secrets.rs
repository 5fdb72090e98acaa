//! SDS: certificates and authorities, and the listeners and clusters that use them.

use std::path::PathBuf;
use std::sync::Arc;

use millrace_ads::source::ConfigSource;
use millrace_ads::{Interest, Rejected, Resource, ResourceType, Update};
use millrace_base::{Time, WallTime};
use millrace_config::{
    Cluster, DownstreamTls, Listener, ScopeId, Secret, SecretId, SecretSource, SessionTickets, SourceId,
    TlsCommon, UpstreamTls, ValidationContext, ValidationSource,
};
use millrace_observe::stats::{ScopeKind, sds, ssl_secrets};
use millrace_tls::certificate;
use millrace_translate::{LoadedSecret, SecretKind, Sources, resource};

use crate::action::{Action, Level};
use crate::deadlines::Due;
use crate::start::Wait;
use crate::stored::{Failure, Stored};
use crate::{Assembly, Turn, gauges};

/// A secret that a version of a listener or a cluster needs, once for every context that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedSecret {
    pub(crate) id: SecretId,
    /// A validation context that asks for names, and for whose authorities the secret alone can vouch.
    needs_authority: bool,
}

/// One secret. Its position is its [`SecretId`].
#[derive(Debug)]
pub(crate) struct SecretEntry {
    pub(crate) name: Arc<str>,
    source: SourceId,
    kind: SecretKind,
    scope: ScopeId,
    /// The last good one.
    value: Option<Secret>,
    pub(crate) stored: Option<Stored>,
    /// Where its files may be replaced.
    directories: Vec<PathBuf>,
    /// Since when it is waited for.
    pub(crate) awaited: Stored,
    pub(crate) failure: Option<Box<Failure>>,
    /// Contexts of versions of listeners and clusters.
    users: u32,
    /// Those of them that need an authority of it.
    strict_users: u32,
    /// It came, was refused, or was given up: nobody need wait.
    answered: bool,
    give_up_at: Option<Time>,
    /// Without users: when it is forgotten.
    forget_at: Option<Time>,
}

impl Assembly {
    pub(crate) fn update_secrets(&mut self, turn: &mut Turn<'_>, source: SourceId, update: Update) {
        let mut rejected = update.broken;
        for resource in &update.changed {
            for id in self.secret_ids(source, &resource.name) {
                if let Err(reason) = self.put_secret(turn, id, resource) {
                    rejected.push(Rejected { name: resource.name.clone(), reason });
                }
            }
        }
        for name in &update.unchanged {
            for id in self.secret_ids(source, name) {
                self.confirm_secret(turn, id, &update.version);
            }
        }
        if self.is_file(source) {
            // A file without the secret is a refused answer, as in Envoy.
            for name in &update.removed {
                self.count_refusal(turn, source, name);
            }
        }
        // A secret that is taken away or refused leaves the last good one in force, as in Envoy; where there is none it is
        // an answer all the same to whoever waits.
        for name in update.removed.iter().chain(rejected.iter().map(|refused| &refused.name)) {
            for id in self.secret_ids(source, name) {
                self.answer_secret(turn, id);
            }
        }
        self.acks.now(source, update.id, rejected, &mut self.out);
    }

    fn put_secret(&mut self, turn: &mut Turn<'_>, id: SecretId, resource: &Resource) -> Result<(), String> {
        let Some((kind, scope)) = self.secret(id).map(|entry| (entry.kind, entry.scope)) else {
            return Ok(());
        };
        turn.stats.inc(scope, sds::UPDATE_ATTEMPT);
        let read = self.read_secret(turn, id, kind, &resource.body);
        let wall = turn.wall;
        let Some(entry) = self.secret_mut(id) else { return Ok(()) };
        match read {
            Ok(LoadedSecret { secret, directories }) => {
                entry.stored = Some(Stored::new(resource, wall));
                entry.failure = None;
                let source = entry.source;
                if entry.directories != directories {
                    entry.directories.clone_from(&directories);
                    self.out.push(Action::WatchFiles(source, id, directories));
                }
                count_success(turn, scope, &resource.version);
                self.take_secret(turn, id, secret);
                self.answer_secret(turn, id);
                Ok(())
            }
            Err(reason) => {
                turn.stats.inc(scope, sds::UPDATE_REJECTED);
                entry.failure = Some(Failure::new(resource, wall, &reason));
                Err(reason)
            }
        }
    }

    /// A secret may have new files. What is wrong with them leaves the last good ones in force.
    pub fn secret_files_moved(&mut self, turn: &mut Turn<'_>, id: SecretId) {
        let Some(entry) = self.secret(id).filter(|entry| !entry.directories.is_empty()) else { return };
        let Some(stored) = &entry.stored else { return };
        let (kind, scope, name) = (entry.kind, entry.scope, entry.name.clone());
        let body = stored.body.bytes().into_owned();
        let held = entry.value.clone();
        match self.read_secret(turn, id, kind, &body) {
            // Any move in their directory brings us here.
            Ok(loaded) if held.is_some_and(|held| same_files(&held, &loaded.secret)) => {}
            Ok(loaded) => self.take_secret(turn, id, loaded.secret),
            Err(reason) => {
                turn.stats.inc(scope, sds::KEY_ROTATION_FAILED);
                let text = format!("sds: the new files of the secret '{name}' are refused: {reason}");
                self.log(Level::Warning, text);
            }
        }
        self.end_turn(turn);
    }

    /// Reads the files that a secret names, and judges it.
    fn read_secret(
        &mut self,
        turn: &Turn<'_>,
        id: SecretId,
        kind: SecretKind,
        body: &[u8],
    ) -> Result<LoadedSecret, String> {
        let translated = resource::secret(body, kind, &mut self.cx);
        let loaded = self.taken(translated)?;
        if let Some(entry) = self.secret(id) {
            entry.check(&loaded.secret, turn.wall)?;
        }
        Ok(loaded)
    }

    /// Puts a good secret into force, if shards would notice a difference.
    fn take_secret(&mut self, turn: &mut Turn<'_>, id: SecretId, secret: Secret) {
        let Some(entry) = self.secret_mut(id) else { return };
        if entry.value.as_ref().is_some_and(|known| same(known, &secret)) {
            return;
        }
        entry.value = Some(secret.clone());
        self.next.secrets.push((id, Some(secret)));
        self.count_contexts(turn, id);
    }

    /// The secret came once more. Its files are not read again: whoever replaces them is noticed.
    fn confirm_secret(&mut self, turn: &mut Turn<'_>, id: SecretId, version: &str) {
        let Some(entry) = self.secret_mut(id).filter(|entry| entry.stored.is_some()) else { return };
        entry.failure = None;
        let scope = entry.scope;
        turn.stats.inc(scope, sds::UPDATE_ATTEMPT);
        count_success(turn, scope, version);
    }

    fn count_refusal(&self, turn: &mut Turn<'_>, source: SourceId, name: &Arc<str>) {
        for entry in self.secret_ids(source, name).into_iter().filter_map(|id| self.secret(id)) {
            turn.stats.inc(entry.scope, sds::UPDATE_ATTEMPT);
            turn.stats.inc(entry.scope, sds::UPDATE_REJECTED);
        }
    }

    fn is_file(&self, source: SourceId) -> bool {
        matches!(self.cx.sources.get(source), Some(ConfigSource::Path(_)))
    }

    /// Every listener and cluster in force that names the secret has new contexts.
    fn count_contexts(&self, turn: &mut Turn<'_>, id: SecretId) {
        let names = |used: Vec<UsedSecret>| used.iter().any(|used| used.id == id);
        let listeners = self.snapshot.listeners.iter();
        let listeners = listeners.filter(|listener| names(listener_secrets(listener)));
        let clusters = self.snapshot.clusters.iter().flatten();
        let clusters = clusters.filter(|cluster| names(cluster_secrets(cluster)));
        let scopes = listeners.map(|listener| listener.scope).chain(clusters.map(|cluster| cluster.scope));
        for scope in scopes.filter_map(|scope| self.cx.registry.tls_scopes(scope)) {
            turn.stats.inc(scope.secrets, ssl_secrets::SSL_CONTEXT_UPDATE_BY_SDS);
        }
    }

    /// Nobody need wait for the secret any longer.
    fn answer_secret(&mut self, turn: &mut Turn<'_>, id: SecretId) {
        let Some(entry) = self.secret_mut(id) else { return };
        if std::mem::replace(&mut entry.answered, true) {
            return;
        }
        self.startup.done(&Wait::Secret(id));
        let waiting = self.clusters.entries.iter().filter(|(_, entry)| entry.waits_for_secrets);
        let names: Vec<Arc<str>> = waiting.map(|(name, _)| name.clone()).collect();
        for name in names {
            // One that waits for another secret too starts to wait again.
            if let Some(version) = self.clusters.stop_warming(&name) {
                self.activate_cluster(turn, &name, version);
            }
        }
        self.activate_waiting(turn);
    }

    /// A listener or a cluster wants the secret; `parent` is where it came from itself.
    pub(crate) fn use_secret(&mut self, turn: &mut Turn<'_>, used: &UsedSecret, parent: SourceId) {
        let id = used.id;
        self.know_secret(turn, id, parent);
        let timeout = self.cx.secrets.get(id).and_then(|info| info.initial_fetch_timeout);
        let Some(entry) = self.secret_mut(id) else { return };
        entry.users += 1;
        entry.strict_users += u32::from(used.needs_authority);
        if entry.users > 1 || entry.forget_at.take().is_some() {
            return;
        }
        if let Some(timeout) = timeout.filter(|_| !entry.answered) {
            entry.give_up_at = Some(turn.now + timeout);
            self.deadlines.insert(turn.now + timeout, Due::Secret(id));
        }
        let Some(entry) = self.secret(id) else { return };
        let (source, name, scope) = (entry.source, entry.name.clone(), entry.scope);
        // A stream counts its first request, a file counts when it is read.
        if !self.is_file(source) {
            turn.stats.inc(scope, sds::UPDATE_ATTEMPT);
        }
        self.out.push(match self.is_named_twice(source, &name) {
            true => Action::Refresh(source, ResourceType::Secret, name),
            false => Action::Subscribe(source, ResourceType::Secret, Interest::Name(name)),
        });
    }

    /// A version of a listener or a cluster is gone.
    pub(crate) fn release_secrets(&mut self, turn: &mut Turn<'_>, secrets: &[UsedSecret]) {
        let drain_time = self.drain_time;
        for used in secrets {
            let Some(entry) = self.secret_mut(used.id) else { continue };
            entry.users = entry.users.saturating_sub(1);
            entry.strict_users = entry.strict_users.saturating_sub(u32::from(used.needs_authority));
            if entry.users == 0 {
                let rest = if entry.value.is_some() { drain_time } else { std::time::Duration::ZERO };
                entry.forget_at = Some(turn.now + rest);
                self.deadlines.insert(turn.now + rest, Due::ForgetSecret(used.id));
            }
        }
    }

    pub(crate) fn forget_secret(&mut self, now: Time, id: SecretId) {
        let Some(slot) = self.secrets.get_mut(id.0 as usize) else { return };
        let is_over = |entry: &mut SecretEntry| entry.forget_at.is_some_and(|at| at <= now);
        let Some(entry) = slot.take_if(is_over) else { return };
        if entry.value.is_some() {
            self.next.secrets.push((id, None));
        }
        self.cx.secrets.release(id);
        if !entry.directories.is_empty() {
            self.out.push(Action::WatchFiles(entry.source, id, Vec::new()));
        }
        let is_wanted =
            self.secrets.iter().flatten().any(|e| e.source == entry.source && e.name == entry.name);
        if !is_wanted {
            let interest = Interest::Name(entry.name);
            self.out.push(Action::Unsubscribe(entry.source, ResourceType::Secret, interest));
        }
    }

    /// A secret has not come in time: who waits for it serves, and handshakes fail until it comes.
    pub(crate) fn secret_is_due(&mut self, turn: &mut Turn<'_>, id: SecretId) {
        let Some(entry) = self.secret(id) else { return };
        if entry.answered || entry.users == 0 || entry.give_up_at.is_none_or(|at| at > turn.now) {
            return;
        }
        turn.stats.inc(entry.scope, sds::INIT_FETCH_TIMEOUT);
        let text = format!("sds: the secret '{}' did not come in time", entry.name);
        self.log(Level::Warning, text);
        self.answer_secret(turn, id);
    }

    /// Clusters of the bootstrap ask for their secrets; start-up waits for them.
    pub(crate) fn use_static_secrets(&mut self, turn: &mut Turn<'_>, secrets: &[UsedSecret]) {
        let parent = self.startup.clusters_source();
        secrets.iter().for_each(|secret| self.use_secret(turn, secret, parent));
        self.wait_for_secrets(secrets);
    }

    pub(crate) fn wait_for_secrets(&mut self, secrets: &[UsedSecret]) {
        for used in secrets {
            if !self.are_secrets_answered(&[*used]) {
                self.startup.wait(Wait::Secret(used.id));
            }
        }
    }

    pub(crate) fn are_secrets_answered(&self, secrets: &[UsedSecret]) -> bool {
        secrets.iter().all(|used| self.secret(used.id).is_some_and(|entry| entry.answered))
    }

    /// Statistics scopes of the secrets that come from a source.
    pub(crate) fn secret_scopes(&self, source: SourceId) -> impl Iterator<Item = ScopeId> {
        self.secrets.iter().flatten().filter(move |entry| entry.source == source).map(|entry| entry.scope)
    }

    fn secret(&self, id: SecretId) -> Option<&SecretEntry> {
        self.secrets.get(id.0 as usize)?.as_ref()
    }

    fn secret_mut(&mut self, id: SecretId) -> Option<&mut SecretEntry> {
        self.secrets.get_mut(id.0 as usize)?.as_mut()
    }

    /// Those of this name from this source, of every kind.
    fn secret_ids(&self, source: SourceId, name: &Arc<str>) -> Vec<SecretId> {
        let own = self.cx.secrets.named(name, source);
        let all = own.chain(self.cx.secrets.named(name, Sources::SAME_AS_PARENT));
        all.filter(|id| self.secret(*id).is_some_and(|entry| entry.source == source)).collect()
    }

    fn is_named_twice(&self, source: SourceId, name: &Arc<str>) -> bool {
        self.secrets.iter().flatten().filter(|entry| entry.source == source && entry.name == *name).count()
            > 1
    }

    fn know_secret(&mut self, turn: &Turn<'_>, id: SecretId, parent: SourceId) {
        let at = id.0 as usize;
        if self.secrets.len() <= at {
            self.secrets.resize_with(at + 1, || None);
        }
        let Some(info) = self.cx.secrets.get(id).filter(|_| self.secrets[at].is_none()) else { return };
        self.secrets[at] = Some(SecretEntry {
            name: info.name.clone(),
            source: if info.source == Sources::SAME_AS_PARENT { parent } else { info.source },
            kind: info.kind,
            scope: self.cx.registry.scope(ScopeKind::Sds, &info.name.replace(':', "_")),
            value: None,
            stored: None,
            directories: Vec::new(),
            awaited: Stored { version: "uninitialized".into(), updated: turn.wall, ..Stored::default() },
            failure: None,
            users: 0,
            strict_users: 0,
            answered: false,
            give_up_at: None,
            forget_at: None,
        });
    }
}

impl SecretEntry {
    /// What translation cannot see: who uses it, what it replaces, and what time it is.
    fn check(&self, secret: &Secret, wall: WallTime) -> Result<(), String> {
        match secret {
            Secret::Certificate(new) => {
                let now = i64::try_from(wall.0 / 1_000_000_000).unwrap_or(i64::MAX);
                let leaf =
                    |of: &millrace_config::TlsCertificate| certificate::summary(of.chain.first()?).ok();
                let is_over = |of| leaf(of).is_some_and(|leaf| leaf.not_after < now);
                match &self.value {
                    Some(Secret::Certificate(held)) if is_over(new) && !is_over(held) => {
                        Err("tls_certificate: the certificate has expired; the one before it stays"
                            .to_owned())
                    }
                    _ => Ok(()),
                }
            }
            Secret::Validation(new)
                if self.strict_users > 0 && new.trusted_ca.is_none() && new.spiffe.is_none() =>
            {
                let why = certificate::CertificateError::MatchersWithoutAuthority.message("");
                Err(format!("validation_context: {why}"))
            }
            Secret::Validation(_) | Secret::TicketKeys(_) => Ok(()),
        }
    }
}

/// Whether shards would notice no difference.
fn same(a: &Secret, b: &Secret) -> bool {
    match (a, b) {
        (Secret::Certificate(a), Secret::Certificate(b)) => a == b,
        (Secret::TicketKeys(a), Secret::TicketKeys(b)) => a == b,
        _ => false,
    }
}

/// Whether the files of one and the same message say the same.
fn same_files(a: &Secret, b: &Secret) -> bool {
    match (a, b) {
        (Secret::Validation(a), Secret::Validation(b)) => {
            a.trusted_ca == b.trusted_ca && a.crls == b.crls && a.spiffe == b.spiffe
        }
        _ => same(a, b),
    }
}

fn count_success(turn: &mut Turn<'_>, scope: ScopeId, version: &str) {
    turn.stats.inc(scope, sds::UPDATE_SUCCESS);
    turn.stats.gauge_set(scope, sds::UPDATE_TIME, turn.wall.0 / 1_000_000);
    turn.stats.gauge_set(scope, sds::VERSION, gauges::version_hash(version));
}

/// The secrets of a listener.
pub(crate) fn listener_secrets(listener: &Listener) -> Vec<UsedSecret> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let contexts = chains.filter_map(|chain| chain.tls.as_deref());
    contexts.flat_map(downstream_secrets).collect()
}

/// The secrets of a cluster.
pub(crate) fn cluster_secrets(cluster: &Cluster) -> Vec<UsedSecret> {
    let matches = cluster.transport_matches.iter().map(|one| &one.transport);
    let transports = std::iter::once(&cluster.transport).chain(matches);
    let contexts = transports.filter_map(|transport| transport.tls.as_deref());
    contexts.flat_map(|tls: &UpstreamTls| common_secrets(&tls.common)).collect()
}

fn downstream_secrets(tls: &DownstreamTls) -> impl Iterator<Item = UsedSecret> {
    let tickets = match &tls.tickets {
        SessionTickets::Keys(SecretSource::Sds(id)) => Some(plain(*id)),
        _ => None,
    };
    common_secrets(&tls.common).chain(tickets)
}

fn common_secrets(common: &TlsCommon) -> impl Iterator<Item = UsedSecret> {
    let strict = match &common.validation {
        ValidationSource::Sds { default, secret } if needs_authority(default) => Some(*secret),
        _ => None,
    };
    common.secrets().map(move |id| UsedSecret { id, needs_authority: strict == Some(id) })
}

fn plain(id: SecretId) -> UsedSecret {
    UsedSecret { id, needs_authority: false }
}

fn needs_authority(default: &ValidationContext) -> bool {
    let asks = !default.san_matchers.is_empty() || default.allow_expired || !default.crls.is_empty();
    asks && default.trusted_ca.is_none() && default.spiffe.is_none()
}
