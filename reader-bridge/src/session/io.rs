//! What goes into a session and what comes out of it.
//!
//! Owns the vocabulary between the session and whoever runs it: the terminal, or a simulated world.

use std::time::Duration;

use protocol::{
    card::{Outcome, StatusWord},
    identity::Uid,
    poll::Poll,
};

use super::{event::Event, memory::Memory};
use crate::ota::Wish;

/// The time, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since any fixed moment; goes on while the machine sleeps, and nobody sets it.
    pub mono: Duration,
    /// POSIX seconds, as the machine believes.
    pub wall: u64,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The card is there and SecApp is selected.
    CardReady {
        /// It was put in, or the terminal has just started; otherwise the way to it broke and was mended.
        inserted: bool,
    },
    /// The card went, or the way to it broke. What it was asked last may have been done.
    CardGone,
    /// The card's reply to [`Action::Ask`].
    Card(Reply),
    /// A datagram from the server that was polled.
    Datagram(&'a [u8]),
    /// The deadline may have come.
    Time,
    /// Something happened that may be an occasion for a poll.
    Wake(Occasion),
}

/// An occasion for a poll besides the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Somebody on this machine asks for it.
    HostRequest,
    /// The network has changed.
    NetworkChange,
}

/// A question to the card. There is at most one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// GET DATA 00E1.
    LastOutcome,
    /// GET-UID.
    Poll {
        /// A poll has gone unanswered: P1 = 01.
        after_silence: bool,
    },
    /// PROCESS-RESPONSE with this datagram, which has the form of a response.
    Process(Vec<u8>),
}

/// A command by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// GET DATA 00E1.
    LastOutcome,
    /// GET-UID.
    GetUid,
    /// PROCESS-RESPONSE.
    ProcessResponse,
}

impl Command {
    /// As the card interface calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LastOutcome => "GET DATA E1",
            Self::GetUid => "GET-UID",
            Self::ProcessResponse => "PROCESS-RESPONSE",
        }
    }
}

/// The card's reply. A broken way to the card is [`Input::CardGone`] instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The last outcome, or the outcome of the response given; `None` if nothing was ever accepted.
    Outcome(Option<Outcome>),
    /// The poll, and the datagram that it is.
    Poll(Poll, Vec<u8>),
    /// Another status word than 9000.
    Refused(StatusWord),
    /// Something that the card interface does not know.
    Nonsense(String),
}

impl Reply {
    /// What is wrong with a reply that was not expected.
    pub(super) fn complaint(&self) -> String {
        match self {
            Self::Refused(status) => status.to_string(),
            Self::Nonsense(why) => why.clone(),
            Self::Outcome(_) | Self::Poll(..) => "the reply belongs to another command".into(),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the card, and come back with [`Input::Card`] or [`Input::CardGone`].
    Ask(Ask),
    /// Send a poll.
    Send {
        /// Each identity has a source port of its own.
        identity: Uid,
        /// host:port.
        to: String,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// The identities of this exchange are used up: their source ports go.
    Close,
    /// Remember this before going on: durable, or fail.
    Save(Memory),
    /// Tell whoever listens.
    Tell(Event),
    /// A message wants something done that takes its time. That it will be done is durable before anything that follows.
    Act(Wish),
    /// The one exchange that was asked for is over.
    Finish(End),
}

/// How a single exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// An answer was accepted.
    Done,
    /// So many polls went unanswered.
    NoAnswer {
        /// How many.
        polls: u32,
        /// To which server the last one went.
        to: String,
    },
    /// The card refused a command or answered nonsense.
    CardFailed {
        /// The command.
        command: &'static str,
        /// What came.
        why: String,
    },
}
