//! Changes to the query of a path.

use std::borrow::Cow;

use millrace_config::{AppendAction, QueryMutation};
use millrace_http::RequestHead;

use crate::http::router::Render;

/// One parameter: its decoded name, and how it is written.
struct Parameter<'p> {
    key: Cow<'p, [u8]>,
    written: Cow<'p, [u8]>,
}

/// Applies the mutations in order. As in Envoy the parameters are sorted by name then, and each has a `=`; their
/// escapes stay as they came, which Envoy decodes and leaves decoded.
pub(super) fn mutate(mutations: &[QueryMutation], render: &dyn Render, head: &mut RequestHead) {
    let path = head.path().to_vec();
    let (base, query) = match path.iter().position(|b| *b == b'?') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..], &b""[..]),
    };
    let pairs = query.split(|b| *b == b'&').filter(|_| !query.is_empty());
    let mut parameters: Vec<Parameter<'_>> = pairs.map(parameter).collect();
    for mutation in mutations {
        match mutation {
            QueryMutation::Remove(key) => parameters.retain(|parameter| *parameter.key != **key),
            QueryMutation::Append { key, value, action } => {
                let there = parameters.iter().any(|parameter| *parameter.key == **key);
                let overwrites = match action {
                    AppendAction::AppendIfExistsOrAdd => false,
                    AppendAction::AddIfAbsent if there => continue,
                    AppendAction::OverwriteIfExists if !there => continue,
                    AppendAction::AddIfAbsent => false,
                    AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd => true,
                };
                if overwrites {
                    parameters.retain(|parameter| *parameter.key != **key);
                }
                let mut text = Vec::new();
                render.render(value, head, None, &mut text);
                let mut written = Vec::new();
                encode(key, &mut written);
                written.push(b'=');
                encode(&text, &mut written);
                parameters.push(Parameter { key: Cow::Borrowed(key), written: Cow::Owned(written) });
            }
        }
    }
    parameters.sort_by(|a, b| a.key.cmp(&b.key));
    let mut out = base.to_vec();
    for (at, parameter) in parameters.iter().enumerate() {
        out.push(if at == 0 { b'?' } else { b'&' });
        out.extend_from_slice(&parameter.written);
    }
    head.set_path(&out);
}

fn parameter(pair: &[u8]) -> Parameter<'_> {
    match pair.iter().position(|b| *b == b'=') {
        Some(at) => Parameter { key: decoded(&pair[..at]), written: Cow::Borrowed(pair) },
        None => Parameter { key: decoded(pair), written: Cow::Owned([pair, b"="].concat()) },
    }
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1).zip(digit(at + 2))) {
            (b'%', Some((high, low))) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// RFC 3986 section 2.3: everything but unreserved characters is escaped.
fn encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_config::format::{Part, Template};

    use super::*;
    use crate::http::test::{Literal, bytes, head, text};

    fn append(key: &str, value: &str, action: AppendAction) -> QueryMutation {
        let value = Template { parts: vec![Part::Text(value.into())], ..Template::default() };
        QueryMutation::Append { key: bytes(key), value, action }
    }

    #[test]
    fn as_measured_with_envoy_1_40() {
        let mutations = [
            append("a", "x y", AppendAction::AppendIfExistsOrAdd),
            append("b", "2", AppendAction::AddIfAbsent),
            QueryMutation::Remove(bytes("gone")),
        ];
        for (path, expected) in [
            ("/y", "/y?a=x%20y&b=2"),
            ("/y?", "/y?a=x%20y&b=2"),
            ("/y?a=1&b=1&gone=2&gone=3&c", "/y?a=1&a=x%20y&b=1&c="),
            // Envoy writes `A+b` here.
            ("/y?a=%41+b&=x&&e=", "/y?=x&=&a=%41+b&a=x%20y&b=2&e="),
        ] {
            let mut head = head(path, &[]);
            mutate(&mutations, &Literal, &mut head);
            assert_eq!(text(head.path()), expected, "{path}");
        }
    }

    #[test]
    fn what_overwrites_takes_the_place_of_all_values() {
        let mutations = [
            append("o w", "v&=?", AppendAction::OverwriteIfExists),
            append("none", "1", AppendAction::OverwriteIfExists),
            append("z", "1", AppendAction::OverwriteIfExistsOrAdd),
        ];
        let mut head = head("/y?b=1&o%20w=1&o%20w=2&a=3", &[]);
        mutate(&mutations, &Literal, &mut head);
        assert_eq!(text(head.path()), "/y?a=3&b=1&o%20w=v%26%3D%3F&z=1");
        let mut head = crate::http::test::head("/y?gone=1", &[]);
        mutate(&[QueryMutation::Remove(bytes("gone"))], &Literal, &mut head);
        assert_eq!(text(head.path()), "/y");
    }
}
