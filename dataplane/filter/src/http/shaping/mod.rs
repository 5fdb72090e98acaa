//! Filters that delay, refuse, pace and rewrite: what each makes of one request.

pub(super) mod admission;
pub(super) mod bandwidth;
pub(super) mod buffer;
pub(super) mod concurrency;
pub(super) mod cors;
pub(super) mod csrf;
pub(super) mod descriptor;
pub(crate) mod dynamic;
pub(super) mod fault;
pub(super) mod header_mutation;
pub(super) mod local_rate_limit;
pub(super) mod pace;
mod query;
pub(super) mod stateful_session;

use millrace_base::Rng;
use millrace_config::Fraction;
use millrace_http::HeaderMap;

/// True for `fraction` of all calls.
pub(super) fn sampled(fraction: Fraction, rng: &mut Rng) -> bool {
    let Fraction { numerator, denominator } = fraction;
    numerator > 0 && (numerator >= denominator || rng.chance(u64::from(numerator), u64::from(denominator)))
}

/// The first value of a field as a decimal number.
pub(super) fn number(headers: &HeaderMap, name: &[u8]) -> Option<u64> {
    std::str::from_utf8(headers.get_name(name)?).ok()?.trim_matches([' ', '\t']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_exact_at_their_ends() {
        let mut rng = Rng::new(1);
        let mut count = |numerator| {
            let fraction = Fraction { numerator, denominator: 10_000 };
            (0..10_000).filter(|_| sampled(fraction, &mut rng)).count()
        };
        assert_eq!((count(0), count(10_000), count(20_000)), (0, 10_000, 10_000));
        assert!((2_300..2_700).contains(&count(2_500)));
    }
}
