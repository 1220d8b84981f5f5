//! Which datagrams get lost: decided by their number alone, so that a run can be repeated.
//!
//! Owns the decision. Refuses to know sockets, clocks and contents.

use std::collections::BTreeSet;

/// The way of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

/// What is lost of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything.
    Everything,
    /// The datagrams with these numbers; the first is 1.
    Numbers(BTreeSet<u64>),
    /// A share, in percent, of all, chosen by a seed.
    Share {
        /// The seed: the same one loses the same numbers.
        seed: u64,
        /// 0 to 100.
        percent: u8,
    },
}

/// What is lost of both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// From clients to the server.
    pub up: Loss,
    /// From the server to clients.
    pub down: Loss,
}

/// More than 100 percent cannot be lost.
#[derive(Debug, thiserror::Error)]
#[error("{0} percent cannot be lost: at most 100")]
pub struct BadPercent(pub u8);

impl Loss {
    /// Loses the datagrams with these numbers; the first is 1.
    #[must_use]
    pub fn of_numbers(numbers: impl IntoIterator<Item = u64>) -> Self {
        Self::Numbers(numbers.into_iter().collect())
    }

    /// Whether datagram `number` is lost.
    #[must_use]
    pub fn takes(&self, number: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Numbers(numbers) => numbers.contains(&number),
            Self::Share { seed, percent } => {
                scramble(seed.wrapping_add(number)) % 100 < u64::from(*percent)
            }
        }
    }
}

impl Plan {
    /// Loses nothing.
    #[must_use]
    pub fn lossless() -> Self {
        Self::default()
    }

    /// Loses `percent` of each direction, each chosen differently from `seed`.
    ///
    /// # Errors
    ///
    /// [`BadPercent`] above 100.
    pub fn share(seed: u64, percent: u8) -> Result<Self, BadPercent> {
        if percent > 100 {
            return Err(BadPercent(percent));
        }
        let loss = |direction: u64| Loss::Share {
            seed: scramble(scramble(seed).wrapping_add(direction)),
            percent,
        };
        Ok(Self {
            up: loss(1),
            down: loss(2),
        })
    }

    /// Whether datagram `number` of `direction` is lost.
    #[must_use]
    pub fn takes(&self, direction: Direction, number: u64) -> bool {
        match direction {
            Direction::Up => self.up.takes(number),
            Direction::Down => self.down.takes(number),
        }
    }
}

/// The output function of `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn scramble(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(loss: &Loss, of: u64) -> Vec<u64> {
        (1..=of).filter(|&number| loss.takes(number)).collect()
    }

    #[test]
    fn a_script_loses_exactly_its_numbers() {
        assert_eq!(lost(&Loss::of_numbers([2, 5]), 10), [2, 5]);
        assert_eq!(lost(&Loss::Nothing, 10), []);
        assert_eq!(lost(&Loss::Everything, 3), [1, 2, 3]);
    }

    #[test]
    fn scramble_is_splitmix64() {
        // First outputs of the reference generator from state 0.
        assert_eq!(scramble(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(scramble(0x9E37_79B9_7F4A_7C15), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn a_seed_loses_its_share_the_same_way_every_time_and_differently_each_way() {
        let plan = Plan::share(7, 20).unwrap();
        let (up, down) = (lost(&plan.up, 10_000), lost(&plan.down, 10_000));
        assert!((1_800..2_200).contains(&up.len()), "{}", up.len());
        assert!((1_800..2_200).contains(&down.len()), "{}", down.len());
        assert_ne!(up, down);
        assert_eq!(up, lost(&Plan::share(7, 20).unwrap().up, 10_000));
        assert_ne!(up, lost(&Plan::share(8, 20).unwrap().up, 10_000));
    }

    #[test]
    fn shares_end_at_none_and_all() {
        assert_eq!(lost(&Plan::share(1, 0).unwrap().up, 1_000), []);
        assert_eq!(lost(&Plan::share(1, 100).unwrap().up, 1_000).len(), 1_000);
        assert!(Plan::share(1, 101).is_err());
    }
}
