//! Dynamic metadata (`core.v3.Metadata.filter_metadata`): structs by namespace.

use std::fmt::Write;

/// `google.protobuf.Value`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum MetadataValue {
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<str>),
    List(Vec<MetadataValue>),
    Struct(MetadataStruct),
}

impl MetadataValue {
    /// A text that equal values have in common, and others do not: what balancers compare.
    pub fn comparable(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out);
        out
    }

    fn write_to(&self, out: &mut String) {
        // A string takes everything.
        let _ = match self {
            Self::Null => write!(out, "null"),
            Self::Bool(bit) => write!(out, "{bit}"),
            Self::Number(number) => write!(out, "{number}"),
            Self::Text(text) => write!(out, "{text:?}"),
            Self::List(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    value.write_to(out);
                }
                write!(out, "]")
            }
            Self::Struct(fields) => {
                out.push('{');
                for (at, (key, value)) in fields.iter().enumerate() {
                    let _ = write!(out, "{}{key:?}:", if at == 0 { "" } else { "," });
                    value.write_to(out);
                }
                write!(out, "}}")
            }
        };
    }
}

impl From<&str> for MetadataValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// `google.protobuf.Struct`, sorted by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataStruct(Vec<(Box<str>, MetadataValue)>);

impl MetadataStruct {
    /// True when it has no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        Some(&self.0[self.place(key).ok()?].1)
    }

    /// Keys and values in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetadataValue)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// Writes a value over the one that the key has.
    pub fn insert(&mut self, key: &str, value: MetadataValue) {
        match self.place(key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key.into(), value)),
        }
    }

    /// Writes a value to where a path leads, through structs that take the place of anything else.
    fn set(&mut self, path: &[impl AsRef<str>], value: MetadataValue) {
        let Some((first, rest)) = path.split_first() else { return };
        let key = first.as_ref();
        if rest.is_empty() {
            return self.insert(key, value);
        }
        let mut inner = match self.place(key).map(|at| &mut self.0[at].1) {
            Ok(MetadataValue::Struct(inner)) => std::mem::take(inner),
            _ => Self::default(),
        };
        inner.set(rest, value);
        self.insert(key, MetadataValue::Struct(inner));
    }

    /// Takes over all of `other`: structs field by field, lists behind those that are there, everything else instead of
    /// what is there.
    pub fn merge(&mut self, other: &Self) {
        for (key, value) in &other.0 {
            let at = match self.place(key) {
                Ok(at) => at,
                Err(at) => {
                    self.0.insert(at, (key.clone(), value.clone()));
                    continue;
                }
            };
            match (&mut self.0[at].1, value) {
                (MetadataValue::Struct(own), MetadataValue::Struct(other)) => own.merge(other),
                (MetadataValue::List(own), MetadataValue::List(other)) => own.extend_from_slice(other),
                (own, value) => *own = value.clone(),
            }
        }
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }
}

impl<'k> FromIterator<(&'k str, MetadataValue)> for MetadataStruct {
    fn from_iter<I: IntoIterator<Item = (&'k str, MetadataValue)>>(fields: I) -> Self {
        let mut out = Self::default();
        for (key, value) in fields {
            out.insert(key, value);
        }
        out
    }
}

/// Structs by namespace, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(Vec<(Box<str>, MetadataStruct)>);

impl Metadata {
    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&MetadataStruct> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, fields)| fields)
    }

    /// The fields of a namespace, which is there from now on.
    pub fn namespace_mut(&mut self, name: &str) -> &mut MetadataStruct {
        let at = self.0.iter().position(|(known, _)| **known == *name).unwrap_or_else(|| {
            self.0.push((name.into(), MetadataStruct::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Writes a value to where a path leads from a namespace, through structs that take the place of anything else.
    pub fn set(&mut self, namespace: &str, path: &[impl AsRef<str>], value: MetadataValue) {
        self.namespace_mut(namespace).set(path, value);
    }

    /// The value that a path leads to from a namespace; an empty path leads nowhere.
    pub fn find(&self, namespace: &str, path: &[impl AsRef<str>]) -> Option<&MetadataValue> {
        let (last, parents) = path.split_last()?;
        let mut fields = self.namespace(namespace)?;
        for key in parents {
            let MetadataValue::Struct(inner) = fields.get(key.as_ref())? else { return None };
            fields = inner;
        }
        fields.get(last.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(fields: &[(&str, MetadataValue)]) -> MetadataStruct {
        fields.iter().map(|(key, value)| (*key, value.clone())).collect()
    }

    #[test]
    fn paths_lead_through_structs_only() {
        let mut metadata = Metadata::default();
        assert!(metadata.is_empty());
        metadata.namespace_mut("ns").insert("a", MetadataValue::Struct(tree(&[("b", "1".into())])));
        metadata.namespace_mut("ns").insert("a2", "2".into());
        let find = |path: &[&str]| metadata.find("ns", path);
        assert_eq!(find(&["a", "b"]), Some(&"1".into()));
        assert_eq!(find(&["a2"]), Some(&"2".into()));
        assert_eq!((find(&[]), find(&["a", "c"]), find(&["a2", "b"])), (None, None, None));
        assert!(metadata.find("other", &["a"]).is_none() && !metadata.is_empty());
    }

    #[test]
    fn writing_makes_the_structs_on_the_way() {
        let mut metadata = Metadata::default();
        metadata.set("ns", &["a", "b"], "1".into());
        metadata.set("ns", &["a", "c"], "2".into());
        metadata.set("ns", &["a", "c", "d"], "3".into());
        metadata.set("ns", &[] as &[&str], "4".into());
        let find = |path: &[&str]| metadata.find("ns", path);
        assert_eq!((find(&["a", "b"]), find(&["a", "c", "d"])), (Some(&"1".into()), Some(&"3".into())));
    }

    #[test]
    fn merging_goes_into_structs_and_appends_to_lists() {
        let list = |numbers: &[f64]| {
            MetadataValue::List(numbers.iter().map(|n| MetadataValue::Number(*n)).collect())
        };
        let inner = |key: &str| MetadataValue::Struct(tree(&[(key, MetadataValue::Bool(true))]));
        let mut own = tree(&[("l", list(&[1.0])), ("s", inner("x")), ("t", "1".into()), ("u", "1".into())]);
        own.merge(&tree(&[
            ("l", list(&[2.0])),
            ("s", inner("y")),
            ("t", "2".into()),
            ("n", MetadataValue::Null),
        ]));
        let both = tree(&[("x", MetadataValue::Bool(true)), ("y", MetadataValue::Bool(true))]);
        assert_eq!(own.get("l"), Some(&list(&[1.0, 2.0])));
        assert_eq!(own.get("s"), Some(&MetadataValue::Struct(both)));
        assert_eq!(
            (own.get("t"), own.get("u"), own.get("n")),
            (Some(&"2".into()), Some(&"1".into()), Some(&MetadataValue::Null))
        );
        own.merge(&tree(&[("l", "text".into())]));
        assert_eq!(own.get("l"), Some(&"text".into()));
        assert_eq!(own.iter().map(|(key, _)| key).collect::<String>(), "lnstu");
    }
}
