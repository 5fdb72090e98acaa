//! Operators that read metadata and filter state.

use millrace_base::{Metadata, MetadataStruct, MetadataValue, StateForm, Written};
use millrace_config::format::StateView;

use super::double::push_double;
use super::value::{Value, optional};
use crate::json::push_string;

/// A value of metadata: texts as they are, everything else as JSON; with an empty path all of the namespace.
pub(super) fn metadata(
    metadata: Option<&Metadata>,
    namespace: &str,
    path: &[Box<str>],
    out: &mut Vec<u8>,
) -> Value {
    let Some(metadata) = metadata else { return Value::Missing };
    let found = match path {
        [] => {
            let fields = metadata.namespace(namespace).filter(|fields| !fields.is_empty());
            return fields.map_or(Value::Missing, |fields| {
                object(fields, out);
                Value::Json
            });
        }
        path => metadata.find(namespace, path),
    };
    match found {
        None => Value::Missing,
        Some(MetadataValue::Text(text)) => optional(Some(&**text), out),
        Some(value) => {
            json(value, out);
            Value::Json
        }
    }
}

fn json(value: &MetadataValue, out: &mut Vec<u8>) {
    match value {
        MetadataValue::Null => out.extend_from_slice(b"null"),
        MetadataValue::Bool(true) => out.extend_from_slice(b"true"),
        MetadataValue::Bool(false) => out.extend_from_slice(b"false"),
        MetadataValue::Number(number) => push_double(*number, out),
        MetadataValue::Text(text) => push_string(text.as_bytes(), out),
        MetadataValue::List(values) => {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json(value, out);
            }
            out.push(b']');
        }
        MetadataValue::Struct(fields) => object(fields, out),
    }
}

fn object(fields: &MetadataStruct, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (key, value)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_string(key.as_bytes(), out);
        out.push(b':');
        json(value, out);
    }
    out.push(b'}');
}

/// `%FILTER_STATE(key:X)%`.
pub(super) fn filter_state(key: &str, view: &StateView, written: &Written<'_>, out: &mut Vec<u8>) -> Value {
    let Some(object) = written.object(key) else { return Value::Missing };
    match view {
        StateView::Plain => optional(object.plain(), out),
        StateView::Typed => match object.form() {
            StateForm::Text | StateForm::HashableText | StateForm::LongNumber => {
                push_string(object.text().as_bytes(), out);
                Value::Json
            }
            StateForm::Number | StateForm::Bool => {
                out.extend_from_slice(object.text().as_bytes());
                Value::Json
            }
            StateForm::Plain | StateForm::Opaque | StateForm::Address | StateForm::Ip => Value::Missing,
        },
        StateView::Field(name) => match (object.form(), object.address(), &**name) {
            (StateForm::Address, Some(address), "ip") => optional(Some(address.ip().to_string()), out),
            (StateForm::Address, Some(address), "port") => Value::Number(i64::from(address.port())),
            _ => Value::Missing,
        },
    }
}

#[cfg(test)]
mod tests {
    use millrace_base::{FilterState, StateObject};

    use super::*;

    fn text(value: Value, out: &[u8]) -> String {
        match value {
            Value::Missing => "-".to_owned(),
            Value::Number(number) => number.to_string(),
            _ => String::from_utf8_lossy(out).into_owned(),
        }
    }

    #[test]
    fn metadata_keep_their_types() {
        let mut all = Metadata::default();
        let inner: MetadataStruct = [("x", "y\"".into())].into_iter().collect();
        let list = MetadataValue::List(vec![MetadataValue::Number(1.0), MetadataValue::Null]);
        let own = all.namespace_mut("ns");
        for (key, value) in [
            ("b", MetadataValue::Bool(true)),
            ("l", list),
            ("n", MetadataValue::Number(1.5)),
            ("s", MetadataValue::Struct(inner)),
            ("t", "a b".into()),
        ] {
            own.insert(key, value);
        }
        let ask = |path: &[&str]| {
            let path: Vec<Box<str>> = path.iter().map(|key| (*key).into()).collect();
            let mut out = Vec::new();
            let value = metadata(Some(&all), "ns", &path, &mut out);
            (text(value, &out), value == Value::Text)
        };
        let all = r#"{"b":true,"l":[1,null],"n":1.5,"s":{"x":"y\""},"t":"a b"}"#;
        assert_eq!(ask(&[]), (all.to_owned(), false));
        assert_eq!(ask(&["t"]), ("a b".to_owned(), true));
        assert_eq!(ask(&["s", "x"]), ("y\"".to_owned(), true));
        assert_eq!(ask(&["n"]), ("1.5".to_owned(), false));
        assert_eq!(ask(&["none"]).0, "-");
    }

    /// As Envoy 1.40 printed them.
    #[test]
    fn objects_by_their_form() {
        let mut state = FilterState::default();
        for (key, form, text) in [
            ("text", StateForm::Text, "q\"x"),
            ("plain", StateForm::Plain, "c1"),
            ("opaque", StateForm::Opaque, "h2"),
            ("number", StateForm::Number, "7"),
            ("long", StateForm::LongNumber, "5"),
            ("address", StateForm::Address, "1.2.3.4:5"),
            ("ip", StateForm::Ip, "::1"),
        ] {
            state.set(key, StateObject::new(form, text).expect("an object"), true);
        }
        let written = Written { stream: Some(&state), ..Written::default() };
        let ask = |key: &str| {
            [StateView::Plain, StateView::Typed, StateView::Field("ip".into())]
                .map(|view| {
                    let mut out = Vec::new();
                    text(filter_state(key, &view, &written, &mut out), &out)
                })
                .join(" ")
        };
        assert_eq!(ask("text"), r#"q"x "q\"x" -"#);
        assert_eq!((ask("plain"), ask("opaque")), ("c1 - -".to_owned(), "- - -".to_owned()));
        assert_eq!((ask("number"), ask("long")), ("7 7 -".to_owned(), r#"5 "5" -"#.to_owned()));
        assert_eq!((ask("address"), ask("ip")), ("1.2.3.4:5 - 1.2.3.4".to_owned(), "[::1]:0 - -".to_owned()));
        assert_eq!(ask("none"), "- - -");
    }
}
