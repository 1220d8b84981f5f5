//! Randomness of the operating system, for keys made on the card.

use crate::runtime::{Entropy, NoEntropy};

/// getrandom(2) and its like.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        getrandom::fill(out).map_err(|_| NoEntropy)
    }
}
