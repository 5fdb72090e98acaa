//! `/certs`, and how long the first certificate is good for.

use std::collections::HashMap;

use millrace_base::WallTime;
use millrace_config::{
    Secret, SecretSource, Snapshot, TlsCertificate, TlsCommon, ValidationContext, ValidationSource,
};
use millrace_tls::certificate::{CertificateSummary, summary};
use serde_json::{Value, json};

use super::config_dump::timestamp;

const DAY: i64 = 86_400;

/// Summaries by the address of the DER: thousands of clusters share one certificate.
type Known = HashMap<*const u8, Option<CertificateSummary>>;

/// One entry for every context that has a certificate, in the order of listeners, then clusters.
pub fn certificates(snapshot: &Snapshot, now: i64) -> Vec<Value> {
    let mut known = Known::new();
    let mut out = Vec::new();
    for common in contexts(snapshot) {
        let Some((chains, authorities)) = parts(common, snapshot) else { continue };
        let authority = authorities.as_ref().and_then(|context| Some((context, first(context)?)));
        let ca = authority.and_then(|(context, der)| Some((&*context.origin, look_up(&mut known, der)?)));
        let ca: Vec<Value> = ca.into_iter().map(|(origin, of)| printed(origin, &of, now)).collect();
        let chain = chains
            .iter()
            .filter_map(|one| Some(printed(&one.origin, &look_up(&mut known, one.chain.first()?)?, now)));
        let chain: Vec<Value> = chain.collect();
        if !ca.is_empty() || !chain.is_empty() {
            out.push(json!({ "ca_cert": ca, "cert_chain": chain }));
        }
    }
    out
}

/// Days until the first of all certificates expires; the largest number of 32 bits without any.
pub fn days_until_first_expires(snapshot: &Snapshot, now: i64) -> u64 {
    let mut known = Known::new();
    let mut least = u64::from(u32::MAX);
    for common in contexts(snapshot) {
        let Some((chains, authorities)) = parts(common, snapshot) else { continue };
        let leaves = chains.iter().filter_map(|one| one.chain.first());
        let ca = authorities.as_ref().and_then(|context| first(context));
        for der in leaves.chain(ca) {
            if let Some(found) = look_up(&mut known, der) {
                least = least.min(days(&found, now));
            }
        }
    }
    least
}

type Parts = (Vec<std::sync::Arc<TlsCertificate>>, Option<std::sync::Arc<ValidationContext>>);

/// The certificates and authorities of a context; `None` while one of its secrets has not come.
fn parts(common: &TlsCommon, snapshot: &Snapshot) -> Option<Parts> {
    let chain = |source: &SecretSource<TlsCertificate>| match source {
        SecretSource::Inline(inline) => Some(inline.clone()),
        SecretSource::Sds(id) => match snapshot.secret(*id)? {
            Secret::Certificate(found) => Some(found.clone()),
            Secret::Validation(_) | Secret::TicketKeys(_) => None,
        },
    };
    let chains = common.certificates.iter().map(chain).collect::<Option<Vec<_>>>()?;
    let authorities = match &common.validation {
        ValidationSource::None => None,
        ValidationSource::Inline(inline) => Some(inline.clone()),
        ValidationSource::Sds { default, secret } => match snapshot.secret(*secret)? {
            Secret::Validation(found) if first(found).is_some() => Some(found.clone()),
            _ => Some(default.clone()),
        },
    };
    Some((chains, authorities))
}

fn first(context: &ValidationContext) -> Option<&std::sync::Arc<[u8]>> {
    let spiffe = context.spiffe.as_deref().into_iter().flatten().flat_map(|domain| &domain.bundle);
    context.trusted_ca.as_deref().into_iter().flatten().chain(spiffe).next()
}

fn contexts(snapshot: &Snapshot) -> impl Iterator<Item = &TlsCommon> {
    let chains =
        snapshot.listeners.iter().flat_map(|l| l.filter_chains.iter().chain(&l.default_filter_chain));
    let servers = chains.filter_map(|chain| chain.tls.as_deref()).map(|tls| &tls.common);
    let clusters = snapshot.clusters.iter().flatten();
    let transports = clusters.flat_map(|cluster| {
        std::iter::once(&cluster.transport).chain(cluster.transport_matches.iter().map(|one| &one.transport))
    });
    servers.chain(transports.filter_map(|transport| transport.tls.as_deref()).map(|tls| &tls.common))
}

fn look_up(known: &mut Known, der: &std::sync::Arc<[u8]>) -> Option<CertificateSummary> {
    known.entry(der.as_ptr()).or_insert_with(|| summary(der).ok()).clone()
}

/// Nothing is left of one that has expired.
fn days(of: &CertificateSummary, now: i64) -> u64 {
    u64::try_from((of.not_after - now) / DAY).unwrap_or(0)
}

fn printed(origin: &str, of: &CertificateSummary, now: i64) -> Value {
    let names = |kind: &str, names: &[Box<str>]| -> Vec<Value> {
        names.iter().map(|name| json!({ kind: name })).collect()
    };
    let mut sans = names("dns", &of.dns_sans);
    sans.extend(names("uri", &of.uri_sans));
    sans.extend(names("ip_address", &of.ip_sans));
    json!({
        "path": origin,
        "serial_number": of.serial,
        "subject_alt_names": sans,
        "days_until_expiration": days(of, now).to_string(),
        "valid_from": seconds(of.not_before),
        "expiration_time": seconds(of.not_after),
    })
}

/// Without the fraction, which certificates do not have.
fn seconds(at: i64) -> String {
    let nanoseconds = u64::try_from(at).unwrap_or(0).saturating_mul(1_000_000_000);
    let text = timestamp(WallTime(nanoseconds));
    match text.strip_suffix(".000Z") {
        Some(whole) => format!("{whole}Z"),
        None => text,
    }
}
