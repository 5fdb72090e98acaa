//! Reading the bootstrap: `-c` (a regular file or a FIFO, read once) and `--config-yaml` merged over it.

use std::fmt;
use std::io::Read as _;

use millrace_proto::{Format, JsonError, LoadOptions, Parsed, bootstrap_from_text, merge};

/// Largest configuration that is read, bytes. Istio's gateways stay below 1 MiB; 64 MiB bounds a file given
/// by mistake.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why there is no bootstrap. Always the operator's to fix; a retry changes nothing.
#[derive(Debug)]
pub enum BootstrapError {
    /// Neither `--config-path` nor `--config-yaml` was given.
    Nothing,
    /// The file cannot be read.
    Unreadable {
        /// As given.
        path: String,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The file is longer than [`FILE_BYTES_MAX`].
    TooLong {
        /// As given.
        path: String,
    },
    /// The protobuf text format is not read.
    TextProto {
        /// As given.
        path: String,
    },
    /// The content is no bootstrap.
    Invalid {
        /// The file, or `--config-yaml`.
        source: String,
        /// Where and why.
        reason: JsonError,
    },
}

impl fmt::Display for BootstrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => {
                f.write_str("At least one of --config-path or --config-yaml should be non-empty")
            }
            Self::Unreadable { path, reason } => write!(f, "Invalid path: {path}: {reason}"),
            Self::TooLong { path } => write!(f, "{path}: longer than {FILE_BYTES_MAX} bytes"),
            Self::TextProto { path } => write!(f, "{path}: the protobuf text format is not supported"),
            Self::Invalid { source, reason } => write!(f, "{source}: {reason}"),
        }
    }
}

impl std::error::Error for BootstrapError {}

/// Reads and merges. An empty string means that the flag was not given.
pub fn load(config_path: &str, config_yaml: &str, options: &LoadOptions) -> Result<Parsed, BootstrapError> {
    let file = match config_path {
        "" => None,
        path => Some(load_file(path, options)?),
    };
    let overlay = match config_yaml {
        "" => None,
        text => {
            let parsed = bootstrap_from_text(Format::Yaml, text.as_bytes(), options);
            Some(parsed.map_err(|reason| invalid("--config-yaml", reason))?)
        }
    };
    match (file, overlay) {
        (Some(file), Some(overlay)) => Ok(merge(file, overlay)),
        (Some(only), None) | (None, Some(only)) => Ok(only),
        (None, None) => Err(BootstrapError::Nothing),
    }
}

fn load_file(path: &str, options: &LoadOptions) -> Result<Parsed, BootstrapError> {
    let format = Format::of_path(path).ok_or_else(|| BootstrapError::TextProto { path: path.to_owned() })?;
    let unreadable = |reason| BootstrapError::Unreadable { path: path.to_owned(), reason };
    // Opening a FIFO waits for its writer; its size is unknown, so it is read to the end.
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(BootstrapError::TooLong { path: path.to_owned() });
    }
    bootstrap_from_text(format, &bytes, options).map_err(|reason| invalid(path, reason))
}

fn invalid(source: &str, reason: JsonError) -> BootstrapError {
    BootstrapError::Invalid { source: source.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("millrace-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn node_id(parsed: &Parsed) -> String {
        millrace_proto::decode(&parsed.bytes).unwrap().node.unwrap_or_default().id
    }

    #[test]
    fn the_suffix_chooses_the_syntax_and_yaml_merges_over_it() {
        let dir = directory("bootstrap");
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let options = LoadOptions::default();
        let yaml = write("a.yaml", "node: {id: from-file, cluster: c}");
        let json = write("a.json", r#"{"node": {"id": "json"}}"#);
        let other = write("a.conf", "node: {id: x}");
        let text = write("a.pb_text", "node { id: \"x\" }");
        assert_eq!(node_id(&load(&yaml, "", &options).unwrap()), "from-file");
        assert_eq!(node_id(&load(&json, "", &options).unwrap()), "json");
        assert_eq!(node_id(&load(&yaml, "{\"node\": {\"id\": \"flag\"}}", &options).unwrap()), "flag");
        assert_eq!(node_id(&load("", "node: {id: alone}", &options).unwrap()), "alone");
        let error = load(&other, "", &options).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{other}: ")), "{error}");
        assert!(matches!(load(&text, "", &options), Err(BootstrapError::TextProto { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let options = LoadOptions::default();
        assert!(matches!(load("", "", &options), Err(BootstrapError::Nothing)));
        let error = load("/nonexistent/x.yaml", "", &options).unwrap_err().to_string();
        assert!(error.starts_with("Invalid path: /nonexistent/x.yaml: "), "{error}");
        let error = load("", "nodes: {}", &options).unwrap_err().to_string();
        assert!(error.starts_with("--config-yaml: ") && error.contains("nodes"), "{error}");
    }

    #[test]
    fn a_fifo_is_read_once() {
        let dir = directory("fifo");
        let path = dir.join("b.json");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let writer = path.clone();
        let thread = std::thread::spawn(move || std::fs::write(writer, r#"{"node": {"id": "fifo"}}"#));
        let parsed = load(path.to_str().unwrap(), "", &LoadOptions::default()).unwrap();
        assert_eq!(node_id(&parsed), "fifo");
        thread.join().unwrap().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
