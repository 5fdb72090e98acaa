//! `core.v3.BindConfig`: where connections to endpoints come from.

use std::sync::Arc;

use millrace_config::{BindConfig, BindSource, SocketOption};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as clusters;
use millrace_proto::pb::envoy::config::core::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3::socket_option::{SocketIpVersion, SocketState, Value};

use crate::context::Context;
use crate::error::Rejection;
use crate::{address, extension, value};

const SELECTOR: &str = "envoy.config.upstream.local_address_selector.v3.DefaultLocalAddressSelector";

/// That of the cluster, else that of the cluster manager.
pub(super) fn bind_config(
    cluster: &clusters::Cluster,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<Box<BindConfig>>, Rejection> {
    let owner = format!("Cluster {}", cluster.name);
    match &cluster.upstream_bind_config {
        Some(own) => translate(own, &owner, &path.join("upstream_bind_config"), cx).map(Some),
        None => Ok(cx.bind.clone()),
    }
}

/// `cluster_manager.upstream_bind_config`.
pub(crate) fn manager(
    config: Option<&pb::BindConfig>,
    cx: &mut Context,
) -> Result<Option<Box<BindConfig>>, Rejection> {
    let path = Path::from("cluster_manager").join("upstream_bind_config");
    config.map(|config| translate(config, "Bootstrap", &path, cx)).transpose()
}

fn translate(
    config: &pb::BindConfig,
    owner: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<Box<BindConfig>, Rejection> {
    let (extra, additional) = (&config.extra_source_addresses, &config.additional_source_addresses);
    let invalid = |why: String| Err(Rejection::new(path, why));
    if !extra.is_empty() && !additional.is_empty() {
        return invalid(format!(
            "Can't specify both `extra_source_addresses` and `additional_source_addresses` in the {owner}'s upstream \
             binding config"
        ));
    }
    let more = extra.len() + additional.len();
    if more > 0 && config.source_address.is_none() {
        return invalid(format!(
            "{owner}'s upstream binding config has extra/additional source addresses but no source_address. \
             Extra/additional addresses cannot be specified if source_address is not set."
        ));
    }
    if more > 1 {
        return invalid(format!(
            "{owner}'s upstream binding config has more than one extra/additional source addresses. Only one \
             extra/additional source can be supported in BindConfig's \
             extra_source_addresses/additional_source_addresses field"
        ));
    }
    if let Some(any) = config.local_address_selector.as_ref().and_then(|own| own.typed_config.as_ref())
        && extension::type_of(any) != SELECTOR
    {
        let path = path.join("local_address_selector");
        return Err(extension::not_served("local address selector", "", Some(any), &path));
    }
    let socket_options = socket_options(&config.socket_options, &path.join("socket_options"), cx)?;
    let sources = sources(config, &socket_options, path, cx)?;
    if let [one, other] = &sources[..]
        && one.address.is_ipv6() == other.address.is_ipv6()
    {
        return invalid(format!(
            "{owner}'s upstream binding config has two same IP version source addresses. Only two different IP version \
             source addresses can be supported in BindConfig's source_address and \
             extra_source_addresses/additional_source_addresses fields"
        ));
    }
    let freebind = value::flag(config.freebind.as_ref(), false);
    Ok(Box::new(BindConfig { sources, freebind, socket_options }))
}

fn sources(
    config: &pb::BindConfig,
    shared: &[SocketOption],
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<BindSource>, Rejection> {
    let mut out = Vec::new();
    if let Some(source) = &config.source_address {
        let address = address::socket_address(source, &path.join("source_address"))?;
        out.push(BindSource { address, socket_options: shared.to_vec() });
    }
    for (i, extra) in config.extra_source_addresses.iter().enumerate() {
        let path = path.join("extra_source_addresses").at(i);
        let Some(source) = &extra.address else {
            return Err(Rejection::new(&path.join("address"), "value is required"));
        };
        let address = address::socket_address(source, &path.join("address"))?;
        let socket_options = match &extra.socket_options {
            Some(own) => socket_options(&own.socket_options, &path.join("socket_options"), cx)?,
            None => shared.to_vec(),
        };
        out.push(BindSource { address, socket_options });
    }
    for (i, source) in config.additional_source_addresses.iter().enumerate() {
        let address = address::socket_address(source, &path.join("additional_source_addresses").at(i))?;
        out.push(BindSource { address, socket_options: shared.to_vec() });
    }
    Ok(out)
}

/// Those that are set before the bind of a stream socket.
fn socket_options(
    options: &[pb::SocketOption],
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<SocketOption>, Rejection> {
    let mut out = Vec::with_capacity(options.len());
    for (i, option) in options.iter().enumerate() {
        let path = path.at(i);
        if option.state() != SocketState::StatePrebind {
            cx.report(
                &path.join("state"),
                "a connection to an endpoint is neither bound for itself nor listens",
            );
            continue;
        }
        // `stream` wins where both are set.
        if option.r#type.as_ref().is_some_and(|kind| kind.stream.is_none() && kind.datagram.is_some()) {
            continue;
        }
        let number = |value: i64, field: &'static str| {
            i32::try_from(value)
                .map_err(|_| Rejection::new(&path.join(field), "no number of a socket option is that large"))
        };
        let value: Arc<[u8]> = match &option.value {
            Some(Value::IntValue(value)) => number(*value, "int_value")?.to_ne_bytes()[..].into(),
            Some(Value::BufValue(bytes)) => bytes[..].into(),
            None => return Err(Rejection::new(&path.join("value"), "value is required")),
        };
        out.push(SocketOption {
            level: number(option.level, "level")?,
            name: number(option.name, "name")?,
            value,
            ipv6: match option.ip_version() {
                SocketIpVersion::Unspecified => None,
                SocketIpVersion::Ipv4 => Some(false),
                SocketIpVersion::Ipv6 => Some(true),
            },
        });
    }
    Ok(out)
}
