//! The data objects in which SecApp tells what a response led to and what it has counted.

use core::ops::BitOr;

use alloc::vec::Vec;

use super::tag;
use crate::tlv::{self, TlvError};

/// What the card has to say about an accepted response (`C6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Without AUTH, Sent is more than this card can have caused: somebody else has polled with
    /// its identity.
    pub const OTHERS_POLLED: Self = Self(1);
    /// The message id is not newer than the last executed one: neither card nor terminal acts.
    pub const DUPLICATE: Self = Self(2);
    /// MSG is empty or not BER-TLV, or a command in it failed.
    pub const NOT_DONE: Self = Self(4);

    /// The byte as it stands in the outcome.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl From<u8> for Flags {
    fn from(byte: u8) -> Self {
        Self(byte)
    }
}

/// What an accepted response led to: PROCESS-RESPONSE's answer, readable until the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many answers the server has sent under that identity.
    pub sent: u16,
    /// How often the card had resent its poll, at most 255.
    pub resend_counter: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// MSG as the server wrote it, 0 to 228 bytes.
    pub msg: Vec<u8>,
}

/// Why a card's data object cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Not BER-TLV.
    #[error("not BER-TLV: {0}")]
    Tlv(#[from] TlvError),
    /// An object is missing.
    #[error("object {0:X} is missing")]
    Missing(u32),
    /// An object has another length than its form says.
    #[error("object {tag:X} has {len} bytes, expected {expected}")]
    Length {
        /// The object's tag.
        tag: u32,
        /// Its length in bytes.
        len: usize,
        /// The length it should have.
        expected: usize,
    },
}

impl Outcome {
    /// `E1 { C4 Sent:2, C5 Resend_Counter:1, C6 flags:1, E3 { MSG } }`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        tlv::put_with(&mut out, tag::OUTCOME, |body| {
            tlv::put(body, tag::SENT, &self.sent.to_be_bytes());
            tlv::put(body, tag::RESEND_COUNTER, &[self.resend_counter]);
            tlv::put(body, tag::FLAGS, &[self.flags.byte()]);
            tlv::put(body, tag::MSG, &self.msg);
        });
        out
    }

    /// Reads what [`Outcome::encode`] writes; objects it does not know are skipped.
    pub fn decode(data: &[u8]) -> Result<Self, ObjectError> {
        let body = required(data, tag::OUTCOME)?;
        Ok(Self {
            sent: u16::from_be_bytes(fixed(body, tag::SENT)?),
            resend_counter: u8::from_be_bytes(fixed(body, tag::RESEND_COUNTER)?),
            flags: u8::from_be_bytes(fixed(body, tag::FLAGS)?).into(),
            msg: required(body, tag::MSG)?.to_vec(),
        })
    }

    /// Polls of this exchange that never reached the server: `Resend_Counter + 1 - Sent`.
    pub fn polls_lost(&self) -> u32 {
        (u32::from(self.resend_counter) + 1).saturating_sub(u32::from(self.sent))
    }

    /// Answers of this exchange that were lost on the way back: `Sent - 1`.
    pub fn answers_lost(&self) -> u32 {
        u32::from(self.sent).saturating_sub(1)
    }
}

/// What a card has counted since it was made (`E7`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Responses accepted.
    pub accepted: u32,
    /// Responses refused.
    pub refused: u32,
    /// Polls that never reached the server.
    pub polls_lost: u32,
    /// Answers that were lost on the way back.
    pub answers_lost: u32,
    /// e: recovery identities used up.
    pub e: u32,
    /// Id of the last message executed, 0 if none was.
    pub last_message: u32,
}

impl Statistics {
    /// `E7 { C8 …, C9 …, CA …, CB …, CC …, CD … }`, four bytes each.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        tlv::put_with(&mut out, tag::STATISTICS, |body| {
            for (tag, value) in self.fields() {
                tlv::put(body, tag, &value.to_be_bytes());
            }
        });
        out
    }

    /// Reads what [`Statistics::encode`] writes; objects it does not know are skipped.
    pub fn decode(data: &[u8]) -> Result<Self, ObjectError> {
        let body = required(data, tag::STATISTICS)?;
        let field = |tag| Ok::<_, ObjectError>(u32::from_be_bytes(fixed(body, tag)?));
        Ok(Self {
            accepted: field(tag::ACCEPTED)?,
            refused: field(tag::REFUSED)?,
            polls_lost: field(tag::POLLS_LOST)?,
            answers_lost: field(tag::ANSWERS_LOST)?,
            e: field(tag::RECOVERY)?,
            last_message: field(tag::LAST_MESSAGE)?,
        })
    }

    const fn fields(&self) -> [(u32, u32); 6] {
        [
            (tag::ACCEPTED, self.accepted),
            (tag::REFUSED, self.refused),
            (tag::POLLS_LOST, self.polls_lost),
            (tag::ANSWERS_LOST, self.answers_lost),
            (tag::RECOVERY, self.e),
            (tag::LAST_MESSAGE, self.last_message),
        ]
    }
}

/// The value of an object that must be there.
pub fn required(data: &[u8], tag: u32) -> Result<&[u8], ObjectError> {
    tlv::find(data, tag)?.ok_or(ObjectError::Missing(tag))
}

/// The value of an object that must be there and have N bytes.
pub fn fixed<const N: usize>(data: &[u8], tag: u32) -> Result<[u8; N], ObjectError> {
    let value = required(data, tag)?;
    value.try_into().map_err(|_| ObjectError::Length {
        tag,
        len: value.len(),
        expected: N,
    })
}
