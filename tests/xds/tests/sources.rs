//! Where configuration may come from besides an `envoy_grpc` cluster: files, `google_grpc`, and mixtures.

use std::path::Path;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Bootstrap;
use millrace_support::process::{Directory, Proxy};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Resource, Type};
use millrace_xds_tests::{World, get, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(everything_from_files),
    case!(a_bad_file_keeps_the_last_good_one),
    case!(a_watched_directory),
    case!(google_grpc),
    case!(static_and_dynamic_together),
    case!(listeners_over_ads_and_endpoints_from_a_file),
];

/// The file of a kind, as JSON, put in place by a move.
fn write(directory: &Path, name: &str, resources: &[Resource]) {
    let list: Vec<serde_json::Value> = resources
        .iter()
        .map(|r| millrace_proto::to_json(&r.body.type_url, &r.body.value).expect("a resource of ours"))
        .collect();
    let text = serde_json::json!({"version_info": "1", "resources": list}).to_string();
    replace(directory, name, &text);
}

fn replace(directory: &Path, name: &str, text: &str) {
    let hidden = directory.join(format!(".{name}.new"));
    std::fs::write(&hidden, text).expect("write a file");
    std::fs::rename(&hidden, directory.join(name)).expect("move a file");
}

fn path_source(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    format!("{{resource_api_version: V3, path_config_source: {{path: \"{}\"}}}}", path.display())
}

/// A proxy whose four kinds come from files of the directory.
fn from_files(subject: &Subject, directory: &Path, upstream: &Upstream) -> Proxy {
    let source = |name: &str| path_source(directory, name);
    let http = millrace_support::bootstrap::Http::rds("r", &source("rds.json"));
    write(directory, "lds.json", &[yaml::listener(&http)]);
    write(directory, "rds.json", &[yaml::route("r", "up")]);
    write(directory, "cds.json", &[yaml::eds_cluster_from("up", &source("eds.json"), "")]);
    write(directory, "eds.json", &[yaml::endpoints("up", &[upstream.address()])]);
    let dynamic = format!(
        "dynamic_resources: {{cds_config: {}, lds_config: {}}}",
        source("cds.json"),
        source("lds.json")
    );
    Proxy::start(subject, &Bootstrap::new().top(yaml::NODE).top(&dynamic))
}

fn everything_from_files(subject: &Subject) {
    let (directory, upstream, two) = (Directory::new(), Upstream::fixed("one"), Upstream::fixed("two"));
    let proxy = from_files(subject, directory.path(), &upstream);
    assert_eq!(get(&proxy), (200, "one".into()));
    write(directory.path(), "eds.json", &[yaml::endpoints("up", &[two.address()])]);
    wait_get(&proxy, 200, "two");
    let direct = "{match: {prefix: \"/\"}, direct_response: {status: 200, body: {inline_string: direct}}}";
    write(directory.path(), "rds.json", &[yaml::routes("r", direct)]);
    wait_get(&proxy, 200, "direct");
    write(directory.path(), "lds.json", &[]);
    wait::for_true("the listener to go", || proxy.bound("main").is_none());
}

fn a_bad_file_keeps_the_last_good_one(subject: &Subject) {
    let (directory, upstream) = (Directory::new(), Upstream::fixed("one"));
    let proxy = from_files(subject, directory.path(), &upstream);
    replace(directory.path(), "rds.json", "{this is no JSON");
    // The second change shows that the first one has been read.
    wait::for_true("the bad file to be noticed", || {
        proxy.stat("http.main.rds.r.update_failure").unwrap_or(0)
            + proxy.stat("http.main.rds.r.update_rejected").unwrap_or(0)
            > 0
    });
    assert_eq!(get(&proxy), (200, "one".into()));
    let direct = "{match: {prefix: \"/\"}, direct_response: {status: 200, body: {inline_string: direct}}}";
    write(directory.path(), "rds.json", &[yaml::routes("r", direct)]);
    wait_get(&proxy, 200, "direct");
}

/// As Kubernetes does it: a symbolic link to a folder is exchanged.
fn a_watched_directory(subject: &Subject) {
    let (directory, upstream, two) = (Directory::new(), Upstream::fixed("one"), Upstream::fixed("two"));
    let root = directory.path();
    let version = |n: usize, at: &Upstream| {
        let folder = root.join(format!("..v{n}"));
        std::fs::create_dir(&folder).expect("a folder");
        write(&folder, "cds.json", &[yaml::static_cluster("up", &[at.address()], "")]);
        let link = root.join("..data.new");
        std::os::unix::fs::symlink(&folder, &link).expect("a link");
        std::fs::rename(&link, root.join("..data")).expect("move a link");
    };
    version(1, &upstream);
    std::os::unix::fs::symlink(root.join("..data/cds.json"), root.join("cds.json")).expect("a link");
    let source = format!(
        "{{resource_api_version: V3, path_config_source: {{path: \"{0}/cds.json\", watched_directory: {{path: \"{0}\"}}}}}}",
        root.display()
    );
    let bootstrap =
        Bootstrap::new().top(yaml::NODE).top(&format!("dynamic_resources: {{cds_config: {source}}}"));
    let proxy = Proxy::start(
        subject,
        &bootstrap.http(
            millrace_support::bootstrap::Http::to("up")
                .route_config("validate_clusters: false")
                .without_log(),
        ),
    );
    wait_get(&proxy, 200, "one");
    version(2, &two);
    wait_get(&proxy, 200, "two");
}

fn google_grpc(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        let service = format!(
            "{{google_grpc: {{target_uri: \"{}\", stat_prefix: plane}}, initial_metadata: [{{key: k, value: v}}]}}",
            world.plane.tcp()
        );
        let dynamic = flavor.dynamic_resources("").replace("{envoy_grpc: {cluster_name: xds}}", &service);
        let proxy = Proxy::start(subject, &Bootstrap::new().top(yaml::NODE).top(&dynamic));
        assert_eq!(get(&proxy), (200, "one".into()));
        let stream = world.plane.streams().remove(0);
        assert!(stream.metadata.contains(&("k".into(), "v".into())), "{:?}", stream.metadata);
        world.plane.restart();
        world.plane.set(yaml::endpoints("up", &[]));
        wait_get(&proxy, 503, "no healthy upstream");
    }
}

/// Static resources stay what they are, whatever a control plane says of the same names.
fn static_and_dynamic_together(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let fixed = Upstream::fixed("fixed");
    world.plane.set(yaml::static_cluster("fixed", &[], ""));
    world.plane.set(yaml::route("r", "fixed"));
    let bootstrap = yaml::bootstrap(&world.plane, Flavor::AdsSotw).cluster("fixed", &[fixed.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    wait_get(&proxy, 200, "fixed");
    world.plane.set(yaml::route("r", "up"));
    wait_get(&proxy, 200, "one");
    world.plane.update(|change| {
        change.clear(Type::Cluster).set(yaml::route("r", "fixed"));
    });
    wait_get(&proxy, 200, "fixed");
}

fn listeners_over_ads_and_endpoints_from_a_file(subject: &Subject) {
    let (directory, two) = (Directory::new(), Upstream::fixed("two"));
    let world = World::start(Flavor::AdsDelta);
    write(directory.path(), "eds.json", &[yaml::endpoints("up", &[world.upstream.address()])]);
    world.plane.set(yaml::eds_cluster_from("up", &path_source(directory.path(), "eds.json"), ""));
    let proxy = Proxy::start(subject, &yaml::bootstrap(&world.plane, Flavor::AdsDelta));
    wait_get(&proxy, 200, "one");
    write(directory.path(), "eds.json", &[yaml::endpoints("up", &[two.address()])]);
    wait_get(&proxy, 200, "two");
    assert!(!world.plane.requests().iter().any(|r| r.is(Type::Endpoint)), "nobody asked for endpoints");
}
