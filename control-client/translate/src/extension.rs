//! Opening `Any`s: which extension it is, and its typed configuration.

use millrace_proto::pb::google::protobuf::Any;
use millrace_proto::{Message, Path, pb_any};

use crate::error::Rejection;

/// Full name of the type that an `Any` stands for, looking through `TypedStruct`.
pub(crate) fn type_of(any: &Any) -> String {
    pb_any::effective_type(&any.type_url, &any.value)
}

/// The typed configuration. The caller has checked the type.
pub(crate) fn open<T: Message + Default>(any: &Any, path: &Path) -> Result<T, Rejection> {
    let resolved = pb_any::resolve(&any.type_url, &any.value).map_err(|why| Rejection::new(path, why))?;
    let bytes = resolved.as_ref().map_or(&any.value[..], |resolved| &resolved.bytes);
    T::decode(bytes).map_err(|error| Rejection::new(path, format!("not a {}: {error}", type_of(any))))
}

/// An extension that Envoy may have and this build has not.
pub(crate) fn not_served(kind: &str, name: &str, any: Option<&Any>, path: &Path) -> Rejection {
    let Some(any) = any else {
        return Rejection::new(path, format!("{kind} '{name}' has no typed_config"));
    };
    let known = pb_any::resolve(&any.type_url, &any.value).is_ok_and(|found| found.is_some());
    if !known {
        return not_registered(name, any, path);
    }
    let why = format!("{kind} '{name}' of type {} is not served by this build", type_of(any));
    Rejection::not_served(path, why)
}

/// An extension that Envoy does not have.
pub(crate) fn not_registered(name: &str, any: &Any, path: &Path) -> Rejection {
    let kind = type_of(any);
    Rejection::new(
        path,
        format!("Didn't find a registered implementation for '{name}' with type URL: '{kind}'"),
    )
}
