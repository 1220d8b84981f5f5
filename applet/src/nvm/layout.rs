//! Where every byte of a card image stands, format version 1. Big-endian; checksums are CRC-32
//! (ISO-HDLC). `docs/storage-card.md` tells the same in words.
//!
//! ```text
//!     0  header   "SECAPPNV" version:2 flags:1 0:1 page:2 pages:2 crc:4
//!  4096  mark 0   "MARK" number:8 crc:4             of states with an even number
//!  8192  mark 1   the same                          of states with an odd number
//! 12288  slot 0   32 pages of 512 bytes             even
//! 28672  slot 1   the same                          odd
//! 45056  end
//!
//! slot: page 0    "SLOT" number:8 length:4 crc of body:4 wear:4 × 66 crc:4
//!       page 1…   body
//! ```

use super::{NvmError, slots::Slot};

/// The format version that this program writes and reads.
pub const VERSION: u16 = 1;
/// Bytes of a page: what is written, and worn, at once.
pub const PAGE: usize = 512;
/// Pages of a slot, its header's included.
pub(super) const SLOT_PAGES: usize = 32;
/// Bytes of a slot.
pub(super) const SLOT_LEN: usize = PAGE * SLOT_PAGES;
/// The longest body of a slot, in bytes.
pub const BODY_CAPACITY: usize = SLOT_LEN - PAGE;
/// Bytes of a card image.
pub const IMAGE_LEN: usize = SLOTS_AT + 2 * SLOT_LEN;
/// Pages whose wear is counted: the two marks, then slot 0's, then slot 1's.
pub(super) const WEAR_PAGES: usize = 2 + 2 * SLOT_PAGES;

/// Marks stand in blocks of their own, since a disk may destroy a block when its power fails.
const BLOCK: usize = 4096;
const SLOTS_AT: usize = 3 * BLOCK;

const HEADER_MAGIC: &[u8; 8] = b"SECAPPNV";
const HEADER_LEN: usize = 16;
const FLAG_WRAPPED: u8 = 1;
const MARK_MAGIC: &[u8; 4] = b"MARK";
const MARK_LEN: usize = 12;
const SLOT_MAGIC: &[u8; 4] = b"SLOT";
const WEAR_AT: usize = 20;
const SLOT_HEADER_LEN: usize = WEAR_AT + 4 * WEAR_PAGES;
const CRC: usize = 4;

/// How often each page was written since the image was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wear(pub(super) [u32; WEAR_PAGES]);

impl Wear {
    /// Counts a write of a slot's page.
    pub(super) fn page(&mut self, slot: Slot, page: usize) {
        self.raise(2 + slot.index() * SLOT_PAGES + page);
    }

    /// Counts a write of a slot's mark.
    pub(super) fn mark(&mut self, slot: Slot) {
        self.raise(slot.index());
    }

    fn raise(&mut self, at: usize) {
        self.0[at] = self.0[at].saturating_add(1);
    }

    /// The counts of both marks' pages.
    pub fn marks(&self) -> &[u32] {
        &self.0[..2]
    }

    /// The counts of a slot's pages, its header's first.
    pub fn slot(&self, slot: Slot) -> &[u32] {
        let first = 2 + slot.index() * SLOT_PAGES;
        &self.0[first..first + SLOT_PAGES]
    }
}

impl Default for Wear {
    fn default() -> Self {
        Self([0; WEAR_PAGES])
    }
}

/// Offset of a slot's mark.
pub(super) const fn mark_at(slot: Slot) -> usize {
    (1 + slot.index()) * BLOCK
}

/// Offset of a slot.
pub(super) const fn slot_at(slot: Slot) -> usize {
    SLOTS_AT + slot.index() * SLOT_LEN
}

fn put_checksum(bytes: &mut [u8], len: usize) {
    let crc = crc32fast::hash(&bytes[..len]);
    bytes[len..len + CRC].copy_from_slice(&crc.to_be_bytes());
}

fn checksum_right(bytes: &[u8], len: usize) -> bool {
    bytes[len..len + CRC] == crc32fast::hash(&bytes[..len]).to_be_bytes()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// The first block.
pub(super) fn header(wrapped: bool) -> [u8; HEADER_LEN + CRC] {
    let mut bytes = [0; HEADER_LEN + CRC];
    bytes[..8].copy_from_slice(HEADER_MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
    bytes[10] = if wrapped { FLAG_WRAPPED } else { 0 };
    bytes[12..14].copy_from_slice(&512u16.to_be_bytes());
    bytes[14..16].copy_from_slice(&32u16.to_be_bytes());
    put_checksum(&mut bytes, HEADER_LEN);
    bytes
}

/// Reads the first block: whether the body is wrapped.
pub(super) fn read_header(image: &[u8]) -> Result<bool, NvmError> {
    if image.get(..8) != Some(HEADER_MAGIC) || image.len() < HEADER_LEN + CRC {
        return Err(NvmError::NotAnImage);
    }
    if !checksum_right(image, HEADER_LEN) {
        return Err(NvmError::Header);
    }
    let version = u16::from_be_bytes(number(image, 8));
    if version != VERSION {
        return Err(NvmError::Version(version));
    }
    let wrapped = image[10] & FLAG_WRAPPED != 0;
    if image[..HEADER_LEN] == header(wrapped)[..HEADER_LEN] {
        Ok(wrapped)
    } else {
        Err(NvmError::Content("a page size or flag of another program"))
    }
}

/// The mark of a state that is durable.
pub(super) fn mark(state: u64) -> [u8; MARK_LEN + CRC] {
    let mut bytes = [0; MARK_LEN + CRC];
    bytes[..4].copy_from_slice(MARK_MAGIC);
    bytes[4..12].copy_from_slice(&state.to_be_bytes());
    put_checksum(&mut bytes, MARK_LEN);
    bytes
}

/// The state that a mark names; `None` if it is torn or damaged.
pub(super) fn read_mark(image: &[u8], slot: Slot) -> Option<u64> {
    let bytes = &image[mark_at(slot)..][..MARK_LEN + CRC];
    let state = u64::from_be_bytes(number(bytes, 4));
    let right = bytes[..4] == *MARK_MAGIC && checksum_right(bytes, MARK_LEN);
    (right && Slot::of(state) == slot).then_some(state)
}

/// A slot's first page.
pub(super) fn slot_header(state: u64, body: &[u8], wear: &Wear) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page[..4].copy_from_slice(SLOT_MAGIC);
    page[4..12].copy_from_slice(&state.to_be_bytes());
    // The body is checked against its capacity, which is less than 2^32, before this is called.
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    page[12..16].copy_from_slice(&len.to_be_bytes());
    page[16..20].copy_from_slice(&crc32fast::hash(body).to_be_bytes());
    for (count, field) in wear.0.iter().zip(page[WEAR_AT..].chunks_exact_mut(4)) {
        field.copy_from_slice(&count.to_be_bytes());
    }
    put_checksum(&mut page, SLOT_HEADER_LEN);
    page
}

/// A slot that can be read.
pub(super) struct SlotContent<'a> {
    pub(super) state: u64,
    pub(super) body: &'a [u8],
    pub(super) wear: Wear,
}

/// Reads a slot of [`SLOT_LEN`] bytes; `None` if it is torn, damaged or was never written.
pub(super) fn read_slot(bytes: &[u8], slot: Slot) -> Option<SlotContent<'_>> {
    if bytes[..4] != *SLOT_MAGIC || !checksum_right(bytes, SLOT_HEADER_LEN) {
        return None;
    }
    let state = u64::from_be_bytes(number(bytes, 4));
    let len = usize::try_from(u32::from_be_bytes(number(bytes, 12))).ok()?;
    let body = bytes[PAGE..].get(..len)?;
    let right = bytes[16..20] == crc32fast::hash(body).to_be_bytes();
    let mut wear = Wear::default();
    for (count, field) in wear.0.iter_mut().zip(bytes[WEAR_AT..].chunks_exact(4)) {
        *count = u32::from_be_bytes(number(field, 0));
    }
    (right && Slot::of(state) == slot).then_some(SlotContent { state, body, wear })
}
