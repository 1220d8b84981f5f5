//! MSG: what the server has to say, a sequence of BER-TLV objects.
//!
//! ```text
//! 80        nothing to do             86 [f]    lower the polling frequency
//! 81 id     message id, first         A7 {…}    polling rules
//! 82 [ref]  update available by OTA   88 a s    generate a key pair on board
//! 83 [t]    connect to OTA server     A9 {…}    transport update
//! 84 [url]  open an HTTP session      8F …      opaque data for another application
//! 85 [f]    raise polling frequency
//! ```
//!
//! [`Object`] stands for one of them in both directions: what an operator composes is what the
//! terminal reads.

mod object;
mod rules;

use alloc::vec::Vec;

pub use object::{Factor, KeyAlgorithm, Malformed, Object, Why};
pub use rules::{Events, PollingRules, QuietWindow, RulesError, TransportUpdate};

use crate::tlv::{self, Reader, TlvError};

/// The whole MSG of "nothing to do".
pub const NOTHING_TO_DO: [u8; 2] = [0x80, 0x00];

/// Tags of the objects of MSG.
pub mod tag {
    /// Nothing to do, no update.
    pub const NOTHING_TO_DO: u32 = 0x80;
    /// Message id.
    pub const MESSAGE_ID: u32 = 0x81;
    /// An update is available by OTA.
    pub const UPDATE_AVAILABLE: u32 = 0x82;
    /// Connect to the OTA server.
    pub const CONNECT: u32 = 0x83;
    /// Open an HTTP session with the OTA server.
    pub const OPEN_HTTP: u32 = 0x84;
    /// Raise the polling frequency.
    pub const RAISE: u32 = 0x85;
    /// Lower the polling frequency.
    pub const LOWER: u32 = 0x86;
    /// Polling rules.
    pub const POLLING_RULES: u32 = 0xA7;
    /// Generate a key pair on board.
    pub const GENERATE_KEY: u32 = 0x88;
    /// Transport update.
    pub const TRANSPORT_UPDATE: u32 = 0xA9;
    /// Opaque data for another application.
    pub const OPAQUE: u32 = 0x8F;
}

/// A MSG whose objects can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msg<'a> {
    bytes: &'a [u8],
    id: Option<u32>,
}

/// Why a MSG cannot be acted on. The response that carried it is accepted all the same: one that
/// could not be would be repeated for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MsgError {
    /// No object at all.
    #[error("the message is empty")]
    Empty,
    /// Not BER-TLV.
    #[error("the message is not BER-TLV: {0}")]
    Tlv(#[from] TlvError),
    /// It asks for something without an id, so that a repetition could not be told from it.
    #[error("the message asks for something, but does not begin with a message id")]
    NoId,
    /// A message id of another length than four bytes, or 0.
    #[error("the message id is not four bytes with a value above 0")]
    Id,
}

impl<'a> Msg<'a> {
    /// Takes the MSG of an accepted response apart. Every object's value is looked at later, by
    /// [`Msg::objects`], so that one bad object does not hide the others.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MsgError> {
        tlv::check(bytes)?;
        let first = Reader::new(bytes).next().ok_or(MsgError::Empty)??;
        let id = match first.tag {
            tag::NOTHING_TO_DO if first.value.is_empty() => None,
            tag::MESSAGE_ID => Some(message_id(first.value)?),
            _ => return Err(MsgError::NoId),
        };
        Ok(Self { bytes, id })
    }

    /// The message id; `None` where there is nothing to do.
    pub const fn id(&self) -> Option<u32> {
        self.id
    }

    /// What the message asks for, in order: the objects after the message id. Empty where there is nothing to do.
    pub fn objects(&self) -> impl Iterator<Item = Result<Object<'a>, Malformed>> + use<'a> {
        let asked = if self.id.is_some() { self.bytes } else { &[] };
        Reader::new(asked).skip(1).flatten().map(Object::decode)
    }
}

fn message_id(value: &[u8]) -> Result<u32, MsgError> {
    let id = u32::from_be_bytes(value.try_into().map_err(|_| MsgError::Id)?);
    if id == 0 { Err(MsgError::Id) } else { Ok(id) }
}

/// The MSG that asks for `objects` under this id.
pub fn compose(id: u32, objects: &[Object<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    tlv::put(&mut out, tag::MESSAGE_ID, &id.to_be_bytes());
    for object in objects {
        object.encode(&mut out);
    }
    out
}
