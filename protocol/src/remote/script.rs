//! A command string: commands for a card, one after the other.
//!
//! Governed by ETSI TS 102 226, 5.2.1 (expanded remote command structure), tags by ETSI TS 101 220, 7.2, the
//! C-APDU by ETSI TS 102 223, 8.35:
//!
//! ```text
//! AA length { [83 chaining] [81 immediate action] (22 C-APDU | 82 error action)* }    definite length
//! AE 80     { the same }  00 00                                                      indefinite length
//! ```

use alloc::vec::Vec;

use super::answer::BadFormat;
use crate::tlv::{self, Reader, Tlv, TlvError};

/// Command scripting template, definite length.
const DEFINITE: u8 = 0xAA;
/// Command scripting template, indefinite length.
const INDEFINITE: u8 = 0xAE;
/// Length field of the indefinite form (ISO/IEC 8825-1, 8.1.3.6).
pub(super) const INDEFINITE_LENGTH: u8 = 0x80;
/// End-of-contents octets (ISO/IEC 8825-1, 8.1.5).
pub(super) const END: [u8; 2] = [0, 0];

mod tag {
    pub(super) const C_APDU: u32 = 0x22;
    pub(super) const IMMEDIATE_ACTION: u32 = 0x81;
    pub(super) const ERROR_ACTION: u32 = 0x82;
    pub(super) const CHAINING: u32 = 0x83;
}

/// A string with more commands is refused.
pub const MAX_COMMANDS: usize = 255;
/// The shortest command: CLA INS P1 P2 (ISO/IEC 7816-4:2020, 5.1).
const MIN_COMMAND: usize = 4;

/// How the outermost length is written. An answer has the form of its string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// `AA` and `AB`, with a length.
    #[default]
    Definite,
    /// `AE 80` and `AF 80`, ended by `00 00`.
    Indefinite,
}

/// How a string belongs to those before and after it (ETSI TS 102 226, 5.2.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaining {
    /// `01`: the first of several; a reset of the card ends the chain.
    First,
    /// `11`: the first of several; the chain outlives a reset.
    FirstOverResets,
    /// `02`: goes on where the last one ended, and more follow.
    Next,
    /// `03`: goes on where the last one ended, and is the last.
    Last,
}

impl Chaining {
    const fn byte(self) -> u8 {
        match self {
            Self::First => 0x01,
            Self::FirstOverResets => 0x11,
            Self::Next => 0x02,
            Self::Last => 0x03,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::First),
            0x11 => Some(Self::FirstOverResets),
            0x02 => Some(Self::Next),
            0x03 => Some(Self::Last),
            _ => None,
        }
    }

    /// Whether it goes on where the last string ended.
    pub const fn continues(self) -> bool {
        matches!(self, Self::Next | Self::Last)
    }
}

/// One object of a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// `22`: a command APDU, at least four bytes.
    Command(Vec<u8>),
    /// `82`: what to do if a command after this one fails (ETSI TS 102 226, 5.2.1.3); empty: nothing.
    ErrorAction(Vec<u8>),
}

/// A command string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Its outer form.
    pub coding: Coding,
    /// `83`, if it is one of several.
    pub chaining: Option<Chaining>,
    /// `81`: what to do before the first command (ETSI TS 102 226, 5.2.1.2).
    pub immediate_action: Option<Vec<u8>>,
    /// Commands and error actions in their order.
    pub items: Vec<Item>,
}

/// Why bytes are no command string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Neither `AA` nor `AE 80` first.
    #[error("it begins with neither AA nor AE 80")]
    Template,
    /// Not BER-TLV.
    #[error("not BER-TLV: {0}")]
    Tlv(#[from] TlvError),
    /// Bytes after the template, or `AE 80` without `00 00` at its end.
    #[error("the template's end is missing, or something follows it")]
    End,
    /// A tag that has no place here, or not this one.
    #[error("object {0:02X} has no place here")]
    Tag(u32),
    /// A value that its object cannot have.
    #[error("object {tag:02X} has a value of {len} bytes that it cannot have")]
    Value {
        /// The object's tag.
        tag: u32,
        /// Its length in bytes.
        len: usize,
    },
    /// More commands than [`MAX_COMMANDS`].
    #[error("more than {MAX_COMMANDS} commands")]
    TooMany,
}

impl ScriptError {
    /// The same in the words of an answer (ETSI TS 102 226, 5.2.2, bad format TLV).
    pub const fn bad_format(self) -> BadFormat {
        match self {
            Self::Template | Self::Tag(_) => BadFormat::UnknownTag,
            Self::Tlv(TlvError::ZeroTag(_) | TlvError::LongTag(_)) => BadFormat::UnknownTag,
            Self::Tlv(TlvError::Length(_)) => BadFormat::LengthNotFound,
            _ => BadFormat::WrongLength,
        }
    }
}

impl Script {
    /// Reads a whole string. Nothing of one that is wrong anywhere is to be executed.
    pub fn parse(bytes: &[u8]) -> Result<Self, ScriptError> {
        let (coding, content) = open(bytes)?;
        let mut script = Self {
            coding,
            ..Self::default()
        };
        let mut at_start = true;
        for object in content {
            at_start = script.take(object, at_start)?;
        }
        if script.commands().count() > MAX_COMMANDS {
            return Err(ScriptError::TooMany);
        }
        Ok(script)
    }

    /// Takes the next object. Chaining and immediate action come first, in this order.
    fn take(&mut self, Tlv { tag, value }: Tlv<'_>, at_start: bool) -> Result<bool, ScriptError> {
        let wrong = ScriptError::Value {
            tag,
            len: value.len(),
        };
        match tag {
            tag::CHAINING if at_start && self.chaining.is_none() => {
                let &[byte] = value else { return Err(wrong) };
                self.chaining = Some(Chaining::from_byte(byte).ok_or(wrong)?);
                return Ok(true);
            }
            tag::IMMEDIATE_ACTION if at_start => self.immediate_action = Some(value.to_vec()),
            tag::ERROR_ACTION => self.items.push(Item::ErrorAction(value.to_vec())),
            tag::C_APDU if value.len() >= MIN_COMMAND => {
                self.items.push(Item::Command(value.to_vec()));
            }
            tag::C_APDU => return Err(wrong),
            other => return Err(ScriptError::Tag(other)),
        }
        Ok(false)
    }

    /// A string of these commands.
    pub fn of(commands: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            items: commands.into_iter().map(Item::Command).collect(),
            ..Self::default()
        }
    }

    /// The commands in their order.
    pub fn commands(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().filter_map(|item| match item {
            Item::Command(command) => Some(command.as_slice()),
            Item::ErrorAction(_) => None,
        })
    }

    /// Writes what [`Script::parse`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        if let Some(chaining) = self.chaining {
            tlv::put(&mut content, tag::CHAINING, &[chaining.byte()]);
        }
        if let Some(action) = &self.immediate_action {
            tlv::put(&mut content, tag::IMMEDIATE_ACTION, action);
        }
        for item in &self.items {
            match item {
                Item::Command(command) => tlv::put(&mut content, tag::C_APDU, command),
                Item::ErrorAction(action) => tlv::put(&mut content, tag::ERROR_ACTION, action),
            }
        }
        wrap(self.coding, [DEFINITE, INDEFINITE], &content)
    }
}

/// The template's form and the objects in it.
fn open(bytes: &[u8]) -> Result<(Coding, Vec<Tlv<'_>>), ScriptError> {
    match bytes {
        [DEFINITE, ..] => definite(bytes).map(|objects| (Coding::Definite, objects)),
        [INDEFINITE, INDEFINITE_LENGTH, content @ ..] => {
            indefinite(content).map(|objects| (Coding::Indefinite, objects))
        }
        _ => Err(ScriptError::Template),
    }
}

/// The objects of a template with a length, which is all there is.
pub(super) fn definite(bytes: &[u8]) -> Result<Vec<Tlv<'_>>, ScriptError> {
    let mut outer = Reader::new(bytes);
    let template = outer.next().ok_or(ScriptError::Template)??;
    let inner: Result<Vec<_>, _> = Reader::new(template.value).collect();
    match outer.next() {
        None => Ok(inner?),
        Some(_) => Err(ScriptError::End),
    }
}

/// The objects before `00 00`, which must be the end. No object begins with 00.
pub(super) fn indefinite(content: &[u8]) -> Result<Vec<Tlv<'_>>, ScriptError> {
    let mut objects = Vec::new();
    for object in Reader::new(content) {
        match object {
            Ok(object) => objects.push(object),
            Err(TlvError::ZeroTag(at)) if content[at..] == END => return Ok(objects),
            Err(TlvError::ZeroTag(_)) => return Err(ScriptError::End),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ScriptError::End)
}

/// A template around `content`.
pub(super) fn wrap(coding: Coding, [definite, indefinite]: [u8; 2], content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 8);
    match coding {
        Coding::Definite => tlv::put(&mut out, definite.into(), content),
        Coding::Indefinite => {
            out.extend_from_slice(&[indefinite, INDEFINITE_LENGTH]);
            out.extend_from_slice(content);
            out.extend_from_slice(&END);
        }
    }
    out
}
