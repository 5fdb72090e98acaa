//! `x-forwarded-client-cert`: who may tell us of a client certificate, and what we tell of the one we saw.

use millrace_base::{PeerCertificate, TlsFacts};
use millrace_config::{ClientCertDetails, ForwardClientCertDetails, HttpConnectionManager};
use millrace_http::{HeaderId, HeaderMap};

const NAME: HeaderId = HeaderId::XForwardedClientCert;

/// Applies `forward_client_cert_details`. As in Envoy, a connection without a client certificate vouches for nothing:
/// there every policy but the unconditional one drops the field.
pub fn apply(
    hcm: &HttpConnectionManager,
    tls: Option<&TlsFacts>,
    headers: &mut HeaderMap,
    scratch: &mut Vec<u8>,
) {
    let policy = hcm.forward_client_cert;
    if policy == ForwardClientCertDetails::AlwaysForwardOnly {
        return;
    }
    let shown = tls.and_then(|tls| Some((tls, tls.peer.as_deref()?)));
    let (tls, peer) = match (policy, shown) {
        (ForwardClientCertDetails::ForwardOnly, Some(_)) => return,
        (ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet, Some(both)) => both,
        _ => {
            headers.remove_id(NAME);
            return;
        }
    };
    scratch.clear();
    let keep = policy == ForwardClientCertDetails::AppendForward;
    if keep && headers.joined(NAME.name().as_bytes(), scratch) && !scratch.is_empty() {
        scratch.push(b',');
    }
    element(tls, peer, hcm.client_cert_details, scratch);
    headers.set_id(NAME, scratch);
}

/// One element: who we are, the hash of the certificate, and the details that are asked for, in Envoy's order.
fn element(tls: &TlsFacts, peer: &PeerCertificate, details: ClientCertDetails, out: &mut Vec<u8>) {
    let mut first = true;
    let mut pair = |key: &str, value: &str, quoted: bool| {
        if !std::mem::take(&mut first) {
            out.push(b';');
        }
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        if quoted {
            out.push(b'"');
        }
        push_visible(value, out);
        if quoted {
            out.push(b'"');
        }
    };
    for by in tls.local.iter().flat_map(|local| &local.uri_sans) {
        pair("By", by, false);
    }
    if !peer.fingerprint_256.is_empty() {
        pair("Hash", &peer.fingerprint_256, false);
    }
    if details.cert && !peer.pem_encoded.is_empty() {
        pair("Cert", &peer.pem_encoded, true);
    }
    if details.chain && !peer.chain_pem_encoded.is_empty() {
        pair("Chain", &peer.chain_pem_encoded, true);
    }
    // The key stands there even for an empty subject or without a URI.
    if details.subject {
        pair("Subject", &peer.subject, true);
    }
    if details.uri && peer.uri_sans.is_empty() {
        pair("URI", "", false);
    }
    for uri in peer.uri_sans.iter().filter(|_| details.uri) {
        pair("URI", uri, false);
    }
    for dns in peer.dns_sans.iter().filter(|_| details.dns) {
        pair("DNS", dns, false);
    }
}

/// A certificate's names come from outside: what may not stand in a field is percent-encoded.
fn push_visible(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for octet in text.bytes() {
        if octet.is_ascii_control() {
            out.extend_from_slice(&[b'%', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
        } else {
            out.push(octet);
        }
    }
}

#[cfg(test)]
mod tests;
