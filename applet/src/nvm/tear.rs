//! A device whose power fails: after a given number of writes the next one stops in the middle, and
//! from then on nothing works.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Device;

/// Counts writes, and tears one of them.
pub struct TearingDevice<D> {
    inner: D,
    state: Arc<State>,
}

/// Sets and watches the tear of a device that a card owns.
#[derive(Clone)]
pub struct TearHandle(Arc<State>);

struct State {
    writes: AtomicU64,
    limit: AtomicU64,
    keep: AtomicU64,
}

impl<D: Device> TearingDevice<D> {
    /// Works until [`TearHandle::tear_after`] says otherwise.
    pub fn new(inner: D) -> (Self, TearHandle) {
        let state = Arc::new(State {
            writes: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            keep: AtomicU64::new(0),
        });
        let handle = TearHandle(Arc::clone(&state));
        (Self { inner, state }, handle)
    }
}

impl TearHandle {
    /// `writes` more writes succeed; of the one after them the first `keep` bytes arrive (at most all of
    /// them), and the power is gone.
    pub fn tear_after(&self, writes: u64, keep: u64) {
        self.0.keep.store(keep, Ordering::SeqCst);
        self.0
            .limit
            .store(self.writes().saturating_add(writes), Ordering::SeqCst);
    }

    /// How many writes were begun, a torn one included.
    pub fn writes(&self) -> u64 {
        self.0.writes.load(Ordering::SeqCst)
    }

    /// Whether the power has failed.
    pub fn is_torn(&self) -> bool {
        self.writes() > self.0.limit.load(Ordering::SeqCst)
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_torn() {
            Err(io::Error::other("the power has failed"))
        } else {
            Ok(())
        }
    }
}

impl<D> TearingDevice<D> {
    fn handle(&self) -> TearHandle {
        TearHandle(Arc::clone(&self.state))
    }
}

impl<D: Device> Device for TearingDevice<D> {
    fn size(&mut self) -> io::Result<u64> {
        self.handle().alive()?;
        self.inner.size()
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        self.handle().alive()?;
        self.inner.read(at, buffer)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.handle().alive()?;
        self.state.writes.fetch_add(1, Ordering::SeqCst);
        if let Err(gone) = self.handle().alive() {
            let keep =
                usize::try_from(self.state.keep.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
            self.inner.write(at, &bytes[..keep.min(bytes.len())])?;
            return Err(gone);
        }
        self.inner.write(at, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.handle().alive()?;
        self.inner.sync()
    }
}
