//! The text of a NACK: every rejected resource by name, in Envoy's words, within a bound.

use millrace_proto::pb::google::rpc::Status;

use crate::limits::{NACK_BYTES_MAX, REASON_BYTES_MAX};
use crate::{Rejected, ResourceType};

/// `google.rpc.Code.INTERNAL`, which Envoy uses for every NACK.
const INTERNAL: i32 = 13;

/// `error_detail` of a NACK; `None` for an ACK.
pub(crate) fn status(ty: ResourceType, rejected: &[Rejected]) -> Option<Status> {
    let message = (!rejected.is_empty()).then(|| text(ty, rejected))?;
    Some(Status { code: INTERNAL, message, details: Vec::new() })
}

fn text(ty: ResourceType, rejected: &[Rejected]) -> String {
    let mut text = format!("Error adding/updating {} ", kind(ty));
    for (index, one) in rejected.iter().enumerate() {
        let name = if one.name.is_empty() { "(no name)" } else { &one.name };
        let reason = prefix(&one.reason, REASON_BYTES_MAX);
        // Room for the last words is kept.
        if text.len() + name.len() + reason.len() + 64 > NACK_BYTES_MAX {
            text.push_str(&format!("... and {} more", rejected.len() - index));
            return text;
        }
        // Envoy joins clusters by commas and ends each listener with a newline.
        match ty {
            ResourceType::Listener => text.push_str(&format!("{name}: {reason}\n")),
            _ if index == 0 => text.push_str(&format!("{name}: {reason}")),
            _ => text.push_str(&format!(", {name}: {reason}")),
        }
    }
    text
}

fn kind(ty: ResourceType) -> &'static str {
    match ty {
        ResourceType::Runtime => "runtime layer(s)",
        ResourceType::Secret => "secret(s)",
        ResourceType::Cluster => "cluster(s)",
        ResourceType::Endpoint => "cluster load assignment(s)",
        ResourceType::ExtensionConfig => "extension configuration(s)",
        ResourceType::Listener => "listener(s)",
        ResourceType::ScopedRoute => "scoped route(s)",
        ResourceType::Route => "route configuration(s)",
        ResourceType::VirtualHost => "virtual host(s)",
    }
}

/// At most `bytes` of a string, cut between characters.
pub(crate) fn prefix(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(name: &str, reason: &str) -> Rejected {
        Rejected { name: name.into(), reason: reason.to_owned() }
    }

    #[test]
    fn every_resource_is_named_as_envoy_does() {
        let two = [rejected("a", "no"), rejected("", "what")];
        assert_eq!(
            text(ResourceType::Cluster, &two),
            "Error adding/updating cluster(s) a: no, (no name): what"
        );
        assert_eq!(
            text(ResourceType::Listener, &two),
            "Error adding/updating listener(s) a: no\n(no name): what\n"
        );
        assert_eq!(status(ResourceType::Route, &[]), None);
        assert_eq!(status(ResourceType::Route, &two).map(|s| s.code), Some(13));
    }

    #[test]
    fn the_text_stays_within_its_bound() {
        let many: Vec<_> = (0..1000).map(|i| rejected(&format!("r{i}"), &"ü".repeat(3000))).collect();
        let text = text(ResourceType::Secret, &many);
        assert!(text.len() <= NACK_BYTES_MAX && text.contains("r2: "), "{}", text.len());
        assert!(text.ends_with("... and 997 more"), "{}", &text[text.len() - 40..]);
    }
}
