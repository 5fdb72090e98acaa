//! TLS, inspectors and the PROXY protocol: names and labels as Envoy 1.40 printed them.

use std::sync::Arc;

use millrace_base::TlsFacts;

use super::super::{Registry, ScopeKind, proxy_proto, ssl, tls_inspector};
use super::*;

fn facts(cipher: &'static str, version: &'static str) -> TlsFacts {
    TlsFacts { cipher, version, curve: "X25519", peer: Some(Arc::default()), ..TlsFacts::default() }
}

const LISTENER: &str = "\
    listener.127.0.0.1_18120.server_ssl_socket_factory.downstream_context_secrets_not_ready: 0\n\
    listener.127.0.0.1_18120.server_ssl_socket_factory.ssl_context_update_by_sds: 0\n\
    listener.127.0.0.1_18120.server_ssl_socket_factory.upstream_context_secrets_not_ready: 0\n\
    listener.127.0.0.1_18120.ssl.ciphers.ECDHE-ECDSA-CHACHA20-POLY1305: 1\n\
    listener.127.0.0.1_18120.ssl.ciphers.TLS_AES_256_GCM_SHA384: 1\n\
    listener.127.0.0.1_18120.ssl.connection_error: 0\n\
    listener.127.0.0.1_18120.ssl.curves.X25519: 2\n\
    listener.127.0.0.1_18120.ssl.fail_verify_cert_hash: 0\n\
    listener.127.0.0.1_18120.ssl.fail_verify_error: 0\n\
    listener.127.0.0.1_18120.ssl.fail_verify_no_cert: 1\n\
    listener.127.0.0.1_18120.ssl.fail_verify_san: 0\n\
    listener.127.0.0.1_18120.ssl.handshake: 2\n\
    listener.127.0.0.1_18120.ssl.no_certificate: 0\n\
    listener.127.0.0.1_18120.ssl.ocsp_staple_failed: 0\n\
    listener.127.0.0.1_18120.ssl.ocsp_staple_omitted: 0\n\
    listener.127.0.0.1_18120.ssl.ocsp_staple_requests: 0\n\
    listener.127.0.0.1_18120.ssl.ocsp_staple_responses: 0\n\
    listener.127.0.0.1_18120.ssl.session_reused: 0\n\
    listener.127.0.0.1_18120.ssl.sigalgs.ecdsa_secp256r1_sha256: 2\n\
    listener.127.0.0.1_18120.ssl.versions.TLSv1.2: 1\n\
    listener.127.0.0.1_18120.ssl.versions.TLSv1.3: 1\n";

#[test]
fn a_listener_after_two_handshakes_and_a_failed_one() {
    let registry = Registry::new();
    let listener = registry.scope(ScopeKind::Listener, "127.0.0.1:18120");
    let scope = registry.tls_scopes(listener).unwrap().ssl;
    assert_eq!(registry.tls_scopes(listener).unwrap().ssl, scope);
    assert_eq!(registry.tls_scopes(scope), None);
    let mut shard = registry.attach_shard("worker_0");
    for facts in
        [facts("TLS_AES_256_GCM_SHA384", "TLSv1.3"), facts("ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2")]
    {
        ssl::handshake(&facts).for_each(|counter| shard.inc(scope, counter));
        shard.inc(scope, ssl::signature_algorithm(0x0403).unwrap());
    }
    shard.inc(scope, ssl::FAIL_VERIFY_NO_CERT);
    let mut out = String::new();
    let wants = |name: &str| name.contains("ssl");
    let selection = Selection { wants: &wants, ..Selection::ALL };
    assert!(render_text(&registry, &selection, &mut out));
    assert_eq!(out, LISTENER);
    registry.retire(listener);
    out.clear();
    assert!(render_text(&registry, &selection, &mut out));
    assert_eq!(out, "", "they go with their listener");
}

#[test]
fn labels() {
    let registry = Registry::new();
    let mut shard = registry.attach_shard("worker_0");
    let listener = registry.scope(ScopeKind::ListenerSsl, "127.0.0.1:18120.ssl");
    let cluster = registry.scope(ScopeKind::ClusterSsl, "up.ssl");
    let named = registry.scope(ScopeKind::ProxyProto, "pre");
    let plain = registry.scope(ScopeKind::ProxyProto, "");
    let inspector = registry.scope(ScopeKind::TlsInspector, "");
    for scope in [listener, cluster] {
        ssl::handshake(&facts("TLS_AES_256_GCM_SHA384", "TLSv1.3")).for_each(|at| shard.inc(scope, at));
    }
    shard.inc(cluster, ssl::signature_algorithm(0x0403).unwrap());
    shard.inc(named, proxy_proto::V1_FOUND);
    shard.inc(plain, proxy_proto::V2_ERROR);
    shard.inc(plain, proxy_proto::NOT_FOUND_ALLOWED);
    shard.inc(inspector, tls_inspector::SNI_FOUND);
    let used = Selection { used_only: true, ..Selection::ALL };
    let mut out = String::new();
    assert!(render_prometheus(&registry, &used, &mut out));
    let mut lines: Vec<&str> =
        out.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "envoy_cluster_ssl_ciphers{cipher_suite=\"TLS_AES_256_GCM_SHA384\",envoy_cluster_name=\"up\"} 1",
            "envoy_cluster_ssl_curves{envoy_ssl_curve=\"X25519\",envoy_cluster_name=\"up\"} 1",
            "envoy_cluster_ssl_handshake{envoy_cluster_name=\"up\"} 1",
            "envoy_cluster_ssl_sigalgs{envoy_ssl_sigalg=\"ecdsa_secp256r1_sha256\",envoy_cluster_name=\"up\"} 1",
            "envoy_cluster_ssl_versions{envoy_ssl_version=\"TLSv1.3\",envoy_cluster_name=\"up\"} 1",
            "envoy_listener_ssl_ciphers{envoy_ssl_cipher=\"TLS_AES_256_GCM_SHA384\",envoy_listener_address=\"127.0.0.1_18120\"} 1",
            "envoy_listener_ssl_curves{envoy_ssl_curve=\"X25519\",envoy_listener_address=\"127.0.0.1_18120\"} 1",
            "envoy_listener_ssl_handshake{envoy_listener_address=\"127.0.0.1_18120\"} 1",
            "envoy_listener_ssl_versions{envoy_ssl_version=\"TLSv1.3\",envoy_listener_address=\"127.0.0.1_18120\"} 1",
            "envoy_proxy_proto_error{envoy_proxy_protocol_version=\"2\"} 1",
            "envoy_proxy_proto_found{envoy_proxy_protocol_prefix=\"pre\",envoy_proxy_protocol_version=\"1\"} 1",
            "envoy_proxy_proto_not_found_allowed{} 1",
            "envoy_tls_inspector_sni_found{} 1",
        ]
    );
}
