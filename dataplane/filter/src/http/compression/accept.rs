//! `accept-encoding` (RFC 9110, section 12.5.3), as Envoy reads it.

use millrace_config::Coding;

use super::members;

/// What a client may ask for, as far as anybody here can give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Asked {
    Gzip,
    Brotli,
    Zstd,
    Identity,
    Any,
}

const ASKED: [(Asked, &[u8]); 5] = [
    (Asked::Gzip, b"gzip"),
    (Asked::Brotli, b"br"),
    (Asked::Zstd, b"zstd"),
    (Asked::Identity, b"identity"),
    (Asked::Any, b"*"),
];

/// Not in the field.
const ABSENT: u8 = u8::MAX;

/// The field, kept small: weights in thousandths and the order of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    weight: [u16; ASKED.len()],
    position: [u8; ASKED.len()],
    /// Members with the weight 0, as bits.
    refused: u8,
}

/// What the compressors of a chain make of it, once for each response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The client named this coding.
    Named(Coding),
    /// It takes any, and this is the first one of the chain.
    Any(Coding),
    /// It wants the response as it is.
    Identity,
    /// It takes none of the chain's.
    NotValid,
}

/// One compressor of the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) coding: Coding,
    pub(crate) choose_first: bool,
}

impl Accept {
    pub(crate) fn parse(field: &[u8]) -> Self {
        let mut accept = Self { weight: [0; ASKED.len()], position: [ABSENT; ASKED.len()], refused: 0 };
        for (position, member) in members(field).enumerate() {
            let Some((name, weight)) = weighted(member) else { continue };
            let Some((asked, _)) = ASKED.iter().find(|(_, known)| *known == name) else { continue };
            let at = *asked as usize;
            if weight == 0 {
                accept.refused |= 1 << at;
            }
            if accept.position[at] == ABSENT || weight > accept.weight[at] {
                accept.weight[at] = weight;
                accept.position[at] = position.min(usize::from(ABSENT) - 1) as u8;
            }
        }
        accept
    }

    /// Chooses among the compressors of a chain, in its order.
    pub(crate) fn choose(&self, offers: impl Iterator<Item = Offer> + Clone) -> Decision {
        let offered = |coding: Coding| offers.clone().find(|offer| offer.coding == coding);
        let able = |asked: Asked| match asked {
            Asked::Gzip => offered(Coding::Gzip),
            Asked::Brotli => offered(Coding::Brotli),
            Asked::Zstd => offered(Coding::Zstd),
            Asked::Identity | Asked::Any => None,
        };
        let refused = |asked: Asked| self.refused >> asked as usize & 1 == 1;
        let mut allowed = offers.clone().filter(|offer| !refused(asked(offer.coding)));
        let Some(first) = allowed.next() else { return Decision::NotValid };
        let (mut chosen, mut best) = (None, 0);
        for position in 0..ABSENT {
            let found = ASKED.iter().find(|(asked, _)| self.position[*asked as usize] == position);
            let Some((asked, _)) = found else {
                if self.position.iter().all(|at| *at == ABSENT || *at < position) {
                    break;
                }
                continue;
            };
            let offer = able(*asked).filter(|_| !refused(*asked));
            if offer.is_none() && !matches!(asked, Asked::Identity | Asked::Any) {
                continue;
            }
            let weight = self.weight[*asked as usize];
            let first_choice = offer.is_some_and(|offer| offer.choose_first);
            if weight > best || (weight == best && weight > 0 && first_choice) {
                (chosen, best) = (Some((*asked, offer)), weight);
            }
        }
        match chosen {
            None => Decision::NotValid,
            Some((Asked::Identity, _)) => Decision::Identity,
            Some((_, Some(offer))) => Decision::Named(offer.coding),
            Some((_, None)) => Decision::Any(first.coding),
        }
    }
}

fn asked(coding: Coding) -> Asked {
    match coding {
        Coding::Gzip => Asked::Gzip,
        Coding::Brotli => Asked::Brotli,
        Coding::Zstd => Asked::Zstd,
    }
}

/// Name and weight of a member; `None` for one whose weight is no number. Only the first parameter is looked at.
fn weighted(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = member.splitn(2, |b| *b == b';');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let Some(parameter) = parts.next() else { return Some((name, 1000)) };
    let mut parts = parameter.splitn(2, |b| *b == b'=');
    let is_weight = parts.next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case(b"q");
    let Some(weight) = parts.next().filter(|_| is_weight) else { return Some((name, 1000)) };
    let weight: f32 = std::str::from_utf8(weight.trim_ascii()).ok()?.parse().ok()?;
    // What is less than a thousandth is still more than nothing.
    let thousandths = if weight > 0.0 { (weight * 1000.0).max(1.0) } else { 0.0 };
    Some((name, thousandths as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(field: &str, offers: &[(Coding, bool)]) -> Decision {
        let offers = offers
            .iter()
            .map(|(coding, choose_first)| Offer { coding: *coding, choose_first: *choose_first });
        Accept::parse(field.as_bytes()).choose(offers)
    }

    #[test]
    fn weights_decide_and_then_the_order() {
        use Coding::{Brotli, Gzip, Zstd};
        let all = [(Gzip, false), (Brotli, false), (Zstd, false)];
        for (field, expected) in [
            ("gzip", Decision::Named(Gzip)),
            ("gzip, br", Decision::Named(Gzip)),
            ("br,gzip", Decision::Named(Brotli)),
            ("gzip;q=0.5, br;q=0.4,zstd ; q = 0.6", Decision::Named(Zstd)),
            ("deflate, sdch", Decision::NotValid),
            ("", Decision::NotValid),
            ("*", Decision::Any(Gzip)),
            ("gzip;q=0, *", Decision::Any(Brotli)),
            ("gzip;q=0,br;q=0,zstd;q=0,*", Decision::NotValid),
            ("identity, gzip;q=0.9", Decision::Identity),
            ("identity;q=0.5, gzip;q=0.9", Decision::Named(Gzip)),
            ("gzip;q=x, br;q=0.1", Decision::Named(Brotli)),
            ("gzip;v=1;q=0", Decision::Named(Gzip)),
            ("gzip;q=0.0001", Decision::Named(Gzip)),
            ("GZIP", Decision::NotValid),
            ("*;q=0", Decision::NotValid),
        ] {
            assert_eq!(choose(field, &all), expected, "{field}");
        }
        assert_eq!(choose("gzip, br", &[(Gzip, false), (Brotli, true)]), Decision::Named(Brotli));
        assert_eq!(choose("gzip, br;q=0.9", &[(Gzip, false), (Brotli, true)]), Decision::Named(Gzip));
        assert_eq!(choose("gzip", &[]), Decision::NotValid);
        assert_eq!(choose("br, gzip;q=0.1", &[(Gzip, false)]), Decision::Named(Gzip));
    }
}
