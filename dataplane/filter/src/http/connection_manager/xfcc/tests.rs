//! Every policy with and without a certificate, as Envoy 1.40 was seen to answer.

use std::sync::Arc;

use millrace_base::LocalCertificate;

use super::*;
use crate::http::test::{hcm, head};

const CLAIM: &str = "By=spiffe://old;Hash=abc;Subject=\"x\"";
const ALL: ClientCertDetails =
    ClientCertDetails { subject: true, cert: true, chain: true, dns: true, uri: true };
const OURS: &str = "By=spiffe://td/ns/x/sa/srv;By=spiffe://td/srv2;Hash=fe50;Cert=\"C%0A\";Chain=\"CC%0A\";\
                    Subject=\"OU=a,O=Or\\, g,C=DE\";URI=spiffe://td/ns/x/sa/a;URI=spiffe://td/second;\
                    DNS=a.example;DNS=b.example";

fn mutual() -> TlsFacts {
    let peer = PeerCertificate {
        subject: "OU=a,O=Or\\, g,C=DE".into(),
        fingerprint_256: "fe50".into(),
        pem_encoded: "C%0A".into(),
        chain_pem_encoded: "CC%0A".into(),
        uri_sans: vec!["spiffe://td/ns/x/sa/a".into(), "spiffe://td/second".into()],
        dns_sans: vec!["a.example".into(), "b.example".into()],
        ..PeerCertificate::default()
    };
    let local = LocalCertificate {
        uri_sans: vec!["spiffe://td/ns/x/sa/srv".into(), "spiffe://td/srv2".into()],
        ..LocalCertificate::default()
    };
    TlsFacts { peer: Some(Arc::new(peer)), local: Some(Arc::new(local)), ..TlsFacts::default() }
}

fn forwarded(
    policy: ForwardClientCertDetails,
    details: ClientCertDetails,
    tls: Option<&TlsFacts>,
    claims: &[&str],
) -> Option<String> {
    let hcm = HttpConnectionManager { forward_client_cert: policy, client_cert_details: details, ..hcm() };
    let claims: Vec<_> = claims.iter().map(|claim| ("x-forwarded-client-cert", *claim)).collect();
    let mut head = head("/", &claims);
    apply(&hcm, tls, &mut head.headers, &mut Vec::new());
    assert!(head.headers.values(NAME).count() <= 1 || policy == ForwardClientCertDetails::AlwaysForwardOnly);
    head.headers.get(NAME).map(|value| String::from_utf8_lossy(value).into_owned())
}

#[test]
fn every_policy_on_a_mutual_connection() {
    use ForwardClientCertDetails as By;
    let tls = mutual();
    let tell = |policy, claims: &[&str]| forwarded(policy, ALL, Some(&tls), claims);
    assert_eq!(tell(By::Sanitize, &[CLAIM]), None);
    assert_eq!(tell(By::ForwardOnly, &[CLAIM]).as_deref(), Some(CLAIM));
    assert_eq!(tell(By::ForwardOnly, &[]), None);
    assert_eq!(tell(By::AppendForward, &[CLAIM]), Some(format!("{CLAIM},{OURS}")));
    assert_eq!(tell(By::AppendForward, &[]).as_deref(), Some(OURS));
    assert_eq!(tell(By::AppendForward, &["a=b", "c=d"]), Some(format!("a=b,c=d,{OURS}")));
    assert_eq!(tell(By::SanitizeSet, &[CLAIM]).as_deref(), Some(OURS));
    assert_eq!(tell(By::AlwaysForwardOnly, &[CLAIM]).as_deref(), Some(CLAIM));
    assert_eq!(tell(By::AlwaysForwardOnly, &[]), None);
}

#[test]
fn without_a_client_certificate_nothing_is_believed() {
    use ForwardClientCertDetails as By;
    let one_way = TlsFacts { peer: None, ..mutual() };
    for tls in [None, Some(&one_way)] {
        for policy in [By::Sanitize, By::ForwardOnly, By::AppendForward, By::SanitizeSet] {
            assert_eq!(forwarded(policy, ALL, tls, &[CLAIM]), None, "{policy:?}");
        }
        assert_eq!(forwarded(By::AlwaysForwardOnly, ALL, tls, &[CLAIM]).as_deref(), Some(CLAIM));
    }
}

#[test]
fn details_are_told_on_demand_only() {
    let tls = mutual();
    let tell = |details| forwarded(ForwardClientCertDetails::SanitizeSet, details, Some(&tls), &[]);
    let start = "By=spiffe://td/ns/x/sa/srv;By=spiffe://td/srv2;Hash=fe50";
    assert_eq!(tell(ClientCertDetails::default()).as_deref(), Some(start));
    let some = ClientCertDetails { subject: true, uri: true, ..ClientCertDetails::default() };
    let told = ";Subject=\"OU=a,O=Or\\, g,C=DE\";URI=spiffe://td/ns/x/sa/a;URI=spiffe://td/second";
    assert_eq!(tell(some), Some(format!("{start}{told}")));
}

#[test]
fn a_certificate_without_names_and_one_with_hostile_names() {
    let bare = PeerCertificate { fingerprint_256: "00".into(), ..PeerCertificate::default() };
    let mut tls = TlsFacts { peer: Some(Arc::new(bare.clone())), ..TlsFacts::default() };
    let tell = |tls: &TlsFacts| forwarded(ForwardClientCertDetails::SanitizeSet, ALL, Some(tls), &[]);
    assert_eq!(tell(&tls).as_deref(), Some("Hash=00;Subject=\"\";URI="));
    let hostile = PeerCertificate { uri_sans: vec!["spiffe://td/\r\nx: y\0".into()], ..bare };
    tls.peer = Some(Arc::new(hostile));
    assert_eq!(tell(&tls).as_deref(), Some("Hash=00;Subject=\"\";URI=spiffe://td/%0D%0Ax: y%00"));
}
