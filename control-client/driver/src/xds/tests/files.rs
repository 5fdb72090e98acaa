//! Files: moved into place, swapped by symbolic links, broken and missing.

use std::os::unix::fs::symlink;

use millrace_ads::source::{ConfigSource, PathSource};
use millrace_ads::{Interest, ResourceType};
use millrace_config::SecretId;

use super::*;

fn yaml(names: &[&str]) -> String {
    let mut text = "resources:\n".to_owned();
    for name in names {
        text.push_str("- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n");
        text.push_str(&format!("  name: {name}\n"));
    }
    text
}

fn watch(path: PathBuf, watched_directory: Option<PathBuf>, interest: Interest) -> Sources {
    let mut sources = sources();
    sources.add(SOURCE, ConfigSource::Path(PathSource { path, watched_directory }), false);
    sources.subscribe(SOURCE, ResourceType::Cluster, interest);
    sources
}

async fn failure(sources: &mut Sources) -> String {
    match event(sources).await {
        Event::Failed { resource_type: ResourceType::Cluster, reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn changed(update: &Update) -> Vec<&str> {
    update.changed.iter().map(|resource| &*resource.name).collect()
}

#[tokio::test]
async fn a_move_onto_the_file_reloads_it_and_a_broken_one_changes_nothing() {
    let directory = Directory::new("file");
    let path = directory.replace("cds.yaml", yaml(&["a", "b"]).as_bytes());
    let mut sources = watch(path, None, Interest::Wildcard);
    let first = update(&mut sources).await;
    assert_eq!(changed(&first), ["a", "b"]);
    accept(&mut sources, &first);
    directory.replace("cds.yaml", b"resources: [{'@type': nope}]");
    let reason = failure(&mut sources).await;
    assert!(reason.contains("cds.yaml: resources[0]"), "{reason}");
    // Another file of the directory is none of our business; were it read, its error would come first.
    directory.replace("other.yaml", b"{");
    directory.replace("cds.yaml", yaml(&["b", "c"]).as_bytes());
    let second = update(&mut sources).await;
    assert_eq!(changed(&second), ["c"]);
    assert_eq!(second.removed, ["a".into()]);
    assert_ne!(second.id, first.id);
}

/// As Kubernetes updates a mounted ConfigMap: `file -> ..data/file`, `..data -> ..<time>`.
#[tokio::test]
async fn a_swapped_symbolic_link_reloads_with_a_watched_directory() {
    let directory = Directory::new("configmap");
    let generation = |name: &str, clusters: &[&str]| {
        std::fs::create_dir_all(directory.path(name)).unwrap();
        std::fs::write(directory.path(name).join("cds.yaml"), yaml(clusters)).unwrap();
        symlink(name, directory.path("..data_tmp")).unwrap();
        std::fs::rename(directory.path("..data_tmp"), directory.path("..data")).unwrap();
    };
    generation("..2026_1", &["a"]);
    symlink("..data/cds.yaml", directory.path("cds.yaml")).unwrap();
    let mut sources = watch(directory.path("cds.yaml"), Some(directory.0.clone()), Interest::Wildcard);
    let first = update(&mut sources).await;
    assert_eq!(changed(&first), ["a"]);
    accept(&mut sources, &first);
    generation("..2026_2", &["a", "b"]);
    assert_eq!(changed(&update(&mut sources).await), ["b"]);
}

#[tokio::test]
async fn each_name_gets_its_own_even_when_it_is_wanted_later() {
    let directory = Directory::new("names");
    let path = directory.replace("cds.yaml", yaml(&["a", "b"]).as_bytes());
    let mut sources = watch(path, None, name("a"));
    assert_eq!(changed(&update(&mut sources).await), ["a"]);
    sources.subscribe(SOURCE, ResourceType::Cluster, name("b"));
    assert_eq!(changed(&update(&mut sources).await), ["b"]);
}

#[tokio::test]
async fn a_file_without_the_secret_says_so_and_one_that_stays_is_named() {
    let directory = Directory::new("secrets");
    let text = |name: &str| {
        format!(
            "resources: [{{'@type': {}, name: {name}, tls_certificate: {{}}}}]",
            ResourceType::Secret.type_url()
        )
    };
    let path = directory.replace("sds.yaml", text("other").as_bytes());
    let mut sources = sources();
    sources.add(SOURCE, ConfigSource::Path(PathSource { path, watched_directory: None }), false);
    sources.subscribe(SOURCE, ResourceType::Secret, name("default"));
    let first = update(&mut sources).await;
    assert_eq!((changed(&first).len(), first.removed.clone()), (0, vec!["default".into()]));
    accept(&mut sources, &first);
    directory.replace("sds.yaml", text("default").as_bytes());
    let second = update(&mut sources).await;
    assert_eq!(changed(&second), ["default"]);
    accept(&mut sources, &second);
    // The files that it names may be others.
    directory.replace("sds.yaml", text("default").as_bytes());
    assert_eq!(update(&mut sources).await.unchanged, ["default".into()]);
}

#[tokio::test]
async fn a_missing_directory_is_told_once_and_waited_for() {
    let directory = Directory::new("missing");
    let path = directory.path("later").join("cds.json");
    let mut sources = watch(path.clone(), None, Interest::Wildcard);
    let reason = failure(&mut sources).await;
    assert!(reason.contains("later: No such file or directory"), "{reason}");
    std::fs::create_dir(directory.path("later")).unwrap();
    let text = r#"{"version_info": "7", "resources":
        [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a"}]}"#;
    directory.replace("later/cds.json", text.as_bytes());
    // The directory may be found before the file is in it.
    let got = loop {
        match event(&mut sources).await {
            Event::Update(update) => break update,
            Event::Failed { reason, .. } => assert!(reason.contains("No such file"), "{reason}"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((changed(&got), &*got.version), (vec!["a"], "7"));
    // A directory that is replaced is watched again.
    accept(&mut sources, &got);
    std::fs::rename(directory.path("later"), directory.path("old")).unwrap();
    std::fs::create_dir(directory.path("later")).unwrap();
    directory.replace("later/cds.json", text.replace("\"a\"", "\"b\"").as_bytes());
    assert_eq!(changed(&update(&mut sources).await), ["b"]);
}

#[tokio::test]
async fn directories_of_a_secret_are_told_of_until_others_are_named() {
    let (first, second) = (Directory::new("secret-1"), Directory::new("secret-2"));
    let mut sources = sources();
    let secret = SecretId(7);
    let moved = async |sources: &mut Sources| match event(sources).await {
        Event::FilesMoved(id) => assert_eq!(id, secret),
        other => panic!("{other:?}"),
    };
    sources.watch_files(SOURCE, secret, vec![first.0.clone()]);
    moved(&mut sources).await;
    first.replace("any", b"1");
    moved(&mut sources).await;
    sources.watch_files(SOURCE, secret, vec![second.0.clone(), first.path("missing")]);
    moved(&mut sources).await;
    let Event::Warning(text) = event(&mut sources).await else { panic!("a directory that is not there") };
    assert!(text.contains("missing"), "{text}");
    first.replace("any", b"2");
    // It comes late, is noticed, and the first directory alone says nothing any more.
    std::fs::create_dir(first.path("missing")).unwrap();
    moved(&mut sources).await;
    second.replace("any", b"3");
    moved(&mut sources).await;
    sources.watch_files(SOURCE, secret, Vec::new());
    second.replace("any", b"4");
    let silence = tokio::time::timeout(std::time::Duration::from_millis(200), sources.next()).await;
    assert!(silence.is_err(), "{silence:?}");
}
