//! Key sets as the card manager keeps them.
//!
//! ```text
//! object 01vv, vv the key version:  sequence counter:4 length:1 ENC MAC DEK
//! object 0003                       i:1 diversification data:10
//! ```

use protocol::key::Key;
use zeroize::Zeroizing;

use super::crypto::Aes;

/// The three static keys of a security domain.
#[derive(Clone)]
pub struct Keys {
    /// Key-ENC: authentication and encryption.
    pub enc: Key,
    /// Key-MAC: signatures both ways.
    pub mac: Key,
    /// Key-DEK: secrets inside of commands.
    pub dek: Key,
}

impl Keys {
    /// One key three times, as cards leave the factory.
    pub fn same(key: &Key) -> Self {
        Self {
            enc: key.clone(),
            mac: key.clone(),
            dek: key.clone(),
        }
    }
}

/// i: how a security domain does SCP03 (Amendment D, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options(u8);

impl Options {
    /// i = 70: pseudo-random challenge, R-MAC and R-ENC, 8 bytes.
    pub const DEFAULT: Self = Self(0x70);
    const S16: u8 = 0x01;
    const PSEUDO_RANDOM: u8 = 0x10;

    /// Takes 60, 61, 70 or 71.
    pub const fn new(i: u8) -> Option<Self> {
        match i {
            0x60 | 0x61 | 0x70 | 0x71 => Some(Self(i)),
            _ => None,
        }
    }

    /// i as a byte.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Whether the card's challenge is a function of the sequence counter.
    pub const fn pseudo_random(self) -> bool {
        self.0 & Self::PSEUDO_RANDOM != 0
    }

    /// Bytes of challenges, cryptograms and MACs: 8 or 16.
    pub const fn size(self) -> usize {
        if self.0 & Self::S16 == 0 { 8 } else { 16 }
    }
}

/// The keys of one version, with how many sessions were opened under them.
pub(crate) struct KeySet {
    pub(crate) keys: Keys,
    pub(crate) sequence: u32,
}

impl KeySet {
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let keys = [&self.keys.enc, &self.keys.mac, &self.keys.dek].map(Key::as_bytes);
        let mut out = Zeroizing::new(Vec::with_capacity(5 + 3 * 32));
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.push(keys[0].len().to_le_bytes()[0]);
        keys.iter().for_each(|key| out.extend_from_slice(key));
        out
    }

    pub(crate) fn decode(object: &[u8]) -> Option<Self> {
        let (sequence, rest) = object.split_first_chunk()?;
        let (len, keys) = rest.split_first()?;
        let len = usize::from(*len);
        let key = |at: usize| Key::from_bytes(keys.get(at * len..(at + 1) * len)?).ok();
        Some(Self {
            keys: Keys {
                enc: key(0)?,
                mac: key(1)?,
                dek: key(2)?,
            },
            sequence: u32::from_be_bytes(*sequence),
        })
    }
}

/// The first three bytes of 01 × 16 encrypted: tells whether a key arrived whole (Amendment D, 7.2).
pub(crate) fn check_value(key: &Key) -> [u8; 3] {
    let mut block = [0x01; 16];
    Aes::new(key).encrypt(&mut block);
    [block[0], block[1], block[2]]
}
