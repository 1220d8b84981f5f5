//! The bytes of what a journal holds, one entry behind the other (`docs/storage-server.md`).
//!
//! | entry | bytes |
//! |---|---|
//! | promotion | `p` · attempt:1 · subscription:4 · parent:5 · child:5 |
//! | promotion by a message | `m` · attempt:1 · subscription:4 · parent:5 · child:5 · message:4 |
//! | where a chain stands | `c` · chain:76 or 92 |
//! | what became of a message | `o` · state:1 · subscription:4 · message:4 · POSIX seconds:8 |
//! | padding | `00` |

use protocol::{
    identity::{Mode, Uid},
    key::Key,
    secret::{DeviceSecret, NOTHING_TO_DO},
};

use super::{ChainRecord, MessageState, Outcome, Promoted, record::Fields};

const PADDING: u8 = 0;
const PROMOTED: u8 = b'p';
const PROMOTED_BY_MESSAGE: u8 = b'm';
const CHAIN: u8 = b'c';
const OUTCOME: u8 = b'o';
/// In a chain's flags, beside the mode: its key has 32 bytes, not 16.
const LONG_KEY: u8 = 0x80;

/// What a journal holds.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Promoted(Promoted),
    Chain(Box<ChainRecord>),
    Outcome(Outcome),
}

impl Promoted {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let kind = if self.message == NOTHING_TO_DO {
            PROMOTED
        } else {
            PROMOTED_BY_MESSAGE
        };
        into.extend_from_slice(&[kind, self.attempt]);
        into.extend_from_slice(&self.id.to_be_bytes());
        into.extend_from_slice(&self.parent);
        into.extend_from_slice(&self.child);
        if self.message != NOTHING_TO_DO {
            into.extend_from_slice(&self.message.to_be_bytes());
        }
    }

    fn decode(fields: &mut Fields<'_>, by_message: bool) -> Option<Self> {
        let attempt = fields.u8()?;
        Some(Self {
            attempt,
            id: fields.u32()?,
            parent: fields.array()?,
            child: fields.array()?,
            message: if by_message {
                fields.u32()?
            } else {
                NOTHING_TO_DO
            },
        })
    }
}

impl ChainRecord {
    /// `subscription:4 · flags:1 · attempt:1 · generation:4 · e:4 · UID_n:10 · R(e):10 · its child:10 ·
    /// S_dev:16 · K_n:16 or 32`.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let key = self.key.as_bytes();
        let long = if key.len() == 32 { LONG_KEY } else { 0 };
        into.extend_from_slice(&self.id.to_be_bytes());
        into.extend_from_slice(&[self.mode.byte() | long, self.attempt]);
        into.extend_from_slice(&self.generation.to_be_bytes());
        into.extend_from_slice(&self.e.to_be_bytes());
        for uid in [self.uid, self.recovery, self.recovery_child] {
            into.extend_from_slice(&uid.0);
        }
        into.extend_from_slice(self.secret.as_bytes());
        into.extend_from_slice(key);
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.u32()?;
        let flags = fields.u8()?;
        let key_len = if flags & LONG_KEY == 0 { 16 } else { 32 };
        Some(Self {
            id,
            mode: Mode::from_byte(flags & !LONG_KEY).ok()?,
            attempt: fields.u8()?,
            generation: fields.u32()?,
            e: fields.u32()?,
            uid: Uid(fields.array()?),
            recovery: Uid(fields.array()?),
            recovery_child: Uid(fields.array()?),
            secret: DeviceSecret::from_bytes(fields.array()?),
            key: Key::from_bytes(fields.slice(key_len)?).ok()?,
        })
    }
}

impl Outcome {
    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&[OUTCOME, self.state as u8]);
        into.extend_from_slice(&self.subscription.to_be_bytes());
        into.extend_from_slice(&self.message.to_be_bytes());
        into.extend_from_slice(&self.changed_at.to_be_bytes());
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            state: MessageState::from_byte(fields.u8()?)?,
            subscription: fields.u32()?,
            message: fields.u32()?,
            changed_at: fields.u64()?,
        })
    }
}

/// Writes where a chain stands.
pub(super) fn encode_chain(record: &ChainRecord, into: &mut Vec<u8>) {
    into.push(CHAIN);
    record.encode(into);
}

/// Writes what became of a message.
pub(super) fn encode_outcome(outcome: &Outcome, into: &mut Vec<u8>) {
    outcome.encode(into);
}

/// All entries of a block; `None` if it holds anything else.
pub(super) fn decode(body: &[u8], mut take: impl FnMut(Entry)) -> Option<()> {
    let mut fields = Fields(body);
    while !fields.is_empty() {
        let entry = match fields.u8()? {
            PADDING => continue,
            PROMOTED => Entry::Promoted(Promoted::decode(&mut fields, false)?),
            PROMOTED_BY_MESSAGE => Entry::Promoted(Promoted::decode(&mut fields, true)?),
            CHAIN => Entry::Chain(Box::new(ChainRecord::decode(&mut fields)?)),
            OUTCOME => Entry::Outcome(Outcome::decode(&mut fields)?),
            _ => return None,
        };
        take(entry);
    }
    Some(())
}
