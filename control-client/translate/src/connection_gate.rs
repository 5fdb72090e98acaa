//! Network filters in front of the terminal one: `local_ratelimit`, `connection_limit`, `set_filter_state` and
//! `sni_dynamic_forward_proxy`.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    ConnectionGate, ConnectionLimit, ConnectionRateLimit, ConnectionState, SniForwardProxy, TokenBucketConfig,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::RuntimeFeatureFlag;
use millrace_proto::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit as Limit;
use millrace_proto::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit;
use millrace_proto::pb::envoy::extensions::filters::network::set_filter_state::v3 as set_filter_state;
use millrace_proto::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::FilterConfig as SniConfig;
use millrace_proto::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::filter_config::PortSpecifier;
use millrace_proto::pb::google::protobuf::Any;

use crate::context::Context;
use crate::error::Rejection;
use crate::extension::{open, type_of};
use crate::{dns_cache, http, value};

const RATE_LIMIT: &str = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit";
const SET_FILTER_STATE: &str = "envoy.extensions.filters.network.set_filter_state.v3.Config";
const SNI: &str = "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig";
const LIMIT: &str = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit";

/// The filter, if it is one of these.
pub(crate) fn gate(any: &Any, path: &Path, cx: &mut Context) -> Result<Option<ConnectionGate>, Rejection> {
    Ok(Some(match type_of(any).as_str() {
        RATE_LIMIT => ConnectionGate::RateLimit(Arc::new(rate_limit(&open(any, path)?, path, cx)?)),
        LIMIT => {
            let limit: Limit = open(any, path)?;
            let scope = cx.scope(ScopeKind::ConnectionLimit, &limit.stat_prefix);
            let max = limit.max_connections.as_ref().map_or(0, |max| max.value);
            let enabled = enabled(limit.runtime_enabled.as_ref(), cx);
            let delay = limit.delay.as_ref().map_or(Duration::ZERO, value::duration);
            ConnectionGate::Limit(Arc::new(ConnectionLimit::new(scope, max, delay, enabled)))
        }
        SET_FILTER_STATE => {
            let config: set_filter_state::Config = open(any, path)?;
            ConnectionGate::SetFilterState(Arc::new(ConnectionState {
                on_new: http::state_values(&config.on_new_connection, &path.join("on_new_connection"))?,
                on_handshake: http::state_values(
                    &config.on_downstream_tls_handshake,
                    &path.join("on_downstream_tls_handshake"),
                )?,
            }))
        }
        SNI => {
            let config: SniConfig = open(any, path)?;
            let cache = dns_cache::cache(config.dns_cache_config.as_ref(), path, cx)?;
            let PortSpecifier::PortValue(port) = config.port_specifier.unwrap_or(PortSpecifier::PortValue(0));
            let port = u16::try_from(port).unwrap_or(0);
            ConnectionGate::SniForwardProxy(Arc::new(SniForwardProxy { cache, port }))
        }
        _ => return Ok(None),
    }))
}

fn rate_limit(
    limit: &LocalRateLimit,
    path: &Path,
    cx: &mut Context,
) -> Result<ConnectionRateLimit, Rejection> {
    let path = path.join("token_bucket");
    let Some(bucket) = &limit.token_bucket else { return Err(Rejection::new(&path, "value is required")) };
    let fill_interval = bucket.fill_interval.as_ref().map_or(Duration::ZERO, value::duration);
    if fill_interval < Duration::from_millis(50) {
        let why = "local rate limit token bucket fill timer must be >= 50ms";
        return Err(Rejection::new(&path.join("fill_interval"), why));
    }
    let bucket = TokenBucketConfig {
        max_tokens: bucket.max_tokens,
        tokens_per_fill: value::number(bucket.tokens_per_fill.as_ref(), 1),
        fill_interval,
    };
    Ok(ConnectionRateLimit {
        scope: cx.scope(ScopeKind::LocalRateLimit, &limit.stat_prefix),
        bucket: cx.shared_buckets.bucket(&limit.share_key, bucket),
        enabled: enabled(limit.runtime_enabled.as_ref(), cx),
    })
}

fn enabled(flag: Option<&RuntimeFeatureFlag>, cx: &Context) -> bool {
    let Some(flag) = flag else { return true };
    cx.runtime.boolean(&flag.runtime_key, value::flag(flag.default_value.as_ref(), true))
}
