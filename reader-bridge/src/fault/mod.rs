//! Faults on request (`--fault`): cards that are slow, mute, pulled or particular about lengths, networks that lose,
//! repeat, reorder and spoil datagrams. For people who test their own cards and servers.
//!
//! ```text
//! --fault ─ [`Faults`] ─ [`request`] ─┬─▶ [`card`] stands between a port and its card
//!                                     └─▶ [`net`] decides what becomes of each datagram
//! ```
//!
//! Owns what may go wrong and when. All chance comes from one seed: the same seed, the same commands and datagrams, the
//! same faults. Each one is told when it strikes, so that nobody takes it for a real one.

pub mod card;
pub mod net;
mod parse;
pub mod request;

use std::{ops::RangeInclusive, time::Duration};

pub use parse::FaultError;

/// Everything that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of the card.
    pub card: CardFaults,
    /// Of datagrams to the server.
    pub up: NetFaults,
    /// Of datagrams from the server.
    pub down: NetFaults,
}

impl Faults {
    /// Whether anything was asked of the card.
    pub fn has_card(&self) -> bool {
        self.card != CardFaults::default()
    }

    /// Whether anything was asked of the network.
    pub fn has_net(&self) -> bool {
        self.up != NetFaults::default() || self.down != NetFaults::default()
    }
}

/// What a card does wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardFaults {
    /// Every answer comes so much later; of a range, any time in it.
    pub delay: Option<RangeInclusive<Duration>>,
    /// Commands are executed, and their answers do not come.
    pub mute: Option<When>,
    /// Commands with an Le are answered 6CXX first.
    pub wrong_le: Option<WrongLe>,
    /// The card is pulled.
    pub pull: Option<When>,
}

/// 6CXX in the place of an answer (ISO/IEC 7816-4:2020, 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLe {
    /// The Le that the card asks for; the one that it was given if `None`.
    pub asked: Option<u8>,
    /// When.
    pub when: When,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Each time.
    Always,
    /// Each time with this probability.
    Chance(Chance),
    /// After so many commands.
    After(u64),
}

/// A probability, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance(pub(crate) u32);

/// One in a million.
const MILLION: u32 = 1_000_000;

impl Chance {
    /// Throws the dice. Certain ones throw them too, so that what comes later does not depend on the probability.
    pub(crate) fn strikes(self, random: &mut fastrand::Rng) -> bool {
        random.u32(..MILLION) < self.0
    }
}

/// What becomes of datagrams on their way, each with a probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetFaults {
    /// It does not arrive.
    pub loss: Chance,
    /// It arrives twice.
    pub dup: Chance,
    /// It arrives after the one that follows it.
    pub reorder: Chance,
    /// One of its bits is wrong.
    pub corrupt: Chance,
}

/// Is told of every fault that strikes.
pub type Tell = Box<dyn FnMut(String) + Send>;
