//! Application identifiers (ISO/IEC 7816-4:2020, 12.3.4): 5 to 16 bytes.

use core::fmt;

/// The fewest bytes of an AID: that of a registered application provider.
pub const MIN_LEN: usize = 5;
/// The most bytes of an AID.
pub const MAX_LEN: usize = 16;

/// The name of an application on the card.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Aid {
    bytes: [u8; MAX_LEN],
    len: u8,
}

/// Bytes that cannot be an AID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an AID has {MIN_LEN} to {MAX_LEN} bytes, this one has {0}")]
pub struct AidLength(pub usize);

impl Aid {
    /// Takes 5 to 16 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, AidLength> {
        let fits = (MIN_LEN..=MAX_LEN).contains(&bytes.len());
        let len = u8::try_from(bytes.len()).ok().filter(|_| fits);
        let len = len.ok_or(AidLength(bytes.len()))?;
        let mut aid = Self {
            bytes: [0; MAX_LEN],
            len,
        };
        aid.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(aid)
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether the AID begins with these bytes: partial selection (ISO/IEC 7816-4:2020, 11.2.2).
    pub fn begins_with(&self, part: &[u8]) -> bool {
        self.as_bytes().starts_with(part)
    }
}

impl fmt::Display for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.as_bytes().iter();
        bytes.try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aid({self})")
    }
}
