//! Listeners (`envoy.config.listener.v3.Listener`).

use std::sync::Arc;
use std::time::Duration;

use crate::{AccessLog, Address, FilterChain, FilterChainMatch, ListenerFilter, ScopeId};

/// `Listener.traffic_direction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficDirection {
    /// Not said.
    #[default]
    Unspecified,
    /// Towards the application.
    Inbound,
    /// From the application.
    Outbound,
}

/// `Listener.drain_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainType {
    /// Drains on `/healthcheck/fail`, listener changes and shutdown.
    #[default]
    Default,
    /// Drains on listener changes only.
    ModifyOnly,
}

/// One listener. Byte-identical listeners keep their sockets and connections across snapshots.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique name.
    pub name: Arc<str>,
    /// `address` first, then `additional_addresses`.
    pub addresses: Vec<Address>,
    /// Statistics scope `listener.<stat_prefix or address>.`.
    pub scope: ScopeId,
    /// False: reached only by hand-over from a `use_original_dst` listener.
    pub bind_to_port: bool,
    /// Hand the connection to the listener that owns the original destination.
    pub use_original_dst: bool,
    /// `transparent` (IP_TRANSPARENT).
    pub transparent: bool,
    /// `freebind` (IP_FREEBIND).
    pub freebind: bool,
    /// `enable_reuse_port`, default true: one listening socket per shard.
    pub reuse_port: bool,
    /// `tcp_backlog_size`; `None` for the system's limit.
    pub backlog: Option<u32>,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub buffer_limit_bytes: u32,
    /// Filters that run before a filter chain is chosen.
    pub listener_filters: Vec<ListenerFilter>,
    /// `listener_filters_timeout`, default 15 s; `None` for no limit.
    pub listener_filters_timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`.
    pub continue_on_listener_filters_timeout: bool,
    /// All filter chains, `default_filter_chain` excluded, in configuration order.
    pub filter_chains: Vec<Arc<FilterChain>>,
    /// Used when no chain matches.
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// `filter_chains` compiled in Envoy's order of precedence; yields indices into `filter_chains`.
    pub chain_match: FilterChainMatch,
    /// `traffic_direction`.
    pub traffic_direction: TrafficDirection,
    /// `drain_type`.
    pub drain_type: DrainType,
    /// `connection_limit` by runtime `envoy.resource_limits.listener.<name>.connection_limit`.
    pub connection_limit: Option<u64>,
    /// `ignore_global_conn_limit`.
    pub ignore_global_conn_limit: bool,
    /// `bypass_overload_manager`.
    pub bypass_overload_manager: bool,
    /// `Listener.access_log`: connections that no filter chain took.
    pub access_logs: Vec<Arc<AccessLog>>,
}
