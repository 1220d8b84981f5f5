//! What is still to be done for a card, as it stands on disk.
//!
//! Owns the form (`docs/ota.md`, Journal). Refuses to know files. What is written here has been promised: it is written
//! before the message's id is remembered as acted on, and before and after each command.

use std::{fmt, time::Duration};

use protocol::msg::KeyAlgorithm;
use serde::{Deserialize, Serialize, de::Error as _};

/// Bytes, in hexadecimal on disk.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

/// Everything to be done for one card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agenda {
    /// Highest id of a message that was entered here: a message that comes again is not entered again.
    pub last: u32,
    /// Messages that the hook program is still to be told of, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookCall>,
    /// Sessions to be opened, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Job>,
    /// Sessions that were given up with answers that no server has: the next one with that server begins there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Journal>,
}

/// A message for the hook program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookCall {
    /// The message's id; absent where it cannot be read.
    pub id: Option<u32>,
    /// When it came, POSIX seconds.
    pub at: u64,
    /// The message as the event tells it.
    pub message: serde_json::Value,
}

/// A session to be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Id of the message that asks for it.
    pub message: u32,
    /// Where; without, there are only keys to be read and told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Not before this POSIX time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u32>,
    /// Public keys to be delivered in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyMade>,
    /// Attempts that were begun since the last answer that took it further.
    #[serde(default)]
    pub attempts: u32,
    /// How far the session is; absent until it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// Not before this time of the clock that nobody sets: an attempt has failed.
    #[serde(skip)]
    pub retry_at: Option<Duration>,
}

/// A key pair that the card has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyMade {
    /// The algorithm's byte in object `88`.
    algorithm: u8,
    /// Where the card keeps it.
    pub slot: u8,
}

impl KeyMade {
    /// A key pair.
    pub const fn new(algorithm: KeyAlgorithm, slot: u8) -> Self {
        Self {
            algorithm: algorithm.byte(),
            slot,
        }
    }

    /// Which kind of key; P-256 for a byte that no version has written.
    pub fn algorithm(&self) -> KeyAlgorithm {
        KeyAlgorithm::from_byte(self.algorithm).unwrap_or(KeyAlgorithm::P256)
    }
}

/// A session: what to send next, or which command string is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Where it began.
    pub start: String,
    /// Where the next request goes; absent if none follows the string that is under way.
    pub url: Option<String>,
    /// What the next request carries.
    pub body: Carried,
    /// The request may have reached the server before.
    pub sent: bool,
    /// The command string that came last, until its answer is in `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// Answers with a next URI so far: strings, and others.
    pub steps: u32,
    /// Command strings so far.
    pub scripts: u32,
    /// Commands that the card has answered.
    pub commands: u32,
}

/// What a request carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Carried {
    /// Nothing.
    #[default]
    Nothing,
    /// Public keys.
    Keys(Hex),
    /// The answer to a command string.
    Answer {
        /// `X-Admin-Script-Status`.
        status: String,
        /// The answer; empty unless the status is `ok`.
        body: Hex,
        /// The command, from 1, during which the way to the card broke.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<usize>,
    },
}

/// A command string under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// The string as it came.
    pub script: Hex,
    /// AID of the application it is for.
    pub target: Hex,
    /// What its commands were answered so far.
    pub answers: Vec<Hex>,
    /// The next command was begun: whether the card has executed it is known only when its answer is above.
    pub begun: bool,
}

impl Journal {
    /// A session that begins at `start`.
    pub fn new(start: &str, body: Carried) -> Self {
        Self {
            start: start.to_owned(),
            url: Some(start.to_owned()),
            body,
            sent: false,
            running: None,
            steps: 0,
            scripts: 0,
            commands: 0,
        }
    }

    /// Whether the card has executed something whose answer no server is known to have.
    pub fn owes_answers(&self) -> bool {
        self.url.is_some()
            && (matches!(self.body, Carried::Answer { .. })
                || self
                    .running
                    .as_ref()
                    .is_some_and(|running| running.begun || !running.answers.is_empty()))
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Commands and answers may be anybody's secrets.
        write!(f, "Hex({} bytes)", self.0.len())
    }
}

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        hex::decode(text).map(Self).map_err(D::Error::custom)
    }
}
