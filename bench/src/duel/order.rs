//! Orders that come from a seed: which target has its turn when, and which device polls when.

/// The order of `count` targets in one round. Each round has another, so that none is always first
/// and what drifts slowly hits all alike.
pub fn turns(count: usize, round: u64, seed: u64) -> Vec<usize> {
    let mut dice = fastrand::Rng::with_seed(seed ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut order: Vec<usize> = (0..count).collect();
    dice.shuffle(&mut order);
    order
}

/// A random order of the numbers from 0 to `count` - 1 that takes no memory: a Feistel network of four
/// rounds over the next even number of bits, walked until it falls below `count`
/// (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    count: u32,
    half_bits: u32,
    keys: [u64; 4],
}

impl Permutation {
    /// An order of this many numbers, at least one.
    pub fn new(count: u32, seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let bits = u32::BITS - count.saturating_sub(1).leading_zeros();
        Self {
            count: count.max(1),
            half_bits: bits.div_ceil(2).max(1),
            keys: std::array::from_fn(|_| dice.u64(..)),
        }
    }

    /// The number at this place; places repeat after `count`.
    pub fn at(&self, place: u64) -> u32 {
        let mut number = place % u64::from(self.count);
        loop {
            number = self.mix(number);
            match u32::try_from(number) {
                Ok(number) if number < self.count => return number,
                _ => {}
            }
        }
    }

    fn mix(&self, number: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (scramble(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// SplitMix64's finisher (Steele, Lea and Flood, 2014).
const fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_names_every_number_once() {
        for count in [1, 2, 3, 5, 64, 1000, 1025] {
            let order = Permutation::new(count, 7);
            let mut seen: Vec<u32> = (0..u64::from(count)).map(|place| order.at(place)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..count), "{count}");
        }
    }

    #[test]
    fn a_permutation_leaves_few_numbers_in_place_and_depends_on_the_seed() {
        let order = |seed| {
            let order = Permutation::new(10_000, seed);
            (0..10_000).map(|place| order.at(place)).collect::<Vec<_>>()
        };
        let fixed = (0..)
            .zip(order(1))
            .filter(|(place, number)| place == number);
        assert!(fixed.count() < 10);
        let neighbours = order(1)
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) == 1)
            .count();
        assert!(neighbours < 20);
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn every_target_is_first_about_as_often_as_the_others() {
        let mut first = [0; 3];
        (0..300).for_each(|round| first[turns(3, round, 1)[0]] += 1);
        assert!(
            first.iter().all(|count| (70..=130).contains(count)),
            "{first:?}"
        );
        assert_eq!(turns(3, 4, 1), turns(3, 4, 1));
    }
}
