//! The path and the query of a request target.

/// Decoded query parameters in order of appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Splits at `&` and the first `=`, then percent-decodes; `+` stays a plus sign. Bytes that are no
    /// UTF-8 after decoding become U+FFFD.
    pub fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(key), percent_decode(value))
                })
                .collect(),
        )
    }

    /// The first value of `key`; an empty string when it has none.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The first value of `key` unless that is empty.
    pub fn get_non_empty(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// True when `key` appears, with or without a value.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All pairs.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16));
        match (byte, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Merges slashes and resolves `.` and `..`, as the admin listener's path normalisation does.
pub(crate) fn normalize_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut directory = true;
    for segment in path.split('/') {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if directory || out.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_regular_expressions_survive() {
        let query = Query::parse(r"usedonly&filter=^(cluster_manager\.cds|a)\.(b)$");
        assert!(query.has("usedonly"));
        assert_eq!(query.get("filter"), Some(r"^(cluster_manager\.cds|a)\.(b)$"));
        assert_eq!(query.get("format"), None);
    }

    #[test]
    fn escapes_are_decoded_and_bad_ones_kept() {
        let query = Query::parse("a=%5Eb%2x%&&c=d=e&f=1+2");
        assert_eq!(query.get("a"), Some("^b%2x%"));
        assert_eq!(query.get("c"), Some("d=e"));
        assert_eq!(query.get("f"), Some("1+2"));
        assert_eq!(query.pairs().len(), 3);
        assert_eq!(query.get_non_empty("missing"), None);
    }

    #[test]
    fn paths_are_normalised() {
        for (raw, want) in [
            ("//stats", "/stats"),
            ("/", "/"),
            ("", "/"),
            ("/a/../ready", "/ready"),
            ("/../ready", "/ready"),
            ("/ready/", "/ready/"),
            ("/./stats//prometheus", "/stats/prometheus"),
        ] {
            assert_eq!(normalize_path(raw), want, "{raw}");
        }
    }
}
