//! What goes into an agent and what comes out of it.
//!
//! Owns the vocabulary between the agent and whoever runs it: the terminal, or a scripted world.

use std::time::Duration;

use protocol::msg::KeyAlgorithm;

use super::{
    agenda::{Agenda, HookCall},
    call::{Request, Response},
    event::Deed,
    hook::HookResult,
    policy::Policy,
};
use crate::card::exchange::Answer;

/// How an agent is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where sessions may go.
    pub policy: Policy,
    /// So many attempts in a row fail, then a session is given up.
    pub attempts: u32,
    /// The delay after the first attempt that fails; it doubles with each.
    pub retry: Duration,
    /// There is a hook program.
    pub hook: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            attempts: 12,
            retry: Duration::from_secs(15),
            hook: false,
        }
    }
}

/// What a message wants done by the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its id; absent where it cannot be read, and then nothing is wanted but that the hook be told.
    pub id: Option<u32>,
    /// The message as its event tells it.
    pub message: serde_json::Value,
    /// Sessions to be opened.
    pub sessions: Vec<Wanted>,
    /// Key pairs that the card has made.
    pub keys: Vec<(KeyAlgorithm, u8)>,
}

impl Wish {
    /// Nothing yet, for the message with this id.
    pub fn of(id: Option<u32>) -> Self {
        Self {
            id,
            message: serde_json::Value::Null,
            sessions: Vec::new(),
            keys: Vec::new(),
        }
    }
}

/// A session that a message wants opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub url: String,
    /// Not before this POSIX time in seconds.
    pub at: Option<u32>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A message was accepted. It may come again.
    Message(Wish),
    /// The card is there.
    CardReady,
    /// The card went, or the way to it broke. What it had last may have been executed.
    CardGone,
    /// The card's answer to [`Action::Transmit`].
    Answered(Answer),
    /// The card's answer to [`Action::Sign`].
    Signed(Signed),
    /// The card's answer to [`Action::ReadKey`].
    Key(KeyRead),
    /// The server's answer to the request with this number, or why there is none.
    Http(u64, Result<Response, String>),
    /// The hook program has ended.
    Hook(HookResult),
    /// The deadline may have come.
    Time,
    /// The network has changed: what failed may work now.
    NetworkChange,
}

/// SIGN-SESSION's answer, or why there is none.
pub type Signed = Result<[u8; 16], String>;
/// The point of a public key, or why it cannot be read.
pub type KeyRead = Result<Vec<u8>, String>;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Remember this before going on: durable, or fail.
    Save(Agenda),
    /// Tell whoever listens.
    Tell(Deed),
    /// Give this command to the card and come back with its whole answer. From the first of several until something
    /// else than saving and telling comes, nothing else goes to the card.
    Transmit(Vec<u8>),
    /// Have SecApp sign this challenge.
    Sign([u8; 16]),
    /// Read the public key in this slot.
    ReadKey(u8),
    /// Send a request; its number comes back with the answer.
    Post(u64, Request),
    /// Start the hook program.
    Hook(HookCall),
}
