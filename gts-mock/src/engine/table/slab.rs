//! A growing array of records that are all zeros at first. It grows by blocks of huge pages and never moves what it
//! holds, so growing costs no copy and no pause.

use std::io;

use bytemuck::Pod;
use memmap2::{Advice, MmapMut, MmapOptions};

/// Records in a block.
const BLOCK: usize = 1 << 20;

/// Records of one kind by number.
pub(super) struct Slab<T> {
    blocks: Vec<MmapMut>,
    kind: std::marker::PhantomData<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            kind: std::marker::PhantomData,
        }
    }
}

impl<T: Pod> Slab<T> {
    /// Makes room for so many records. Pages that are not written take no memory.
    pub(super) fn grow_to(&mut self, records: usize) -> io::Result<()> {
        while self.blocks.len() * BLOCK < records {
            self.blocks.push(zeroed(BLOCK * size_of::<T>())?);
        }
        Ok(())
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        let block = self.blocks.get(at / BLOCK)?;
        bytemuck::cast_slice(block).get(at % BLOCK)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        let block = self.blocks.get_mut(at / BLOCK)?;
        bytemuck::cast_slice_mut(block).get_mut(at % BLOCK)
    }
}

/// Zeroed memory in huge pages where the kernel has them.
pub(super) fn zeroed(bytes: usize) -> io::Result<MmapMut> {
    let memory = MmapOptions::new().len(bytes).map_anon()?;
    // Without huge pages it is slower and just as right.
    let _ = memory.advise(Advice::HugePage);
    Ok(memory)
}
