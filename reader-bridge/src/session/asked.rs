//! What a message asks for, and what became of it, as events tell it.
//!
//! Owns the words for the objects of MSG (`docs/protocol.md`) and for their fate. Refuses to decide what is done:
//! the session does ([`super::act`]). Never holds a secret.

use serde::Serialize;

/// A message that asks for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Its id; absent where it cannot be read.
    pub id: Option<u32>,
    /// Found on the card when the session began, not in an answer just now.
    pub pending: bool,
    /// It was acted on before, so nothing is done.
    pub duplicate: bool,
    /// What it asks for, and what became of that.
    pub objects: Vec<Asked>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One thing that a message asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// What is asked.
    #[serde(flatten)]
    pub what: What,
    /// What became of it.
    pub done: Done,
    /// Why not, where it was not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// In words.
    pub text: String,
}

/// What became of something that a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// The terminal has done it.
    Acted,
    /// It will be done: that is on disk.
    Queued,
    /// The terminal tells of it; whoever reads this acts.
    Reported,
    /// The card has done it.
    ByCard,
    /// The card could not do it.
    CardFailed,
    /// It is not followed.
    NotFollowed,
    /// It was done before.
    Before,
}

/// The objects of MSG with all their details.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// `82`.
    UpdateAvailable {
        /// The update's reference.
        reference: Option<String>,
    },
    /// `83`.
    Connect {
        /// POSIX time in seconds; now if absent.
        at: Option<u32>,
    },
    /// `84`.
    OpenHttp {
        /// Where; the OTA server that the device knows if absent.
        url: Option<String>,
    },
    /// `85`.
    Raise {
        /// Factor.
        percent: u16,
    },
    /// `86`.
    Lower {
        /// Factor.
        percent: u16,
    },
    /// `A7`.
    PollingRules,
    /// `88`.
    GenerateKey {
        /// `p256` or `ed25519`.
        algorithm: &'static str,
        /// Where the card keeps it.
        slot: u8,
    },
    /// `A9`.
    TransportUpdate {
        /// host:port; home if absent.
        endpoint: Option<String>,
        /// Seconds.
        lifetime: Option<u32>,
    },
    /// `8F`.
    Opaque {
        /// In hexadecimal.
        data: String,
    },
    /// A tag that this version does not know.
    Unknown {
        /// In hexadecimal.
        tag: String,
        /// In hexadecimal.
        value: String,
    },
    /// A known tag with a value that cannot be.
    Malformed {
        /// In hexadecimal.
        tag: String,
    },
}
