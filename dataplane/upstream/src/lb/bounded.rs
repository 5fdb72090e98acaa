//! Consistent hashing with bounded loads (`hash_balance_factor`): who is overloaded passes requests on to the others,
//! in an order that follows from the hash.

/// The Mersenne Twister of `std::mt19937`: the order must be the same in every proxy.
#[derive(Debug)]
struct Mt19937 {
    state: Vec<u32>,
    next: usize,
}

const STATE: usize = 624;
const MIDDLE: usize = 397;

impl Mt19937 {
    fn new(seed: u64) -> Self {
        // The engine takes the lower 32 bits.
        let mut word = seed as u32;
        let mut state = Vec::with_capacity(STATE);
        state.push(word);
        for n in 1..STATE as u32 {
            word = 1_812_433_253u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(n);
            state.push(word);
        }
        Self { state, next: STATE }
    }

    fn twist(&mut self) {
        for n in 0..STATE {
            let mixed = (self.state[n] & 0x8000_0000) | (self.state[(n + 1) % STATE] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[n] = self.state[(n + MIDDLE) % STATE] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// A number below `bound`, by rejection.
    fn below(&mut self, bound: u32) -> u32 {
        let divisor = (1u64 << 32) / u64::from(bound.max(1));
        loop {
            let number = u64::from(self.next_u32()) / divisor;
            if number < u64::from(bound.max(1)) {
                return number as u32;
            }
        }
    }
}

/// What a host has against what it may have: above 1.0 it is overloaded.
pub(crate) fn overload(active: u32, all_active: u32, share: f64, balance_factor: u32) -> f64 {
    let slots = (u64::from(all_active) + 1) * u64::from(balance_factor);
    let slots = slots.div_ceil(100) as u32;
    let own = ((f64::from(slots) * share).ceil() as u32).max(1);
    f64::from(active) / f64::from(own)
}

/// The first host that is not overloaded, else the one that is the least: the hash's own host, then the others in
/// the hash's order. `overload` tells of a host by its index. Costs what the number of overloaded hosts is.
pub(crate) fn choose(hash: u64, own: u32, hosts: u32, overload: impl Fn(u32) -> f64) -> u32 {
    let first = overload(own);
    if first <= 1.0 {
        return own;
    }
    let (mut best, mut least) = (own, first);
    let mut order: Vec<u32> = (0..hosts).collect();
    let mut random = Mt19937::new(hash);
    for at in 0..order.len() {
        let other = at + random.below(hosts - at as u32) as usize;
        order.swap(at, other);
        let host = order[at];
        if host == own {
            continue;
        }
        let load = overload(host);
        if load <= 1.0 {
            return host;
        }
        if load < least {
            (best, least) = (host, load);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_mt19937() {
        // The C++ standard names the 10,000th number of the default seed.
        let mut random = Mt19937::new(5489);
        let last = (0..10_000).map(|_| random.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
        assert_eq!(Mt19937::new(5489 | 7 << 40).next_u32(), 3_499_211_612);
    }

    #[test]
    fn overloaded_hosts_pass_on_and_the_least_loaded_serves_when_all_are() {
        assert!(overload(1, 3, 0.25, 100) <= 1.0);
        assert!(overload(2, 3, 0.25, 100) > 1.0);
        assert!(overload(3, 9, 0.25, 120) <= 1.0, "12 slots, 3 of them its own");
        assert_eq!(choose(7, 2, 5, |_| 0.5), 2);
        let taken = choose(7, 2, 5, |host| if host == 2 { 2.0 } else { 1.0 });
        assert_ne!(taken, 2);
        assert_eq!(
            choose(7, 2, 5, |host| if host == 2 { 2.0 } else { 1.0 }),
            taken,
            "the order is the hash's"
        );
        assert_eq!(choose(7, 2, 5, |host| if host == 4 { 1.5 } else { 2.0 }), 4);
        assert_ne!(choose(7, 2, 5, |host| if [2, taken].contains(&host) { 2.0 } else { 0.0 }), taken);
    }
}
