//! Matchers on what filters write about a stream: dynamic metadata and filter state.

use millrace_base::{Metadata, MetadataValue, Written};

use crate::{Cidr, StringMatcher};

/// `type.matcher.v3.ValueMatcher`.
#[derive(Clone, Debug)]
pub enum ValueMatcher {
    /// `null_match`.
    Null,
    /// `double_match.exact`.
    Number(f64),
    /// `double_match.range`: from the first, up to the second, which does not belong to it.
    Range(f64, f64),
    /// `string_match`.
    String(StringMatcher),
    /// `bool_match`.
    Bool(bool),
    /// `present_match`: true takes every value, false none.
    Present(bool),
    /// `list_match.one_of`: some value of a list.
    OneOf(Box<ValueMatcher>),
    /// `or_match`.
    Any(Vec<ValueMatcher>),
}

impl ValueMatcher {
    /// True when a value, or its absence, matches.
    pub fn matches(&self, value: Option<&MetadataValue>) -> bool {
        match (self, value) {
            (Self::Any(matchers), value) => matchers.iter().any(|one| one.matches(value)),
            (Self::Present(present), value) => *present && value.is_some(),
            (Self::Null, Some(MetadataValue::Null)) => true,
            (Self::Number(wanted), Some(MetadataValue::Number(number))) => wanted == number,
            (Self::Range(start, end), Some(MetadataValue::Number(number))) => (*start..*end).contains(number),
            (Self::String(matcher), Some(MetadataValue::Text(text))) => matcher.matches(text.as_bytes()),
            (Self::Bool(wanted), Some(MetadataValue::Bool(value))) => wanted == value,
            (Self::OneOf(matcher), Some(MetadataValue::List(values))) => {
                values.iter().any(|value| matcher.matches(Some(value)))
            }
            _ => false,
        }
    }
}

/// `type.matcher.v3.MetadataMatcher`.
#[derive(Clone, Debug)]
pub struct MetadataMatcher {
    /// `filter`: the namespace.
    pub namespace: Box<str>,
    /// `path`, not empty.
    pub path: Vec<Box<str>>,
    /// `value`.
    pub value: ValueMatcher,
    /// `invert`.
    pub invert: bool,
}

impl MetadataMatcher {
    /// True when the metadata match.
    pub fn matches(&self, metadata: Option<&Metadata>) -> bool {
        self.value.matches(self.find(metadata)) != self.invert
    }

    /// The value that is looked at.
    pub fn find<'m>(&self, metadata: Option<&'m Metadata>) -> Option<&'m MetadataValue> {
        metadata?.find(&self.namespace, &self.path)
    }
}

/// What a filter state matcher asks of an object.
#[derive(Clone, Debug)]
pub enum StateMatcherKind {
    /// `string_match`, of its plain text.
    String(StringMatcher),
    /// `address_match`.
    Address {
        /// `ranges`.
        ranges: Vec<Cidr>,
        /// `invert_match`.
        invert: bool,
    },
}

/// `type.matcher.v3.FilterStateMatcher`.
#[derive(Clone, Debug)]
pub struct FilterStateMatcher {
    /// `key`.
    pub key: Box<str>,
    /// What must hold of its object; without one nothing does.
    pub kind: StateMatcherKind,
}

impl FilterStateMatcher {
    /// True when the object of the key matches.
    pub fn matches(&self, written: &Written<'_>) -> bool {
        let Some(object) = written.object(&self.key) else { return false };
        match &self.kind {
            StateMatcherKind::String(matcher) => {
                object.plain().is_some_and(|text| matcher.matches(text.as_bytes()))
            }
            StateMatcherKind::Address { ranges, invert } => object
                .address()
                .is_some_and(|address| ranges.iter().any(|range| range.contains(address.ip())) != *invert),
        }
    }
}

/// One of `RouteMatch.dynamic_metadata` and `RouteMatch.filter_state`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum WrittenMatcher {
    Metadata(MetadataMatcher),
    FilterState(FilterStateMatcher),
}

impl WrittenMatcher {
    /// True when what was written matches.
    pub fn matches(&self, written: &Written<'_>) -> bool {
        match self {
            Self::Metadata(matcher) => matcher.matches(written.metadata),
            Self::FilterState(matcher) => matcher.matches(written),
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_base::{FilterState, StateForm, StateObject};

    use super::*;

    fn exact(value: &str) -> StringMatcher {
        StringMatcher::Exact { value: value.as_bytes().into(), ignore_case: false }
    }

    #[test]
    fn values_of_every_kind() {
        use MetadataValue::{Bool, List, Null, Number};
        let (text, list) = (MetadataValue::from("a"), List(vec![Number(1.0), "a".into()]));
        assert!(ValueMatcher::Null.matches(Some(&Null)) && !ValueMatcher::Null.matches(None));
        assert!(ValueMatcher::Number(2.0).matches(Some(&Number(2.0))));
        let range = ValueMatcher::Range(1.0, 2.0);
        assert!(range.matches(Some(&Number(1.0))) && !range.matches(Some(&Number(2.0))));
        assert!(ValueMatcher::Bool(false).matches(Some(&Bool(false))));
        assert!(
            ValueMatcher::Present(true).matches(Some(&list)) && !ValueMatcher::Present(false).matches(None)
        );
        let string = ValueMatcher::String(exact("a"));
        assert!(string.matches(Some(&text)) && !string.matches(Some(&list)));
        assert!(ValueMatcher::OneOf(string.clone().into()).matches(Some(&list)));
        assert!(ValueMatcher::Any(vec![ValueMatcher::Null, string]).matches(Some(&text)));
    }

    #[test]
    fn inversion_takes_what_is_missing() {
        let matcher = |invert| MetadataMatcher {
            namespace: "ns".into(),
            path: vec!["k".into()],
            value: ValueMatcher::String(exact("a")),
            invert,
        };
        let mut metadata = Metadata::default();
        assert!(!matcher(false).matches(None) && matcher(true).matches(Some(&metadata)));
        metadata.namespace_mut("ns").insert("k", "a".into());
        assert!(matcher(false).matches(Some(&metadata)) && !matcher(true).matches(Some(&metadata)));
    }

    #[test]
    fn objects_are_matched_by_their_text_or_address() {
        let mut state = FilterState::default();
        for (key, form, text) in
            [("s", StateForm::Text, "a"), ("i", StateForm::Ip, "10.1.2.3"), ("o", StateForm::Opaque, "a")]
        {
            state.set(key, StateObject::new(form, text).expect("an object"), true);
        }
        let written = Written { connection: Some(&state), ..Written::default() };
        let ask = |key: &str, kind| FilterStateMatcher { key: key.into(), kind }.matches(&written);
        let string = |key| ask(key, StateMatcherKind::String(exact("a")));
        assert_eq!([string("s"), string("o"), string("none")], [true, false, false]);
        let ranges = vec![Cidr::new([10, 0, 0, 0].into(), 8).expect("a range")];
        let address = |key, invert| ask(key, StateMatcherKind::Address { ranges: ranges.clone(), invert });
        assert_eq!([address("i", false), address("i", true), address("s", true)], [true, false, false]);
    }
}
