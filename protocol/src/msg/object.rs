//! One object of MSG, typed.

use core::{fmt, num::NonZeroU16, str};

use alloc::vec::Vec;

use super::{
    rules::{PollingRules, RulesError, TransportUpdate},
    tag,
};
use crate::tlv::{self, Tlv};

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// `82`: an update is available by OTA, perhaps with a reference to it.
    UpdateAvailable(Option<&'a str>),
    /// `83`: connect to the OTA server, now or at this POSIX time in seconds.
    Connect(Option<u32>),
    /// `84`: open an HTTP session with the OTA server, the one the device knows or this URL.
    OpenHttp(Option<&'a str>),
    /// `85`: raise the polling frequency; interval × 100 / f.
    Raise(Factor),
    /// `86`: lower the polling frequency; interval × f / 100.
    Lower(Factor),
    /// `A7`: polling rules.
    PollingRules(PollingRules),
    /// `88`: generate a key pair on board.
    GenerateKey {
        /// What kind of key.
        algorithm: KeyAlgorithm,
        /// Where the card keeps it.
        slot: u8,
    },
    /// `A9`: the triggering server to use from now on.
    TransportUpdate(TransportUpdate<'a>),
    /// `8F`: opaque data for another application.
    Opaque(&'a [u8]),
    /// An object that this version does not know: handed on as it is.
    Unknown {
        /// Its tag.
        tag: u32,
        /// Its value.
        value: &'a [u8],
    },
}

/// A factor of the polling frequency in percent, 1 to 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(NonZeroU16);

impl Factor {
    /// What an object without a factor means: 200 %.
    pub const DEFAULT: Self = Self(NonZeroU16::new(200).unwrap());

    /// A factor in percent; `None` for 0.
    pub fn new(percent: u16) -> Option<Self> {
        NonZeroU16::new(percent).map(Self)
    }

    /// In percent.
    pub const fn percent(self) -> u16 {
        self.0.get()
    }

    /// The interval of a raised frequency, in the unit of `interval`.
    pub fn raise(self, interval: u64) -> u64 {
        interval.saturating_mul(100) / u64::from(self.percent())
    }

    /// The interval of a lowered frequency, in the unit of `interval`.
    pub fn lower(self, interval: u64) -> u64 {
        interval.saturating_mul(u64::from(self.percent())) / 100
    }
}

/// The kinds of key pair that a card makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// `01`: ECC on NIST P-256.
    P256,
    /// `02`: Ed25519.
    Ed25519,
}

impl KeyAlgorithm {
    /// The byte in object `88`.
    pub const fn byte(self) -> u8 {
        match self {
            Self::P256 => 1,
            Self::Ed25519 => 2,
        }
    }

    /// The algorithm of this byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::P256),
            2 => Some(Self::Ed25519),
            _ => None,
        }
    }
}

/// A known object whose value is not of its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("object {tag:02X}: {why}")]
pub struct Malformed {
    /// The object's tag.
    pub tag: u32,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with an object's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Another length than the form has.
    #[error("its value has {0} bytes, which its form does not allow")]
    Length(usize),
    /// Text that is not UTF-8.
    #[error("its text is not UTF-8")]
    Text,
    /// A factor of 0 %.
    #[error("a factor of 0 %")]
    Factor,
    /// A key algorithm that does not exist.
    #[error("key algorithm {0:02X} does not exist")]
    Algorithm(u8),
    /// Rules or an endpoint that contradict themselves.
    #[error("{0}")]
    Rules(#[from] RulesError),
}

impl<'a> Object<'a> {
    pub(super) fn decode(object: Tlv<'a>) -> Result<Self, Malformed> {
        let value = object.value;
        Self::read(object.tag, value).map_err(|why| Malformed {
            tag: object.tag,
            why,
        })
    }

    fn read(tag: u32, value: &'a [u8]) -> Result<Self, Why> {
        Ok(match tag {
            tag::UPDATE_AVAILABLE => Self::UpdateAvailable(optional_text(value)?),
            tag::CONNECT => Self::Connect(optional(value)?.map(u32::from_be_bytes)),
            tag::OPEN_HTTP => Self::OpenHttp(optional_text(value)?),
            tag::RAISE => Self::Raise(factor(value)?),
            tag::LOWER => Self::Lower(factor(value)?),
            tag::POLLING_RULES => Self::PollingRules(PollingRules::decode(value)?),
            tag::GENERATE_KEY => generate_key(value)?,
            tag::TRANSPORT_UPDATE => Self::TransportUpdate(TransportUpdate::decode(value)?),
            tag::OPAQUE => Self::Opaque(value),
            _ => Self::Unknown { tag, value },
        })
    }

    /// Appends the object as it stands in MSG.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::UpdateAvailable(text) => put_text(out, tag::UPDATE_AVAILABLE, *text),
            Self::Connect(Some(at)) => tlv::put(out, tag::CONNECT, &at.to_be_bytes()),
            Self::Connect(None) => tlv::put(out, tag::CONNECT, &[]),
            Self::OpenHttp(text) => put_text(out, tag::OPEN_HTTP, *text),
            Self::Raise(f) => tlv::put(out, tag::RAISE, &f.percent().to_be_bytes()),
            Self::Lower(f) => tlv::put(out, tag::LOWER, &f.percent().to_be_bytes()),
            Self::PollingRules(rules) => {
                tlv::put_with(out, tag::POLLING_RULES, |body| rules.encode(body));
            }
            Self::GenerateKey { algorithm, slot } => {
                tlv::put(out, tag::GENERATE_KEY, &[algorithm.byte(), *slot]);
            }
            Self::TransportUpdate(update) => {
                tlv::put_with(out, tag::TRANSPORT_UPDATE, |body| update.encode(body));
            }
            Self::Opaque(data) => tlv::put(out, tag::OPAQUE, data),
            Self::Unknown { tag, value } => tlv::put(out, *tag, value),
        }
    }
}

fn put_text(out: &mut Vec<u8>, tag: u32, text: Option<&str>) {
    tlv::put(out, tag, text.unwrap_or_default().as_bytes());
}

fn optional_text(value: &[u8]) -> Result<Option<&str>, Why> {
    if value.is_empty() {
        Ok(None)
    } else {
        str::from_utf8(value).map(Some).map_err(|_| Why::Text)
    }
}

fn optional<const N: usize>(value: &[u8]) -> Result<Option<[u8; N]>, Why> {
    if value.is_empty() {
        return Ok(None);
    }
    value
        .try_into()
        .map(Some)
        .map_err(|_| Why::Length(value.len()))
}

fn factor(value: &[u8]) -> Result<Factor, Why> {
    match optional(value)? {
        None => Ok(Factor::DEFAULT),
        Some(bytes) => Factor::new(u16::from_be_bytes(bytes)).ok_or(Why::Factor),
    }
}

fn generate_key(value: &[u8]) -> Result<Object<'_>, Why> {
    let &[algorithm, slot] = value else {
        return Err(Why::Length(value.len()));
    };
    let algorithm = KeyAlgorithm::from_byte(algorithm).ok_or(Why::Algorithm(algorithm))?;
    Ok(Object::GenerateKey { algorithm, slot })
}

/// For people: what is asked, in a few words.
impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpdateAvailable(None) => f.write_str("an update is available"),
            Self::UpdateAvailable(Some(text)) => write!(f, "an update is available: {text:?}"),
            Self::Connect(None) => f.write_str("connect to the OTA server now"),
            Self::Connect(Some(at)) => write!(f, "connect to the OTA server at POSIX time {at}"),
            Self::OpenHttp(None) => f.write_str("open HTTP to the OTA server"),
            Self::OpenHttp(Some(url)) => write!(f, "open HTTP to {url:?}"),
            Self::Raise(factor) => {
                write!(f, "poll more often: interval × 100 / {}", factor.percent())
            }
            Self::Lower(factor) => {
                write!(f, "poll less often: interval × {} / 100", factor.percent())
            }
            Self::PollingRules(rules) => write!(f, "polling rules: {rules}"),
            Self::GenerateKey { algorithm, slot } => {
                write!(f, "generate a key pair in slot {slot}: {algorithm:?}")
            }
            Self::TransportUpdate(update) => write!(f, "use another server: {update}"),
            Self::Opaque(data) => write!(f, "{} bytes for another application", data.len()),
            Self::Unknown { tag, value } => {
                write!(f, "unknown object {tag:02X} of {} bytes", value.len())
            }
        }
    }
}
