//! Captures as they are on disk: this program's traces, tcpdump's, Wireshark's.
//!
//! Owns reading pcapng (draft-ietf-opsawg-pcapng) and pcap (draft-ietf-opsawg-pcap) block by block, bounded, and
//! keeping every byte of what is not understood, so that a copy with comments added is otherwise the same. Refuses
//! to know what packets mean.

mod block;
pub(super) mod link;

use std::{
    collections::VecDeque,
    io::{self, Read},
};

pub use block::{Block, Packet};
use block::{ENHANCED_PACKET, Endian, INTERFACE, OBSOLETE_PACKET, SECTION, SIMPLE_PACKET};

/// The longest block that is read, in bytes; Wireshark's own packets are at most 256 KiB.
const MAX_BLOCK: u32 = 16 * 1024 * 1024;
/// A block's type and length.
const HEAD: usize = 8;
/// The length again, after a block's body.
const TAIL: usize = 4;

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another kind of file.
    #[error(
        "neither pcapng nor pcap: it begins with {0}; a compressed file is to be unpacked first"
    )]
    Foreign(String),
    /// Damaged.
    #[error("at byte {at}: {why}; what comes before it is whole")]
    Damaged {
        /// Where in the file.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// Reads a capture from its beginning.
pub struct Capture<R> {
    from: R,
    at: u64,
    form: Form,
    /// Link types and resolutions of the section's interfaces.
    interfaces: Vec<Interface>,
    /// Blocks that were made up for pcap's header, to be told of next.
    made_up: VecDeque<Block>,
    /// Nothing of the next block was read yet.
    between: bool,
    /// The end was reached in the middle of a block.
    cut_off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Not known yet.
    Unread,
    /// Blocks; the byte order is the section's.
    Pcapng(Endian),
    /// Records; they have been told of as a section and an interface.
    Pcap { endian: Endian, nanoseconds: bool },
}

/// What packets of an interface are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) link: u16,
    /// Ticks in a second.
    ticks: u64,
}

impl<R: Read> Capture<R> {
    /// A capture in `from`.
    pub const fn new(from: R) -> Self {
        Self {
            from,
            at: 0,
            form: Form::Unread,
            interfaces: Vec::new(),
            made_up: VecDeque::new(),
            between: true,
            cut_off: false,
        }
    }

    /// The next block, whole. `None` at the end, which may be in the middle of one: see [`Self::is_cut_off`].
    pub fn next_block(&mut self) -> Result<Option<Block>, CaptureError> {
        if let Some(block) = self.made_up.pop_front() {
            return Ok(Some(block));
        }
        self.between = true;
        match self.form {
            Form::Unread => self.begin(),
            Form::Pcapng(endian) => self.pcapng_block(endian),
            Form::Pcap {
                endian,
                nanoseconds,
            } => self.record(endian, nanoseconds),
        }
    }

    /// Whether the file ends in the middle of a block.
    pub const fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// What `block` holds, if that is a packet of an interface that was described.
    pub fn packet<'b>(&self, block: &'b Block) -> Option<Packet<'b>> {
        block.packet(&self.interfaces)
    }

    fn begin(&mut self) -> Result<Option<Block>, CaptureError> {
        let Some(magic) = self.take::<4>()? else {
            return Ok(None);
        };
        let pcap = |endian, nanoseconds| Form::Pcap {
            endian,
            nanoseconds,
        };
        self.form = match magic {
            [0x0A, 0x0D, 0x0D, 0x0A] => return self.section(),
            [0xA1, 0xB2, 0xC3, 0xD4] => pcap(Endian::Big, false),
            [0xD4, 0xC3, 0xB2, 0xA1] => pcap(Endian::Little, false),
            [0xA1, 0xB2, 0x3C, 0x4D] => pcap(Endian::Big, true),
            [0x4D, 0x3C, 0xB2, 0xA1] => pcap(Endian::Little, true),
            other => return Err(CaptureError::Foreign(hex::encode_upper(other))),
        };
        self.pcap_header()
    }

    /// The rest of a section's header, whose type was read.
    fn section(&mut self) -> Result<Option<Block>, CaptureError> {
        let Some(head) = self.take::<8>()? else {
            return Ok(None);
        };
        let endian = match head[4..] {
            [0x1A, 0x2B, 0x3C, 0x4D] => Endian::Big,
            [0x4D, 0x3C, 0x2B, 0x1A] => Endian::Little,
            _ => return Err(self.damaged("the section's byte order is none")),
        };
        self.form = Form::Pcapng(endian);
        self.interfaces.clear();
        let mut length = [0; 4];
        length.copy_from_slice(&head[..4]);
        let body = self.body(endian.u32(length), &head[4..])?;
        Ok(body.map(|body| Block::new(endian, SECTION, body)))
    }

    fn pcapng_block(&mut self, endian: Endian) -> Result<Option<Block>, CaptureError> {
        let Some(kind) = self.take::<4>()? else {
            return Ok(None);
        };
        // The same in either byte order.
        if endian.u32(kind) == SECTION {
            return self.section();
        }
        let Some(length) = self.take::<4>()? else {
            return Ok(None);
        };
        let Some(body) = self.body(endian.u32(length), &[])? else {
            return Ok(None);
        };
        let block = Block::new(endian, endian.u32(kind), body);
        if block.kind() == INTERFACE {
            let interface = block.interface();
            self.interfaces.push(
                interface.ok_or_else(|| self.damaged("an interface's description is too short"))?,
            );
        }
        if matches!(
            block.kind(),
            ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET
        ) && self.packet(&block).is_none()
        {
            return Err(self.damaged("a packet is longer than its block, or of no interface"));
        }
        Ok(Some(block))
    }

    /// A block's body; `begun` is what was read of it. `total` counts head and tail.
    fn body(&mut self, total: u32, begun: &[u8]) -> Result<Option<Vec<u8>>, CaptureError> {
        let around = HEAD + TAIL + begun.len();
        // Both are within 32 bits.
        let size = total as usize;
        if total > MAX_BLOCK || !total.is_multiple_of(4) || size < around {
            return Err(self.damaged("a block's length cannot be"));
        }
        let mut body = begun.to_vec();
        body.resize(size - HEAD - TAIL, 0);
        if !self.fill(&mut body[begun.len()..])? {
            return Ok(None);
        }
        match self.take::<TAIL>()? {
            None => Ok(None),
            Some(again) if [total.to_le_bytes(), total.to_be_bytes()].contains(&again) => {
                Ok(Some(body))
            }
            Some(_) => Err(self.damaged("a block's two lengths differ")),
        }
    }

    /// pcap's header, told of as a section and an interface.
    fn pcap_header(&mut self) -> Result<Option<Block>, CaptureError> {
        let Form::Pcap {
            endian,
            nanoseconds,
        } = self.form
        else {
            return Ok(None);
        };
        let Some(header) = self.take::<20>()? else {
            return Ok(None);
        };
        // The upper bits may hold the length of a frame check sequence.
        let link = (endian.u32([header[16], header[17], header[18], header[19]]) & 0xFFFF) as u16;
        let ticks = ticks(nanoseconds);
        self.interfaces = vec![Interface { link, ticks }];
        self.made_up
            .push_back(Block::describing(link, if nanoseconds { 9 } else { 6 }));
        Ok(Some(Block::beginning()))
    }

    fn record(&mut self, endian: Endian, nanoseconds: bool) -> Result<Option<Block>, CaptureError> {
        let Some(header) = self.take::<16>()? else {
            return Ok(None);
        };
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&header[at..at + 4]);
            endian.u32(word)
        };
        let (seconds, fraction, kept, length) = (word(0), word(4), word(8), word(12));
        if kept > MAX_BLOCK {
            return Err(self.damaged("a packet's length cannot be"));
        }
        let mut data = vec![0; kept as usize];
        if !self.fill(&mut data)? {
            return Ok(None);
        }
        let time = u64::from(seconds) * ticks(nanoseconds) + u64::from(fraction);
        Ok(Some(Block::from_record(time, &data, length)))
    }

    const fn damaged(&self, why: &'static str) -> CaptureError {
        CaptureError::Damaged { at: self.at, why }
    }

    fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        Ok(self.fill(&mut bytes)?.then_some(bytes))
    }

    /// `false` at the end of the file.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.from.read(&mut buffer[filled..]) {
                Ok(0) => {
                    self.cut_off = !self.between;
                    return Ok(false);
                }
                Ok(read) => {
                    filled += read;
                    self.between = false;
                    self.at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Of pcap's times, in a second.
const fn ticks(nanoseconds: bool) -> u64 {
    if nanoseconds {
        1_000_000_000
    } else {
        1_000_000
    }
}
