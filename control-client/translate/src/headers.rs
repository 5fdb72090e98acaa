//! `*_headers_to_add` and `*_headers_to_remove`.

use millrace_config::{AppendAction, HeaderMutations, HeaderOption};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::{
    HeaderValueOption, header_value_option::HeaderAppendAction,
};

use crate::error::Rejection;
use crate::value;

/// `side` is `request` or `response`; it names the fields in errors.
pub(crate) fn mutations(
    add: &[HeaderValueOption],
    remove: &[String],
    side: &str,
    path: &Path,
) -> Result<HeaderMutations, Rejection> {
    if add.is_empty() && remove.is_empty() {
        return Ok(HeaderMutations::default());
    }
    let add_path = path.join(format!("{side}_headers_to_add"));
    let add = add.iter().enumerate().map(|(i, o)| option(o, &add_path.at(i))).collect::<Result<_, _>>()?;
    let remove_path = path.join(format!("{side}_headers_to_remove"));
    let mut names = Vec::with_capacity(remove.len());
    for (i, name) in remove.iter().enumerate() {
        if is_protected(name) {
            return Err(Rejection::new(&remove_path.at(i), ":-prefixed or host headers may not be removed"));
        }
        names.push(value::lower_bytes(name));
    }
    Ok(HeaderMutations { add, remove: names })
}

pub(crate) fn is_protected(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

/// One entry; the name is lower case from here on.
pub(crate) fn option(option: &HeaderValueOption, path: &Path) -> Result<HeaderOption, Rejection> {
    let Some(header) = &option.header else {
        return Err(Rejection::new(&path.join("header"), "value is required"));
    };
    if is_protected(&header.key) {
        let path = path.join("header").join("key");
        return Err(Rejection::new(&path, ":-prefixed or host headers may not be modified"));
    }
    let action = match (&option.append, option.append_action()) {
        (Some(_), action) if action != HeaderAppendAction::AppendIfExistsOrAdd => {
            return Err(Rejection::new(path, "Both append and append_action are set and it's not allowed"));
        }
        (Some(append), _) if append.value => AppendAction::AppendIfExistsOrAdd,
        (Some(_), _) => AppendAction::OverwriteIfExistsOrAdd,
        (None, HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
        (None, HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
        (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
        (None, HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
    };
    let value_path = path.join("header").join("value");
    let text = match header.raw_value.is_empty() {
        true => header.value.clone(),
        false => String::from_utf8(header.raw_value.clone()).map_err(|_| {
            Rejection::new(&path.join("header").join("raw_value"), "the value is not UTF-8 text")
        })?,
    };
    let template = value::template(&text, &value_path)?;
    Ok(HeaderOption {
        name: value::lower_bytes(&header.key),
        value: template,
        action,
        keep_empty_value: option.keep_empty_value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_proto::pb::envoy::config::core::v3::HeaderValue;
    use millrace_proto::pb::google::protobuf::BoolValue;

    fn entry(key: &str, value: &str) -> HeaderValueOption {
        let header = HeaderValue { key: key.into(), value: value.into(), raw_value: Vec::new() };
        HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
    }

    #[test]
    fn names_values_and_actions() {
        let mut replace = entry("X-A", "%PROTOCOL%");
        replace.append = Some(BoolValue { value: false });
        let changes = mutations(&[replace], &["X-B".into()], "request", &Path::default()).unwrap();
        assert_eq!(&*changes.add[0].name, b"x-a");
        assert_eq!(changes.add[0].action, AppendAction::OverwriteIfExistsOrAdd);
        assert_eq!(&*changes.remove[0], b"x-b");
        for (key, value) in [(":path", "a"), ("Host", "a"), ("x", "%FOO%")] {
            assert!(mutations(&[entry(key, value)], &[], "request", &Path::default()).is_err(), "{key}");
        }
        let refused = mutations(&[], &["host".into()], "response", &Path::from("route")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "route.response_headers_to_remove[0]: :-prefixed or host headers may not be removed"
        );
    }
}
