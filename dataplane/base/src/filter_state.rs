//! Filter state (`StreamInfo::FilterState`): typed objects by key, of a stream or of its connection.

use std::net::{IpAddr, SocketAddr};

/// What an object is made of, which decides what may stand in it and how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateForm {
    /// A text with a protobuf form (`StringValue`).
    Text,
    /// The same, and hash policies read it.
    HashableText,
    /// A text without one.
    Plain,
    /// A text that nobody prints.
    Opaque,
    /// An unsigned number that fits into 32 bits.
    Number,
    /// An unsigned number of 64 bits, which JSON has in quotes.
    LongNumber,
    /// `true` or `false`.
    Bool,
    /// An address with its port; has the fields `ip` and `port`.
    Address,
    /// An address whose port is 0.
    Ip,
}

/// One object. Its text is valid for its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateObject {
    form: StateForm,
    text: Box<str>,
}

impl StateObject {
    /// What `text` makes in this form; `None` when it makes nothing.
    pub fn new(form: StateForm, text: &str) -> Option<Self> {
        let text = match form {
            StateForm::Text | StateForm::HashableText | StateForm::Plain | StateForm::Opaque => text.into(),
            StateForm::Number => text.parse::<u32>().ok()?.to_string().into(),
            StateForm::LongNumber => text.parse::<u64>().ok()?.to_string().into(),
            StateForm::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "1" => "true".into(),
                "false" | "f" | "no" | "n" | "0" => "false".into(),
                _ => return None,
            },
            StateForm::Address => text.parse::<SocketAddr>().ok()?.to_string().into(),
            StateForm::Ip => SocketAddr::new(text.parse::<IpAddr>().ok()?, 0).to_string().into(),
        };
        Some(Self { form, text })
    }

    /// How it is printed.
    pub fn form(&self) -> StateForm {
        self.form
    }

    /// As it was made, normalised.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its own text (`PLAIN`, and what matchers compare), if its type has one.
    pub fn plain(&self) -> Option<&str> {
        (self.form != StateForm::Opaque).then_some(&*self.text)
    }

    /// The address that it is.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.form {
            StateForm::Address | StateForm::Ip => self.text.parse().ok(),
            _ => None,
        }
    }

    /// The number that it is.
    pub fn number(&self) -> Option<u64> {
        match self.form {
            StateForm::Number | StateForm::LongNumber => self.text.parse().ok(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Box<str>,
    object: StateObject,
    read_only: bool,
}

/// Objects by key, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterState(Vec<Entry>);

impl FilterState {
    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object of a key.
    pub fn get(&self, key: &str) -> Option<&StateObject> {
        self.0.iter().find(|entry| *entry.key == *key).map(|entry| &entry.object)
    }

    /// Writes an object. One that is read-only stays, and so does one that would change from or to read-only.
    pub fn set(&mut self, key: &str, object: StateObject, read_only: bool) {
        match self.0.iter_mut().find(|entry| *entry.key == *key) {
            Some(entry) if !entry.read_only && !read_only => entry.object = object,
            Some(_) => {}
            None => self.0.push(Entry { key: key.into(), object, read_only }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_what_their_form_says() {
        let text = |form, text: &str| StateObject::new(form, text).map(|object| object.text().to_owned());
        assert_eq!(text(StateForm::Number, "070").as_deref(), Some("70"));
        assert_eq!((text(StateForm::Number, "-1"), text(StateForm::LongNumber, "x")), (None, None));
        assert_eq!(text(StateForm::Bool, "1").as_deref(), Some("true"));
        assert_eq!(text(StateForm::Bool, "maybe"), None);
        assert_eq!(text(StateForm::Address, "1.2.3.4:5").as_deref(), Some("1.2.3.4:5"));
        assert_eq!((text(StateForm::Address, "1.2.3.4"), text(StateForm::Ip, "x")), (None, None));
        assert_eq!(text(StateForm::Ip, "::1").as_deref(), Some("[::1]:0"));
        let opaque = StateObject::new(StateForm::Opaque, "h2").expect("a text");
        assert_eq!((opaque.plain(), opaque.text(), opaque.number()), (None, "h2", None));
    }

    #[test]
    fn what_is_read_only_stays() {
        let object = |text: &str| StateObject::new(StateForm::Text, text).expect("a text");
        let mut state = FilterState::default();
        state.set("a", object("1"), false);
        state.set("a", object("2"), false);
        state.set("a", object("3"), true);
        state.set("b", object("1"), true);
        state.set("b", object("2"), true);
        let get = |key| state.get(key).map(StateObject::text);
        assert_eq!((get("a"), get("b"), get("c")), (Some("2"), Some("1"), None));
    }
}
