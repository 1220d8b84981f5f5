//! Files of sealed blocks: a header, then blocks that only the store's key opens, each at its place.
//!
//! ```text
//! header:48   "GTSchain" · version:1 · kind:1 · 0:2 · generation:4 · number:8 · salt:16 · 0:8
//! block       length:4 · attempt:4 · index:8 · AES-256-GCM(body, padded with 0 to 16):length · tag:16
//! ```
//!
//! A file's key is derived from the store's chain key and the whole header, so that a header with one
//! bit changed opens nothing. The nonce is the block's index and attempt: a block that is written again
//! after a failure has the same index and a higher attempt, so no nonce is used twice
//! (NIST SP 800-38D, 8.2.1).

use std::{
    io::{self, Read},
    sync::Arc,
};

use aes_gcm::{Aes256Gcm, KeyInit, Tag, aead::AeadInOut};
use protocol::key::{Key, Prf};
use zeroize::Zeroizing;

use super::{
    StoreError,
    folder::{Folder, FolderFile, failed, lost},
};

/// The header's length in bytes.
pub(super) const HEADER: usize = 48;
/// The version of both kinds of file.
const VERSION: u8 = 1;
const MAGIC: &[u8; 8] = b"GTSchain";
/// In front of a block's body.
const FRAME: usize = 16;
/// Behind it.
const TAG: usize = 16;
/// Bodies are padded to a multiple of this, so that blocks can be found again behind damage.
const ALIGN: usize = 16;
/// The longest body in bytes.
pub(super) const MAX_BODY: usize = 1 << 20;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Journal = b'J' as isize,
    Snapshot = b'S' as isize,
}

/// The clear text in front of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The store's generation in which the file was begun.
    pub(super) generation: u32,
    /// The file's number.
    pub(super) number: u64,
}

/// The key from which every file's key is derived.
#[derive(Clone)]
pub(super) struct ChainKey(Prf);

impl ChainKey {
    /// Takes 32 bytes.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let key = Key::from_bytes(bytes).ok()?;
        (bytes.len() == 32).then(|| Self(Prf::new(&key)))
    }

    /// NIST SP 800-108r1 in counter mode over CMAC, the header as its context.
    fn cipher(&self, header: &[u8; HEADER]) -> Aes256Gcm {
        let mut key = Zeroizing::new([0; 32]);
        for (counter, half) in (1u8..).zip(key.chunks_mut(16)) {
            let parts: [&[u8]; 4] = [&[counter], b"GTS file\0", header, &256u16.to_be_bytes()];
            half.copy_from_slice(&self.0.mac(&parts));
        }
        Aes256Gcm::new((&*key).into())
    }
}

impl Header {
    fn encode(&self, salt: [u8; 16]) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = self.kind.byte();
        bytes[12..16].copy_from_slice(&self.generation.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..40].copy_from_slice(&salt);
        bytes
    }

    /// The generation, if all else is as expected; `Err` tells a newer version.
    fn generation(bytes: &[u8; HEADER], kind: Kind, number: u64) -> Result<Option<u32>, u8> {
        let generation: [u8; 4] = [bytes[12], bytes[13], bytes[14], bytes[15]];
        let generation = u32::from_be_bytes(generation);
        if bytes[..8] == *MAGIC && bytes[8] > VERSION {
            return Err(bytes[8]);
        }
        let mut salt = [0; 16];
        salt.copy_from_slice(&bytes[24..40]);
        let header = Self {
            kind,
            generation,
            number,
        };
        Ok((header.encode(salt) == *bytes).then_some(generation))
    }
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Journal => b'J',
            Self::Snapshot => b'S',
        }
    }
}

fn nonce(index: u64, attempt: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&index.to_be_bytes());
    nonce[8..].copy_from_slice(&attempt.to_be_bytes());
    nonce
}

/// Seals blocks and appends them to a new file.
pub(super) struct BlockWriter {
    file: Arc<dyn FolderFile>,
    cipher: Aes256Gcm,
    /// Blocks in the file.
    blocks: u64,
    /// Bytes in the file.
    len: u64,
    attempt: u32,
    /// The file may hold something behind `len` that could not be cut off.
    broken: bool,
    /// Sealed blocks that are not in the file yet, and how many.
    sealed: Vec<u8>,
    pending: u64,
}

impl BlockWriter {
    /// Begins a file. Its name survives a power cut once the folder is synced.
    pub(super) fn create(
        folder: &dyn Folder,
        name: &str,
        header: &Header,
        key: &ChainKey,
    ) -> Result<Self, StoreError> {
        let failed = failed(folder, name);
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| failed(error.into()))?;
        let header = header.encode(salt);
        let file = folder.create(name).map_err(&failed)?;
        file.write_at(&header, 0).map_err(&failed)?;
        Ok(Self {
            file,
            cipher: key.cipher(&header),
            blocks: 0,
            len: HEADER as u64,
            attempt: 0,
            broken: false,
            sealed: Vec::new(),
            pending: 0,
        })
    }

    /// The file, to be synced.
    pub(super) fn file(&self) -> &Arc<dyn FolderFile> {
        &self.file
    }

    /// Blocks in the file.
    pub(super) const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes in the file.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Whether a failed write could not be cut off: nothing more can be written.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Seals the next block, of a body of 1 to [`MAX_BODY`] bytes.
    pub(super) fn seal(&mut self, body: &[u8]) -> io::Result<()> {
        let len = body.len().next_multiple_of(ALIGN);
        let framed = u32::try_from(len).ok().filter(|_| len <= MAX_BODY);
        let framed = framed.ok_or(io::ErrorKind::InvalidInput)?;
        let index = self.blocks + self.pending;
        self.sealed.extend_from_slice(&framed.to_be_bytes());
        self.sealed.extend_from_slice(&self.attempt.to_be_bytes());
        self.sealed.extend_from_slice(&index.to_be_bytes());
        let at = self.sealed.len();
        self.sealed.extend_from_slice(body);
        self.sealed.resize(at + len, 0);
        let nonce = nonce(index, self.attempt);
        let tag = self.cipher.encrypt_inout_detached(
            (&nonce).into(),
            &[],
            (&mut self.sealed[at..]).into(),
        );
        let tag = tag.map_err(|_| io::ErrorKind::InvalidInput)?;
        self.sealed.extend_from_slice(&tag);
        self.pending += 1;
        Ok(())
    }

    /// Writes what was sealed in one call, and returns it with the number of its blocks; if that fails,
    /// the file is as it was before, or broken.
    pub(super) fn flush(&mut self) -> io::Result<(&[u8], u64)> {
        let written = self.file.write_at(&self.sealed, self.len);
        match written {
            Ok(()) => {
                let blocks = std::mem::take(&mut self.pending);
                self.blocks += blocks;
                self.len += self.sealed.len() as u64;
                Ok((&self.sealed, blocks))
            }
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    /// Forgets blocks that were sealed and cannot be written.
    fn give_up(&mut self) {
        self.clear();
        let next = self.attempt.checked_add(1);
        self.broken = next.is_none() || self.file.truncate(self.len).is_err();
        self.attempt = next.unwrap_or(u32::MAX);
    }

    /// Makes room for the next blocks.
    pub(super) fn clear(&mut self) {
        self.pending = 0;
        self.sealed.clear();
    }
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A block, in [`BlockReader::body`].
    Block,
    /// The end, right behind a block.
    End,
    /// Something that is no whole block.
    Broken,
}

/// Opens the blocks of a file one after another.
pub(super) struct BlockReader {
    source: Box<dyn Read + Send>,
    cipher: Aes256Gcm,
    /// The generation in the header.
    pub(super) generation: u32,
    /// Blocks read so far.
    pub(super) blocks: u64,
    body: Zeroizing<Vec<u8>>,
    /// What was read in vain.
    broken: Vec<u8>,
}

impl BlockReader {
    /// Opens a file of this kind and number. `Ok(None)`: its header is damaged.
    pub(super) fn open(
        folder: &dyn Folder,
        name: &str,
        kind: Kind,
        number: u64,
        key: &ChainKey,
    ) -> Result<Option<Self>, StoreError> {
        let failed = failed(folder, name);
        let mut source = folder.read(name).map_err(lost(folder, name))?;
        let mut header = [0; HEADER];
        match source.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other.map_err(&failed)?,
        }
        let newer = |found: u8| StoreError::NewerFormat {
            path: folder.path(name),
            found: found.into(),
            known: VERSION.into(),
        };
        let generation = Header::generation(&header, kind, number).map_err(newer)?;
        Ok(generation.map(|generation| Self {
            source,
            cipher: key.cipher(&header),
            generation,
            blocks: 0,
            body: Zeroizing::new(Vec::new()),
            broken: Vec::new(),
        }))
    }

    /// Reads the next block.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        self.body.resize(FRAME, 0);
        let framed = fill(&mut self.source, &mut self.body)?;
        let frame = Frame::parse(&self.body[..framed]);
        let Some(frame) = frame.filter(|frame| frame.index == self.blocks) else {
            self.broken = self.body[..framed].to_vec();
            return Ok(if framed == 0 { Next::End } else { Next::Broken });
        };
        self.body.resize(FRAME + frame.len + TAG, 0);
        let read = FRAME + fill(&mut self.source, &mut self.body[FRAME..])?;
        self.broken = Vec::new();
        if read == self.body.len() && frame.open(&self.cipher, &mut self.body) {
            self.blocks += 1;
            return Ok(Next::Block);
        }
        // Opening has not changed what it could not open.
        self.broken = self.body[..read].to_vec();
        Ok(Next::Broken)
    }

    /// The body of the block that was read, with its padding.
    pub(super) fn body(&self) -> &[u8] {
        self.body
            .get(FRAME..self.body.len().saturating_sub(TAG))
            .unwrap_or_default()
    }

    /// After [`Next::Broken`]: the bodies of all whole blocks behind.
    pub(super) fn bodies_behind(&mut self) -> io::Result<Vec<Zeroizing<Vec<u8>>>> {
        let mut rest = std::mem::take(&mut self.broken);
        self.source.read_to_end(&mut rest)?;
        let mut bodies = Vec::new();
        let mut at = ALIGN;
        while let Some(frame) = rest.get(at..).and_then(Frame::parse) {
            let block = rest.get(at..at + FRAME + frame.len + TAG);
            let block = block.filter(|_| frame.index > self.blocks);
            let opened = block.and_then(|block| {
                let mut block = Zeroizing::new(block.to_vec());
                frame.open(&self.cipher, &mut block).then_some(block)
            });
            match opened {
                Some(block) => {
                    at += block.len();
                    let body = block[FRAME..block.len() - TAG].to_vec();
                    bodies.push(Zeroizing::new(body));
                }
                None => at += ALIGN,
            }
        }
        Ok(bodies)
    }
}

/// What stands in front of a block. A length that cannot be is read as 0.
struct Frame {
    len: usize,
    attempt: u32,
    index: u64,
}

impl Frame {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (attempt, rest) = rest.split_first_chunk()?;
        let (index, _) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(0);
        let possible = len <= MAX_BODY && len.is_multiple_of(ALIGN);
        Some(Self {
            len: if possible { len } else { 0 },
            attempt: u32::from_be_bytes(*attempt),
            index: u64::from_be_bytes(*index),
        })
    }

    /// Opens a block in its place: frame, body, tag.
    fn open(&self, cipher: &Aes256Gcm, block: &mut [u8]) -> bool {
        let Some((body, tag)) = block[FRAME..].split_last_chunk_mut::<TAG>() else {
            return false;
        };
        let nonce = nonce(self.index, self.attempt);
        let tag = Tag::from(*tag);
        let opened = cipher.decrypt_inout_detached((&nonce).into(), &[], body.into(), &tag);
        self.len > 0 && opened.is_ok()
    }
}

/// Reads until the buffer is full or the file ends; returns how much that was.
fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
