//! What RFC 9113 section 8 asks of header blocks, without tolerance: a proxy has no business to send anything else.

use crate::strict::{Fields, is_token};

const CONNECTION_SPECIFIC: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"];

/// Names and values of any block, and that pseudo fields stand first.
///
/// # Errors
/// The broken rule.
pub fn fields(fields: &Fields) -> Result<(), String> {
    let mut regular = false;
    for (name, value) in &fields.0 {
        let bare = name.strip_prefix(':');
        if bare.is_some() && regular {
            return Err(format!("{name} behind a regular field"));
        }
        regular |= bare.is_none();
        let token = bare.unwrap_or(name);
        if !is_token(token.as_bytes()) || token.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!("name {name:?}"));
        }
        let control = value.chars().any(|c| (c < ' ' && c != '\t') || c == '\x7f');
        if control || value.trim_matches([' ', '\t']) != value {
            return Err(format!("value of {name}: {value:?}"));
        }
        if CONNECTION_SPECIFIC.contains(&name.as_str()) || (name == "te" && value != "trailers") {
            return Err(format!("{name}: {value}"));
        }
    }
    Ok(())
}

/// That exactly these pseudo fields are there, once each.
///
/// # Errors
/// The broken rule.
pub fn pseudo(fields: &Fields, wanted: &[&str]) -> Result<(), String> {
    let mut found: Vec<&str> =
        fields.0.iter().map(|(n, _)| n.as_str()).filter(|n| n.starts_with(':')).collect();
    let mut wanted = wanted.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    if found == wanted { Ok(()) } else { Err(format!("pseudo fields {found:?}, not {wanted:?}")) }
}

/// A request head as an origin may expect it.
///
/// # Errors
/// The broken rule.
pub fn request(head: &Fields) -> Result<(), String> {
    fields(head)?;
    match (head.get(":method"), head.has(":protocol")) {
        (Some("CONNECT"), false) => pseudo(head, &[":method", ":authority"])?,
        (Some("CONNECT"), true) => {
            pseudo(head, &[":method", ":scheme", ":path", ":authority", ":protocol"])?;
        }
        _ => pseudo(head, &[":method", ":scheme", ":path", ":authority"])?,
    }
    if !head.get(":method").is_some_and(|m| is_token(m.as_bytes())) {
        return Err("the method is not a token".into());
    }
    let authority = head.get(":authority").unwrap_or_default();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&b);
    if authority.is_empty() || !authority.bytes().all(allowed) {
        return Err(format!("authority {authority:?}"));
    }
    if head.has("host") && head.get("host") != Some(authority) {
        return Err("host differs from :authority".into());
    }
    if let Some(path) = head.get(":path") {
        let plain = path.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'#');
        if !plain || !(path.starts_with('/') || path == "*") {
            return Err(format!("path {path:?}"));
        }
    }
    let lengths = head.all("content-length");
    let number = |l: &&str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_digit());
    if lengths.len() > 1 || !lengths.iter().all(number) {
        return Err(format!("lengths {lengths:?}"));
    }
    Ok(())
}

/// That the declared length is the body's.
///
/// # Errors
/// Both lengths.
pub fn length(head: &Fields, body: usize) -> Result<(), String> {
    match head.get("content-length").map(str::parse::<usize>) {
        Some(Ok(n)) if n == body => Ok(()),
        None => Ok(()),
        other => Err(format!("content-length {other:?} with {body} octets")),
    }
}
