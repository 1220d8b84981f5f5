//! What has to survive: records, the changes that the engine asks for, and the small trait behind
//! which a store stands.
//!
//! A *commit* is atomic and survives a killed process; what a [`Sync::sync`] that began after it has
//! covered survives a power cut.

#[cfg(test)]
pub(crate) mod faulty;
mod files;
mod record;
mod seal;
mod sqlite;

use std::{fmt, io, path::PathBuf};

use protocol::{
    identity::{Iccid, Mode, Uid},
    key::Key,
    secret::ServerSecret,
};

use crate::engine::walk::Epoch;

pub use seal::StoreKey;
pub use sqlite::{Opened, Options, SqliteStore};

/// The number of a subscription in its store.
pub type SubId = u32;

/// What never changes of a subscription.
#[derive(Clone, Debug)]
pub struct IdentityRecord {
    /// Its number.
    pub id: SubId,
    /// What the operator calls it, unique.
    pub reference: Box<str>,
    /// The card's ICCID.
    pub iccid: Iccid,
    /// K as the operator knows it.
    pub k: Key,
    /// The mode, the same on card and server.
    pub mode: Mode,
    /// The first identity.
    pub uid_1: Uid,
}

/// Where its chain stands.
#[derive(Clone, Debug)]
pub struct ChainRecord {
    /// The subscription.
    pub id: SubId,
    /// `UID_n`.
    pub uid: Uid,
    /// `K_n`.
    pub key: Key,
    /// e.
    pub e: u32,
    /// `K_R(e)`.
    pub recovery_key: Key,
    /// Raised while a child exists in the system already.
    pub attempt: u8,
    /// The generation in which children of `UID_n` may have been made first.
    pub generation: u32,
    /// The highest message id ever given to it.
    pub highest_id: u32,
    /// How many of its messages are not done with: tells a damaged store that has lost one.
    pub open_messages: u32,
}

/// A message to one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRecord {
    /// The subscription.
    pub subscription: SubId,
    /// The message id, unique in the subscription for ever.
    pub id: u32,
    /// MSG as it goes on offer.
    pub msg: Vec<u8>,
    /// POSIX time in seconds at which it was queued.
    pub queued_at: u64,
    /// POSIX time in seconds at which it expires.
    pub expires_at: Option<u64>,
    /// What became of it.
    pub state: MessageState,
    /// POSIX time in seconds of its last change of state.
    pub changed_at: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum MessageState {
    /// Waits, or is on offer.
    Queued = 0,
    /// Cancelled while it may have been offered: not offered any more, its child still answered.
    Cancelling = 1,
    /// Expired while it may have been offered.
    Expiring = 2,
    /// The card has accepted it.
    Delivered = 3,
    /// The card never gets it.
    Cancelled = 4,
    /// The card never gets it.
    Expired = 5,
    /// Cancelled or expired, and a recovery came between: the card may have accepted it.
    CancelledPerhapsExecuted = 6,
    /// Of a restored queue: the card has accepted it, or a later one that the backup did not hold.
    DeliveredOrSuperseded = 7,
}

impl MessageState {
    const ALL: [Self; 8] = [
        Self::Queued,
        Self::Cancelling,
        Self::Expiring,
        Self::Delivered,
        Self::Cancelled,
        Self::Expired,
        Self::CancelledPerhapsExecuted,
        Self::DeliveredOrSuperseded,
    ];

    /// The state of this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// Whether the message is still of interest to the engine.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Cancelling | Self::Expiring)
    }

    /// Whether it is offered no more, but still answered.
    pub const fn is_withdrawn(self) -> bool {
        matches!(self, Self::Cancelling | Self::Expiring)
    }

    /// What a message that ends like this is while its child is still answered.
    #[must_use]
    pub const fn withdrawn(self) -> Self {
        match self {
            Self::Cancelled => Self::Cancelling,
            Self::Expired => Self::Expiring,
            other => other,
        }
    }

    /// How a withdrawn message ends once its child is answered no more.
    #[must_use]
    pub const fn resolved(self, recovery: bool) -> Self {
        match self {
            Self::Cancelling | Self::Expiring if recovery => Self::CancelledPerhapsExecuted,
            Self::Cancelling => Self::Cancelled,
            Self::Expiring => Self::Expired,
            other => other,
        }
    }
}

impl fmt::Display for MessageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Cancelling => "cancelled while on offer",
            Self::Expiring => "expired while on offer",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::CancelledPerhapsExecuted => "cancelled, perhaps executed",
            Self::DeliveredOrSuperseded => "delivered or superseded",
        })
    }
}

/// One thing to be stored.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new subscription.
    Identity(IdentityRecord),
    /// Where a chain stands now.
    Chain(ChainRecord),
    /// A new message, or what became of one.
    Message(MessageRecord),
}

/// All that the engine needs to begin.
pub struct Loaded {
    /// S.
    pub secret: ServerSecret,
    /// The generation and how far the walk goes.
    pub epoch: Epoch,
    /// Every subscription.
    pub subscriptions: Vec<(IdentityRecord, ChainRecord)>,
    /// The messages that are not done with.
    pub messages: Vec<MessageRecord>,
}

/// Why a store does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has the store.
    #[error("{0} is in use by another server: stop it, or give this one a store of its own")]
    InUse(PathBuf),
    /// The store was written by a newer version.
    #[error(
        "{path} has store format {found}, this version reads formats up to {known}: use a newer gts-mock"
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest that this version reads.
        known: i64,
    },
    /// The key file is not the one with which the store was made.
    #[error("the key in {0} does not open this store: give the key file with which it was made")]
    WrongKey(PathBuf),
    /// The key file cannot be used.
    #[error("key file {path}: {reason}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record is damaged: its seal does not hold.
    #[error("{what} of the store is damaged (its seal does not hold): restore a backup")]
    Damaged {
        /// Which record.
        what: String,
    },
    /// The database is empty or cut, where a store should be.
    #[error(
        "{0} is empty or cut: restore a backup; if this store was never used, remove that file"
    )]
    Empty(PathBuf),
    /// The database refuses.
    #[error("store: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where state survives. What an earlier process has written is synced when a store is opened.
pub trait Store: Send {
    /// Writes all of these or none, in order; survives a killed process when it returns.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// A handle that makes commits survive a power cut, usable from another thread meanwhile.
    fn syncer(&self) -> Result<Box<dyn Sync>, StoreError>;

    /// All messages ever queued for a subscription, oldest first.
    fn messages(&mut self, subscription: SubId) -> Result<Vec<MessageRecord>, StoreError>;

    /// Notes that the server stops in good order. Synced when it returns.
    fn close(&mut self) -> Result<(), StoreError>;
}

/// Makes commits survive a power cut.
pub trait Sync: Send {
    /// All commits that had returned before the call began are on disk for good when it returns.
    fn sync(&mut self) -> Result<(), StoreError>;
}
