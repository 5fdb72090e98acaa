//! Small values that every message uses: durations, wrappers, texts, data sources.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::format::Template;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use millrace_proto::pb::google::protobuf;

use crate::error::Rejection;

/// A protobuf duration; a negative one counts as zero.
pub(crate) fn duration(value: &protobuf::Duration) -> Duration {
    match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
        (Ok(seconds), Ok(nanos)) => Duration::new(seconds, nanos.min(999_999_999)),
        _ => Duration::ZERO,
    }
}

/// A limit where absent and 0 both mean none.
pub(crate) fn limit(value: Option<&protobuf::Duration>) -> Option<Duration> {
    value.map(duration).filter(|d| !d.is_zero())
}

/// A limit with a default, where 0 means none.
pub(crate) fn limit_or(value: Option<&protobuf::Duration>, default: Duration) -> Option<Duration> {
    Some(value.map_or(default, duration)).filter(|d| !d.is_zero())
}

/// An override: absent, or none (0), or a limit.
pub(crate) fn limit_override(value: Option<&protobuf::Duration>) -> Option<Option<Duration>> {
    value.map(|value| Some(duration(value)).filter(|d| !d.is_zero()))
}

/// The value of an optional boolean.
pub(crate) fn flag(value: Option<&protobuf::BoolValue>, default: bool) -> bool {
    value.map_or(default, |value| value.value)
}

/// The value of an optional number.
pub(crate) fn number(value: Option<&protobuf::UInt32Value>, default: u32) -> u32 {
    value.map_or(default, |value| value.value)
}

/// Header names compare in lower case.
pub(crate) fn lower_bytes(text: &str) -> Arc<[u8]> {
    Arc::from(text.to_ascii_lowercase().into_bytes())
}

/// A text to be shared; an empty one, which most optional names are, costs nothing.
pub(crate) fn text(text: &str) -> Arc<str> {
    if text.is_empty() { Arc::default() } else { text.into() }
}

/// The bytes of a text.
pub(crate) fn bytes(text: &str) -> Arc<[u8]> {
    Arc::from(text.as_bytes())
}

/// A format string. Commands that Envoy has and this build has not are told from those that nobody has.
pub(crate) fn template(text: &str, path: &Path) -> Result<Template, Rejection> {
    Template::parse(text).map_err(|error| {
        let why = error.to_string();
        match why.contains("not served yet") {
            true => Rejection::not_served(path, why),
            false => Rejection::new(path, why),
        }
    })
}

/// Reads a data source now: a file, the environment or inline.
pub(crate) fn data_source(source: &DataSource, path: &Path) -> Result<Vec<u8>, Rejection> {
    match &source.specifier {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::Filename(name)) => std::fs::read(name).map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => format!("file {name} does not exist"),
                _ => format!("unable to read file {name}: {error}"),
            };
            Rejection::new(&path.join("filename"), why)
        }),
        Some(Specifier::EnvironmentVariable(name)) => match std::env::var(name) {
            Ok(value) => Ok(value.into_bytes()),
            Err(_) => {
                let why = format!("Environment variable doesn't exist: {name}");
                Err(Rejection::new(&path.join("environment_variable"), why))
            }
        },
        None => Err(Rejection::new(path, "Unexpected DataSource::specifier_case(): 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let zero = protobuf::Duration { seconds: 0, nanos: 0 };
        let second = protobuf::Duration { seconds: 1, nanos: 500 };
        assert_eq!(limit(None), None);
        assert_eq!(limit(Some(&zero)), None);
        assert_eq!(limit(Some(&second)), Some(Duration::new(1, 500)));
        assert_eq!(limit_or(None, Duration::from_secs(3)), Some(Duration::from_secs(3)));
        assert_eq!(limit_or(Some(&zero), Duration::from_secs(3)), None);
        assert_eq!(limit_override(Some(&zero)), Some(None));
        assert_eq!(duration(&protobuf::Duration { seconds: -1, nanos: 0 }), Duration::ZERO);
    }

    #[test]
    fn missing_sources_are_refused() {
        let source = |specifier| DataSource { specifier: Some(specifier), ..DataSource::default() };
        let path = Path::from("body");
        let inline = source(Specifier::InlineString("x".into()));
        assert_eq!(data_source(&inline, &path).unwrap(), b"x");
        let file = data_source(&source(Specifier::Filename("/nonexistent".into())), &path).unwrap_err();
        assert_eq!(file.to_string(), "body.filename: file /nonexistent does not exist");
        assert!(
            data_source(&source(Specifier::EnvironmentVariable("MILLRACE_NO_SUCH".into())), &path).is_err()
        );
        assert!(data_source(&DataSource::default(), &path).is_err());
    }
}
