//! The constraints that the xDS `.proto` files state about their own fields (`validate.rules`), checked on wire
//! bytes. Messages inside an `Any` are checked too.

mod rules;

use std::fmt;
use std::sync::{LazyLock, OnceLock};

use crate::path::Path;
use crate::pb_any;
use crate::schema::{Field, Kind, Label, Message};
use crate::wire::{DEPTH_MAX, Group, Raw, WireError};

/// A message that breaks its own rules. Whoever wrote it is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Field path.
    pub path: String,
    /// In Envoy's words, e.g. `value length must be at least 1 characters`.
    pub reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.reason),
            path => write!(f, "{path}: {}", self.reason),
        }
    }
}

impl std::error::Error for Violation {}

/// Checks a message and everything inside it; `path` is where it stands.
///
/// # Errors
/// The first broken rule, or bytes that are not a message of this type.
pub fn validate(message: Message, bytes: &[u8], path: &Path) -> Result<(), Violation> {
    let mut path = path.clone();
    check(message, bytes, &mut path, 0)
}

fn fail(path: &Path, reason: impl Into<String>) -> Violation {
    Violation { path: path.to_string(), reason: reason.into() }
}

fn check(message: Message, bytes: &[u8], path: &mut Path, depth: usize) -> Result<(), Violation> {
    if depth > DEPTH_MAX {
        return Err(fail(path, WireError::TooDeep.to_string()));
    }
    let group = Group::parse(message, bytes).map_err(|e| fail(path, e.to_string()))?;
    if message.is_any() {
        return check_any(message, &group, path, depth);
    }
    if !message.is_unchecked() {
        check_oneofs(message, &group, path)?;
    }
    if let Some(field) = missing(message).iter().find(|field| group.get(**field).is_empty()) {
        path.known(*field);
        return rules::check(*field, &[], path);
    }
    for (field, values) in &group.fields {
        path.known(*field);
        if !message.is_unchecked() {
            rules::check(*field, values, path)?;
        }
        descend(*field, values, path, depth)?;
        path.pop();
    }
    Ok(())
}

/// The fields whose absence breaks their rules. The same for every message of the type, so it is found out once.
fn missing(message: Message) -> &'static [Field] {
    static FIELDS: LazyLock<Vec<OnceLock<Box<[Field]>>>> =
        LazyLock::new(|| Message::all().map(|_| OnceLock::new()).collect());
    let may_not = |field: &Field| rules::check(*field, &[], &Path::default()).is_err();
    let find = || match message.is_unchecked() {
        true => Box::default(),
        false => message.fields().filter(|field| !field.rules().is_empty()).filter(may_not).collect(),
    };
    FIELDS.get(message.index()).map_or(&[], |fields| fields.get_or_init(find))
}

fn check_any(any: Message, group: &Group<'_>, path: &mut Path, depth: usize) -> Result<(), Violation> {
    let value = |number| any.field(number).and_then(|f| group.get(f).first()).map_or(&[][..], Raw::bytes);
    match pb_any::resolve(&String::from_utf8_lossy(value(1)), value(2)) {
        Ok(Some(inner)) => check(inner.message, &inner.bytes, path, depth + 1),
        // What nobody knows is refused where it is used.
        Ok(None) => Ok(()),
        Err(reason) => Err(fail(path, reason)),
    }
}

fn check_oneofs(message: Message, group: &Group<'_>, path: &Path) -> Result<(), Violation> {
    for (index, oneof) in (0..).zip(message.oneofs()) {
        if oneof.is_required() && !group.fields.iter().any(|(field, _)| field.oneof() == Some(index)) {
            return Err(fail(&path.join(oneof.name()), "is required"));
        }
    }
    Ok(())
}

fn descend(field: Field, values: &[Raw<'_>], path: &mut Path, depth: usize) -> Result<(), Violation> {
    let Kind::Message(inner) = field.kind() else {
        return Ok(());
    };
    if is_leaf(inner) {
        return Ok(());
    }
    for (i, raw) in values.iter().enumerate() {
        match field.label() {
            Label::Repeated => {
                path.index(i);
                check(inner, raw.bytes(), path, depth + 1)?;
                path.pop();
            }
            Label::Map | Label::Implicit | Label::Explicit => check(inner, raw.bytes(), path, depth + 1)?,
        }
    }
    Ok(())
}

/// Messages of `google.protobuf` state no rules about themselves.
fn is_leaf(message: Message) -> bool {
    message.is_well_known() && !message.is_any()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn verdict(value: &Value) -> Result<(), String> {
        let bootstrap = Message::by_name("envoy.config.bootstrap.v3.Bootstrap").unwrap();
        let bytes = crate::message_from_json(bootstrap, value).unwrap();
        validate(bootstrap, &bytes, &Path::default()).map_err(|v| v.to_string())
    }

    #[test]
    fn rules_of_the_proto_files_hold() {
        for (value, reason) in [
            (
                json!({"static_resources": {"clusters": [{}]}}),
                "static_resources.clusters[0].name: value length must be at least 1 characters",
            ),
            (
                json!({"static_resources": {"clusters": [{"name": "x", "connect_timeout": "0s"}]}}),
                "static_resources.clusters[0].connect_timeout: value must be greater than 0s",
            ),
            (
                json!({"static_resources": {"clusters": [{"name": "x", "lb_policy": 99}]}}),
                "static_resources.clusters[0].lb_policy: value must be one of the defined enum values",
            ),
            (
                json!({"admin": {"address": {"socket_address": {"address": "1.2.3.4", "port_value": 99999}}}}),
                "admin.address.socket_address.port_value: value must be less than or equal to 65535",
            ),
            (json!({"admin": {"address": {}}}), "admin.address.address: is required"),
            (
                json!({"layered_runtime": {"layers": [{"name": "foo"}]}}),
                "layered_runtime.layers[0].layer_specifier: is required",
            ),
            (
                json!({"static_resources": {"listeners": [{"filter_chains": [{"filters": [{"name": "x", "typed_config": {"@type": "t/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"}}]}]}]}}),
                "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.cluster_specifier: is required",
            ),
        ] {
            assert_eq!(verdict(&value), Err(reason.to_owned()));
        }
        assert_eq!(
            verdict(&json!({"static_resources": {"clusters": [{"name": "x", "connect_timeout": "1s"}]}})),
            Ok(())
        );
    }
}
