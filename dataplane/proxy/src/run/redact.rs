//! Keeps keys out of dumps, as Envoy does by its annotation `udpa.annotations.sensitive`.

use serde_json::Value;

/// What stands for a text, and for bytes, which JSON writes in Base64.
const TEXT: &str = "[redacted]";
const BYTES: &str = "W3JlZGFjdGVkXQ==";

/// Fields that hold secrets, wherever they stand: also inside configurations that no type is known of.
const SENSITIVE: &[&str] = &[
    "private_key",
    "pkcs12",
    "password",
    "session_ticket_keys",
    "generic_secret",
    "private_key_provider",
    "access_token",
    "refresh_token",
    "google_refresh_token",
    "json_key",
    "authorization_token",
];

/// Replaces every text inside sensitive fields.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                match is_sensitive(name) {
                    true => blank(name, inner),
                    false => redact(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Names may be written in either case.
fn is_sensitive(name: &str) -> bool {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    SENSITIVE.contains(&name) || SENSITIVE.iter().any(|known| plain(known) == plain(name))
}

fn blank(name: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields
                .iter_mut()
                .filter(|(name, _)| *name != "@type")
                .for_each(|(name, inner)| blank(name, inner));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| blank(name, item)),
        Value::String(text) => {
            let is_bytes = matches!(name, "inline_bytes" | "inlineBytes");
            text.clear();
            text.push_str(if is_bytes { BYTES } else { TEXT });
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_and_certificates_stay() {
        let mut value = serde_json::json!({
            "tls_certificates": [{
                "certificate_chain": { "inline_string": "chain" },
                "private_key": { "inline_string": "key" },
                "password": { "inline_bytes": "a2V5" },
                "private_key_provider": { "provider_name": "p", "typed_config": { "@type": "t", "privateKey": "x" } },
            }],
            "session_ticket_keys": { "keys": [{ "filename": "/k" }, { "inline_bytes": "a2V5" }] },
            "sessionTicketKeys": { "keys": [{ "inlineBytes": "a2V5" }] },
        });
        redact(&mut value);
        let wanted = serde_json::json!({
            "tls_certificates": [{
                "certificate_chain": { "inline_string": "chain" },
                "private_key": { "inline_string": TEXT },
                "password": { "inline_bytes": BYTES },
                "private_key_provider": { "provider_name": TEXT, "typed_config": { "@type": "t", "privateKey": TEXT } },
            }],
            "session_ticket_keys": { "keys": [{ "filename": TEXT }, { "inline_bytes": BYTES }] },
            "sessionTicketKeys": { "keys": [{ "inlineBytes": BYTES }] },
        });
        assert_eq!(value, wanted);
    }
}
