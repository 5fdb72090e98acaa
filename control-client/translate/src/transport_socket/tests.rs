//! Contexts of TLS as control planes send them, and what real Envoy refuses, in its words.

use millrace_config::{
    CipherSuite, Cluster, Curve, Listener, SanKind, Secret, SecretSource, SessionTickets, TlsVersion,
    UpstreamProtocol, ValidationSource,
};
use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, bootstrap_from_yaml, message_from_json, schema, yaml};

use crate::resource::{self, CLUSTER, LISTENER, SECRET};
use crate::{Context, Overrides, Rejection, SecretKind};

mod refused;

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
fn a_chain_that_nothing_detects_is_reported() {
    let report = |filters: &str, by: &str| {
        let text = format!(
            "{{name: l, address: {{pipe: {{path: /x}}}}, listener_filters: [{filters}], filter_chains: [{{filter_chain_match: {{{by}}}, {TCP}}}]}}"
        );
        resource::listener(&bytes(LISTENER, &text), None, &mut context()).unwrap().unsupported.len()
    };
    let inspector = |name: &str, kind: &str| {
        format!(
            "{{name: x, typed_config: {{'@type': t/envoy.extensions.filters.listener.{name}.v3.{kind}}}}}"
        )
    };
    let (tls, http) =
        (inspector("tls_inspector", "TlsInspector"), inspector("http_inspector", "HttpInspector"));
    assert_eq!((report("", "server_names: [a.b]"), report(&tls, "server_names: [a.b]")), (1, 0));
    assert_eq!(
        (report(&http, "transport_protocol: tls"), report("", "transport_protocol: raw_buffer")),
        (1, 0)
    );
    assert_eq!(
        (report("", "application_protocols: [h2c]"), report(&http, "application_protocols: [h2c]")),
        (1, 0)
    );
}

#[test]
fn secrets_over_sds() {
    let mut cx = context();
    let mut of =
        |text: &str, kind| resource::secret(&bytes(SECRET, text), kind, &mut cx).map(|t| t.value.secret);
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

/// As Envoy 1.40 was seen to watch: the directories of the files, or the one that is named.
#[test]
fn where_files_of_secrets_are_watched() {
    let mut cx = context();
    let mut of = |text: &str, kind| {
        let loaded = resource::secret(&bytes(SECRET, text), kind, &mut cx).unwrap();
        loaded.value.directories
    };
    let data = std::path::PathBuf::from(DATA.trim_end_matches('/'));
    let pair = "{name: a, tls_certificate: {certificate_chain: F(ec.pem), private_key: F(ec.key)}}";
    assert_eq!(of(pair, SecretKind::Certificate), std::slice::from_ref(&data));
    let named = pair.replace("F(ec.key)", "F(ec.key), watched_directory: {path: /tmp/x}");
    assert_eq!(of(&named, SecretKind::Certificate), [std::path::PathBuf::from("/tmp/x")]);
    let roots = "{name: a, validation_context: {trusted_ca: F(ca.pem)}}";
    assert_eq!(of(roots, SecretKind::Validation), [data]);
    let key = "A".repeat(80);
    let keys = format!("{{name: a, session_ticket_keys: {{keys: [{{inline_string: {key}}}]}}}}");
    assert!(of(&keys, SecretKind::TicketKeys).is_empty());
}

#[test]
fn what_is_refused_and_why() {
    let mut wrong = Vec::new();
    for (side, text, path, reason, kind) in refused::CERTIFICATES.iter().chain(refused::VALIDATION) {
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
    assert!(
        wrong.is_empty(),
        "{} of {}\n{}",
        wrong.len(),
        refused::CERTIFICATES.len() + refused::VALIDATION.len(),
        wrong.join("\n")
    );
}
