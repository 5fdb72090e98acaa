//! Visits every field that is set in a message, `Any`s included.

use crate::path::Path;
use crate::pb_any;
use crate::schema::{Field, Kind, Label, Message};
pub use crate::wire::Raw;
use crate::wire::{DEPTH_MAX, Group, WireError};

/// What a visitor wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descend {
    /// Visit the messages inside this field.
    Into,
    /// Leave them alone.
    Over,
}

/// Sees fields in the order of their numbers.
pub trait Visitor {
    /// Why a walk ends early.
    type Error: From<WireError>;

    /// `field` of a `message` at `path` (the path of the field) is set to `values`.
    ///
    /// # Errors
    /// Ends the walk.
    fn field(
        &mut self,
        path: &Path,
        message: Message,
        field: Field,
        values: &[Raw<'_>],
    ) -> Result<Descend, Self::Error>;

    /// The message at `path` has a field number that its type does not know.
    ///
    /// # Errors
    /// Ends the walk.
    fn unknown(&mut self, path: &Path, message: Message, number: u32) -> Result<(), Self::Error>;

    /// The `Any` at `path` holds a type that is unknown or, when `Some`, bytes that do not fit it.
    ///
    /// # Errors
    /// Ends the walk.
    fn opaque(&mut self, path: &Path, type_url: &str, why: Option<String>) -> Result<(), Self::Error>;

    /// A message begins, the root and what `Any`s hold included.
    ///
    /// # Errors
    /// Ends the walk.
    fn message(&mut self, path: &Path, message: Message) -> Result<Descend, Self::Error>;
}

/// Walks `bytes` as a message of type `message` that stands at `path`.
///
/// # Errors
/// The visitor's, or bytes that are not such a message.
pub fn walk<V: Visitor>(
    visitor: &mut V,
    message: Message,
    bytes: &[u8],
    path: &Path,
) -> Result<(), V::Error> {
    visit(visitor, message, bytes, &mut path.clone(), 0)
}

fn visit<V: Visitor>(
    v: &mut V,
    message: Message,
    bytes: &[u8],
    path: &mut Path,
    depth: usize,
) -> Result<(), V::Error> {
    if depth > DEPTH_MAX {
        return Err(WireError::TooDeep.into());
    }
    let group = Group::parse(message, bytes)?;
    if message.is_any() {
        let part = |n| message.field(n).and_then(|f| group.get(f).first()).map_or(&[][..], Raw::bytes);
        let url = String::from_utf8_lossy(part(1)).into_owned();
        return match pb_any::resolve(&url, part(2)) {
            Ok(Some(inner)) => visit(v, inner.message, &inner.bytes, path, depth + 1),
            Ok(None) => v.opaque(path, &url, None),
            Err(why) => v.opaque(path, &url, Some(why)),
        };
    }
    if v.message(path, message)? == Descend::Over {
        return Ok(());
    }
    for number in &group.unknown {
        v.unknown(path, message, *number)?;
    }
    for (field, values) in &group.fields {
        path.known(*field);
        if v.field(path, message, *field, values)? == Descend::Into {
            inner(v, *field, values, path, depth)?;
        }
        path.pop();
    }
    Ok(())
}

fn inner<V: Visitor>(
    v: &mut V,
    field: Field,
    values: &[Raw<'_>],
    path: &mut Path,
    depth: usize,
) -> Result<(), V::Error> {
    let Kind::Message(message) = field.kind() else {
        return Ok(());
    };
    for (i, raw) in values.iter().enumerate() {
        match field.label() {
            Label::Repeated => {
                path.index(i);
                visit(v, message, raw.bytes(), path, depth + 1)?;
                path.pop();
            }
            Label::Map => map_entry(v, message, raw, path, depth)?,
            Label::Implicit | Label::Explicit => visit(v, message, raw.bytes(), path, depth + 1)?,
        }
    }
    Ok(())
}

fn map_entry<V: Visitor>(
    v: &mut V,
    entry: Message,
    raw: &Raw<'_>,
    path: &mut Path,
    depth: usize,
) -> Result<(), V::Error> {
    let group = Group::parse(entry, raw.bytes())?;
    let (Some(key), Some(value)) = (entry.field(1), entry.field(2)) else {
        return Ok(());
    };
    let Kind::Message(message) = value.kind() else {
        return Ok(());
    };
    path.key(&group.get(key).first().map(|raw| String::from_utf8_lossy(raw.bytes())).unwrap_or_default());
    let bytes = group.get(value).first().map_or(&[][..], Raw::bytes);
    visit(v, message, bytes, path, depth + 1)?;
    path.pop();
    Ok(())
}
