//! `set_filter_state` of HTTP and network filters.

use millrace_base::StateForm;
use millrace_config::{SetFilterState, StateValue};
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::common::set_filter_state::v3 as common;
use millrace_proto::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{
    Key, Value,
};
use millrace_proto::pb::envoy::extensions::filters::http::set_filter_state::v3 as pb;

use crate::access_log;
use crate::error::Rejection;

pub(super) const TYPE: &str = "envoy.extensions.filters.http.set_filter_state.v3.Config";

/// The types of objects that mean something here.
const FORMS: [(&str, StateForm); 9] = [
    ("envoy.string", StateForm::Text),
    ("envoy.hashable_string", StateForm::HashableText),
    ("envoy.bool", StateForm::Bool),
    ("envoy.network.ip", StateForm::Ip),
    ("envoy.tcp_proxy.cluster", StateForm::Plain),
    ("envoy.tcp_proxy.per_connection_idle_timeout_ms", StateForm::LongNumber),
    ("envoy.network.transport_socket.original_dst_address", StateForm::Address),
    ("envoy.upstream.dynamic_host", StateForm::Text),
    ("envoy.upstream.dynamic_port", StateForm::Number),
];

const TLS: &str = "what TLS to endpoints asks for comes from their cluster alone";

/// Types of Envoy 1.40 whose objects nobody here would read.
const UNREAD: [(&str, &str); 8] = [
    ("envoy.network.upstream_server_name", TLS),
    ("envoy.network.upstream_subject_alt_names", TLS),
    ("envoy.network.application_protocols", TLS),
    ("envoy.ratelimit.hits_addend", "limits of a rate limit service are not served by this build"),
    ("envoy.filters.listener.original_dst.local_ip", "internal listeners are not served by this build"),
    ("envoy.filters.listener.original_dst.remote_ip", "internal listeners are not served by this build"),
    ("envoy.network.network_namespace", "network namespaces are not served by this build"),
    ("envoy.tcp_proxy.disable_tunneling", "TCP is not tunnelled by this build"),
];

pub(super) fn config(config: &pb::Config, path: &Path) -> Result<SetFilterState, Rejection> {
    Ok(SetFilterState {
        values: values(&config.on_request_headers, &path.join("on_request_headers"))?,
        clear_route_cache: config.clear_route_cache,
    })
}

/// `FilterStateValue`s, wherever they stand.
pub(crate) fn values(list: &[common::FilterStateValue], path: &Path) -> Result<Vec<StateValue>, Rejection> {
    list.iter().enumerate().map(|(i, one)| state_value(one, &path.at(i))).collect()
}

fn state_value(config: &common::FilterStateValue, path: &Path) -> Result<StateValue, Rejection> {
    let Some(Key::ObjectKey(key)) = &config.key else {
        return Err(Rejection::new(&path.join("key"), "is required"));
    };
    let factory = if config.factory_key.is_empty() { key } else { &config.factory_key };
    if let Some((_, why)) = UNREAD.iter().find(|(name, _)| name == factory) {
        return Err(Rejection::not_served(&path.join("object_key"), *why));
    }
    let Some((_, form)) = FORMS.iter().find(|(name, _)| name == factory) else {
        return Err(Rejection::new(path, format!("'{factory}' does not have an object factory")));
    };
    let Some(Value::FormatString(format)) = &config.value else {
        return Err(Rejection::new(&path.join("value"), "is required"));
    };
    Ok(StateValue {
        key: key.as_str().into(),
        form: *form,
        value: access_log::text_alone(format, &path.join("format_string"))?,
        read_only: config.read_only,
        skip_if_empty: config.skip_if_empty,
    })
}
