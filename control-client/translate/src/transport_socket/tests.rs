//! Contexts of TLS as control planes send them, and what real Envoy refuses, in its words.

use millrace_config::{
    CipherSuite, Cluster, Curve, Listener, SanKind, Secret, SecretSource, SessionTickets, TlsVersion,
    UpstreamProtocol, ValidationSource,
};
use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, bootstrap_from_yaml, message_from_json, schema, yaml};

use crate::error::RejectionKind::{self, Invalid, NotServed};
use crate::resource::{self, CLUSTER, LISTENER, SECRET};
use crate::{Context, Overrides, Rejection, SecretKind};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/transport_socket/testdata/");
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const TCP: &str = "filters: [{name: t, typed_config: {'@type': \
                   t/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}]";
const PAIR: &str = "{certificate_chain: F(ec.pem), private_key: F(ec.key)}";

/// `PAIR` and `F(file)` stand for what is long.
fn expand(text: &str) -> String {
    let mut out = text.replace("PAIR", PAIR).replace("TLS/", &format!("{TLS}."));
    while let Some(at) = out.find("F(") {
        let end = at + out[at..].find(')').unwrap();
        out = format!("{}{{filename: {DATA}{}}}{}", &out[..at], &out[at + 2..end], &out[end + 1..]);
    }
    out
}

fn bytes(type_url: &str, text: &str) -> Vec<u8> {
    let message = schema::Message::by_type_url(type_url).unwrap();
    message_from_json(message, &yaml::parse(&expand(text)).unwrap()).unwrap()
}

fn context() -> Context {
    Context::new(Registry::new(), Overrides::default())
}

fn listener_in(fields: &str, cx: &mut Context) -> Result<Listener, Rejection> {
    let text = format!("{{name: l, address: {{pipe: {{path: /x}}}}, {fields}}}");
    resource::listener(&bytes(LISTENER, &text), None, cx).map(|translated| translated.value)
}

fn cluster_in(fields: &str, cx: &mut Context) -> Result<Cluster, Rejection> {
    resource::cluster(&bytes(CLUSTER, &format!("{{name: c, {fields}}}")), None, cx).map(|t| t.value)
}

fn downstream(context: &str) -> Result<Listener, Rejection> {
    let socket = format!(
        "transport_socket: {{name: t, typed_config: {{'@type': TLS/DownstreamTlsContext, {context}}}}}"
    );
    listener_in(&format!("filter_chains: [{{{TCP}, {socket}}}]"), &mut self::context())
}

fn upstream(context: &str) -> Result<Cluster, Rejection> {
    let socket = format!(
        "transport_socket: {{name: t, typed_config: {{'@type': TLS/UpstreamTlsContext, {context}}}}}"
    );
    cluster_in(&socket, &mut self::context())
}

#[test]
fn a_server_as_istio_writes_it() {
    let mut cx = context();
    let socket = "transport_socket: {name: t, typed_config: {'@type': TLS/DownstreamTlsContext, require_client_certificate: true, \
         common_tls_context: {tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3, \
         cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES128-GCM-SHA256, AES256-GCM-SHA384]}, \
         alpn_protocols: [istio-peer-exchange, h2, http/1.1], \
         tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}, initial_fetch_timeout: 0s}}], \
         combined_validation_context: {default_validation_context: {match_typed_subject_alt_names: \
         [{san_type: URI, matcher: {prefix: 'spiffe://td/'}}]}, \
         validation_context_sds_secret_config: {name: ROOTCA, sds_config: {ads: {}}}}}}}";
    let listener = listener_in(&format!("filter_chains: [{{{TCP}, {socket}}}]"), &mut cx).unwrap();
    let tls = listener.filter_chains[0].tls.clone().unwrap();
    assert!(tls.require_client_certificate && matches!(tls.tickets, SessionTickets::Own));
    let suites = &tls.common.params.cipher_suites;
    assert_eq!(suites[..], [CipherSuite::EcdheEcdsaAes256Gcm, CipherSuite::EcdheRsaAes128Gcm]);
    assert_eq!(&*tls.common.alpn[0], b"istio-peer-exchange");
    let [SecretSource::Sds(certificate)] = tls.common.certificates[..] else { panic!("SDS") };
    let ValidationSource::Sds { default, secret } = &tls.common.validation else { panic!("SDS") };
    assert_eq!(default.san_matchers[0].kind, SanKind::Uri);
    assert!(default.san_matchers[0].matcher.matches(b"spiffe://td/ns/a/sa/b"));
    let info = cx.secrets.get(certificate).unwrap();
    assert_eq!(
        (&*info.name, info.kind, info.initial_fetch_timeout),
        ("default", SecretKind::Certificate, None)
    );
    assert_eq!(cx.secrets.get(*secret).unwrap().kind, SecretKind::Validation);
}

#[test]
fn a_client_as_consul_writes_it() {
    let cluster = upstream(
        "sni: a.b, max_session_keys: 0, common_tls_context: {tls_certificates: [PAIR], alpn_protocols: ['h2,http/1.1'], \
         tls_params: {tls_minimum_protocol_version: TLSv1_3, ecdh_curves: [X25519MLKEM768, P-256], signature_algorithms: [ecdsa_secp256r1_sha256]}, \
         validation_context: {trusted_ca: F(ca.pem), crl: F(crl.pem), match_subject_alt_names: [{exact: x}], max_verify_depth: 3, \
         verify_certificate_spki: ['NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A='], \
         verify_certificate_hash: ['DF:6F:F7:2F:E9:11:65:21:26:8F:6F:2D:D4:96:6F:51:DF:47:98:83:FE:70:37:B3:9F:75:91:6A:C3:04:9D:1A']}}",
    )
    .unwrap();
    let tls = cluster.transport.tls.unwrap();
    assert_eq!((&*tls.sni, tls.max_session_keys, tls.common.alpn.len()), ("a.b", 0, 2));
    assert_eq!(tls.common.params.minimum, TlsVersion::V1_3);
    assert_eq!(tls.common.params.curves, [Curve::X25519MlKem768, Curve::P256]);
    assert_eq!(tls.common.params.signature_schemes[0].0, 0x0403);
    let [SecretSource::Inline(certificate)] = &tls.common.certificates[..] else { panic!("inline") };
    assert!(certificate.chain.len() == 1 && certificate.origin.ends_with("/ec.pem"));
    let ValidationSource::Inline(context) = &tls.common.validation else { panic!("inline") };
    assert_eq!((context.crls.len(), context.san_matchers.len(), context.max_verify_depth), (1, 4, Some(3)));
    assert_eq!((context.spki_hashes[0][0], context.certificate_hashes[0][31]), (0x36, 0x1a));
}

#[test]
fn secrets_of_the_bootstrap_and_shared_copies() {
    let text = expand(
        "static_resources: {secrets: [{name: p, tls_certificate: PAIR}, {name: v, validation_context: {trusted_ca: F(ca.pem)}}, \
         {name: k, session_ticket_keys: {keys: [F(ticket)]}}, {name: unused, tls_certificate: {certificate_chain: F(ec.pem)}}], \
         clusters: [{name: c, transport_socket: {name: t, typed_config: {'@type': TLS/UpstreamTlsContext, common_tls_context: {tls_certificate_sds_secret_configs: [{name: p}]}}}}], \
         listeners: [{name: l, address: {pipe: {path: /x}}, filter_chains: [{TCP, transport_socket: {name: t, typed_config: {'@type': TLS/DownstreamTlsContext, \
         session_ticket_keys_sds_secret_config: {name: k}, session_timeout: 60s, common_tls_context: {tls_certificate_sds_secret_configs: [{name: p}], \
         combined_validation_context: {default_validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: x}}]}, validation_context_sds_secret_config: {name: v}}}}}}]}]}",
    )
    .replace("{TCP", &format!("{{{TCP}"));
    let parsed = bootstrap_from_yaml(&text, &LoadOptions::default()).unwrap();
    let compiled = crate::bootstrap(&parsed.bytes, &mut context()).unwrap();
    let listener = &compiled.snapshot.listeners[0];
    let server = listener.filter_chains[0].tls.as_ref().unwrap();
    let client = compiled.snapshot.cluster_by_name("c").unwrap().transport.tls.clone().unwrap();
    let pair = |common: &millrace_config::TlsCommon| match &common.certificates[..] {
        [SecretSource::Inline(pair)] => std::sync::Arc::clone(pair),
        _ => panic!("inline"),
    };
    assert!(std::sync::Arc::ptr_eq(&pair(&server.common), &pair(&client.common)), "one copy");
    let ValidationSource::Inline(merged) = &server.common.validation else { panic!("inline") };
    assert!(merged.trusted_ca.is_some() && merged.san_matchers.len() == 1);
    assert!(matches!(&server.tickets, SessionTickets::Keys(SecretSource::Inline(keys)) if keys.0.len() == 1));
}

#[test]
fn identities_of_spiffe() {
    let listener = downstream(
        "common_tls_context: {tls_certificates: [PAIR], validation_context: {custom_validator_config: {name: envoy.tls.cert_validator.spiffe, \
         typed_config: {'@type': TLS/SPIFFECertValidatorConfig, trust_domains: [{name: a.b, trust_bundle: F(ca.pem)}]}}}}",
    )
    .unwrap();
    let tls = listener.filter_chains[0].tls.clone().unwrap();
    let ValidationSource::Inline(context) = &tls.common.validation else { panic!("inline") };
    let domains = context.spiffe.as_ref().unwrap();
    assert_eq!((&*domains[0].name, domains[0].bundle.len()), ("a.b", 1));
}

#[test]
fn sockets_by_the_metadata_of_endpoints() {
    let mut cx = context();
    let raw =
        "{name: r, typed_config: {'@type': t/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}";
    let tls = "{name: t, typed_config: {'@type': TLS/UpstreamTlsContext}}";
    let proxy = format!(
        "{{name: p, typed_config: {{'@type': t/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, config: {{version: V2, added_tlvs: [{{type: 5, value: YQ==}}]}}, transport_socket: {tls}}}}}"
    );
    let endpoint = "{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 1}}}, metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio, n: 1, b: true}}}}";
    let other = "{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 1}}}}";
    let cluster = cluster_in(
        &format!(
            "transport_socket: {raw}, transport_socket_matches: [{{name: m, match: {{tlsMode: istio}}, transport_socket: {proxy}}}, \
             {{name: d, match: {{}}, transport_socket: {raw}}}], load_assignment: {{cluster_name: c, endpoints: [{{metadata: {{filter_metadata: {{envoy.transport_socket_match: {{z: 1}}}}}}, \
             lb_endpoints: [{endpoint}, {other}]}}]}}"
        ),
        &mut cx,
    )
    .unwrap();
    let [first, second] = &cluster.localities[0].endpoints[..] else { panic!("two") };
    let metadata = first.transport_metadata.clone().unwrap();
    let [strict, default] = &cluster.transport_matches[..] else { panic!("two") };
    assert!(strict.matches(&metadata) && default.matches(&[]) && !strict.matches(&[]));
    assert_eq!(&*second.transport_metadata.clone().unwrap()[0].0, "z", "the locality's");
    let header = strict.transport.proxy_protocol.clone().unwrap();
    assert!(strict.transport.tls.is_some() && header.added_tlvs == [(5, b"a".to_vec())]);
}

#[test]
fn alpn_chooses_the_version_where_there_is_tls_only() {
    let http = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': t/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
                auto_config: {}, upstream_http_protocol_options: {auto_sni: true, auto_san_validation: true, override_auto_sni_header: X-Name}}}";
    let tls = "transport_socket: {name: t, typed_config: {'@type': TLS/UpstreamTlsContext}}";
    let cluster = cluster_in(&format!("{http}, {tls}"), &mut context()).unwrap();
    assert_eq!(cluster.http.protocol, UpstreamProtocol::Auto);
    assert!(
        cluster.http.auto_sni
            && cluster.http.auto_san_validation
            && &*cluster.http.auto_sni_header == "x-name"
    );
    let raw =
        "{name: r, typed_config: {'@type': t/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}";
    for (fields, path, reason) in [
        (http.to_owned(), "transport_socket", "which has a non-ALPN transport socket"),
        (
            format!(
                "{http}, {tls}, transport_socket_matches: [{{name: m, match: {{a: b}}, transport_socket: {raw}}}]"
            ),
            "transport_socket_matches[0]",
            "which has a non-ALPN transport socket matcher",
        ),
    ] {
        let refused = cluster_in(&fields, &mut context()).unwrap_err();
        assert!(refused.path == path && refused.reason.ends_with(reason), "{refused}");
    }
}

#[test]
fn listener_filters_in_their_order() {
    use millrace_config::{ConnectionPredicate as P, ListenerFilterKind as K};
    let of = |name: &str, fields: &str| {
        let (kind, config) = fields.split_once('|').unwrap();
        format!(
            "{{name: x, {config} typed_config: {{'@type': t/envoy.extensions.filters.listener.{name}.v3.{kind}}}}}"
        )
    };
    let filters = [
        of("original_dst", "OriginalDst|"),
        of(
            "proxy_protocol",
            "ProxyProtocol, rules: [{tlv_type: 2, on_tlv_present: {key: k}}], pass_through_tlvs: {match_type: INCLUDE, tlv_type: [3]}, disallowed_versions: [V1]|",
        ),
        of(
            "tls_inspector",
            "TlsInspector, max_client_hello_size: 300|filter_disabled: {or_match: {rules: [{destination_port_range: {start: 80, end: 81}}, {not_match: {any_match: true}}]}},",
        ),
        of("http_inspector", "HttpInspector|"),
    ];
    let text = format!(
        "listener_filters: [{}], filter_chains: [{{use_proxy_proto: true, {TCP}}}]",
        filters.join(", ")
    );
    let listener = listener_in(&text, &mut context()).unwrap();
    let [original, proxy, tls, http, last] = &listener.listener_filters[..] else { panic!("five") };
    assert!(original.kind == K::OriginalDst && http.kind == K::HttpInspector);
    assert_eq!(tls.kind, K::TlsInspector { close_on_error: false, client_hello_bytes_max: 300 });
    let disabled = tls.disabled.clone().unwrap();
    assert!(matches!(disabled, P::Or(_)) && disabled.matches(80) && !disabled.matches(81));
    let K::ProxyProtocol(proxy) = &proxy.kind else { panic!("PROXY") };
    assert_eq!((proxy.refuse_v1, proxy.refuse_v2, &proxy.pass_tlvs[..]), (true, false, &[3][..]));
    assert_eq!(
        (&*proxy.rules[0].namespace, &*proxy.rules[0].key),
        ("envoy.filters.listener.proxy_protocol", "k")
    );
    assert!(matches!(&last.kind, K::ProxyProtocol(own) if !own.refuse_v1), "the deprecated flag comes last");
}

#[test]
fn secrets_over_sds() {
    let mut cx = context();
    let mut of = |text: &str, kind| resource::secret(&bytes(SECRET, text), kind, &mut cx).map(|t| t.value);
    assert!(matches!(
        of("{name: a, tls_certificate: PAIR}", SecretKind::Certificate),
        Ok(Secret::Certificate(_))
    ));
    let wrong = of("{name: a, tls_certificate: PAIR}", SecretKind::Validation).unwrap_err();
    assert_eq!(wrong.to_string(), "type: the secret is not a validation context");
    let mismatch = "{name: a, tls_certificate: {certificate_chain: F(ec.pem), private_key: F(ec2.key)}}";
    let mismatch = of(mismatch, SecretKind::Certificate).unwrap_err();
    assert!(
        mismatch.path == "tls_certificate.private_key" && mismatch.reason.contains("KEY_VALUES_MISMATCH"),
        "{mismatch}"
    );
    let inline = "{name: a, tls_certificate: {certificate_chain: F(ec.pem), private_key: {inline_string: secret-text}}}";
    let broken = of(inline, SecretKind::Certificate).unwrap_err();
    assert!(!broken.to_string().contains("secret-text"), "{broken}");
}

/// `D`: inside `common_tls_context` of a server, `S`: of its context, `C` and `U` the same of a client.
const REFUSED: &[(char, &str, &str, &str, RejectionKind)] = &[
    ('D', "", "", "No TLS certificates found for server context", Invalid),
    (
        'D',
        "tls_certificates: [{}]",
        "tls_certificates[0]",
        "Server TlsCertificates must have a certificate specified",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(ec.pem)}]",
        "tls_certificates[0].private_key",
        "Failed to load incomplete private key from path: ",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{private_key: F(ec.key)}]",
        "tls_certificates[0].certificate_chain",
        "Failed to load incomplete certificate from : certificate chain not set",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(nope), private_key: F(ec.key)}]",
        "tls_certificates[0].certificate_chain",
        "certificate chain not set",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(ec.pem), private_key: F(ec2.key)}]",
        "tls_certificates[0].private_key",
        "KEY_VALUES_MISMATCH",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(ec.pem), private_key: F(rsa.key)}]",
        "tls_certificates[0].private_key",
        "Failed to load private key from",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(ec.key), private_key: F(ec.key)}]",
        "tls_certificates[0].certificate_chain",
        "Failed to load certificate chain from",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: {inline_string: x}, private_key: F(ec.key)}]",
        "tls_certificates[0].certificate_chain",
        "Failed to load certificate chain from <inline>",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(rsa1k.pem), private_key: F(rsa1k.key)}]",
        "tls_certificates[0].certificate_chain",
        "only RSA certificates with 2048-bit or larger keys are supported",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(p224.pem), private_key: F(p224.key)}]",
        "tls_certificates[0].certificate_chain",
        "Failed to load certificate chain from",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(ec.pem), private_key: F(ec.enc.key), password: {inline_string: secret}}]",
        "tls_certificates[0].private_key",
        "encrypted",
        NotServed,
    ),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(ec.pem), private_key: F(ec.key), ocsp_staple: {inline_string: x}}]",
        "tls_certificates[0].ocsp_staple",
        "OCSP staple cannot be provided via inline_string",
        Invalid,
    ),
    ('D', "tls_certificates: [{pkcs12: F(ec.pem)}]", "tls_certificates[0].pkcs12", "PKCS#12", NotServed),
    (
        'D',
        "tls_certificates: [{certificate_chain: F(ec.pem), private_key_provider: {provider_name: x}}]",
        "tls_certificates[0].private_key_provider",
        "providers are not served",
        NotServed,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_certificate_sds_secret_configs: [{name: a, sds_config: {ads: {}}}]",
        "",
        "SDS and non-SDS TLS certificates may not be mixed in server contexts",
        Invalid,
    ),
    (
        'D',
        "tls_certificate_sds_secret_configs: [{name: a}]",
        "tls_certificate_sds_secret_configs[0].name",
        "Unknown static secret: a",
        Invalid,
    ),
    (
        'D',
        "tls_certificate_sds_secret_configs: [{name: a, sds_config: {path_config_source: {path: /nope}}}]",
        "tls_certificate_sds_secret_configs[0].sds_config.path_config_source.path",
        "paths must refer to an existing path in the system: '/nope' does not exist",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_certificate_provider_instance: {instance_name: x}",
        "tls_certificate_provider_instance",
        "certificate providers",
        NotServed,
    ),
    (
        'D',
        "tls_certificates: [PAIR], custom_handshaker: {name: x, typed_config: {'@type': t/google.protobuf.Struct}}",
        "custom_handshaker",
        "other handshakers",
        NotServed,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {trusted_ca: F(ec.key)}",
        "validation_context.trusted_ca",
        "Failed to load trusted CA certificates from",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {trusted_ca: {inline_string: x}}",
        "validation_context.trusted_ca",
        "Failed to load trusted CA certificates from <inline>",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {trusted_ca: {inline_string: ''}}",
        "validation_context.trusted_ca",
        "DataSource cannot be empty",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {trusted_ca: F(nope)}",
        "validation_context.trusted_ca.filename",
        "Invalid path: ",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: a}}]}",
        "validation_context",
        "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {allow_expired_certificate: true}",
        "validation_context.allow_expired_certificate",
        "Certificate validity period is always ignored without trusted CA",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {crl: F(crl.pem)}",
        "validation_context.crl",
        "without trusted CA",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {max_verify_depth: 101, trusted_ca: F(ca.pem)}",
        "validation_context.max_verify_depth",
        "less than or equal to 100",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {trusted_ca: F(ca.pem), match_typed_subject_alt_names: [{san_type: OTHER_NAME, oid: 1.2.x, matcher: {exact: a}}]}",
        "validation_context.match_typed_subject_alt_names[0].oid",
        "Failed to create SAN matcher for OTHER_NAME with OID: 1.2.x",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {verify_certificate_hash: ['zz00000000000000000000000000000000000000000000000000000000000000']}",
        "validation_context.verify_certificate_hash[0]",
        "Invalid hex-encoded SHA-256 zz",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {verify_certificate_spki: ['*AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=']}",
        "validation_context.verify_certificate_spki[0]",
        "Invalid base64-encoded SHA-256 *A",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {custom_validator_config: {name: x, typed_config: {'@type': t/google.protobuf.Struct}}}",
        "validation_context.custom_validator_config.name",
        "Failed to get certificate validator factory for x",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context: {custom_validator_config: {name: envoy.tls.cert_validator.spiffe, typed_config: {'@type': TLS/SPIFFECertValidatorConfig, trust_domains: [{name: td}]}}}",
        "validation_context.custom_validator_config.typed_config.trust_domains[0].trust_bundle",
        "Failed to load trusted CA certificate for td",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], combined_validation_context: {default_validation_context: {}}",
        "combined_validation_context.validation_context_sds_secret_config",
        "required",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], validation_context_sds_secret_config: {name: x}",
        "validation_context_sds_secret_config.name",
        "Unknown static certificate validation context: x",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {cipher_suites: [FOO, AES128-SHA, BAR]}",
        "tls_params.cipher_suites",
        "Failed to initialize cipher suites FOO:AES128-SHA:BAR. The following ciphers were rejected when tried individually: FOO, BAR",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {cipher_suites: [AES128-SHA]}",
        "tls_params.cipher_suites",
        "this build has none of the suites AES128-SHA",
        NotServed,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {ecdh_curves: [X25519, X25519]}",
        "tls_params.ecdh_curves",
        "Failed to initialize ECDH curves X25519:X25519",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {ecdh_curves: [secp256r1]}",
        "tls_params.ecdh_curves",
        "Failed to initialize ECDH curves secp256r1",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {ecdh_curves: [MLKEM1024]}",
        "tls_params.ecdh_curves",
        "this build has none",
        NotServed,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {signature_algorithms: [foo]}",
        "tls_params.signature_algorithms",
        "Failed to initialize TLS signature algorithms foo",
        Invalid,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {tls_maximum_protocol_version: TLSv1_1}",
        "tls_params.tls_maximum_protocol_version",
        "TLS 1.2 is the oldest",
        NotServed,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_2}",
        "tls_params.tls_maximum_protocol_version",
        "no version is left",
        NotServed,
    ),
    (
        'D',
        "tls_certificates: [PAIR], tls_params: {compliance_policies: [FIPS_202205]}",
        "tls_params.compliance_policies",
        "compliance",
        NotServed,
    ),
    (
        'S',
        "common_tls_context: {tls_certificates: [PAIR]}, session_ticket_keys: {keys: [{inline_string: x}]}",
        "session_ticket_keys.keys[0]",
        "Incorrect TLS session ticket key length. Length 1, expected length 80.",
        Invalid,
    ),
    (
        'S',
        "common_tls_context: {tls_certificates: [PAIR]}, session_ticket_keys: {keys: []}",
        "session_ticket_keys.keys",
        "at least 1",
        Invalid,
    ),
    (
        'S',
        "common_tls_context: {tls_certificates: [PAIR]}, session_ticket_keys_sds_secret_config: {name: x}",
        "session_ticket_keys_sds_secret_config.name",
        "Unknown tls session ticket keys: x",
        Invalid,
    ),
    (
        'S',
        "common_tls_context: {tls_certificates: [PAIR]}, ocsp_staple_policy: MUST_STAPLE",
        "ocsp_staple_policy",
        "staple",
        NotServed,
    ),
    (
        'C',
        "tls_certificates: [PAIR, PAIR]",
        "",
        "Multiple TLS certificates are not supported for client contexts",
        Invalid,
    ),
    (
        'C',
        "validation_context: {match_subject_alt_names: [{exact: a}]}",
        "validation_context",
        "SAN-based verification",
        Invalid,
    ),
    (
        'U',
        "auto_sni_san_validation: true",
        "auto_sni_san_validation",
        "'auto_sni_san_validation' was configured without a validation context",
        Invalid,
    ),
    (
        'U',
        "auto_sni_san_validation: true, common_tls_context: {validation_context: {}}",
        "auto_sni_san_validation",
        "'auto_sni_san_validation' was configured without configuring a trusted CA",
        Invalid,
    ),
];

#[test]
fn what_is_refused_and_why() {
    let mut wrong = Vec::new();
    for (side, text, path, reason, kind) in REFUSED {
        let common = format!("common_tls_context: {{{text}}}");
        let (refused, prefix) = match side {
            'D' => (downstream(&common).map(drop), "common_tls_context"),
            'S' => (downstream(text).map(drop), ""),
            'C' => (upstream(&common).map(drop), "common_tls_context"),
            _ => (upstream(text).map(drop), ""),
        };
        let base = if matches!(side, 'D' | 'S') {
            "filter_chains[0].transport_socket.typed_config"
        } else {
            "transport_socket.typed_config"
        };
        let path: Vec<&str> = [base, prefix, path].into_iter().filter(|part| !part.is_empty()).collect();
        match refused {
            Err(found)
                if found.path == path.join(".") && found.reason.contains(reason) && found.kind == *kind => {}
            found => {
                wrong.push(format!("{text}\n    wanted {}: {reason}\n    found  {found:?}", path.join(".")))
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), REFUSED.len(), wrong.join("\n"));
}
