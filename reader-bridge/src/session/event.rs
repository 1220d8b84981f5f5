//! What a session tells of: one value for each thing that a person or a program wants to know.
//!
//! Owns the fields; [`crate::report`] writes them as text or JSON (`docs/terminal.md`). Never holds a
//! secret. Identities are told by their first four bytes.

use protocol::card::{Outcome, Statistics, StatusWord};
use serde::{Deserialize, Serialize};

use crate::ota::Deed;

use super::{
    asked::Message,
    route::{Because, Via},
    schedule::Schedule,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The terminal waits for a card.
    WaitingForCard {
        /// What is missing.
        why: String,
    },
    /// A card with SecApp is there.
    CardReady {
        /// Answer to reset, in hexadecimal.
        atr: String,
        /// The card's ICCID.
        iccid: String,
        /// The subscription's mode.
        mode: u8,
        /// The file in which this card is remembered.
        state: String,
        /// What the card has counted since it was made, if it tells.
        statistics: Option<Counted>,
    },
    /// What was remembered of a card cannot be read; it was set aside, and the card starts anew.
    StateDamaged {
        /// The file that it was moved to.
        kept: String,
        /// What is wrong with it.
        why: String,
    },
    /// A card that cannot be used.
    CardRefused {
        /// What is wrong with it.
        why: String,
    },
    /// The card went, or the way to it broke.
    CardGone {
        /// Why.
        why: String,
    },
    /// The card refused a command, or answered nonsense.
    CardFailed {
        /// The command.
        command: &'static str,
        /// What came.
        why: String,
    },
    /// A poll has left.
    PollSent {
        /// Number of the exchange, from 1 in each run.
        exchange: u64,
        /// Under which identity.
        identity: String,
        /// Resend_Counter in it.
        resend_counter: u8,
        /// Whether it carries a MAC.
        authenticated: bool,
        /// Its length.
        bytes: usize,
        /// host:port it goes to.
        to: String,
        /// Which kind of server that is.
        via: Via,
        /// How long an answer is waited for, in milliseconds.
        timeout_ms: u64,
    },
    /// An answer came and goes to the card.
    AnswerReceived {
        /// Number of the exchange.
        exchange: u64,
        /// Its length.
        bytes: usize,
    },
    /// The card refused an answer: it was not for this poll, or somebody has changed it.
    AnswerRefused {
        /// Number of the exchange.
        exchange: u64,
        /// Status word, four hexadecimal digits.
        status: String,
        /// The status word in words.
        meaning: &'static str,
        /// How many were refused since the last poll left.
        refused: u8,
    },
    /// An answer was dropped without asking the card.
    AnswerDropped {
        /// Number of the exchange.
        exchange: u64,
        /// Why.
        why: String,
    },
    /// An answer was accepted.
    ExchangeDone(Exchange),
    /// A message asks for something.
    Message(Message),
    /// The schedule has changed.
    ScheduleChanged {
        /// Seconds between polls.
        interval: u32,
        /// Percent of it.
        jitter: u8,
        /// Shortest interval in seconds.
        floor: u32,
        /// Longest interval in seconds.
        ceiling: u32,
        /// Bits of object `94`.
        events: u8,
        /// Start and length in minutes of the UTC day.
        quiet: Option<(u16, u16)>,
    },
    /// Another server is asked from now on.
    ServerChanged {
        /// host:port.
        to: String,
        /// Which kind of server that is.
        via: Via,
        /// Why.
        because: Because,
        /// For how long at most, in seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        lifetime: Option<u64>,
    },
    /// When the next poll is due.
    NextPoll {
        /// In so many milliseconds.
        in_ms: u64,
    },
    /// No answer to any of the polls that `--once` allows.
    NoAnswer {
        /// How many left.
        polls: u32,
        /// To which server the last one went.
        to: String,
    },
    /// The way to the server fails; the poll counts as lost and is repeated in its time.
    LinkFailed {
        /// host:port.
        to: String,
        /// What went wrong.
        why: String,
    },
    /// A request that the schedule does not allow.
    RequestRefused {
        /// Why.
        why: &'static str,
    },
    /// A fault that was asked for has struck.
    Fault {
        /// Which.
        what: String,
    },
    /// The trace cannot be written any more; everything else goes on.
    TraceFailed {
        /// Why.
        why: String,
    },
    /// The terminal ends.
    Stopped {
        /// Why.
        why: String,
    },
    /// Something that was done because of a message.
    #[serde(untagged)]
    Deed(Deed),
}

/// An accepted answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// Number of the exchange, from 1 in each run.
    pub exchange: u64,
    /// The identity that polled; absent if it was before this run and is not remembered.
    pub identity_before: Option<String>,
    /// The identity that polls next; absent if the card went before it could be asked.
    pub identity_after: Option<String>,
    /// How many answers the server has sent under that identity.
    pub sent: u16,
    /// How often the card had resent its poll.
    pub resend_counter: u8,
    /// Polls that never reached the server.
    pub polls_lost: u32,
    /// Answers lost on the way back.
    pub answers_lost: u32,
    /// Somebody else has polled with this identity.
    pub others_polled: bool,
    /// The message had been executed before.
    pub duplicate: bool,
    /// The message, or a command in it, could not be executed by the card.
    pub not_done: bool,
    /// From the last poll to its answer, in milliseconds; absent when the answer was found on the
    /// card afterwards.
    pub round_trip_ms: Option<u64>,
    /// The link's quality in this run, this exchange included.
    pub link: Quality,
    /// The message's id; absent where there is nothing to do, or it cannot be read.
    pub message_id: Option<u32>,
    /// The message in words.
    pub message: String,
}

/// What a card has counted since it was made (`E7`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Responses accepted.
    pub accepted: u32,
    /// Responses refused.
    pub refused: u32,
    /// Polls that never reached the server.
    pub polls_lost: u32,
    /// Answers that were lost on the way back.
    pub answers_lost: u32,
    /// Recovery identities used up.
    pub recoveries: u32,
    /// Id of the last message.
    pub last_message: u32,
}

impl From<Statistics> for Counted {
    fn from(statistics: Statistics) -> Self {
        Self {
            accepted: statistics.accepted,
            refused: statistics.refused,
            polls_lost: statistics.polls_lost,
            answers_lost: statistics.answers_lost,
            recoveries: statistics.e,
            last_message: statistics.last_message,
        }
    }
}

/// A link's quality over several exchanges, as both counters tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// Exchanges completed.
    pub exchanges: u64,
    /// Polls that the card had made for them.
    pub polls: u64,
    /// How many of these never reached the server.
    pub polls_lost: u64,
    /// Answers that the server had sent for them.
    pub answers: u64,
    /// How many of these never came.
    pub answers_lost: u64,
}

impl Quality {
    /// One more exchange.
    pub fn add(&mut self, outcome: &Outcome) {
        self.exchanges += 1;
        self.polls += u64::from(outcome.resend_counter) + 1;
        self.polls_lost += u64::from(outcome.polls_lost());
        self.answers += u64::from(outcome.sent);
        self.answers_lost += u64::from(outcome.answers_lost());
    }
}

impl Event {
    /// The schedule that is in force now.
    pub fn schedule(schedule: &Schedule) -> Self {
        Self::ScheduleChanged {
            interval: schedule.interval,
            jitter: schedule.jitter,
            floor: schedule.floor,
            ceiling: schedule.ceiling,
            events: schedule.events.0,
            quiet: schedule.quiet.map(|quiet| (quiet.start, quiet.length)),
        }
    }

    /// An answer that the card refused.
    pub fn refused(exchange: u64, status: StatusWord, refused: u8) -> Self {
        Self::AnswerRefused {
            exchange,
            status: format!("{:04X}", status.0),
            meaning: status.meaning(),
            refused,
        }
    }
}
