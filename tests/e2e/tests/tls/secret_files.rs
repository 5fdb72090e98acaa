//! Secrets in files: the file of SDS itself, and files that a secret names.

use std::path::Path;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{Directory, Proxy};
use millrace_support::subject::Subject;
use millrace_support::tls::server::Options as ServerOptions;
use millrace_support::tls::{AlertDescription, Authority, Client, Context, Ending, Identity, Leaf, Server};
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Options, Type, from_yaml};

use crate::common::{
    Neighbour, STAT_PREFIX, client_identity, hello, mutual_client, next, pair, proxy_identity, root,
    server_identity, wait_shown,
};

pub(crate) const CASES: &[Case] = &[
    case!(a_file_that_is_replaced),
    case!(a_link_that_is_exchanged),
    case!(a_bad_file_keeps_the_last_good_pair),
    case!(attempts_are_reads),
    case!(a_pair_that_is_replaced_file_by_file),
    case!(a_pair_in_a_watched_directory),
    case!(
        an_expired_pair_in_files,
        not_envoy: "Envoy shows an expired certificate; the last good one is worth more"
    ),
    case!(
        a_directory_that_is_made_again,
        not_envoy: "Envoy's watch goes with the directory; ours looks for the new one"
    ),
    case!(authorities_in_a_file),
    case!(revocations_in_a_file),
    case!(files_of_a_secret_from_a_control_plane),
    case!(our_own_pair_towards_endpoints),
    case!(files_of_a_context_are_read_once),
];

/// Puts a file in place by a move.
fn replace(directory: &Path, name: &str, text: &str) {
    let hidden = directory.join(format!(".{name}.new"));
    std::fs::write(&hidden, text).expect("write a file");
    std::fs::rename(&hidden, directory.join(name)).expect("move a file");
}

fn secret_file(secret: &str) -> String {
    let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    format!("resources: [{{\"@type\": {kind}, {}]\n", secret.trim_start_matches('{'))
}

/// A listener whose pair comes from `path`; `more` are more fields of the source.
#[track_caller]
fn from_file(subject: &Subject, path: &Path, more: &str, upstream: &Upstream) -> Proxy {
    let source =
        format!("{{resource_api_version: V3, path_config_source: {{path: \"{}\"{more}}}}}", path.display());
    let context = Context::new()
        .common(&format!("tls_certificate_sds_secret_configs: [{{name: own, sds_config: {source}}}]"));
    let http = Http::to("up").listener(STAT_PREFIX).chain(&context.downstream());
    let bootstrap = Bootstrap::new().top(yaml::NODE).http(http).cluster("up", &[upstream.address()], "");
    Proxy::start(subject, &bootstrap)
}

fn a_file_that_is_replaced(subject: &Subject) {
    let (upstream, directory) = (hello(), Directory::new());
    replace(directory.path(), "own.yaml", &secret_file(&pair("own", proxy_identity())));
    let proxy = from_file(subject, &directory.path().join("own.yaml"), "", &upstream);
    wait_shown(&proxy, &Client::new(), proxy_identity());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    for _ in 0..3 {
        let fresh = next();
        replace(directory.path(), "own.yaml", &secret_file(&pair("own", &fresh)));
        wait_shown(&proxy, &Client::new(), &fresh);
        neighbour.is_served();
    }
}

/// As Kubernetes mounts secrets: the pair's files behind a link to a folder, watched as a whole.
fn a_link_that_is_exchanged(subject: &Subject) {
    let (upstream, directory) = (hello(), Directory::new());
    let at = directory.path();
    let version = |n: usize, identity: &Identity| {
        let folder = at.join(format!("..v{n}"));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("chain.pem"), identity.pem()).expect("write a file");
        std::fs::write(folder.join("key.pem"), identity.key_pem()).expect("write a file");
        let link = at.join("..data.new");
        std::os::unix::fs::symlink(&folder, &link).expect("a link");
        std::fs::rename(&link, at.join("..data")).expect("move a link");
    };
    version(0, proxy_identity());
    for name in ["chain.pem", "key.pem"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), at.join(name)).expect("a link");
    }
    let secret = format!(
        "{{name: own, tls_certificate: {{certificate_chain: {{filename: \"{0}/chain.pem\"}}, private_key: \
         {{filename: \"{0}/key.pem\"}}, watched_directory: {{path: \"{0}\"}}}}}}",
        at.display()
    );
    replace(at, "own.yaml", &secret_file(&secret));
    let proxy = from_file(subject, &at.join("own.yaml"), "", &upstream);
    wait_shown(&proxy, &Client::new(), proxy_identity());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    for n in 1..4 {
        let fresh = next();
        version(n, &fresh);
        wait_shown(&proxy, &Client::new(), &fresh);
        neighbour.is_served();
    }
}

fn a_bad_file_keeps_the_last_good_pair(subject: &Subject) {
    let (upstream, directory) = (hello(), Directory::new());
    replace(directory.path(), "own.yaml", &secret_file(&pair("own", proxy_identity())));
    let proxy = from_file(subject, &directory.path().join("own.yaml"), "", &upstream);
    let good = secret_file(&pair("own", &next()));
    let mut before = 0;
    for bad in [
        "resources: [".to_owned(),
        secret_file(&pair("own", &next().with_key_of(client_identity()))),
        good.replace("BEGIN CERTIFICATE", "BEGIN NOTHING"),
    ] {
        replace(directory.path(), "own.yaml", &bad);
        let failed = || {
            ["sds.own.update_rejected", "sds.own.update_failure"]
                .map(|name| proxy.stat(&format!("listener.main.server_ssl_socket_factory.{name}")))
                .into_iter()
                .chain(["sds.own.update_rejected", "sds.own.update_failure"].map(|name| proxy.stat(name)))
                .flatten()
                .sum::<u64>()
        };
        wait::for_true("the bad file to be noticed", || failed() > before);
        before = failed();
        wait_shown(&proxy, &Client::new(), proxy_identity());
    }
    let fresh = next();
    replace(directory.path(), "own.yaml", &secret_file(&pair("own", &fresh)));
    wait_shown(&proxy, &Client::new(), &fresh);
}

/// `sds.<name>.<what>`, which is there from the start.
#[track_caller]
fn sds(proxy: &Proxy, name: &str) -> u64 {
    proxy.stat(&format!("sds.{name}")).unwrap_or_default()
}

/// As measured: every read of the file is an attempt, also where it says the same.
fn attempts_are_reads(subject: &Subject) {
    let (upstream, directory) = (hello(), Directory::new());
    let at = directory.path();
    let good = secret_file(&pair("own", proxy_identity()));
    replace(at, "own.yaml", &good);
    let proxy = from_file(subject, &at.join("own.yaml"), "", &upstream);
    wait_shown(&proxy, &Client::new(), proxy_identity());
    let counted = ["attempt", "success", "rejected", "failure"];
    let wait_counts = |what: &str, wanted: [u64; 4]| {
        let mut found = [0; 4];
        let met = wait::until(wait::PATIENCE, || {
            found = counted.map(|name| sds(&proxy, &format!("own.update_{name}")));
            (found == wanted).then_some(())
        });
        assert!(met.is_some(), "{what}: {counted:?} are {found:?}, not {wanted:?}");
    };
    wait_counts("the first read", [1, 1, 0, 0]);
    replace(at, "own.yaml", &good);
    wait_counts("the same again", [2, 2, 0, 0]);
    replace(at, "own.yaml", "resources: [");
    wait_counts("broken", [3, 2, 0, 1]);
    replace(at, "own.yaml", "resources: []");
    wait_counts("without the secret", [4, 2, 1, 1]);
    replace(at, "own.yaml", &secret_file(&pair("own", &next().with_key_of(client_identity()))));
    wait_counts("a pair that does not fit", [5, 2, 2, 1]);
    let fresh = next();
    replace(at, "own.yaml", &secret_file(&pair("own", &fresh)));
    wait_counts("another pair", [6, 3, 2, 1]);
    wait_shown(&proxy, &Client::new(), &fresh);
}

/// A `Secret` whose pair is in `chain.pem` and `key.pem`; `more` are more fields of the pair.
fn pair_in_files(at: &Path, more: &str) -> String {
    format!(
        "{{name: own, tls_certificate: {{certificate_chain: {{filename: \"{0}/chain.pem\"}}, private_key: \
         {{filename: \"{0}/key.pem\"}}{more}}}}}",
        at.display()
    )
}

fn write_pair(at: &Path, identity: &Identity) {
    replace(at, "key.pem", identity.key_pem());
    replace(at, "chain.pem", &identity.pem());
}

/// A proxy with the pair of [`pair_in_files`], which is `proxy_identity` at first. The file of SDS lies elsewhere.
#[track_caller]
fn with_pair_in(subject: &Subject, at: &Path, more: &str, upstream: &Upstream) -> (Proxy, Directory) {
    let directory = Directory::new();
    write_pair(at, proxy_identity());
    replace(directory.path(), "own.yaml", &secret_file(&pair_in_files(at, more)));
    let proxy = from_file(subject, &directory.path().join("own.yaml"), "", upstream);
    wait_shown(&proxy, &Client::new(), proxy_identity());
    (proxy, directory)
}

/// The serial number of the first chain that `/certs` shows.
#[track_caller]
fn serial(proxy: &Proxy) -> String {
    let body = proxy.admin_get("/certs").body;
    let tree: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    tree["certificates"][0]["cert_chain"][0]["serial_number"].as_str().unwrap_or_default().to_owned()
}

/// Between the two moves key and chain do not fit: that is counted, and the last good pair stays.
fn rotate_file_by_file(subject: &Subject, more: &str) {
    let (upstream, files) = (hello(), Directory::new());
    let at = files.path();
    let more = more.replace("@AT@", &at.display().to_string());
    let (proxy, _kept) = with_pair_in(subject, at, &more, &upstream);
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    let mut last = proxy_identity().clone();
    for _ in 0..3 {
        let (before, failed) = (serial(&proxy), sds(&proxy, "own.key_rotation_failed"));
        let fresh = next();
        replace(at, "key.pem", fresh.key_pem());
        wait::for_true("the refusal", || sds(&proxy, "own.key_rotation_failed") > failed);
        wait_shown(&proxy, &Client::new(), &last);
        assert_eq!(serial(&proxy), before);
        replace(at, "chain.pem", &fresh.pem());
        wait_shown(&proxy, &Client::new(), &fresh);
        assert_ne!(serial(&proxy), before);
        neighbour.is_served();
        last = fresh;
    }
    let failed = sds(&proxy, "own.key_rotation_failed");
    replace(at, "chain.pem", "no certificate");
    wait::for_true("the refusal", || sds(&proxy, "own.key_rotation_failed") > failed);
    wait_shown(&proxy, &Client::new(), &last);
    // None of this is an update of SDS.
    assert_eq!((sds(&proxy, "own.update_attempt"), sds(&proxy, "own.update_rejected")), (1, 0));
    neighbour.is_served();
}

fn a_pair_that_is_replaced_file_by_file(subject: &Subject) {
    rotate_file_by_file(subject, "");
}

fn a_pair_in_a_watched_directory(subject: &Subject) {
    rotate_file_by_file(subject, ", watched_directory: {path: \"@AT@\"}");
}

fn an_expired_pair_in_files(subject: &Subject) {
    let (upstream, files) = (hello(), Directory::new());
    let (proxy, _kept) = with_pair_in(subject, files.path(), "", &upstream);
    let failed = sds(&proxy, "own.key_rotation_failed");
    write_pair(files.path(), &root().issue(&Leaf::dns("proxy.test").expired()));
    // The key alone, then the pair.
    wait::for_true("both refusals", || sds(&proxy, "own.key_rotation_failed") > failed + 1);
    wait_shown(&proxy, &Client::new(), proxy_identity());
}

fn a_directory_that_is_made_again(subject: &Subject) {
    let (upstream, files) = (hello(), Directory::new());
    let at = files.path().join("pair");
    std::fs::create_dir(&at).expect("a folder");
    let (proxy, _kept) = with_pair_in(subject, &at, "", &upstream);
    std::fs::remove_dir_all(&at).expect("remove a folder");
    wait_shown(&proxy, &Client::new(), proxy_identity());
    std::fs::create_dir(&at).expect("a folder");
    let fresh = next();
    write_pair(&at, &fresh);
    wait_shown(&proxy, &Client::new(), &fresh);
}

/// A listener whose validation context is a secret in a file, with these fields.
#[track_caller]
fn with_validation(subject: &Subject, fields: &str, upstream: &Upstream) -> (Proxy, Directory) {
    let directory = Directory::new();
    let secret = format!("{{name: roots, validation_context: {{{fields}}}}}");
    replace(directory.path(), "roots.yaml", &secret_file(&secret));
    let source = format!(
        "{{resource_api_version: V3, path_config_source: {{path: \"{}/roots.yaml\"}}}}",
        directory.path().display()
    );
    let context = Context::new().certificate(proxy_identity()).required();
    let context = context
        .common(&format!("validation_context_sds_secret_config: {{name: roots, sds_config: {source}}}"));
    let http = Http::to("up").listener(STAT_PREFIX).chain(&context.downstream());
    let bootstrap = Bootstrap::new().top(yaml::NODE).http(http).cluster("up", &[upstream.address()], "");
    (Proxy::start(subject, &bootstrap), directory)
}

/// Whoever the new authority does not vouch for is refused, sessions that could resume included.
fn authorities_in_a_file(subject: &Subject) {
    let (upstream, files) = (hello(), Directory::new());
    let at = files.path();
    replace(at, "ca.pem", root().pem());
    let fields = format!("trusted_ca: {{filename: \"{}/ca.pem\"}}", at.display());
    let (proxy, _kept) = with_validation(subject, &fields, &upstream);
    let address = proxy.listener("main");
    let old = mutual_client();
    wait_shown(&proxy, &old, proxy_identity());
    let mut neighbour = Neighbour::over_tls(&old, address);
    let second = Authority::root("second");
    let new = Client::new().identity(&second.issue(&Leaf::spiffe("spiffe://test/new")));
    assert_eq!(new.refusal(address), Ending::Alert(AlertDescription::UnknownCA));
    replace(at, "ca.pem", second.pem());
    wait_shown(&proxy, &new, proxy_identity());
    assert_eq!(old.refusal(address), Ending::Alert(AlertDescription::UnknownCA));
    replace(at, "ca.pem", "no authority");
    wait::for_true("the refusal", || sds(&proxy, "roots.key_rotation_failed") > 0);
    wait_shown(&proxy, &new, proxy_identity());
    replace(at, "ca.pem", root().pem());
    wait_shown(&proxy, &mutual_client(), proxy_identity());
    neighbour.is_served();
}

fn revocations_in_a_file(subject: &Subject) {
    let (upstream, files) = (hello(), Directory::new());
    let (authority, elsewhere) = (Authority::root("lists"), Directory::new());
    let (kept, revoked) = (
        authority.issue(&Leaf::spiffe("spiffe://test/kept")),
        authority.issue(&Leaf::spiffe("spiffe://test/revoked")),
    );
    replace(elsewhere.path(), "ca.pem", authority.pem());
    replace(files.path(), "crl.pem", &authority.crl(&[]));
    let fields = format!(
        "trusted_ca: {{filename: \"{}/ca.pem\"}}, crl: {{filename: \"{}/crl.pem\"}}",
        elsewhere.path().display(),
        files.path().display()
    );
    let (proxy, _kept) = with_validation(subject, &fields, &upstream);
    let list = authority.crl(&[&revoked]);
    let (kept, revoked) = (Client::new().identity(&kept), Client::new().identity(&revoked));
    wait_shown(&proxy, &revoked, proxy_identity());
    replace(files.path(), "crl.pem", &list);
    wait::for_true("the revocation", || revoked.try_refusal(proxy.listener("main")).is_some());
    assert_eq!(revoked.refusal(proxy.listener("main")), Ending::Alert(AlertDescription::CertificateRevoked));
    wait_shown(&proxy, &kept, proxy_identity());
}

/// The control plane names files, and need not say a word when they are replaced.
fn files_of_a_secret_from_a_control_plane(subject: &Subject) {
    let (upstream, files) = (hello(), Directory::new());
    write_pair(files.path(), proxy_identity());
    let plane = ControlPlane::start(Options::default());
    plane.set(from_yaml(Type::Secret, &pair_in_files(files.path(), "")));
    let source = Flavor::Sotw.config_source();
    let context = Context::new()
        .common(&format!("tls_certificate_sds_secret_configs: [{{name: own, sds_config: {source}}}]"));
    let http = Http::to("up").listener(STAT_PREFIX).chain(&context.downstream());
    let bootstrap = Bootstrap::new().top(yaml::NODE).http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &yaml::plane_cluster(bootstrap, "xds", &plane));
    wait_shown(&proxy, &Client::new(), proxy_identity());
    let mark = plane.mark();
    let fresh = next();
    write_pair(files.path(), &fresh);
    wait_shown(&proxy, &Client::new(), &fresh);
    assert!(plane.requests_since(mark).is_empty(), "{}", plane.transcript(mark));
    // Other files of the same name: the old place is no longer looked at.
    let elsewhere = Directory::new();
    let other = next();
    write_pair(elsewhere.path(), &other);
    plane.set(from_yaml(Type::Secret, &pair_in_files(elsewhere.path(), "")));
    wait_shown(&proxy, &Client::new(), &other);
    let failed = sds(&proxy, "own.key_rotation_failed");
    replace(files.path(), "key.pem", client_identity().key_pem());
    let last = next();
    replace(elsewhere.path(), "key.pem", last.key_pem());
    wait::for_true("one refusal", || sds(&proxy, "own.key_rotation_failed") > failed);
    replace(elsewhere.path(), "chain.pem", &last.pem());
    wait_shown(&proxy, &Client::new(), &last);
}

/// New connections to endpoints show the new pair; one that is open is used on.
fn our_own_pair_towards_endpoints(subject: &Subject) {
    let (upstream, files, directory) = (hello(), Directory::new(), Directory::new());
    let server = Server::start(ServerOptions::new(server_identity(), upstream.address()));
    write_pair(files.path(), client_identity());
    replace(directory.path(), "own.yaml", &secret_file(&pair_in_files(files.path(), "")));
    let source = format!(
        "{{resource_api_version: V3, path_config_source: {{path: \"{}/own.yaml\"}}}}",
        directory.path().display()
    );
    let context = Context::new()
        .trusts(&root())
        .common(&format!("tls_certificate_sds_secret_configs: [{{name: own, sds_config: {source}}}]"));
    let fields = format!("max_requests_per_connection: 2\n{}", context.upstream());
    let bootstrap = Bootstrap::new().top(yaml::NODE).http(Http::to("up"));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[server.address()], &fields));
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    let fresh = root().issue(&Leaf::spiffe("spiffe://test/fresh"));
    write_pair(files.path(), &fresh);
    let shown = |n: usize, identity: &Identity| {
        let facts = server.seen().get(n).and_then(|seen| seen.facts.clone());
        facts.is_some_and(|f| f.peer.first().is_some_and(|peer| **peer == *identity.chain[0]))
    };
    assert!(shown(0, client_identity()));
    wait::for_true("the new pair at the endpoint", || {
        assert_eq!(client.get("/").status, 200);
        shown(server.seen().len().saturating_sub(1), &fresh)
    });
    assert_eq!(sds(&proxy, "own.update_attempt"), 1);
}

/// Files that stand in the context itself, or in a static secret, are not watched, `watched_directory` or not.
fn files_of_a_context_are_read_once(subject: &Subject) {
    let (upstream, files, directory) = (hello(), Directory::new(), Directory::new());
    let at = files.path();
    write_pair(at, proxy_identity());
    let more = format!(", watched_directory: {{path: \"{}\"}}", at.display());
    let secret = pair_in_files(at, &more);
    replace(directory.path(), "own.yaml", &secret_file(&secret));
    let source = format!(
        "{{resource_api_version: V3, path_config_source: {{path: \"{}/own.yaml\"}}}}",
        directory.path().display()
    );
    let certificate = secret.trim_end_matches('}').replace("{name: own, tls_certificate: ", "") + "}}";
    let listener = |name: &str, common: &str| {
        Http::to("up").named(name).chain(&Context::new().common(common).downstream())
    };
    let watched = format!("tls_certificate_sds_secret_configs: [{{name: own, sds_config: {source}}}]");
    let bootstrap = Bootstrap::new()
        .top(yaml::NODE)
        .http(listener("main", &watched))
        .http(listener("inline", &format!("tls_certificates: [{certificate}]")))
        .cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    wait_shown(&proxy, &Client::new(), proxy_identity());
    for _ in 0..2 {
        let fresh = next();
        write_pair(at, &fresh);
        wait_shown(&proxy, &Client::new(), &fresh);
        let link = Client::new().connect(proxy.listener("inline"));
        assert_eq!(link.facts.peer[0].as_slice(), &*proxy_identity().chain[0]);
    }
}
