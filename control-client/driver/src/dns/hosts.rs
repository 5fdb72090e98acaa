//! `/etc/hosts` and `localhost`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::lookup::Family;

/// A hosts file longer than this is cut; Kubernetes writes a few lines.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Addresses from the hosts file, read anew because Kubernetes may rewrite it; `None` when it does not
/// know the name at all. A name with addresses of the other family only has none of this one.
pub(super) fn lookup(host: &str, family: Family) -> Option<Vec<IpAddr>> {
    let text = std::fs::read("/etc/hosts").unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(..FILE_BYTES_MAX).unwrap_or(&text)).into_owned();
    find(&text, host, family)
}

fn find(text: &str, host: &str, family: Family) -> Option<Vec<IpAddr>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut known = false;
    let mut addresses = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        if !words.any(|name| name.eq_ignore_ascii_case(host)) {
            continue;
        }
        known = true;
        if address.is_ipv4() == (family == Family::V4) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if known {
        return Some(addresses);
    }
    // RFC 6761 section 6.3: never asked over the network.
    let is_localhost =
        host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    is_localhost.then(|| match family {
        Family::V4 => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        Family::V6 => vec![IpAddr::V6(Ipv6Addr::LOCALHOST)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_place() {
        let text = "# comment\n127.0.0.1 localhost\n::1 localhost ip6\n10.0.0.1\ta.example  B # c\n10.0.0.2 b\nbad x\n";
        let ips = |list: &[&str]| Some(list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>());
        assert_eq!(find(text, "localhost", Family::V6), ips(&["::1"]));
        assert_eq!(find(text, "b.", Family::V4), ips(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(find(text, "b", Family::V6), ips(&[]));
        assert_eq!(find(text, "c", Family::V4), None);
        assert_eq!(find(text, "x", Family::V4), None);
        assert_eq!(find("", "localhost", Family::V4), ips(&["127.0.0.1"]));
        assert_eq!(find("", "a.LOCALHOST", Family::V6), ips(&["::1"]));
    }
}
