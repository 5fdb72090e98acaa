//! Where in a message we are, for error messages.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use crate::schema::Field;

#[derive(Clone, Debug)]
enum Step {
    Known(Field),
    Field(Cow<'static, str>),
    Index(usize),
    Key(Box<str>),
}

/// Steps that need no allocation: paths are made for every field, and read only when something is wrong with it.
const INLINE: usize = 8;

/// A field path such as `static_resources.clusters[0].name`.
#[derive(Clone, Debug, Default)]
pub struct Path(SmallVec<[Step; INLINE]>);

impl Path {
    /// Enters a field.
    pub fn field(&mut self, name: impl Into<Cow<'static, str>>) {
        self.0.push(Step::Field(name.into()));
    }

    /// As [`Self::field`]; its name is looked up only when the path is printed.
    pub(crate) fn known(&mut self, field: Field) {
        self.0.push(Step::Known(field));
    }

    /// Enters an element of a list.
    pub fn index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    /// Enters a value of a map.
    pub fn key(&mut self, key: &str) {
        self.0.push(Step::Key(key.into()));
    }

    /// Leaves what was entered last.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// How deep we are.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The path with a field appended.
    #[must_use]
    pub fn join(&self, name: impl Into<Cow<'static, str>>) -> Self {
        let mut longer = self.clone();
        longer.field(name);
        longer
    }

    /// The path with an index appended.
    #[must_use]
    pub fn at(&self, index: usize) -> Self {
        let mut longer = self.clone();
        longer.index(index);
        longer
    }
}

impl From<&'static str> for Path {
    fn from(text: &'static str) -> Self {
        Self::default().join(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            match step {
                Step::Known(field) => write!(f, "{dot}{}", field.name())?,
                Step::Field(name) => write!(f, "{dot}{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_as_envoy_names_fields() {
        let mut path = Path::from("clusters").at(2).join("metadata");
        path.key("a b");
        assert_eq!(path.to_string(), "clusters[2].metadata[\"a b\"]");
        path.pop();
        assert_eq!((path.to_string().as_str(), path.depth()), ("clusters[2].metadata", 3));
    }
}
