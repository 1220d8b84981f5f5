//! What a case wants done, what became of it, and how the case ended.
//!
//! Owns the words between [`super::Machine`] and whoever carries them to a card.

use std::time::Duration;

use super::{place::Place, value::Variables};
use crate::card::{Power, Transport};

/// What a case is run with.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Values from the command line.
    pub variables: Variables,
    /// Whether the card is an emulated one in this process.
    pub emulator: bool,
    /// For the host's challenges.
    pub seed: u64,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How commands travel to this card, and power for it if it has none.
    Connect,
    /// Send a command.
    Transmit {
        /// The command.
        command: Vec<u8>,
        /// Whether 61XX and 6CXX are followed until the answer is whole.
        whole: bool,
        /// How long the answer may take.
        limit: Duration,
    },
    /// Take what the card has in RAM.
    Power(Power),
    /// Let the power fail after so many more writes.
    Tear(u64),
    /// Tell this to whoever watches.
    Print(String),
    /// Nothing; look at the clock.
    Continue,
    /// The case has ended.
    Done(Verdict),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// [`Request::Print`], [`Request::Continue`] and [`Request::Tear`] are done.
    Done,
    /// [`Request::Connect`] and [`Request::Power`] are done.
    Powered(Powered),
    /// The answer to a command, with its status word.
    Answer {
        /// At least two bytes.
        bytes: Vec<u8>,
        /// How long it took.
        elapsed: Duration,
    },
    /// The power failed in the middle of the command, as [`Request::Tear`] asked; it is back.
    Torn,
    /// This card or reader cannot do that.
    Unsupported(String),
    /// The card did not answer, or is gone.
    Failed(String),
}

/// A card that has power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Powered {
    /// The answer to reset.
    pub atr: Vec<u8>,
    /// How commands travel.
    pub transport: Transport,
    /// Whether the card has just got it, and so has nothing in RAM.
    pub anew: bool,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was as expected.
    Passed,
    /// Something was not: what, and where.
    Failed(Failure),
    /// It could not be run here: why.
    Skipped(String),
}

/// What was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The statement.
    pub place: Place,
    /// What was expected and what came, in lines.
    pub message: String,
    /// The card itself failed: no answer, or it is gone.
    pub card: bool,
}
