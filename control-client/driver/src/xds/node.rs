//! Who we say we are.

use std::collections::HashMap;

use millrace_proto::pb::envoy::config::core::v3::{BuildVersion, Extension, Node, node};
use millrace_proto::pb::envoy::r#type::v3::SemanticVersion;
use millrace_proto::pb::google::protobuf::{Struct, Value, value};

/// An extension that this build serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedExtension {
    /// For example `envoy.filters.http.router`.
    pub name: &'static str,
    /// For example `envoy.filters.http`.
    pub category: &'static str,
    /// Full names of its configuration messages.
    pub type_urls: &'static [&'static str],
}

/// The build that control planes check their compatibility with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build<'a> {
    /// `major`, `minor` and `patch` of the Envoy release whose configuration is served.
    pub version: (u32, u32, u32),
    /// `revision.sha`.
    pub revision: &'a str,
    /// `ssl.version`.
    pub ssl: &'a str,
}

/// The bootstrap's node as the first message of a stream carries it: Consul and Kuma refuse, or quietly leave out
/// extensions, when `user_agent_name` is not `envoy` or the version is missing. No client features, as Envoy.
pub fn node(bootstrap: Node, build: Build<'_>, extensions: &[ServedExtension]) -> Node {
    let (major_number, minor_number, patch) = build.version;
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let fields = HashMap::from([
        ("build.type".to_owned(), text("RELEASE")),
        ("revision.sha".to_owned(), text(build.revision)),
        ("revision.status".to_owned(), text("Clean")),
        ("ssl.version".to_owned(), text(build.ssl)),
    ]);
    let version = BuildVersion {
        version: Some(SemanticVersion { major_number, minor_number, patch }),
        metadata: Some(Struct { fields }),
    };
    Node {
        user_agent_name: "envoy".to_owned(),
        user_agent_version_type: Some(node::UserAgentVersionType::UserAgentBuildVersion(version)),
        extensions: extensions.iter().map(extension).collect(),
        ..bootstrap
    }
}

fn extension(served: &ServedExtension) -> Extension {
    Extension {
        name: served.name.to_owned(),
        category: served.category.to_owned(),
        type_urls: served.type_urls.iter().map(|&url| url.to_owned()).collect(),
        ..Extension::default()
    }
}

#[cfg(test)]
mod tests {
    use millrace_proto::pb_any::type_name;
    use millrace_proto::schema::Message as Schema;

    use super::*;
    use crate::xds::SERVED;

    #[test]
    fn control_planes_see_an_envoy_with_a_version() {
        let bootstrap = Node { id: "n".to_owned(), cluster: "c".to_owned(), ..Node::default() };
        let build = Build { version: (1, 40, 0), revision: "abc", ssl: "AWS-LC" };
        let node = node(bootstrap, build, SERVED);
        assert_eq!((&*node.id, &*node.cluster, &*node.user_agent_name), ("n", "c", "envoy"));
        let Some(node::UserAgentVersionType::UserAgentBuildVersion(built)) = node.user_agent_version_type
        else {
            panic!("a build version");
        };
        let version = built.version.unwrap();
        assert_eq!((version.major_number, version.minor_number, version.patch), (1, 40, 0));
        let mut keys: Vec<_> = built.metadata.unwrap().fields.into_keys().collect();
        keys.sort();
        assert_eq!(keys, ["build.type", "revision.sha", "revision.status", "ssl.version"]);
        assert!(node.client_features.is_empty());
        assert!(node.extensions.iter().any(|extension| extension.name == "envoy.filters.http.router"));
    }

    #[test]
    fn the_list_of_extensions_is_sorted_and_names_messages_that_exist() {
        assert!(SERVED.is_sorted_by_key(|served| (served.category, served.name)));
        for served in SERVED {
            for url in served.type_urls {
                assert!(Schema::by_name(type_name(url)).is_some(), "{url}");
            }
        }
    }
}
