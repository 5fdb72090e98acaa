//! Who is believed, on either side, and which alert tells the other one.

use std::rc::Rc;
use std::sync::Arc;

use millrace_base::WallTime;
use millrace_config::{
    DownstreamTls, SanKind, SanMatcher, SecretId, SecretSource, StringMatcher, TlsVersion, UpstreamTls,
    ValidationContext, ValidationSource,
};
use millrace_tls::{
    CertificateRules, ClientContext, ClientOptions, ContextError, FailureKind, ServerContext, Shared,
    TlsError,
};

use crate::world::*;

/// A handshake of these two: both ends' errors, client first.
fn shake(up: &UpstreamTls, down: &DownstreamTls, extra: Option<&str>) -> (End, End) {
    let local = shard(&Shared::new([1; 32]));
    shake_with(&client_context(up, &local), &server_context(down, &local), extra)
}

fn shake_with(up: &Rc<ClientContext>, down: &Rc<ServerContext>, extra: Option<&str>) -> (End, End) {
    let options =
        ClientOptions { server_name: "server.test", extra_dns_san: extra, ..ClientOptions::default() };
    let (mut client, mut server) = (End::client(up, options), End::server(down));
    exchange(&mut client, &mut server, usize::MAX);
    (client, server)
}

fn of_version(mut config: UpstreamTls, version: TlsVersion) -> UpstreamTls {
    (config.common.params.minimum, config.common.params.maximum) = (version, version);
    config
}

/// The server refuses: what its error is called, what it counts as, and which alert the client gets.
fn refused(up: UpstreamTls, down: &DownstreamTls, kind: FailureKind, alert: u8) {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let up = of_version(up.clone(), version);
        let (client, server) = shake(&up, down, None);
        let error = server.error.expect("refused");
        assert_eq!(error.counter(), kind, "{version:?} {error:?}");
        assert!(!server.session.is_established());
        // TLS 1.2 has no certificate_required.
        let alert = if (version, alert) == (TlsVersion::V1_2, 116) { 40 } else { alert };
        assert_eq!(client.error, Some(TlsError::Alert(alert)), "{version:?}");
    }
}

#[test]
fn clients_that_a_server_refuses() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = || downstream(&[ours.leaf(&["server.test"], Kind::Ecdsa)]);
    let up = |certificate| upstream(Some(ours.trust()), certificate);
    let down = mutual(server(), ours.trust());
    refused(up(None), &down, FailureKind::VerifyNoCert, 116);
    refused(up(Some(theirs.leaf(&["c"], Kind::Ecdsa))), &down, FailureKind::VerifyError, 48);
    refused(up(Some(ours.leaf_until(&["c"], Kind::Ecdsa, 2_020))), &down, FailureKind::VerifyError, 45);
    let matcher = |name: &str| SanMatcher {
        kind: SanKind::Dns,
        matcher: StringMatcher::Exact { value: name.as_bytes().into(), ignore_case: false },
    };
    let named = ValidationContext { san_matchers: vec![matcher("wanted")], ..ours.trust() };
    let down = mutual(server(), named);
    assert!(shake(&up(Some(ours.leaf(&["wanted"], Kind::Rsa))), &down, None).1.error.is_none());
    let (client, server) = shake(&up(Some(ours.leaf(&["other"], Kind::Ecdsa))), &down, None);
    assert_eq!(server.error.map(|error| error.counter()), Some(FailureKind::VerifySan));
    assert!(matches!(client.error, Some(TlsError::Alert(42 | 46 | 49))), "{:?}", client.error);
}

#[test]
fn a_certificate_that_is_optional_is_verified_when_it_is_shown() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let mut down = mutual(downstream(&[ours.leaf(&["server.test"], Kind::Ecdsa)]), ours.trust());
    down.require_client_certificate = false;
    let up = |certificate| upstream(Some(ours.trust()), certificate);
    let (_, server) = shake(&up(None), &down, None);
    let facts = server.session.facts().expect("none was required");
    assert!(facts.peer.is_none() && !facts.peer_validated);
    let (_, server) = shake(&up(Some(ours.leaf(&["c"], Kind::Ecdsa))), &down, None);
    assert!(server.session.facts().expect("a good one").peer_validated);
    refused(up(Some(theirs.leaf(&["c"], Kind::Ecdsa))), &down, FailureKind::VerifyError, 48);
}

#[test]
fn nobody_is_asked_without_a_context() {
    let ours = Authority::new("ours");
    let down = downstream(&[ours.leaf(&["server.test"], Kind::Ecdsa)]);
    let (client, server) = shake(&upstream(None, Some(ours.leaf(&["c"], Kind::Ecdsa))), &down, None);
    assert!(server.session.facts().expect("established").peer.is_none());
    let facts = client.session.facts().expect("established");
    assert!(facts.peer.is_some() && !facts.peer_validated, "every server is accepted, none validated");
}

#[test]
fn untrusted_is_accepted_where_configuration_says_so() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let lax = ValidationContext { accept_untrusted: true, ..ours.trust() };
    let down = mutual(downstream(&[ours.leaf(&["server.test"], Kind::Ecdsa)]), lax);
    let (_, server) =
        shake(&upstream(Some(ours.trust()), Some(theirs.leaf(&["c"], Kind::Ecdsa))), &down, None);
    let facts = server.session.facts().expect("accepted");
    assert!(facts.peer.is_some() && !facts.peer_validated);
}

#[test]
fn servers_that_a_client_refuses() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let up = of_version(upstream(Some(ours.trust()), None), version);
        for (certificate, alert) in [
            (theirs.leaf(&["server.test"], Kind::Ecdsa), 48),
            (ours.leaf_until(&["server.test"], Kind::Rsa, 2_020), 45),
        ] {
            let (client, server) = shake(&up, &downstream(&[certificate]), None);
            assert_eq!(client.error.map(|error| error.counter()), Some(FailureKind::VerifyError));
            assert_eq!(server.error, Some(TlsError::Alert(alert)), "{version:?}");
        }
    }
}

#[test]
fn the_name_that_is_asked_for_must_be_there_only_where_configured() {
    let ours = Authority::new("ours");
    let up = upstream(Some(ours.trust()), None);
    let down = downstream(&[ours.leaf(&["other.test"], Kind::Ecdsa)]);
    assert_eq!(shake(&up, &down, None).0.error, None, "host names are not looked at by default");
    let (client, _) = shake(&up, &down, Some("server.test"));
    assert_eq!(client.error.map(|error| error.counter()), Some(FailureKind::VerifySan));
    assert_eq!(shake(&up, &down, Some("other.test")).0.error, None);
}

#[test]
fn versions_that_do_not_meet() {
    let ours = Authority::new("ours");
    let mut down = downstream(&[ours.leaf(&["server.test"], Kind::Ecdsa)]);
    down.common.params.minimum = TlsVersion::V1_3;
    let up = of_version(upstream(None, None), TlsVersion::V1_2);
    let (client, server) = shake(&up, &down, None);
    assert_eq!(client.error, Some(TlsError::Alert(70)));
    let details = server.error.expect("refused").details().into_owned();
    assert_eq!(
        details,
        "TLS_error:|268435696:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL:TLS_error_end"
    );
}

#[test]
fn contexts_that_cannot_serve_fail_closed() {
    let ours = Authority::new("ours");
    let local = shard(&Shared::new([1; 32]));
    let (server, client) = (
        |config: &DownstreamTls| ServerContext::new(config, &|_| None, &local).err(),
        |config: &UpstreamTls| ClientContext::new(config, &|_| None, &local).err(),
    );
    assert_eq!(server(&DownstreamTls::default()), Some(ContextError::NoCertificate));
    let missing = SecretId(7);
    let mut down = downstream(&[]);
    down.common.certificates = vec![SecretSource::Sds(missing)];
    assert_eq!(server(&down), Some(ContextError::MissingSecret(missing)));
    let mut up = upstream(None, None);
    up.common.validation = ValidationSource::Sds { default: Arc::default(), secret: missing };
    assert_eq!(client(&up), Some(ContextError::MissingSecret(missing)));
    let mut down = downstream(&[ours.leaf(&["a"], Kind::Ecdsa)]);
    down.common.params.minimum = TlsVersion::V1_3;
    down.common.params.maximum = TlsVersion::V1_2;
    assert_eq!(server(&down), Some(ContextError::Parameters));
    down.common.params =
        millrace_config::TlsParams { curves: vec![millrace_config::Curve::P521], ..Default::default() };
    assert_eq!(server(&down), Some(ContextError::Parameters));
}

/// Chains that passed are remembered: their certificates still end, and on the side whose certificate it is.
#[test]
fn a_certificate_that_ends_between_two_handshakes_is_refused() {
    let root = Authority::new("root");
    for (of_client, of_server) in [(2_028, 2_100), (2_100, 2_028)] {
        let local = shard(&Shared::new([1; 32]));
        let down = downstream(&[root.leaf_until(&["server.test"], Kind::Ecdsa, of_server)]);
        let certificate = root.leaf_until(&["client.test"], Kind::Ecdsa, of_client);
        let mut up = upstream(Some(root.trust()), Some(certificate));
        up.max_session_keys = 0;
        let (up, down) = (client_context(&up, &local), server_context(&mutual(down, root.trust()), &local));
        for _ in 0..2 {
            let (client, server) = shake_with(&up, &down, None);
            assert_eq!((client.error, server.error), (None, None));
        }
        // The first second of 2028, at which `notAfter` is not over, and the next one.
        for (now, refused) in [(1_830_297_600, false), (1_830_297_601, true)] {
            local.set_wall(WallTime(now * 1_000_000_000));
            let (client, server) = shake_with(&up, &down, None);
            let end = if of_client < of_server { &server } else { &client };
            let failed = end.error.as_ref().map(TlsError::counter);
            assert_eq!(failed, refused.then_some(FailureKind::VerifyError), "{now}");
        }
    }
}

#[test]
fn rules_for_certificates_are_those_of_the_process_on_either_side() {
    let ours = Authority::new("ours");
    let down = mutual(downstream(&[ours.leaf(&["server.test"], Kind::Ecdsa)]), ours.trust());
    let up = upstream(Some(ours.trust()), Some(ours.leaf(&["c"], Kind::Ecdsa)));
    let blind = upstream(None, Some(ours.leaf(&["c"], Kind::Ecdsa)));
    let by = |rules, up: &UpstreamTls| {
        let local = shard(&Shared::with_rules([1; 32], rules));
        let options = ClientOptions { server_name: "server.test", ..ClientOptions::default() };
        let mut client = End::client(&client_context(up, &local), options);
        let mut server = End::server(&server_context(&down, &local));
        exchange(&mut client, &mut server, usize::MAX);
        (client.error, server.error)
    };
    assert_eq!(by(CertificateRules::Mesh, &up), (None, None));
    let (client, server) = by(CertificateRules::Rfc5280, &up);
    let client = client.expect("the server's certificate has no authority key identifier");
    assert_eq!(client.counter(), FailureKind::VerifyError);
    assert_eq!(server, Some(TlsError::Alert(42)));
    let (client, server) = by(CertificateRules::Rfc5280, &blind);
    assert_eq!(client, Some(TlsError::Alert(42)));
    assert_eq!(server.expect("nor has the client's").counter(), FailureKind::VerifyError);
}
