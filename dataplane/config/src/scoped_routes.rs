//! `scoped_routes`: a key made of a request's header fields decides which route table it is looked up in.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::virtual_host::DomainHasher;
use crate::{RouteConfiguration, RouteTableId, ScopeTableId};

/// `envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes`.
#[derive(Clone, Debug)]
pub struct ScopedRoutes {
    /// `name`.
    pub name: Arc<str>,
    /// `scope_key_builder.fragments`; at least one.
    pub key: Vec<KeyFragment>,
    /// Where the scopes are.
    pub scopes: ScopeSource,
}

/// Where the scopes of a connection manager are.
#[derive(Clone, Debug)]
pub enum ScopeSource {
    /// `scoped_route_configurations_list`.
    Inline(Arc<ScopeTable>),
    /// `scoped_rds`: the scopes of this id in the [`Snapshot`](crate::Snapshot); until they are there, requests get
    /// 404.
    Srds(ScopeTableId),
}

/// `header_value_extractor`: which part of a header field is one fragment of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFragment {
    /// `name`, lower case; the first field of this name counts.
    pub header: Arc<[u8]>,
    /// `element_separator`; empty: the whole value is one element.
    pub separator: Arc<[u8]>,
    /// Which element.
    pub extract: Extract,
}

/// `extract_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extract {
    /// `index`: the element at this place.
    Index(u32),
    /// `element`: what follows the separator in the first element that begins with the key.
    Element {
        /// `separator`, not empty.
        separator: Arc<[u8]>,
        /// `key`.
        key: Arc<[u8]>,
    },
}

impl KeyFragment {
    /// The fragment in a field's value. Reads each byte of the value a few times at most and copies none.
    pub fn of<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        let mut elements = Elements { rest: Some(value), separator: &self.separator };
        match &self.extract {
            Extract::Index(index) => elements.nth(*index as usize),
            Extract::Element { separator, key } => elements.find_map(|element| {
                // An element without a separator is a key whose value is empty.
                let (found, value) = split(element, separator).unwrap_or((element, b""));
                (found == &**key).then_some(value)
            }),
        }
    }
}

struct Elements<'v, 's> {
    rest: Option<&'v [u8]>,
    separator: &'s [u8],
}

impl<'v> Iterator for Elements<'v, '_> {
    type Item = &'v [u8];

    fn next(&mut self) -> Option<&'v [u8]> {
        let rest = self.rest.take()?;
        let Some((element, rest)) = split(rest, self.separator) else { return Some(rest) };
        self.rest = Some(rest);
        Some(element)
    }
}

/// What stands before and behind the first separator; an empty one never occurs.
fn split<'v>(text: &'v [u8], separator: &[u8]) -> Option<(&'v [u8], &'v [u8])> {
    let at = match separator {
        [] => return None,
        [byte] => text.iter().position(|b| b == byte)?,
        _ => text.windows(separator.len()).position(|window| window == separator)?,
    };
    Some((&text[..at], &text[at + separator.len()..]))
}

/// `envoy.config.route.v3.ScopedRouteConfiguration`.
#[derive(Clone, Debug)]
pub struct Scope {
    /// `name`.
    pub name: Arc<str>,
    /// `key.fragments[].string_key`.
    pub key: Vec<Arc<[u8]>>,
    /// The table of its requests.
    pub routes: ScopeRoutes,
}

/// The table of a scope.
#[derive(Clone, Debug)]
pub enum ScopeRoutes {
    /// `route_configuration`.
    Inline(Arc<RouteConfiguration>),
    /// `route_configuration_name`: as [`RouteSource::Rds`](crate::RouteSource::Rds).
    Rds(RouteTableId),
}

/// Scopes by their keys.
#[derive(Clone, Debug, Default)]
pub struct ScopeTable {
    scopes: Vec<Arc<Scope>>,
    /// Positions by the hash of the key.
    by_key: HashMap<u64, Vec<u32>, BuildHasherDefault<DomainHasher>>,
}

impl ScopeTable {
    /// A table of these scopes. Of several with one key the last one counts.
    pub fn new(scopes: Vec<Arc<Scope>>) -> Self {
        let mut table = Self { scopes, by_key: HashMap::default() };
        for (index, scope) in table.scopes.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            table.by_key.entry(hash(scope.key.iter().map(|part| &**part))).or_default().push(index);
        }
        table
    }

    /// All of them; positions are those that [`Self::find`] returns.
    pub fn scopes(&self) -> &[Arc<Scope>] {
        &self.scopes
    }

    /// The position of the scope with this key. A key with a fragment missing is nobody's.
    #[inline]
    pub fn find<'k>(&self, key: impl Iterator<Item = Option<&'k [u8]>> + Clone) -> Option<usize> {
        let mut hasher = DomainHasher::default();
        for part in key.clone() {
            add(&mut hasher, part?);
        }
        let same_hash = self.by_key.get(&hasher.finish())?;
        let is_it = |index: &&u32| {
            let mut parts = key.clone();
            self.scopes.get(**index as usize).is_some_and(|scope| {
                scope.key.iter().all(|part| parts.next().flatten() == Some(&**part)) && parts.next().is_none()
            })
        };
        same_hash.iter().rev().find(is_it).map(|index| *index as usize)
    }
}

fn hash<'k>(key: impl Iterator<Item = &'k [u8]>) -> u64 {
    let mut hasher = DomainHasher::default();
    key.for_each(|part| add(&mut hasher, part));
    hasher.finish()
}

#[inline]
fn add(hasher: &mut DomainHasher, part: &[u8]) {
    hasher.write(part);
    hasher.write_usize(part.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn fragment(separator: &str, extract: Extract) -> KeyFragment {
        KeyFragment { header: bytes("x"), separator: bytes(separator), extract }
    }

    fn element(separator: &str, key: &str) -> Extract {
        Extract::Element { separator: bytes(separator), key: bytes(key) }
    }

    #[test]
    fn fragments_are_elements_by_place_or_by_key() {
        let cases = [
            ("", Extract::Index(0), "a,b", Some("a,b")),
            ("", Extract::Index(0), "", Some("")),
            (",", Extract::Index(0), "a,b", Some("a")),
            (",", Extract::Index(1), "a,b", Some("b")),
            (",", Extract::Index(1), "a,", Some("")),
            (",", Extract::Index(2), "a,b", None),
            (", ", Extract::Index(1), "a,b, c", Some("c")),
            (";", element("=", "k"), "a=1;k=2;k=3", Some("2")),
            (";", element("=", "k"), "k=1=2", Some("1=2")),
            (";", element("=", "k"), "a;k", Some("")),
            (";", element("=", "k"), "kk=1; k=2", None),
            ("", element("=", "k"), "k=1;k=2", Some("1;k=2")),
            ("::", element("=>", "k"), "a=>1::k=>2", Some("2")),
        ];
        for (separator, extract, value, wanted) in cases {
            let fragment = fragment(separator, extract);
            assert_eq!(fragment.of(value.as_bytes()), wanted.map(str::as_bytes), "{fragment:?} in {value}");
        }
    }

    fn scope(name: &str, key: &[&str]) -> Arc<Scope> {
        Arc::new(Scope {
            name: name.into(),
            key: key.iter().map(|part| bytes(part)).collect(),
            routes: ScopeRoutes::Rds(RouteTableId(0)),
        })
    }

    #[test]
    fn a_scope_is_found_by_all_of_its_key() {
        let table = ScopeTable::new(vec![
            scope("a", &["x"]),
            scope("b", &["x", "y"]),
            scope("c", &["xy"]),
            scope("d", &["", ""]),
            scope("e", &["x"]),
        ]);
        let find = |key: &[Option<&str>]| {
            let index = table.find(key.iter().map(|part| part.map(str::as_bytes)));
            index.map(|index| table.scopes()[index].name.to_string())
        };
        assert_eq!(find(&[Some("x")]).as_deref(), Some("e"), "the last one of a key");
        assert_eq!(find(&[Some("x"), Some("y")]).as_deref(), Some("b"));
        assert_eq!(find(&[Some("xy")]).as_deref(), Some("c"));
        assert_eq!(find(&[Some(""), Some("")]).as_deref(), Some("d"));
        assert_eq!(find(&[Some("")]), None);
        assert_eq!(find(&[Some("x"), None]), None);
        assert_eq!(find(&[Some("z")]), None);
    }
}
