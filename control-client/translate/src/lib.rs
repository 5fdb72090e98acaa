//! Protobuf to the data plane's model.
//!
//! A message passes three gates before a shard sees anything of it: the constraints that its `.proto` file
//! states ([`millrace_proto::validate`]), the table of [`fields`] that says for every field whether it is served,
//! refused or reported, and the typed translation, one module per resource and filter. Every rejection carries a
//! field path. Nothing here opens a socket; files are read only where a data source names one.

#![expect(deprecated, reason = "fields that the xDS files call deprecated are still sent and served")]

mod access_log;
mod address;
mod admin;
mod bootstrap;
mod cluster;
mod connection_gate;
mod context;
mod dns_cache;
mod dynamic;
mod error;
mod extension;
pub mod fields;
mod filter_chain;
mod fuzz;
mod hash_policy;
mod headers;
mod health_discovery;
mod http;
mod interned;
mod listener;
mod listener_filter;
mod match_tree;
mod matcher;
mod metadata;
mod overload;
mod per_filter;
mod regex_util;
pub mod resource;
mod route;
mod runtime;
mod secrets;
mod shared_buckets;
mod source;
mod stats_config;
mod tcp_proxy;
mod transport_socket;
mod value;
mod written_matcher;

pub use admin::AdminConfig;
pub use bootstrap::{Compiled, LogFormat, RawResource, bootstrap};
pub use context::{Context, Overrides, Source};
pub use dns_cache::DnsCaches;
pub use dynamic::Dynamic;
pub use error::{Rejection, RejectionKind, Unsupported};
pub use fuzz::{fuzz_bootstrap, fuzz_resource};
pub use interned::{ClusterIds, RouteTableInfo, RouteTables, ScopeTableInfo, ScopeTables, Sources};
pub use runtime::{RtdsLayer, Runtime, RuntimeLayer, RuntimeValue};
pub use secrets::{LoadedSecret, SecretInfo, SecretKind, Secrets};
pub use source::Subscription;
pub use stats_config::{StatsConfig, StatsMatcher, StatsTag, TagValue};
pub use transport_socket::check_validation;
