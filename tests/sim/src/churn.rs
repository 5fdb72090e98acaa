//! Configuration that changes under traffic, as a control plane would change it, and what clients may see of
//! it: every answer tells its filter chain (`server`) and its route table (`x-table`).

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_config::format::Template;
use millrace_config::{
    Address, AppendAction, Cluster, ClusterId, ClusterSpecifier, FilterChain, FilterChainCriteria,
    FilterChainMatch, HeaderOption, Listener, ListenerChange, NetworkFilter, RouteAction, RouteConfiguration,
    RouteSource, RouteTableId, Snapshot, TcpClusterSpecifier, Update,
};
use millrace_ring::SocketAddress;
use millrace_shard::shared::{ListenerHandle, Message};

use crate::ledger::Request;
use crate::setup::Setup;
use crate::tls::identity;
use crate::wire::Head;
use crate::world::World;

/// Drain time of runs in which nothing may get lost: longer than any request.
pub const LONG_DRAIN: Duration = Duration::from_secs(60);
/// Client ports that chains ask for start here; the first few hundred belong to chains of their own.
const FIRST_PORT: u16 = 1024;
const PORTS: u16 = 256;
const TABLE: RouteTableId = RouteTableId(0);

/// What is in force, as far as clients can tell.
#[derive(Debug, Default)]
pub struct InForce {
    /// The route table that every shard has at least; 0 without churn.
    pub table: u64,
    /// The one that was published last.
    pub published: u64,
    /// The filter chains that were published last.
    pub chains: BTreeSet<String>,
}

/// What a client knows of one connection.
#[derive(Debug, Default)]
pub struct Provenance {
    chain: Option<String>,
    closes: bool,
}

impl Provenance {
    /// Judges the head of a final answer.
    ///
    /// # Errors
    /// What it says cannot be.
    pub fn check(
        &mut self,
        head: &Head,
        request: &Request,
        setup: &Setup,
        now: &InForce,
    ) -> Result<(), String> {
        if now.published == 0 {
            return Ok(());
        }
        let chain = head.get("server").ok_or("an answer without `server`")?;
        if self.chain.as_deref().is_some_and(|before| before != chain) {
            return Err(format!("a connection moved from {:?} to {chain}", self.chain));
        }
        let closes = head.get("connection") == Some("close");
        let own = head.get("x-id").is_none();
        let may_close = own || request.close || request.reply.early || setup.knobs.max_requests.is_some();
        if closes && !may_close && now.chains.contains(chain) {
            return Err(format!("{chain} is in force, but its connection closes"));
        }
        let table = head.number("x-table");
        if table.is_none() && !own {
            return Err("an answer without a route table".into());
        }
        if table.is_some_and(|table| !(request.table..=now.published).contains(&table)) {
            return Err(format!("table {table:?}, but {} was in force", request.table));
        }
        self.chain = Some(chain.to_owned());
        self.closes |= closes;
        Ok(())
    }

    /// GOAWAY came.
    pub fn goes_away(&mut self) {
        self.closes = true;
    }

    /// Judges the clean end of a connection in a run without faults.
    ///
    /// # Errors
    /// Nobody had a reason to close it.
    pub fn ended(&self, now: &InForce) -> Result<(), String> {
        match &self.chain {
            Some(chain) if !self.closes && now.chains.contains(chain) => {
                Err(format!("{chain} is in force, but its connection was closed"))
            }
            None if now.published > 0 => Err("a connection was closed before its first answer".into()),
            Some(_) | None => Ok(()),
        }
    }
}

/// The control plane's state.
#[derive(Debug)]
pub(crate) struct Churn {
    numbers: u64,
    /// The number of the last table.
    table: u64,
    version: u64,
    /// The number of the certificate that was published last; whether it is gone meanwhile.
    certificate: (u64, bool),
    cluster: ClusterId,
    listener: Arc<Listener>,
    /// Handles of removed listeners.
    pub(crate) removed: Vec<Arc<ListenerHandle>>,
    /// Messages on their way, in order for each shard.
    queue: VecDeque<(Time, usize, Message)>,
    /// When each shard will have everything that was sent to it.
    told: Vec<Time>,
    /// Tables, and when every shard will have them.
    tables: VecDeque<(Time, u64)>,
}

/// Turns a fixture into one that can be changed: three filter chains chosen by the client's port, and a route
/// table that comes over RDS.
pub(crate) fn prepare(snapshot: &mut Snapshot) {
    let base = snapshot.listeners[0].clone();
    let even = |rest: u16| FilterChainCriteria {
        source_ports: (FIRST_PORT..FIRST_PORT + PORTS).filter(|port| port % 2 == rest).collect(),
        ..FilterChainCriteria::default()
    };
    let chains: Vec<_> = (0..3).map(|at| chain(&base.filter_chains[0], &tag(at, 0), ClusterId(0))).collect();
    let mut listener = Listener::clone(&base);
    listener.chain_match = FilterChainMatch::compile(vec![even(0), even(1)]).unwrap_or_default();
    listener.default_filter_chain = Some(chains[2].clone());
    listener.filter_chains = chains[..2].to_vec();
    if let NetworkFilter::HttpConnectionManager(manager) = &base.filter_chains[0].filters[0]
        && let RouteSource::Inline(routes) = &manager.routes
    {
        snapshot.route_tables = vec![Some(Arc::new(table(routes, 1, ClusterId(0))))];
    }
    snapshot.listeners = vec![Arc::new(listener)];
}

fn tag(at: usize, number: u64) -> String {
    format!("chain-{at}-{number}")
}

fn tag_of(chain: &FilterChain) -> String {
    chain.name.to_string()
}

fn chain(base: &FilterChain, tag: &str, cluster: ClusterId) -> Arc<FilterChain> {
    let filter = match &base.filters[0] {
        NetworkFilter::HttpConnectionManager(manager) => {
            let mut manager = (**manager).clone();
            (manager.server_name, manager.routes) = (tag.into(), RouteSource::Rds(TABLE));
            NetworkFilter::HttpConnectionManager(Arc::new(manager))
        }
        NetworkFilter::TcpProxy(proxy) => {
            let mut proxy = (**proxy).clone();
            proxy.cluster = TcpClusterSpecifier::Cluster(cluster);
            NetworkFilter::TcpProxy(Arc::new(proxy))
        }
    };
    Arc::new(FilterChain { name: tag.into(), filters: vec![filter], ..base.clone() })
}

/// The same routes to this cluster; answers tell the number.
fn table(base: &RouteConfiguration, number: u64, cluster: ClusterId) -> RouteConfiguration {
    let mut table = base.clone();
    table.response_headers.add = vec![HeaderOption {
        name: Arc::from(&b"x-table"[..]),
        value: Template::parse(&number.to_string()).unwrap_or_default(),
        action: AppendAction::OverwriteIfExistsOrAdd,
        keep_empty_value: false,
    }];
    for host in &mut table.virtual_hosts {
        for route in &mut Arc::make_mut(host).routes {
            if let RouteAction::Forward(forward) = &mut Arc::make_mut(route).action {
                forward.cluster = ClusterSpecifier::Cluster(cluster);
            }
        }
    }
    table
}

impl Churn {
    pub(crate) fn new(snapshot: &Snapshot, shards: usize) -> Self {
        Self {
            numbers: 1,
            table: 1,
            version: 1,
            certificate: (0, false),
            cluster: ClusterId(0),
            listener: snapshot.listeners[0].clone(),
            removed: Vec::new(),
            queue: VecDeque::new(),
            told: vec![Time::ZERO; shards],
            tables: VecDeque::new(),
        }
    }

    /// What clients may expect from the start on.
    pub(crate) fn in_force(&self) -> InForce {
        InForce { table: 1, published: 1, chains: self.tags() }
    }

    fn tags(&self) -> BTreeSet<String> {
        let chains = self.listener.filter_chains.iter().chain(&self.listener.default_filter_chain);
        chains.map(|chain| tag_of(chain)).collect()
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Puts a message on its way to one shard; mailboxes keep the order.
    fn send(&mut self, shard: usize, at: Time, message: Message) {
        self.told[shard] = self.told[shard].max(at);
        self.queue.push_back((self.told[shard], shard, message));
    }

    /// Clusters that nobody may know any more.
    pub(crate) fn gone_clusters(&self) -> Vec<ClusterId> {
        [ClusterId(0), ClusterId(1)].into_iter().filter(|id| *id != self.cluster).collect()
    }

    /// When the next message arrives.
    pub(crate) fn next(&self) -> Time {
        self.queue.iter().map(|(at, ..)| *at).min().unwrap_or(Time::MAX)
    }
}

impl World {
    /// Delivers what has arrived.
    pub(crate) fn deliver(&mut self) {
        let now = self.net.now();
        let Some(churn) = &mut self.churn else { return };
        for (at, shard, message) in std::mem::take(&mut churn.queue) {
            match at <= now {
                true => assert!(self.shared.doors()[shard].send(message).is_ok(), "a mailbox is full"),
                false => churn.queue.push_back((at, shard, message)),
            }
        }
        while let Some((_, table)) = churn.tables.pop_front_if(|(at, _)| *at <= now) {
            self.ledger.in_force.table = table;
        }
    }

    /// One change of configuration, or a few at once. `hard`: short drains, tables and clusters that vanish.
    pub(crate) fn change(&mut self, hard: bool) {
        let Some(mut churn) = self.churn.take() else { return };
        churn.version += 1;
        let mut update = Update { version: churn.version, ..Update::default() };
        let mut moved = None;
        for _ in 0..1 + self.rng.below(2) {
            match self.rng.below(6) {
                0 => self.change_endpoints(&mut churn, &mut update, hard),
                1 | 2 => self.change_routes(&mut churn, &mut update, hard),
                3 | 4 => self.change_chains(&mut churn, &mut update, hard),
                _ if moved.is_none() => moved = self.move_listener(&mut churn, &mut update, hard),
                _ => {}
            }
        }
        if self.setup.tls.secrets && (churn.certificate.1 || self.rng.chance(1, 2)) {
            self.rotate(&mut churn, &mut update, hard);
        }
        self.publish(&mut churn, Arc::new(update));
        if let Some((socket, listener)) = moved {
            self.open_listener(&mut churn, socket, &listener);
        }
        self.ledger.in_force.chains = churn.tags();
        self.churn = Some(churn);
    }

    fn publish(&mut self, churn: &mut Churn, update: Arc<Update>) {
        let now = self.net.now();
        for shard in 0..self.setup.shards {
            let at = now + Duration::from_micros(self.rng.below(20_000));
            churn.send(shard, at, Message::Update(update.clone()));
        }
        let everywhere = churn.told.iter().copied().max().unwrap_or(now);
        if !update.route_tables.is_empty() {
            self.ledger.in_force.published = churn.table;
            churn.tables.push_back((everywhere, churn.table));
        }
        if let Some(mut wire) = self.net.wire().filter(|_| !update.secrets.is_empty()) {
            wire.rotated(churn.certificate.0, everywhere);
        }
    }

    /// Every shard knows the listener before one of them gets its socket.
    fn open_listener(&mut self, churn: &mut Churn, socket: millrace_ring::Socket, listener: &Arc<Listener>) {
        let now = self.net.now();
        for shard in 0..self.setup.shards {
            churn.send(shard, now, Message::Know(self.handle.clone(), listener.clone()));
        }
        let everywhere = churn.told.iter().copied().max().unwrap_or(now);
        let accepts = self.rng.below(self.setup.shards as u64) as usize;
        churn.send(accepts, everywhere, Message::Listen(self.handle.clone(), socket));
    }

    fn drain_time(&mut self, hard: bool) -> Duration {
        let short = [0, 5, 100, 2000][self.rng.below(4) as usize];
        if hard && self.rng.chance(1, 3) { Duration::from_millis(short) } else { LONG_DRAIN }
    }

    /// Another certificate for the proxy, or the same once more. `hard`: there is none for a while.
    fn rotate(&mut self, churn: &mut Churn, update: &mut Update, hard: bool) {
        let (before, missing) = churn.certificate;
        let gone = hard && !missing && self.rng.chance(1, 6);
        let number = if gone { before } else { (before + 1).min(identity::NUMBERS - 1) };
        churn.certificate = (number, gone);
        update.secrets.push((identity::OURS, (!gone).then(|| identity::certificate(number))));
        if self.rng.chance(1, 4) {
            update.secrets.push((identity::TRUST, Some(identity::trust())));
        }
    }

    /// Some of the endpoints, at least one.
    fn change_endpoints(&mut self, churn: &mut Churn, update: &mut Update, hard: bool) {
        let Some(base) = self.snapshot.clusters.first().cloned().flatten() else { return };
        let mut cluster = Cluster::clone(&base);
        (cluster.id, cluster.endpoints_version) = (churn.cluster, churn.version);
        thin_out(&mut cluster, &mut self.rng);
        let gone = hard && self.rng.chance(1, 12);
        update.clusters.push((cluster.id, (!gone).then(|| Arc::new(cluster))));
    }

    /// Another table; sometimes the requests go to another cluster from now on, and the old one is removed.
    fn change_routes(&mut self, churn: &mut Churn, update: &mut Update, hard: bool) {
        let chain = &self.snapshot.listeners[0].filter_chains[0];
        if let NetworkFilter::TcpProxy(_) = &chain.filters[0] {
            return self.change_endpoints(churn, update, hard);
        }
        let Some(base) = self.snapshot.route_table(TABLE).cloned() else { return };
        let before = churn.cluster;
        if self.rng.chance(1, 2)
            && let Some(base) = self.snapshot.clusters.first().cloned().flatten()
        {
            churn.cluster = ClusterId(1 - before.0);
            let mut cluster = Cluster::clone(&base);
            (cluster.id, cluster.endpoints_version) = (churn.cluster, churn.version);
            thin_out(&mut cluster, &mut self.rng);
            update.clusters.retain(|(id, _)| *id != before && *id != churn.cluster);
            update.clusters.push((churn.cluster, Some(Arc::new(cluster))));
            update.clusters.push((before, None));
        }
        let gone = hard && self.rng.chance(1, 12);
        churn.table = churn.next_number();
        let table = (!gone).then(|| Arc::new(table(&base, churn.table, churn.cluster)));
        update.route_tables = vec![(TABLE, table)];
    }

    /// The listener with some filter chains changed and others kept.
    fn change_chains(&mut self, churn: &mut Churn, update: &mut Update, hard: bool) {
        let mut listener = Listener::clone(&churn.listener);
        let number = churn.next_number();
        let rng = &mut self.rng;
        let slots = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
        for (at, slot) in slots.enumerate().filter(|_| rng.chance(1, 2)) {
            *slot = chain(slot, &tag(at, number), churn.cluster);
        }
        if self.rng.chance(1, 3) {
            listener.buffer_limit_bytes += 1;
        }
        churn.listener = Arc::new(listener);
        let drain = self.drain_time(hard);
        update.listeners.push(ListenerChange::Replace(churn.listener.clone(), drain));
    }

    /// The listener at another address, which makes it another listener of the same name.
    fn move_listener(
        &mut self,
        churn: &mut Churn,
        update: &mut Update,
        hard: bool,
    ) -> Option<(millrace_ring::Socket, Arc<Listener>)> {
        let number = churn.next_number();
        let address = SocketAddr::from(([10, 0, 0, 1], 10_000 + number as u16));
        let socket = self.net.listen(SocketAddress::Inet(address)).ok()?;
        self.listen = SocketAddress::Inet(address);
        update.listeners.push(ListenerChange::Remove(churn.listener.name.clone(), self.drain_time(hard)));
        let mut listener = Listener::clone(&churn.listener);
        listener.addresses = vec![Address::Inet(address)];
        let slots = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
        for (at, slot) in slots.enumerate() {
            *slot = chain(slot, &tag(at, number), churn.cluster);
        }
        churn.listener = Arc::new(listener);
        let handle = ListenerHandle::new(&churn.listener.name);
        churn.removed.push(std::mem::replace(&mut self.handle, handle));
        Some((socket, churn.listener.clone()))
    }
}

/// Leaves some endpoints of each locality, at least one.
pub(crate) fn thin_out(cluster: &mut Cluster, rng: &mut Rng) {
    for locality in &mut cluster.localities {
        let first = rng.below(locality.endpoints.len() as u64) as usize;
        let mut at = 0;
        locality.endpoints.retain(|_| {
            at += 1;
            at == first + 1 || rng.chance(1, 2)
        });
    }
}
