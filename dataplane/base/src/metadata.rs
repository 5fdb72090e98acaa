//! Dynamic metadata of a connection (`core.v3.Metadata`), as far as anything here writes it: text.

use std::sync::Arc;

/// Values by namespace and key, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    namespace: Arc<str>,
    key: Arc<str>,
    value: Box<str>,
}

impl Metadata {
    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes a value. The first one of a key stays.
    pub fn insert(&mut self, namespace: &Arc<str>, key: &Arc<str>, value: Box<str>) {
        if self.get(namespace, key).is_none() {
            self.0.push(Entry { namespace: namespace.clone(), key: key.clone(), value });
        }
    }

    /// The value of a key.
    pub fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.namespace(namespace).find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Keys and values of a namespace.
    pub fn namespace(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let within = move |entry: &&Entry| &*entry.namespace == name;
        self.0.iter().filter(within).map(|entry| (&*entry.key, &*entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_key_stays() {
        let (ns, other, key): (Arc<str>, Arc<str>, Arc<str>) = ("ns".into(), "other".into(), "key".into());
        let mut metadata = Metadata::default();
        assert!(metadata.is_empty());
        metadata.insert(&ns, &key, "1".into());
        metadata.insert(&ns, &key, "2".into());
        metadata.insert(&other, &key, "3".into());
        metadata.insert(&ns, &other, "4".into());
        assert_eq!(metadata.get("ns", "key"), Some("1"));
        assert_eq!(metadata.get("other", "key"), Some("3"));
        assert_eq!((metadata.get("ns", "x"), metadata.get("x", "key")), (None, None));
        assert_eq!(metadata.namespace("ns").collect::<Vec<_>>(), [("key", "1"), ("other", "4")]);
    }
}
