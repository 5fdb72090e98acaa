//! How each peer looks and what part it plays: one name, colour and dash in every plot and table.
//!
//! The colours follow Okabe and Ito, so that they stay apart for colour-blind readers; Millrace has the only
//! vermilion, and what cannot be beaten (the floor, no proxy at all) is grey.

/// Part of a peer in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The product; `millrace-uring` is the one that is judged.
    Millrace,
    /// Somebody that users could run instead.
    Competitor,
    /// An L4 relay on a runtime: compares runtimes, not proxies.
    Runtime,
    /// A relay on the bare ring: nobody who terminates TCP goes below it.
    Floor,
    /// No proxy.
    Direct,
}

/// One peer's look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) label: String,
    pub(crate) role: Role,
    /// CSS class, also for the filter of the page.
    pub(crate) class: String,
    pub(crate) light: &'static str,
    pub(crate) dark: &'static str,
    /// `stroke-dasharray` of its lines; empty: solid.
    pub(crate) dash: &'static str,
}

/// (peer, label, role, light, dark, dash)
type Entry = (&'static str, &'static str, Role, &'static str, &'static str, &'static str);

const KNOWN: &[Entry] = &[
    ("millrace-uring", "Millrace", Role::Millrace, "#d55e00", "#ff8a3d", ""),
    ("millrace-epoll", "Millrace (epoll)", Role::Millrace, "#eba36c", "#b9662c", "7 4"),
    ("envoy", "Envoy", Role::Competitor, "#b0579a", "#d68cc4", ""),
    ("envoy-uring", "Envoy (io_uring)", Role::Competitor, "#d9a3cb", "#96578a", "7 4"),
    ("linkerd", "linkerd2-proxy", Role::Competitor, "#56b4e9", "#7cc8f2", ""),
    ("linkerd-inbound", "linkerd2-proxy (inbound)", Role::Competitor, "#56b4e9", "#7cc8f2", ""),
    ("haproxy", "HAProxy", Role::Competitor, "#0072b2", "#4a9fd8", ""),
    ("nginx", "nginx", Role::Competitor, "#009e73", "#2fc39a", ""),
    ("pingora", "Pingora", Role::Competitor, "#b99a00", "#e0c341", ""),
    ("relay-tokio", "tokio", Role::Runtime, "#5c7cba", "#86a5e0", ""),
    ("relay-tokio-uring", "tokio-uring", Role::Runtime, "#93b3e0", "#56719f", "7 4"),
    ("relay-glommio", "glommio", Role::Runtime, "#3d9a8b", "#62c2b2", ""),
    ("relay-monoio", "monoio", Role::Runtime, "#b58a3c", "#d9b067", ""),
    ("relay-epoll", "epoll, by hand", Role::Runtime, "#9a86b8", "#b9a6d6", ""),
    ("floor", "floor (L4 relay)", Role::Floor, "#868e99", "#8b939e", ""),
    ("floor-epoll", "floor on epoll", Role::Floor, "#b4bac3", "#626973", "7 4"),
    ("direct", "no proxy", Role::Direct, "#868e99", "#8b939e", "1.5 4"),
];

/// For peers that nobody has given a colour yet.
const SPARE: &[(&str, &str)] = &[
    ("#7a5195", "#a987c4"),
    ("#6b8e23", "#9bbd55"),
    ("#8c564b", "#bd897e"),
    ("#1b9aaa", "#55c3d1"),
    ("#c0504d", "#e08683"),
];

/// The product on its main back end.
pub(crate) const MILLRACE: &str = "millrace-uring";

/// The look of a peer by its file name.
pub(crate) fn look(peer: &str) -> Look {
    let class = class_of(peer);
    if let Some((_, label, role, light, dark, dash)) = KNOWN.iter().find(|entry| entry.0 == peer) {
        return Look { label: (*label).to_owned(), role: *role, class, light, dark, dash };
    }
    let role = match peer {
        _ if peer.starts_with("relay-") => Role::Runtime,
        _ if peer.starts_with("floor") => Role::Floor,
        _ if peer.starts_with("millrace") => Role::Millrace,
        _ => Role::Competitor,
    };
    // By name and not by order, so that a new peer does not repaint the others.
    let sum: usize = peer.bytes().map(usize::from).sum();
    let (light, dark) = SPARE[sum % SPARE.len()];
    let label = peer.strip_prefix("relay-").unwrap_or(peer).to_owned();
    Look { label, role, class, light, dark, dash: "" }
}

/// Where a peer stands in tables and legends.
pub(crate) fn rank(peer: &str) -> (usize, String) {
    (KNOWN.iter().position(|entry| entry.0 == peer).unwrap_or(KNOWN.len()), peer.to_owned())
}

fn class_of(peer: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("p-{}", peer.chars().map(plain).collect::<String>())
}

/// What is drawn besides the peers: (class, light, dark).
pub(crate) const INKS: &[(&str, &str, &str)] = &[
    ("ink", "#1c2128", "#e8eaee"),
    ("muted", "#5b6470", "#a0a8b4"),
    ("grid", "#e3e6ea", "#2e343d"),
    ("card", "#ffffff", "#15191f"),
    ("edge", "#d9dde3", "#333a44"),
    ("accent", "#b84f00", "#ff9a57"),
];

/// The style that turns plots dark where the reader's system is dark. Light colours stand on the elements
/// themselves, so that a viewer without style sheets shows them right.
pub(crate) fn dark_style<'a>(peers: impl Iterator<Item = &'a str>) -> String {
    let mut rules: Vec<(String, &str)> = INKS.iter().map(|(n, _, dark)| ((*n).to_owned(), *dark)).collect();
    let mut names: Vec<&str> = peers.collect();
    names.sort_unstable();
    names.dedup();
    for peer in names {
        let look = look(peer);
        rules.push((look.class, look.dark));
    }
    let rules: Vec<String> =
        rules.iter().map(|(n, c)| format!(".f-{n}{{fill:{c}}}.s-{n}{{stroke:{c}}}")).collect();
    format!("@media (prefers-color-scheme:dark){{{}}}", rules.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_name() {
        let roles = ["millrace-uring", "envoy-uring", "relay-new", "floor-epoll", "direct", "someone"];
        let roles = roles.map(|peer| look(peer).role);
        let expected =
            [Role::Millrace, Role::Competitor, Role::Runtime, Role::Floor, Role::Direct, Role::Competitor];
        assert_eq!(roles, expected);
    }

    #[test]
    fn classes_are_plain() {
        assert_eq!(look("a\"b<c").class, "p-a-b-c");
    }
}
