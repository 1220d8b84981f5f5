//! What a memory is made of: bytes that can be read, written and made durable.

use std::io;

use super::layout::IMAGE_LEN;

/// Storage of a fixed size. A write may be lost until [`Device::sync`] has returned.
pub trait Device: Send {
    /// The size in bytes.
    fn size(&mut self) -> io::Result<u64>;

    /// Fills `buffer` from offset `at`.
    fn read(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at offset `at`.
    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written will survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// Memory that is gone with the process: for tests, benchmarks and simulated worlds.
#[derive(Clone, Debug)]
pub struct RamDevice(Vec<u8>);

impl RamDevice {
    /// All zero, as large as a card image.
    pub fn blank() -> Self {
        Self(vec![0; IMAGE_LEN])
    }

    /// Takes these bytes, whatever they are.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn range(&self, at: usize, len: usize) -> io::Result<core::ops::Range<usize>> {
        let end = at.checked_add(len).filter(|end| *end <= self.0.len());
        end.map(|end| at..end)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Device for RamDevice {
    fn size(&mut self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        let range = self.range(at, buffer.len())?;
        buffer.copy_from_slice(&self.0[range]);
        Ok(())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let range = self.range(at, bytes.len())?;
        self.0[range].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
