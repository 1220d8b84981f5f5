//! Card ports: the places that a card can sit in, behind one small trait.
//!
//! Owns getting power and bytes to a card and telling apart why that failed. Refuses to know what
//! the bytes mean. ISO/IEC 7816-3 and 7816-4 govern it; each port names its own transport's source.
//!
//! A port never repeats a command on its own: after a broken transmission the card may already have
//! executed it. Whoever asked reconnects, reads what the card did, and decides.

mod between;
pub mod exchange;
pub mod image;
mod open;
pub mod pcsc;
mod spec;
pub mod vpcd;
mod wait;

use std::{fmt, io};

pub use between::{Between, Interposed};
pub use open::{OpenError, Options, open};
pub use spec::{CardSpec, CardSpecError};
pub use wait::Wait;
pub(crate) use wait::poll_until;

/// Answer to reset, at most 33 bytes (ISO/IEC 7816-3:2006, 8.2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Atr(Vec<u8>);

impl Atr {
    /// The longest: TS and 32 characters (ISO/IEC 7816-3:2006, 8.2.1).
    pub const MAX_LEN: usize = 33;

    /// Takes 2 to 33 bytes that begin with an initial character, 3B or 3F.
    pub fn parse(bytes: &[u8]) -> Result<Self, CardError> {
        match bytes.first() {
            Some(0x3B | 0x3F) if (2..=Self::MAX_LEN).contains(&bytes.len()) => {
                Ok(Self(bytes.to_vec()))
            }
            _ => Err(CardError::Broken(format!(
                "its answer to reset is {} bytes that begin with {}; an ATR has 2 to 33 and begins with 3B or 3F",
                bytes.len(),
                bytes
                    .first()
                    .map_or_else(|| "nothing".into(), |byte| format!("{byte:02X}")),
            ))),
        }
    }

    /// The bytes, TS first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Atr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(&self.0))
    }
}

impl fmt::Debug for Atr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Atr({self})")
    }
}

/// How commands travel: it decides whether an Le may follow command data (ISO/IEC 7816-3:2006, 12.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// T=0: a command with data has no Le; its answer is fetched by GET RESPONSE.
    T0,
    /// T=1, or whole APDUs by other means.
    Apdu,
}

/// Why a card cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// Nothing came in the time that was given; what was waited for stands here.
    #[error("no card: {0}")]
    NoCard(String),
    /// The place is there no more: no card will ever come.
    #[error("{0}")]
    Closed(String),
    /// Something else wants attention before a card came.
    #[error("interrupted")]
    Interrupted,
    /// The card was taken out, or its connection closed.
    #[error("the card is gone: {0}")]
    Gone(String),
    /// Somebody else has reset the card: all that it kept in RAM is lost.
    #[error("another program has reset the card")]
    Reset,
    /// The card did not answer a command in time.
    #[error("the card is mute: no answer in {0} s")]
    Mute(u64),
    /// Another program holds the card: for itself, or while it is wanted for this one alone.
    #[error("another program holds the card {0}")]
    Busy(String),
    /// What came is not what the transport's specification says.
    #[error("the card breaks the rules: {0}")]
    Broken(String),
    /// The card's power failed in the middle of a write, as it was asked to.
    #[error("the card's power failed in the middle of a write")]
    Torn,
    /// The reader or its service failed.
    #[error("{0}")]
    Reader(String),
    /// The operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl CardError {
    /// An error of the operating system while doing `what`.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }
}

/// How a card loses what it has in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Warm reset (ISO/IEC 7816-3:2006, 6.2.3).
    Reset,
    /// Off, and on again: cold reset.
    Cycle,
}

/// A place for one card at a time.
pub trait CardPort: Send {
    /// Where the card is, in the words of `--card`.
    fn place(&self) -> String;

    /// Waits for a card as long as `wait` allows, and gives it power. What the card kept in RAM may
    /// be lost: a card that is not shared with other programs is reset.
    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError>;

    /// Takes the card for a sequence of commands that nobody else may come between.
    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError>;

    /// Whether other programs reach the card between two sequences, and may have selected another
    /// application meanwhile.
    fn is_shared(&self) -> bool {
        false
    }

    /// Becomes readable when the card may have gone; [`CardPort::check`] then tells.
    fn removal(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// Whether the card is still there.
    fn check(&mut self) -> Result<(), CardError> {
        Ok(())
    }

    /// Takes what the card has in RAM, and returns its answer to reset. The card must be connected.
    fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        let _ = how;
        Err(CardError::Reader("this place cannot reset its card".into()))
    }

    /// Lets the card's power fail in the middle of the write after `writes` more. `false`: only an emulated card in
    /// this process can do that.
    fn tear(&mut self, writes: u64) -> Result<bool, CardError> {
        let _ = writes;
        Ok(false)
    }

    /// Lets go of the card. `refused`: it is of no use here, and [`CardPort::connect`] is to wait
    /// for another one.
    fn release(&mut self, refused: bool);
}

/// A card held for a sequence of commands.
pub trait Held {
    /// Sends one command and returns the answer with its status word, at least two bytes.
    ///
    /// After an error the card may or may not have executed the command.
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError>;

    /// How commands travel.
    fn transport(&self) -> Transport {
        Transport::Apdu
    }
}
