//! Filter chains and the order in which Envoy chooses one of them.

use std::cmp::{Ordering, Reverse};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Cidr, ConnectionGate, DownstreamTls, HttpConnectionManager, TcpProxy};

/// The terminal network filter of a chain.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    /// `envoy.filters.network.tcp_proxy`.
    TcpProxy(Arc<TcpProxy>),
    /// `envoy.filters.network.http_connection_manager`.
    HttpConnectionManager(Arc<HttpConnectionManager>),
}

/// One filter chain.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// `name`, empty when not given.
    pub name: Arc<str>,
    /// The terminal network filter, if there is one.
    pub filters: Vec<NetworkFilter>,
    /// The network filters in front of it, in order.
    pub gates: Vec<ConnectionGate>,
    /// `transport_socket`: `None` for clear text.
    pub tls: Option<Arc<DownstreamTls>>,
    /// `transport_socket_connect_timeout`: the handshake's; `None` for the default of the data plane.
    pub transport_socket_connect_timeout: Option<Duration>,
    /// Hash of everything that the chain was made of; chains with equal ones are the same chain.
    pub fingerprint: u64,
}

/// `FilterChainMatch.source_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceType {
    /// Any source.
    #[default]
    Any,
    /// The peer has the same address as we, or a loopback one.
    SameIpOrLoopback,
    /// Everything else.
    External,
}

/// `FilterChainMatch.transport_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportProtocol {
    /// `raw_buffer`.
    RawBuffer,
    /// `tls`, as the TLS inspector found it.
    Tls,
}

/// What one chain asks for; an empty list or `None` asks for nothing (`FilterChainMatch`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterChainCriteria {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges` (destination).
    pub prefix_ranges: Vec<Cidr>,
    /// `server_names`; `*.example.com` is stored as `.example.com`.
    pub server_names: Vec<Arc<str>>,
    /// `transport_protocol`; an unknown name never matches and is dropped with its chain by the compiler.
    pub transport_protocol: Option<TransportProtocol>,
    /// `application_protocols`.
    pub application_protocols: Vec<Arc<str>>,
    /// `direct_source_prefix_ranges`.
    pub direct_source_prefix_ranges: Vec<Cidr>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges`.
    pub source_prefix_ranges: Vec<Cidr>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

/// What is known of a connection when its chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// Destination after original-destination restoring.
    pub destination: (IpAddr, u16),
    /// The peer as restored by PROXY protocol or the like.
    pub source: (IpAddr, u16),
    /// The peer of the TCP connection itself.
    pub direct_source: IpAddr,
    /// SNI, lower case, when an inspector found one.
    pub server_name: Option<&'a str>,
    /// What the inspectors detected.
    pub transport_protocol: TransportProtocol,
    /// ALPN offered or HTTP version sniffed.
    pub application_protocols: &'a [&'a str],
}

/// Two filter chains that would match the same connections; indices into the list that was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainConflict {
    /// The chain that came first.
    pub first: usize,
    /// The chain that was refused; equal to `first` when a chain repeats one of its own values.
    pub second: usize,
    /// True when all criteria are the same ("has the same matching rules defined as"), false when they
    /// only overlap ("multiple filter chains with overlapping matching rules are defined").
    pub identical: bool,
}

/// All criteria of a listener. Matching narrows the set of chains criterion by criterion, most specific
/// value first, exactly in the order that `FilterChainMatch` documents; it never back-tracks.
#[derive(Clone, Debug, Default)]
pub struct FilterChainMatch {
    root: Node,
}

/// The criteria in their order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    DestinationPort,
    DestinationPrefix,
    ServerName,
    Transport,
    Application,
    DirectSource,
    SourceType,
    SourcePrefix,
    SourcePort,
}

const LEVELS: [Level; 9] = [
    Level::DestinationPort,
    Level::DestinationPrefix,
    Level::ServerName,
    Level::Transport,
    Level::Application,
    Level::DirectSource,
    Level::SourceType,
    Level::SourcePrefix,
    Level::SourcePort,
];

/// What a chain asks for at one level. The order of variants and values is the order of [`Node::edges`]:
/// [`Value::Any`] last, prefixes longest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Port(u16),
    Prefix(Reverse<u8>, IpAddr),
    Text(Arc<str>),
    Transport(TransportProtocol),
    Source(SourceType),
    Any,
}

/// Either inner, with edges for the next level sorted by value, or a leaf that names a chain.
#[derive(Clone, Debug, Default)]
struct Node {
    edges: Vec<(Value, Node)>,
    chain: Option<usize>,
}

impl FilterChainMatch {
    /// Compiles the criteria of all chains of a listener, in configuration order.
    ///
    /// # Errors
    /// Two chains that Envoy refuses to have in one listener.
    pub fn compile(chains: Vec<FilterChainCriteria>) -> Result<Self, ChainConflict> {
        let mut root = Node::default();
        for (second, criteria) in chains.iter().enumerate() {
            if let Some(first) = chains[..second].iter().position(|earlier| earlier == criteria) {
                return Err(ChainConflict { first, second, identical: true });
            }
            root.insert(&LEVELS, criteria, second).map_err(|first| ChainConflict {
                first,
                second,
                identical: false,
            })?;
        }
        Ok(Self { root })
    }

    /// The index of the chain that takes the connection; `None` leaves it to `default_filter_chain`.
    pub fn find(&self, facts: &ConnectionFacts<'_>) -> Option<usize> {
        let mut node = &self.root;
        for level in LEVELS {
            node = node.step(level, facts)?;
        }
        node.chain
    }
}

impl Node {
    /// Adds every combination of the chain's values; fails with the chain that has a combination already.
    fn insert(
        &mut self,
        levels: &[Level],
        criteria: &FilterChainCriteria,
        chain: usize,
    ) -> Result<(), usize> {
        let Some((level, rest)) = levels.split_first() else {
            return match self.chain {
                Some(first) => Err(first),
                None => {
                    self.chain = Some(chain);
                    Ok(())
                }
            };
        };
        for value in criteria.values(*level) {
            self.child(value).insert(rest, criteria, chain)?;
        }
        Ok(())
    }

    fn child(&mut self, value: Value) -> &mut Self {
        let at = match self.edges.binary_search_by(|(v, _)| v.cmp(&value)) {
            Ok(at) => at,
            Err(at) => {
                self.edges.insert(at, (value, Self::default()));
                at
            }
        };
        &mut self.edges[at].1
    }

    /// The edge with the most specific value that fits; there is no second try.
    fn step(&self, level: Level, facts: &ConnectionFacts<'_>) -> Option<&Self> {
        let specific = match level {
            Level::DestinationPort => self.exact(&Value::Port(facts.destination.1)),
            Level::DestinationPrefix => self.prefix(facts.destination.0),
            Level::ServerName => self.server_name(facts.server_name.unwrap_or_default()),
            Level::Transport => self.exact(&Value::Transport(facts.transport_protocol)),
            Level::Application => facts.application_protocols.iter().find_map(|p| self.text(p)),
            Level::DirectSource => self.prefix(facts.direct_source),
            Level::SourceType => self.exact(&Value::Source(facts.source_type())),
            Level::SourcePrefix => self.prefix(facts.source.0),
            Level::SourcePort => self.exact(&Value::Port(facts.source.1)),
        };
        specific.or_else(|| self.edges.last().filter(|(v, _)| *v == Value::Any).map(|(_, node)| node))
    }

    fn exact(&self, value: &Value) -> Option<&Self> {
        let at = self.edges.binary_search_by(|(v, _)| v.cmp(value)).ok()?;
        Some(&self.edges[at].1)
    }

    fn text(&self, text: &str) -> Option<&Self> {
        let order = |value: &Value| match value {
            Value::Text(t) => (**t).cmp(text),
            _ => Ordering::Greater,
        };
        let at = self.edges.binary_search_by(|(value, _)| order(value)).ok()?;
        Some(&self.edges[at].1)
    }

    fn prefix(&self, ip: IpAddr) -> Option<&Self> {
        let fits = |value: &Value| match value {
            Value::Prefix(len, net) => Cidr::new(*net, len.0).is_some_and(|cidr| cidr.contains(ip)),
            _ => false,
        };
        self.edges.iter().find(|(value, _)| fits(value)).map(|(_, node)| node)
    }

    /// The name itself, then each parent domain as a wildcard; the part before a dot is never empty.
    fn server_name(&self, name: &str) -> Option<&Self> {
        if name.is_empty() {
            return None;
        }
        let wildcards = name.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0 && at + 1 < name.len());
        self.text(name).or_else(|| wildcards.filter_map(|at| name.get(at..)).find_map(|tail| self.text(tail)))
    }
}

impl FilterChainCriteria {
    fn values(&self, level: Level) -> Vec<Value> {
        let port = |p: &u16| Value::Port(*p);
        let prefix = |c: &Cidr| Value::Prefix(Reverse(c.prefix_len()), c.address());
        let text = |t: &Arc<str>| Value::Text(t.clone());
        let mut values: Vec<Value> = match level {
            Level::DestinationPort => self.destination_port.iter().map(port).collect(),
            Level::DestinationPrefix => self.prefix_ranges.iter().map(prefix).collect(),
            Level::ServerName => self.server_names.iter().map(text).collect(),
            Level::Transport => self.transport_protocol.iter().map(|t| Value::Transport(*t)).collect(),
            Level::Application => self.application_protocols.iter().map(text).collect(),
            Level::DirectSource => self.direct_source_prefix_ranges.iter().map(prefix).collect(),
            Level::SourceType if self.source_type == SourceType::Any => Vec::new(),
            Level::SourceType => vec![Value::Source(self.source_type)],
            Level::SourcePrefix => self.source_prefix_ranges.iter().map(prefix).collect(),
            Level::SourcePort => self.source_ports.iter().map(port).collect(),
        };
        if values.is_empty() {
            values.push(Value::Any);
        }
        values
    }
}

impl ConnectionFacts<'_> {
    fn source_type(&self) -> SourceType {
        if self.source.0.is_loopback() || self.source.0 == self.destination.0 {
            SourceType::SameIpOrLoopback
        } else {
            SourceType::External
        }
    }
}

#[cfg(test)]
mod tests;
