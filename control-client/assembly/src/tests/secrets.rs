//! SDS.

use std::sync::Arc;
use std::time::Duration;

use millrace_ads::ResourceType::{Cluster, Listener, Secret};
use millrace_config::SecretId;
use millrace_observe::stats::{ScopeKind, sds};

use super::lab::*;
use crate::Action;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../translate/src/transport_socket/testdata/");

fn pair(name: &str, chain: &str, key: &str) -> String {
    format!(
        "{{ name: {name}, tls_certificate: {{ certificate_chain: {{ filename: {DATA}{chain} }}, \
         private_key: {{ filename: {DATA}{key} }} }} }}"
    )
}

fn authority(name: &str) -> String {
    format!("{{ name: {name}, validation_context: {{ trusted_ca: {{ filename: {DATA}ca.pem }} }} }}")
}

fn reference(name: &str) -> String {
    format!("{{ name: {name}, sds_config: {{ ads: {{}}, resource_api_version: V3 }} }}")
}

fn socket(side: &str, common: &str) -> String {
    let kind = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext");
    format!(
        "transport_socket: {{ name: tls, typed_config: {{ '@type': {kind}, common_tls_context: {{ {common} }} }} }}"
    )
}

fn tls_listener(name: &str, port: u16) -> String {
    let matchers = "match_typed_subject_alt_names: [{ san_type: URI, matcher: { prefix: 'spiffe://td/' } }]";
    let common = format!(
        "tls_certificate_sds_secret_configs: [{}], combined_validation_context: \
         {{ default_validation_context: {{ {matchers} }}, validation_context_sds_secret_config: {} }}",
        reference("default"),
        reference("ROOTCA")
    );
    let tcp = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let filters =
        format!("filters: [{{ name: t, typed_config: {{ '@type': {tcp}, stat_prefix: s, cluster: c }} }}]");
    listener(name, port, &format!("{{ {filters}, {} }}", socket("Downstream", &common)))
}

fn tls_cluster(name: &str) -> String {
    let common = format!("tls_certificate_sds_secret_configs: [{}]", reference("default"));
    static_cluster(name, 1).replace("{ name:", &format!("{{ {}, name:", socket("Upstream", &common)))
}

fn secret(lab: &Lab, id: u32) -> Option<millrace_config::Secret> {
    lab.assembly.snapshot().secret(SecretId(id)).cloned()
}

#[test]
fn a_listener_waits_for_its_secrets_and_is_told_of_new_ones() {
    let mut lab = Lab::serving();
    let actions = lab.say(Listener, &[tls_listener("l", 1)], &[]);
    assert_eq!(subscribed(&actions, Secret), ["default", "ROOTCA"]);
    assert!(lab.host.log.is_empty(), "not served yet");
    lab.say(Secret, &[pair("default", "ec.pem", "ec.key")], &[]);
    assert!(lab.host.log.is_empty(), "the authorities are missing");
    lab.say(Secret, &[authority("ROOTCA")], &[]);
    assert_eq!(lab.host.log, ["bind l"]);
    let first = secret(&lab, 0).unwrap();

    let actions = lab.say(Secret, &[pair("default", "rsa.pem", "rsa.key")], &[]);
    let update = &published(&actions)[0];
    assert_eq!((update.secrets.len(), update.listeners.len()), (1, 0), "nothing else moves");
    assert!(verdicts(&actions)[0].rejected.is_empty());
    let of = |secret: &millrace_config::Secret| match secret {
        millrace_config::Secret::Certificate(pair) => Arc::clone(pair),
        _ => panic!("a certificate"),
    };
    assert_ne!(of(&first).chain, of(&secret(&lab, 0).unwrap()).chain);
    let actions = lab.say(Secret, &[pair("default", "rsa.pem", "rsa.key")], &[]);
    assert!(published(&actions).is_empty(), "the same pair once more");
}

#[test]
fn a_bad_secret_leaves_the_good_one() {
    let mut lab = Lab::serving();
    lab.now = lab.now + Duration::from_secs(1_795_730_000);
    lab.say(Listener, &[tls_listener("l", 1)], &[]);
    lab.say(Secret, &[pair("default", "ec.pem", "ec.key"), authority("ROOTCA")], &[]);
    let mut refused = |text: String| {
        let actions = lab.say(Secret, &[text], &[]);
        assert!(published(&actions).is_empty());
        verdicts(&actions)[0].rejected[0].reason.clone()
    };
    let reason = refused(pair("default", "ec.pem", "ec2.key"));
    assert!(reason.starts_with("tls_certificate.private_key: "), "{reason}");
    let reason = refused(pair("default", "expired.pem", "ec.key"));
    assert!(reason.contains("has expired"), "{reason}");
    let reason = refused(authority("default"));
    assert!(reason.contains("not a TLS certificate"), "{reason}");
    let reason = refused("{ name: ROOTCA, validation_context: {} }".to_owned());
    assert!(reason.contains("without trusted CA is insecure"), "{reason}");
    let scope = lab.registry.scope(ScopeKind::Sds, "default");
    assert_eq!(lab.registry.counter(scope, sds::UPDATE_REJECTED), 3);
    let entry = lab.assembly.dynamic_secrets().find(|entry| entry.name == "default").unwrap();
    assert!(entry.active.is_some() && entry.failure.is_some() && entry.warming.is_none());
}

#[test]
fn a_secret_that_does_not_come_is_given_up_and_welcome_later() {
    let mut lab = Lab::serving();
    lab.say(Listener, &[tls_listener("l", 1)], &[]);
    lab.say(Secret, &[authority("ROOTCA")], &[]);
    lab.after(Duration::from_secs(15));
    assert_eq!(lab.host.log, ["bind l"], "it serves, and handshakes fail closed");
    assert!(secret(&lab, 0).is_none());
    lab.say(Secret, &[pair("default", "ec.pem", "ec.key")], &[]);
    assert!(secret(&lab, 0).is_some());
    let scope = lab.registry.scope(ScopeKind::Sds, "default");
    assert_eq!(lab.registry.counter(scope, sds::INIT_FETCH_TIMEOUT), 1);
}

#[test]
fn a_refused_first_secret_ends_the_wait() {
    let mut lab = Lab::serving();
    lab.say(Listener, &[tls_listener("l", 1)], &[]);
    lab.say(Secret, &[authority("ROOTCA"), pair("default", "ec.pem", "ec2.key")], &[]);
    assert_eq!(lab.host.log, ["bind l"]);
    assert!(secret(&lab, 0).is_none());
}

#[test]
fn a_cluster_waits_and_what_nobody_needs_is_let_go() {
    let mut lab = Lab::serving();
    let actions = lab.say(Cluster, &[tls_cluster("a"), tls_cluster("b")], &[]);
    assert_eq!(subscribed(&actions, Secret), ["default"], "one subscription for both");
    assert!(verdicts(&actions).is_empty() && lab.assembly.snapshot().cluster_by_name("a").is_none());
    let actions = lab.say(Secret, &[pair("default", "ec.pem", "ec.key")], &[]);
    assert_eq!(verdicts(&actions).len(), 2, "the clusters and the secret");
    assert!(lab.assembly.snapshot().cluster_by_name("b").is_some());
    // A version without TLS lets go of it, the other cluster does not.
    lab.say(Cluster, &[static_cluster("a", 1)], &[]);
    lab.after(Duration::from_secs(700));
    assert!(secret(&lab, 0).is_some());
    lab.say(Cluster, &[], &["b"]);
    let actions = lab.after(Duration::from_secs(700));
    assert!(actions.iter().any(|action| matches!(action, Action::Unsubscribe(_, Secret, _))));
    assert!(secret(&lab, 0).is_none() && lab.assembly.dynamic_secrets().next().is_none());
}

/// Files of a secret, in a directory that is removed with the value.
struct Files(std::path::PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-assembly-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, from: &str, to: &str) {
        std::fs::copy(format!("{DATA}{from}"), self.0.join(to)).unwrap();
    }

    fn secret(&self) -> String {
        pair("default", "chain.pem", "key.pem").replace(DATA, &format!("{}/", self.0.display()))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn watched(actions: &[Action]) -> Vec<(SecretId, Vec<std::path::PathBuf>)> {
    let watched = |action: &Action| match action {
        Action::WatchFiles(_, id, directories) => Some((*id, directories.clone())),
        _ => None,
    };
    actions.iter().filter_map(watched).collect()
}

#[test]
fn files_of_a_secret_are_read_again() {
    let (mut lab, files) = (Lab::serving(), Files::new("again"));
    lab.now = lab.now + Duration::from_secs(1_795_730_000);
    files.put("ec.pem", "chain.pem");
    files.put("ec.key", "key.pem");
    lab.say(Listener, &[tls_listener("l", 1)], &[]);
    let actions = lab.say(Secret, &[files.secret(), authority("ROOTCA")], &[]);
    let data = std::path::PathBuf::from(DATA.trim_end_matches('/'));
    assert_eq!(watched(&actions), [(SecretId(0), vec![files.0.clone()]), (SecretId(1), vec![data])]);
    let moved =
        |lab: &mut Lab, id| lab.work(|assembly, turn| assembly.secret_files_moved(turn, SecretId(id)));
    assert!(published(&moved(&mut lab, 0)).is_empty(), "the same files");
    assert!(published(&moved(&mut lab, 1)).is_empty(), "the same files");

    let scope = lab.registry.scope(ScopeKind::Sds, "default");
    let failed = |lab: &Lab| lab.registry.counter(scope, sds::KEY_ROTATION_FAILED);
    files.put("rsa.pem", "chain.pem");
    let actions = moved(&mut lab, 0);
    assert!(published(&actions).is_empty() && failed(&lab) == 1, "a pair that does not fit");
    let logged = |action: &Action| matches!(action, Action::Log(_, text) if text.contains("'default'"));
    assert!(actions.iter().any(logged), "{actions:?}");
    files.put("rsa.key", "key.pem");
    let actions = moved(&mut lab, 0);
    assert_eq!(published(&actions)[0].secrets.len(), 1);
    files.put("expired.pem", "chain.pem");
    files.put("ec.key", "key.pem");
    assert!(published(&moved(&mut lab, 0)).is_empty() && failed(&lab) == 2);
    // The same message once more is no reason to read what was refused.
    assert_eq!(lab.registry.counter(scope, sds::UPDATE_REJECTED), 0);

    // Other files, and then none at all.
    let other = Files::new("other");
    other.put("ec.pem", "chain.pem");
    other.put("ec.key", "key.pem");
    let actions = lab.say(Secret, &[other.secret()], &[]);
    assert_eq!(watched(&actions), [(SecretId(0), vec![other.0.clone()])]);
    lab.say(Listener, &[], &["l"]);
    let actions = lab.after(Duration::from_secs(1300));
    assert_eq!(watched(&actions), [(SecretId(0), vec![]), (SecretId(1), vec![])]);
    assert!(moved(&mut lab, 0).is_empty(), "a late word about a secret that is gone");
}
