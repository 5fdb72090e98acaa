//! Messages, fields and enums by name: cheap handles into the blob that `build/` wrote.

mod blob;

use std::ops::Range;
use std::sync::LazyLock;

use blob::Section;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Message(Message),
    Bytes,
    Uint32,
    Enum(Enum),
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
}

/// How often a field may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// Singular; its default value is not sent.
    Implicit,
    /// Singular with presence: messages, `optional`, members of a oneof.
    Explicit,
    /// `repeated`.
    Repeated,
    /// `map<,>`: repeated entries of a generated message with `key` = 1 and `value` = 2.
    Map,
}

/// A message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message(u32);

/// A field of a message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field(u32);

/// A oneof of a message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Oneof(u32);

/// An enum type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Enum(u32);

impl Message {
    /// The type with this full name (`envoy.config.cluster.v3.Cluster`).
    pub fn by_name(full_name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, blob::count(Section::Messages));
        while low < high {
            let middle = low + (high - low) / 2;
            match Self(middle).name().cmp(full_name) {
                std::cmp::Ordering::Equal => return Some(Self(middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The type that an `Any` with this URL holds: whatever follows the last slash.
    pub fn by_type_url(url: &str) -> Option<Self> {
        Self::by_name(url.rsplit('/').next().unwrap_or(url))
    }

    /// Every message type, sorted by name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..blob::count(Section::Messages)).map(Self)
    }

    /// Its position among [`Self::all`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// Full name without a leading dot.
    pub fn name(self) -> &'static str {
        blob::text(Section::Messages, self.0, 0)
    }

    /// Fields in the order of the `.proto` file.
    pub fn fields(self) -> impl Iterator<Item = Field> {
        let first = self.word(2);
        (first..first + self.word(3)).map(Field)
    }

    /// The field with this number.
    pub fn field(self, number: u32) -> Option<Field> {
        // Most files number their fields in order with few gaps: the field stands at its number or a little before.
        let (first, count) = (self.word(2), self.word(3));
        let guess = first + number.min(count);
        let mut likely_first = (first..guess).rev().chain(guess..first + count).map(Field);
        likely_first.find(|field| field.number() == number)
    }

    /// The field with this name, as written in the `.proto` file or in camel case.
    pub fn field_by_name(self, name: &str) -> Option<Field> {
        self.fields().find(|field| field.name() == name || field.json_name() == name)
    }

    /// Oneofs, proto3 `optional` excluded.
    pub fn oneofs(self) -> impl Iterator<Item = Oneof> {
        let first = self.word(4);
        (first..first + self.word(5)).map(Oneof)
    }

    /// True for the entry type of a map field.
    pub fn is_map_entry(self) -> bool {
        self.word(6) & 1 != 0
    }

    /// True when the message opts out of validation.
    pub fn is_unchecked(self) -> bool {
        self.word(6) & 2 != 0
    }

    /// True for `google.protobuf.Any`.
    pub fn is_any(self) -> bool {
        static ANY: LazyLock<Option<Message>> = LazyLock::new(|| Message::by_name("google.protobuf.Any"));
        *ANY == Some(self)
    }

    /// True for the messages of `google.protobuf`.
    pub fn is_well_known(self) -> bool {
        // Sorted by name, they stand together.
        static RANGE: LazyLock<Range<u32>> = LazyLock::new(|| {
            let mut all = Message::all().filter(|m| m.name().starts_with("google.protobuf.")).map(|m| m.0);
            let first = all.next().unwrap_or(0);
            first..all.last().unwrap_or(first) + 1
        });
        RANGE.contains(&self.0)
    }

    /// True for `google.protobuf.BoolValue` and its kin.
    pub fn is_wrapper(self) -> bool {
        if !self.is_well_known() {
            return false;
        }
        let short = self.name().strip_prefix("google.protobuf.").and_then(|name| name.strip_suffix("Value"));
        short.is_some_and(|s| !s.is_empty() && s != "List" && self.name() != "google.protobuf.EnumValue")
    }

    fn word(self, at: u32) -> u32 {
        blob::word(Section::Messages, self.0, at)
    }
}

impl Field {
    /// Name in the `.proto` file.
    pub fn name(self) -> &'static str {
        blob::text(Section::Fields, self.0, 0)
    }

    /// Name in camel case.
    pub fn json_name(self) -> &'static str {
        blob::text(Section::Fields, self.0, 2)
    }

    /// Number on the wire.
    pub fn number(self) -> u32 {
        self.word(4)
    }

    /// What it holds.
    pub fn kind(self) -> Kind {
        match self.word(5) & 0xff {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            11 => Kind::Message(Message(self.word(6))),
            12 => Kind::Bytes,
            13 => Kind::Uint32,
            14 => Kind::Enum(Enum(self.word(6))),
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            18 => Kind::Sint64,
            _ => Kind::String,
        }
    }

    /// The message type, if it holds messages.
    pub fn message(self) -> Option<Message> {
        match self.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        }
    }

    /// How often it may stand.
    pub fn label(self) -> Label {
        match self.word(5) >> 8 & 0xff {
            1 => Label::Explicit,
            2 => Label::Repeated,
            3 => Label::Map,
            _ => Label::Implicit,
        }
    }

    /// True for repeated numbers that are written as one block.
    pub fn is_packed(self) -> bool {
        self.word(5) & 1 << 16 != 0
    }

    /// True when marked deprecated.
    pub fn is_deprecated(self) -> bool {
        self.word(5) & 1 << 17 != 0
    }

    /// Index of its oneof within the message.
    pub fn oneof(self) -> Option<u32> {
        Some(self.word(7)).filter(|index| *index != u32::MAX)
    }

    /// The encoded `validate.FieldRules`, empty for none.
    pub fn rules(self) -> &'static [u8] {
        blob::bytes(Section::Fields, self.0, 8)
    }

    fn word(self, at: u32) -> u32 {
        blob::word(Section::Fields, self.0, at)
    }
}

impl Oneof {
    /// Its name.
    pub fn name(self) -> &'static str {
        blob::text(Section::Oneofs, self.0, 0)
    }

    /// True when one member must be set.
    pub fn is_required(self) -> bool {
        blob::word(Section::Oneofs, self.0, 2) != 0
    }
}

impl Enum {
    /// Full name.
    pub fn name(self) -> &'static str {
        blob::text(Section::Enums, self.0, 0)
    }

    /// Names and numbers in the order of the `.proto` file.
    pub fn values(self) -> impl Iterator<Item = (&'static str, i32)> {
        let (first, count) = (blob::word(Section::Enums, self.0, 2), blob::word(Section::Enums, self.0, 3));
        (first..first + count).map(|value| {
            (blob::text(Section::Values, value, 0), blob::word(Section::Values, value, 2).cast_signed())
        })
    }

    /// The number of a name, as written or in any case (Envoy's parser is lenient here).
    pub fn number(self, name: &str) -> Option<i32> {
        let exact = self.values().find(|(known, _)| *known == name);
        exact
            .or_else(|| self.values().find(|(known, _)| known.eq_ignore_ascii_case(name)))
            .map(|(_, number)| number)
    }

    /// The first name of a number.
    pub fn value_name(self, number: i32) -> Option<&'static str> {
        self.values().find(|(_, known)| *known == number).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_the_types_that_a_bootstrap_is_made_of() {
        let bootstrap = Message::by_name("envoy.config.bootstrap.v3.Bootstrap").unwrap();
        let node = bootstrap.field_by_name("node").unwrap();
        assert_eq!((node.number(), node.label()), (1, Label::Explicit));
        assert_eq!(node.message().unwrap().name(), "envoy.config.core.v3.Node");
        let layered = bootstrap.field_by_name("layeredRuntime").unwrap();
        assert_eq!((layered.name(), layered.number()), ("layered_runtime", 17));
        assert!(Message::by_type_url("type.googleapis.com/xds.type.v3.TypedStruct").is_some());
        assert!(Message::by_type_url("type.googleapis.com/udpa.type.v1.TypedStruct").is_some());
        assert!(Message::by_name("envoy.nothing").is_none());
        assert!(Message::all().count() > 1500);
    }

    #[test]
    fn rules_oneofs_and_enums_are_there() {
        let cluster = Message::by_name("envoy.config.cluster.v3.Cluster").unwrap();
        assert!(!cluster.field_by_name("name").unwrap().rules().is_empty());
        let policy = cluster.field_by_name("lb_policy").unwrap();
        let Kind::Enum(policy) = policy.kind() else { panic!("lb_policy is an enum") };
        assert_eq!((policy.number("least_request"), policy.value_name(3)), (Some(1), Some("RANDOM")));
        let route = Message::by_name("envoy.config.route.v3.Route").unwrap();
        assert!(route.oneofs().any(|oneof| oneof.name() == "action" && oneof.is_required()));
        assert!(Message::by_name("google.protobuf.UInt32Value").unwrap().is_wrapper());
        assert!(!Message::by_name("google.protobuf.Value").unwrap().is_wrapper());
        assert!(!Message::by_name("google.protobuf.ListValue").unwrap().is_wrapper());
    }
}
