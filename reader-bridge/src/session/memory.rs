//! What the terminal remembers of a card, over restarts of its own.
//!
//! Owns the values and their meaning; the session asks for them to be saved, [`crate::terminal`]
//! keeps them in a file. Refuses to know files. Nothing here is a secret of the subscription, but
//! the identity of an unanswered poll links a device's traffic, so the file is the owner's alone.

use protocol::identity::Uid;
use serde::{Deserialize, Serialize};

use super::{route::Via, schedule::Rules};

/// Everything remembered of one card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Id of the last message acted on, 0 if none was.
    pub last_message: u32,
    /// A poll that has left and was not answered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outstanding: Option<Outstanding>,
    /// What messages have changed of the schedule.
    #[serde(default)]
    pub rules: Rules,
    /// The server to use in the place of home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// When the last poll left, in POSIX seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_poll: Option<u64>,
    /// When the next poll is due, in POSIX seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_poll: Option<u64>,
}

/// A poll that was not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outstanding {
    /// The identity it went out under.
    #[serde(with = "uid_text")]
    pub identity: Uid,
    /// To whom it went: a transport update is followed only if it came from home.
    pub via: Via,
}

/// A transport update in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// host:port of the server to use.
    pub endpoint: String,
    /// The home servers that it came from; with other ones it is forgotten.
    pub home: Vec<String>,
    /// Until when, in POSIX seconds.
    pub until: u64,
}

mod uid_text {
    use protocol::identity::Uid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(uid: &Uid, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(uid)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Uid, D::Error> {
        let text = String::deserialize(input)?;
        Uid::from_hex(&text).map_err(D::Error::custom)
    }
}
