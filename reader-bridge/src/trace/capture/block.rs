//! One block of pcapng, with all its bytes; what packets and interfaces have in it.
//!
//! Owns offsets, padding and options (draft-ietf-opsawg-pcapng, 3 and 4). A comment is added without moving anything
//! else.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{HEAD, Interface, TAIL};

pub(super) const SECTION: u32 = 0x0A0D_0D0A;
pub(super) const INTERFACE: u32 = 1;
pub(super) const OBSOLETE_PACKET: u32 = 2;
pub(super) const SIMPLE_PACKET: u32 = 3;
pub(super) const ENHANCED_PACKET: u32 = 6;

/// `opt_endofopt`, `opt_comment`, `if_tsresol`.
const END: u16 = 0;
const COMMENT: u16 = 1;
const RESOLUTION: u16 = 9;
/// Of a packet's block before its data: interface, time, two lengths.
const PACKET_HEADER: usize = 20;
/// Of a simple packet's: one length.
const SIMPLE_HEADER: usize = 4;
/// Of an interface's description before its options: link type, reserved, snap length.
const INTERFACE_HEADER: usize = 8;
/// Ticks in a second where nothing says otherwise.
const MICROSECONDS: u64 = 1_000_000;

/// The byte order of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Endian {
    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    const fn put32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    const fn put16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}

/// A block, without its type and lengths around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    endian: Endian,
    kind: u32,
    body: Vec<u8>,
}

/// A packet in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'b> {
    /// LINKTYPE_*.
    pub link: u16,
    /// Since 1970.
    pub time: Duration,
    /// What was kept of it.
    pub data: &'b [u8],
    /// Its comments, in their order.
    pub comments: Vec<String>,
}

impl Block {
    pub(super) const fn new(endian: Endian, kind: u32, body: Vec<u8>) -> Self {
        Self { endian, kind, body }
    }

    /// A section of its own.
    pub(super) fn beginning() -> Self {
        let parts: [&[u8]; 3] = [
            &0x1A2B_3C4D_u32.to_le_bytes(),
            &[1, 0, 0, 0],
            // Of a length that nobody knows.
            &(-1_i64).to_le_bytes(),
        ];
        Self::new(Endian::Little, SECTION, parts.concat())
    }

    /// An interface whose times have so many decimal places.
    pub(super) fn describing(link: u16, places: u8) -> Self {
        let mut body = vec![0; INTERFACE_HEADER];
        body[..2].copy_from_slice(&link.to_le_bytes());
        body.extend_from_slice(&RESOLUTION.to_le_bytes());
        body.extend_from_slice(&[1, 0, places, 0, 0, 0]);
        body.extend_from_slice(&[0; 4]);
        Self::new(Endian::Little, INTERFACE, body)
    }

    /// A packet of pcap; its time in the interface's ticks.
    pub(super) fn from_record(time: u64, data: &[u8], length: u32) -> Self {
        let mut body = vec![0; 4];
        for word in [
            (time >> 32) as u32,
            (time & 0xFFFF_FFFF) as u32,
            // At most the longest block.
            u32::try_from(data.len()).unwrap_or(u32::MAX),
            length,
        ] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        body.extend_from_slice(data);
        body.resize(body.len().next_multiple_of(4), 0);
        Self::new(Endian::Little, ENHANCED_PACKET, body)
    }

    pub(super) const fn kind(&self) -> u32 {
        self.kind
    }

    /// Writes it as it was read.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let total = u32::try_from(self.body.len() + HEAD + TAIL).map_err(io::Error::other)?;
        let total = self.endian.put32(total);
        out.write_all(&self.endian.put32(self.kind))?;
        out.write_all(&total)?;
        out.write_all(&self.body)?;
        out.write_all(&total)
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.body.get(at..at.checked_add(4)?)?;
        Some(self.endian.u32(bytes.try_into().ok()?))
    }

    fn half(&self, at: usize) -> Option<u16> {
        let bytes = self.body.get(at..at.checked_add(2)?)?;
        Some(self.endian.u16(bytes.try_into().ok()?))
    }

    /// What it describes, if it describes an interface.
    pub(super) fn interface(&self) -> Option<Interface> {
        let link = self.half(0)?;
        self.word(4)?;
        let ticks = self
            .options(INTERFACE_HEADER)
            .find(|(code, _)| *code == RESOLUTION)
            .and_then(|(_, value)| value.first().copied())
            .map_or(MICROSECONDS, ticks);
        Some(Interface { link, ticks })
    }

    pub(super) fn packet(&self, interfaces: &[Interface]) -> Option<Packet<'_>> {
        let number = match self.kind {
            ENHANCED_PACKET => self.word(0)?,
            OBSOLETE_PACKET => self.half(0)?.into(),
            SIMPLE_PACKET => 0,
            _ => return None,
        };
        let interface = interfaces.get(usize::try_from(number).ok()?)?;
        if self.kind == SIMPLE_PACKET {
            let length = usize::try_from(self.word(0)?).ok()?;
            let data = &self.body[SIMPLE_HEADER..];
            return Some(Packet {
                link: interface.link,
                time: Duration::ZERO,
                data: &data[..length.min(data.len())],
                comments: Vec::new(),
            });
        }
        let time = u64::from(self.word(4)?) << 32 | u64::from(self.word(8)?);
        let data = self.body.get(PACKET_HEADER..self.data_end()?)?;
        Some(Packet {
            link: interface.link,
            time: since_1970(time, interface.ticks),
            data,
            comments: self.comments(),
        })
    }

    /// Where a packet's data ends, before its padding.
    fn data_end(&self) -> Option<usize> {
        PACKET_HEADER.checked_add(usize::try_from(self.word(12)?).ok()?)
    }

    fn comments(&self) -> Vec<String> {
        let Some(end) = self.data_end() else {
            return Vec::new();
        };
        self.options(end.next_multiple_of(4))
            .filter(|(code, _)| *code == COMMENT)
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// Options from `at` on, up to their end or to what is none.
    fn options(&self, mut at: usize) -> impl Iterator<Item = (u16, &[u8])> {
        std::iter::from_fn(move || {
            let (code, length) = (self.half(at)?, usize::from(self.half(at + 2)?));
            let value = self.body.get(at + 4..at + 4 + length)?;
            at += 4 + length.next_multiple_of(4);
            (code != END).then_some((code, value))
        })
    }

    /// Adds a comment to a packet, after all others. `false`: this block cannot have one.
    pub fn add_comment(&mut self, comment: &str) -> bool {
        let (ENHANCED_PACKET | OBSOLETE_PACKET, Some(end)) = (self.kind, self.data_end()) else {
            return false;
        };
        let Ok(length) = u16::try_from(comment.len()) else {
            return false;
        };
        let begin = end.next_multiple_of(4);
        let taken: usize = self
            .options(begin)
            .map(|(_, value)| 4 + value.len().next_multiple_of(4))
            .sum();
        let at = (begin + taken).min(self.body.len());
        let had_options = at < self.body.len() || taken > 0;
        let mut option = Vec::new();
        option.extend_from_slice(&self.endian.put16(COMMENT));
        option.extend_from_slice(&self.endian.put16(length));
        option.extend_from_slice(comment.as_bytes());
        option.resize(option.len().next_multiple_of(4), 0);
        if !had_options {
            option.extend_from_slice(&[0; 4]);
        }
        drop(self.body.splice(at..at, option));
        true
    }
}

/// Ticks in a second: a power of ten, or of two if the highest bit is set.
fn ticks(resolution: u8) -> u64 {
    let exponent = u32::from(resolution & 0x7F);
    let base = if resolution & 0x80 == 0 { 10_u64 } else { 2 };
    base.checked_pow(exponent).unwrap_or(MICROSECONDS)
}

fn since_1970(time: u64, ticks: u64) -> Duration {
    let nanoseconds = u128::from(time % ticks) * 1_000_000_000 / u128::from(ticks);
    // Below 10^9.
    let nanoseconds = u64::try_from(nanoseconds).unwrap_or_default();
    Duration::from_secs(time / ticks) + Duration::from_nanos(nanoseconds)
}
