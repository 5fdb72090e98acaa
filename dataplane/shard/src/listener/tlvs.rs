//! What is kept of the TLVs of a PROXY protocol header: dynamic metadata (`rules`), and what may be told to endpoints
//! (`pass_through_tlvs`).

use std::sync::Arc;

use millrace_base::{Metadata, MetadataValue};
use millrace_config::{ProxyProtocolFilter, TlvRule};
use millrace_inspect::proxy_protocol::{self, Tlv};

/// TLVs of one connection; at most one header's worth, 64 KiB of either.
#[derive(Debug)]
pub(crate) struct Tlvs {
    pub(crate) metadata: Metadata,
    /// As they came on the wire, without those that nobody asked for.
    pub(crate) passed: Arc<[u8]>,
}

impl Tlvs {
    /// `None` where nothing is kept.
    pub(super) fn kept(filter: &ProxyProtocolFilter, wire: &[u8]) -> Option<Box<Self>> {
        let mut metadata = Metadata::default();
        let mut passed = Vec::new();
        for tlv in proxy_protocol::tlvs(wire) {
            // The last rule of a type counts, as in Envoy.
            let rule = filter.rules.iter().rev().find(|rule| rule.tlv_type == tlv.kind);
            if let Some(rule) = rule {
                let fields = metadata.namespace_mut(&rule.namespace);
                // The first one of a key stays.
                if fields.get(&rule.key).is_none() {
                    fields.insert(&rule.key, MetadataValue::Text(text(rule, &tlv)));
                }
            }
            if filter.pass_all_tlvs || filter.pass_tlvs.contains(&tlv.kind) {
                tlv.write_to(&mut passed);
            }
        }
        (!metadata.is_empty() || !passed.is_empty())
            .then(|| Box::new(Self { metadata, passed: passed.into() }))
    }
}

fn text(rule: &TlvRule, tlv: &Tlv<'_>) -> Box<str> {
    let text = match rule.base64 {
        true => proxy_protocol::base64(tlv.value),
        false => proxy_protocol::sanitized(tlv.value),
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(tlv_type: u8, key: &str, base64: bool) -> TlvRule {
        TlvRule { tlv_type, namespace: "ns".into(), key: key.into(), base64 }
    }

    #[test]
    fn only_what_is_asked_for_is_kept() {
        let wire = [1, 0, 1, b'a', 2, 0, 2, 0xff, b'b', 3, 0, 0, 1, 0, 1, b'z'];
        assert!(Tlvs::kept(&ProxyProtocolFilter::default(), &wire).is_none());
        let filter = ProxyProtocolFilter {
            rules: vec![
                rule(1, "unused", false),
                rule(1, "one", false),
                rule(2, "two", true),
                rule(9, "x", false),
            ],
            pass_tlvs: vec![3, 2],
            ..ProxyProtocolFilter::default()
        };
        let kept = Tlvs::kept(&filter, &wire).expect("something");
        let fields = kept.metadata.namespace("ns").expect("a namespace");
        let values: Vec<_> = fields.iter().collect();
        assert_eq!(values, [("one", &"a".into()), ("two", &"/2I=".into())]);
        assert_eq!(&*kept.passed, [2, 0, 2, 0xff, b'b', 3, 0, 0]);
        let all = ProxyProtocolFilter { pass_all_tlvs: true, ..ProxyProtocolFilter::default() };
        assert_eq!(&*Tlvs::kept(&all, &wire).expect("all").passed, wire);
    }
}
