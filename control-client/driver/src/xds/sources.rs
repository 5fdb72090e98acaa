//! The list of sources: which feed serves a subscription, whose turn it is, and unique ids of updates.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_ads::source::{ConfigSource, GrpcSource, PathSource, RestSource, Upstream};
use millrace_ads::{
    Client, ClientOptions, Interest, ResourceType, RestClient, RestOptions, Update, UpdateId, Verdict,
};
use millrace_base::Time;
use millrace_config::{SecretId, SourceId};
use millrace_proto::pb::envoy::config::core::v3::Node;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::feed::{Context, Feed, Step};
use super::file_feed::FileFeed;
use super::grpc::{Service, method};
use super::grpc_feed::GrpcFeed;
use super::rest_feed::RestFeed;
use super::secret_files::SecretFiles;
use super::told::{FeedKey, Told};
use super::watch::Watcher;
use super::{Event, SourceEvent, tls};
use crate::dns::SystemResolver;

/// Messages of tasks that wait for the control loop. Responses are bounded by their streams: one each.
const INBOX: usize = 16;

/// Least time between two polls of a feed for no other reason than its deadline.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Numbers of one source, over all of its streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStatistics {
    /// `control_plane.rate_limit_enforced`.
    pub rate_limit_enforced: u64,
    /// `control_plane.pending_requests`.
    pub pending_requests: usize,
    /// Responses that were dropped: of a type that was never asked for, or not of our protocol variant.
    pub ignored_responses: u64,
}

/// What a feed serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    All,
    Type(ResourceType),
    Name(ResourceType, Arc<str>),
}

enum Kind {
    Grpc { config: GrpcSource, services: Vec<Arc<Service>>, aggregated: bool },
    Rest(Arc<RestSource>),
    Path(PathSource),
}

struct Source {
    kind: Kind,
    feeds: BTreeMap<Scope, FeedKey>,
    /// Updates without a verdict: whose they are, and what the feed calls them.
    verdicts: BTreeMap<UpdateId, (FeedKey, UpdateId)>,
    last_update: u64,
}

struct Entry {
    source: SourceId,
    feed: Feed,
    /// What it is subscribed to: `None` for everything of a type. A feed without any is dropped.
    interests: BTreeSet<(ResourceType, Option<Arc<str>>)>,
    deadline: Option<Time>,
}

/// Where configuration comes from. It is driven by [`Self::next`] alone; the other methods only note what is wanted.
pub struct Sources {
    node: Node,
    seed: u64,
    start: Instant,
    resolver: Arc<SystemResolver>,
    sources: BTreeMap<SourceId, Source>,
    feeds: BTreeMap<FeedKey, Entry>,
    last_feed: u64,
    /// Feeds to poll.
    ready: BTreeSet<FeedKey>,
    /// Feeds that wait for a stream to take a request.
    blocked: BTreeSet<FeedKey>,
    deadlines: BTreeSet<(Time, FeedKey)>,
    events: VecDeque<SourceEvent>,
    context: Context,
    inbox: mpsc::Receiver<Told>,
    watcher: Option<Watcher>,
    secret_files: SecretFiles,
}

impl Sources {
    /// No source yet. `node` goes into the first request of every stream; `seed` scatters the back-off.
    pub fn new(node: Node, seed: u64) -> Self {
        let (tell, inbox) = mpsc::channel(INBOX);
        Self {
            node,
            seed,
            start: Instant::now(),
            resolver: Arc::new(SystemResolver::default()),
            sources: BTreeMap::new(),
            feeds: BTreeMap::new(),
            last_feed: 0,
            ready: BTreeSet::new(),
            blocked: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            events: VecDeque::new(),
            context: Context { tell, taken: Arc::new(Notify::new()), last_task: 0 },
            inbox,
            watcher: None,
            secret_files: SecretFiles::default(),
        }
    }

    /// Makes a source known, in place of what had its id. Nothing is contacted before the first subscription.
    /// `aggregated`: one stream for all types (ADS); otherwise one for each type, and for each name of a secret,
    /// because Istio's agent and SPIRE serve one name a stream. `Ads` and `SameAsParent` are references, not places:
    /// they are refused with a warning.
    pub fn add(&mut self, id: SourceId, config: ConfigSource, aggregated: bool) {
        self.remove(id);
        let kind = match config {
            ConfigSource::Grpc(config) => {
                let service = |one: &millrace_ads::source::GrpcService| {
                    Arc::new(Service::new(one.clone(), Arc::clone(&self.resolver)))
                };
                let services: Vec<_> = config.services.iter().map(service).collect();
                Kind::Grpc { config, services, aggregated }
            }
            ConfigSource::Rest(config) => Kind::Rest(Arc::new(config)),
            ConfigSource::Path(config) => Kind::Path(config),
            ConfigSource::Ads | ConfigSource::SameAsParent => {
                self.warn(id, "a reference to a configuration source was not resolved".to_owned());
                return;
            }
        };
        for target in kind.targets() {
            if target.tls.as_ref().is_some_and(tls::accepts_anybody) {
                let text =
                    format!("{}: any certificate is accepted, because no trusted_ca is set", target.name);
                self.warn(id, text);
            }
        }
        let source = Source { kind, feeds: BTreeMap::new(), verdicts: BTreeMap::new(), last_update: 0 };
        self.sources.insert(id, source);
    }

    /// Forgets a source and closes its streams.
    pub fn remove(&mut self, id: SourceId) {
        if let Some(source) = self.sources.remove(&id) {
            source.feeds.values().for_each(|key| self.drop_feed(*key));
        }
    }

    /// Wants something; a second subscription to the same changes nothing. Must run inside the runtime.
    pub fn subscribe(&mut self, id: SourceId, ty: ResourceType, interest: Interest) {
        let Some(key) = self.feed_for(id, ty, &interest) else { return };
        let Some(entry) = self.feeds.get_mut(&key) else { return };
        let added = entry.feed.subscribe(ty, interest.clone());
        if added {
            entry.interests.insert((ty, name_of(&interest)));
        } else {
            self.warn(id, format!("{}: too many names are subscribed to", ty.message_name()));
        }
        self.ready.insert(key);
    }

    /// No longer wants something. The stream of the last subscription is closed, except the aggregated one.
    pub fn unsubscribe(&mut self, id: SourceId, ty: ResourceType, interest: &Interest) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        let scope = source.kind.scope(ty, interest);
        let Some(&key) = source.feeds.get(&scope) else { return };
        let keep = matches!(source.kind, Kind::Grpc { aggregated: true, .. });
        let Some(entry) = self.feeds.get_mut(&key) else { return };
        entry.feed.unsubscribe(ty, interest);
        entry.interests.remove(&(ty, name_of(interest)));
        if entry.interests.is_empty() && !keep {
            source.feeds.remove(&scope);
            source.verdicts.retain(|_, (feed, _)| *feed != key);
            self.drop_feed(key);
        } else {
            self.ready.insert(key);
        }
    }

    /// Asks again for a name, as state-of-the-world clients do for the endpoints of a changed cluster.
    pub fn refresh(&mut self, id: SourceId, ty: ResourceType, name: &Arc<str>) {
        let Some(source) = self.sources.get(&id) else { return };
        let scope = source.kind.scope(ty, &Interest::Name(Arc::clone(name)));
        let Some(&key) = source.feeds.get(&scope) else { return };
        if let Some(entry) = self.feeds.get_mut(&key) {
            entry.feed.refresh(ty, name);
            self.ready.insert(key);
        }
    }

    /// Tells of moves into these directories from now on ([`Event::FilesMoved`]), also once when they are watched, in
    /// place of those that were named for the secret before. Must run inside the runtime.
    pub fn watch_files(&mut self, source: SourceId, secret: SecretId, directories: Vec<PathBuf>) {
        for key in self.secret_files.take(secret) {
            self.watcher().unwatch(key);
        }
        for directory in directories {
            self.last_feed += 1;
            let key = FeedKey(self.last_feed);
            self.secret_files.add(key, source, secret);
            self.watcher().watch_directory(key, directory);
        }
    }

    fn watcher(&mut self) -> &Watcher {
        let tell = &self.context.tell;
        self.watcher.get_or_insert_with(|| Watcher::start(tell.clone()))
    }

    /// What became of an update. One whose stream was given up is ignored.
    pub fn verdict(&mut self, id: SourceId, update: UpdateId, verdict: Verdict) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        let Some((key, inner)) = source.verdicts.remove(&update) else { return };
        if let Some(entry) = self.feeds.get_mut(&key) {
            entry.feed.verdict(inner, verdict);
            self.ready.insert(key);
        }
    }

    /// Numbers of a source; zeros where it has no stream.
    pub fn statistics(&self, id: SourceId) -> SourceStatistics {
        let mut sum = SourceStatistics::default();
        let keys = self.sources.get(&id).into_iter().flat_map(|source| source.feeds.values());
        for entry in keys.filter_map(|key| self.feeds.get(key)) {
            if let Feed::Grpc(feed) = &entry.feed {
                sum.rate_limit_enforced += feed.client.rate_limit_enforced();
                sum.pending_requests += feed.client.pending_requests();
                sum.ignored_responses += feed.client.ignored_responses();
            }
        }
        sum
    }

    /// The next event. Cancel safe: what has not been returned is returned by the next call. Never ends.
    pub async fn next(&mut self) -> SourceEvent {
        loop {
            if let Some(event) = self.ready_event() {
                return event;
            }
            let deadline = self.deadlines.first().map(|(at, _)| *at);
            tokio::select! {
                // The context holds a sender, so the channel is never closed.
                Some(told) = self.inbox.recv() => self.hear(told),
                () = self.context.taken.notified() => self.ready.append(&mut self.blocked),
                () = until(self.start, deadline) => self.expire(),
            }
        }
    }

    fn ready_event(&mut self) -> Option<SourceEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let now = self.now();
        while let Some(&key) = self.ready.first() {
            let Some(entry) = self.feeds.get_mut(&key) else {
                self.ready.remove(&key);
                continue;
            };
            match entry.feed.poll(now, key, &mut self.context) {
                Step::Event(event) => {
                    let source = entry.source;
                    return Some(SourceEvent { source, event: self.numbered(source, key, event) });
                }
                Step::Blocked(until) => {
                    self.ready.remove(&key);
                    self.blocked.insert(key);
                    self.set_deadline(key, Some(until));
                }
                Step::Idle(deadline) => {
                    self.ready.remove(&key);
                    // A feed that has nothing to say now is not asked again at once, whatever it believes.
                    let soonest = now + POLL_INTERVAL_MIN;
                    self.set_deadline(key, deadline.map(|at| at.max(soonest)));
                }
            }
        }
        None
    }

    fn hear(&mut self, told: Told) {
        let now = self.now();
        if let Some(event) = self.secret_files.event(told.feed, &told.what) {
            self.events.push_back(event);
        } else if let Some(entry) = self.feeds.get_mut(&told.feed) {
            entry.feed.handle(now, told.feed, told.what, &self.context);
            self.ready.insert(told.feed);
        }
    }

    fn expire(&mut self) {
        let now = self.now();
        while let Some(&(at, key)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, key));
            self.ready.insert(key);
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn warn(&mut self, source: SourceId, text: String) {
        self.events.push_back(SourceEvent { source, event: Event::Warning(text) });
    }

    /// Gives an update an id that no other feed of the source uses.
    fn numbered(&mut self, id: SourceId, key: FeedKey, event: Event) -> Event {
        let Event::Update(update) = event else { return event };
        let Some(source) = self.sources.get_mut(&id).filter(|_| update.id != UpdateId::NO_VERDICT) else {
            return Event::Update(update);
        };
        source.last_update += 1;
        let outer = UpdateId(source.last_update);
        source.verdicts.insert(outer, (key, update.id));
        Event::Update(Update { id: outer, ..update })
    }

    fn set_deadline(&mut self, key: FeedKey, deadline: Option<Time>) {
        let Some(entry) = self.feeds.get_mut(&key) else { return };
        if let Some(old) = std::mem::replace(&mut entry.deadline, deadline) {
            self.deadlines.remove(&(old, key));
        }
        if let Some(at) = deadline {
            self.deadlines.insert((at, key));
        }
    }

    fn drop_feed(&mut self, key: FeedKey) {
        self.set_deadline(key, None);
        self.ready.remove(&key);
        self.blocked.remove(&key);
        if let Some(Entry { feed: Feed::File(_), .. }) = self.feeds.remove(&key)
            && let Some(watcher) = &self.watcher
        {
            watcher.unwatch(key);
        }
    }

    fn feed_for(&mut self, id: SourceId, ty: ResourceType, interest: &Interest) -> Option<FeedKey> {
        let source = self.sources.get_mut(&id)?;
        let scope = source.kind.scope(ty, interest);
        if let Some(key) = source.feeds.get(&scope) {
            return Some(*key);
        }
        self.last_feed += 1;
        let key = FeedKey(self.last_feed);
        // Any odd constant keeps the seeds of feeds apart.
        let seed = self.seed.wrapping_add(self.last_feed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let feed = match source.kind.feed(&scope, (ty, interest), &self.node, seed, &self.resolver) {
            Ok(feed) => feed,
            Err(reason) => {
                self.warn(id, reason);
                return None;
            }
        };
        if let Kind::Path(path) = &source.kind {
            let tell = &self.context.tell;
            self.watcher.get_or_insert_with(|| Watcher::start(tell.clone())).watch(key, path);
        }
        source.feeds.insert(scope, key);
        self.feeds.insert(key, Entry { source: id, feed, interests: BTreeSet::new(), deadline: None });
        Some(key)
    }
}

impl Kind {
    fn targets(&self) -> Vec<Upstream> {
        match self {
            Self::Grpc { config, .. } => {
                config.services.iter().map(|service| service.target.clone()).collect()
            }
            Self::Rest(config) => vec![config.target.clone()],
            Self::Path(_) => Vec::new(),
        }
    }

    fn scope(&self, ty: ResourceType, interest: &Interest) -> Scope {
        match (self, interest) {
            (Self::Grpc { aggregated: true, .. } | Self::Rest(_), _) => Scope::All,
            (Self::Path(_), Interest::Name(name)) => Scope::Name(ty, Arc::clone(name)),
            (Self::Grpc { .. }, Interest::Name(name)) if ty == ResourceType::Secret => {
                Scope::Name(ty, Arc::clone(name))
            }
            (Self::Grpc { .. } | Self::Path(_), _) => Scope::Type(ty),
        }
    }

    fn feed(
        &self,
        scope: &Scope,
        (ty, interest): (ResourceType, &Interest),
        node: &Node,
        seed: u64,
        resolver: &Arc<SystemResolver>,
    ) -> Result<Feed, String> {
        match self {
            Self::Grpc { config, services, .. } => {
                let of = (*scope != Scope::All).then_some(ty);
                let method = method(of, config.variant)
                    .ok_or_else(|| format!("{} has no state-of-the-world stream", ty.message_name()))?;
                let client = Client::new(client_options(config, node, seed));
                let feed = GrpcFeed::new(client, config.variant, method, services.clone());
                Ok(Feed::Grpc(Box::new(feed)))
            }
            Self::Rest(config) => {
                let options = RestOptions { node: node.clone(), refresh_delay: config.refresh_delay, seed };
                let feed = RestFeed::new(RestClient::new(options), Arc::clone(config), Arc::clone(resolver));
                Ok(Feed::Rest(Box::new(feed)))
            }
            Self::Path(config) => {
                let feed = FileFeed::new(config.clone(), ty, name_of(interest));
                Ok(Feed::File(Box::new(feed)))
            }
        }
    }
}

fn client_options(config: &GrpcSource, node: &Node, seed: u64) -> ClientOptions {
    ClientOptions {
        variant: config.variant,
        node: node.clone(),
        node_on_first_message_only: config.set_node_on_first_message_only,
        services: config.services.len(),
        rate_limit: config.rate_limit,
        seed,
    }
}

fn name_of(interest: &Interest) -> Option<Arc<str>> {
    match interest {
        Interest::Wildcard => None,
        Interest::Name(name) => Some(Arc::clone(name)),
    }
}

async fn until(start: Instant, at: Option<Time>) {
    match at {
        Some(Time(nanoseconds)) => sleep_until(start + Duration::from_nanos(nanoseconds)).await,
        None => std::future::pending().await,
    }
}
