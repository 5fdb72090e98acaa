//! The order in which the addresses of one endpoint are tried (RFC 8305 section 4).

use std::collections::VecDeque;

use millrace_config::{Address, HappyEyeballs};

fn is_ipv6(address: &Address) -> bool {
    matches!(address, Address::Inet(inet) if inet.is_ipv6())
}

/// `first_count` addresses of one family, then one of the other, and so on; what is left of one family comes last.
/// Within a family the order stays.
pub fn interleave<'a>(
    addresses: impl Iterator<Item = &'a Address>,
    config: &HappyEyeballs,
) -> VecDeque<&'a Address> {
    let all: Vec<&Address> = addresses.collect();
    let first_is_ipv6 =
        config.first_is_ipv6.unwrap_or_else(|| all.first().is_some_and(|first| is_ipv6(first)));
    let (mut first, mut other): (VecDeque<_>, VecDeque<_>) =
        all.into_iter().partition(|address| is_ipv6(address) == first_is_ipv6);
    let mut out = VecDeque::with_capacity(first.len() + other.len());
    while !first.is_empty() || !other.is_empty() {
        for _ in 0..config.first_count.max(1) {
            let Some(next) = first.pop_front() else { break };
            out.push_back(next);
        }
        out.extend(other.pop_front());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(list: &str, config: HappyEyeballs) -> String {
        let parse = |text: &str| Address::Inet(text.parse().unwrap());
        let addresses: Vec<Address> = list.split(' ').map(parse).collect();
        let order = interleave(addresses.iter(), &config);
        let names = order.iter().map(|address| match address {
            Address::Inet(inet) if inet.is_ipv6() => format!("6.{}", inet.port()),
            Address::Inet(inet) => format!("4.{}", inet.port()),
            Address::Pipe { .. } => "pipe".to_owned(),
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn families_take_turns() {
        let list = "[::1]:1 [::1]:2 [::1]:3 1.1.1.1:1 1.1.1.1:2";
        let plain = HappyEyeballs::default();
        assert_eq!(order(list, plain), "6.1 4.1 6.2 4.2 6.3");
        let four_first = HappyEyeballs { first_is_ipv6: Some(false), first_count: 1 };
        assert_eq!(order(list, four_first), "4.1 6.1 4.2 6.2 6.3");
        let two = HappyEyeballs { first_is_ipv6: None, first_count: 2 };
        assert_eq!(order(list, two), "6.1 6.2 4.1 6.3 4.2");
        assert_eq!(order("1.1.1.1:1 1.1.1.1:2", plain), "4.1 4.2");
        assert_eq!(
            order("1.1.1.1:1 1.1.1.1:2", HappyEyeballs { first_is_ipv6: Some(true), ..plain }),
            "4.1 4.2"
        );
    }
}
