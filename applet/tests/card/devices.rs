//! Memories that outlive their card, and one that remembers what was done to it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use applet::{
    nvm::{Device, RamDevice},
    runtime::{Entropy, NoEntropy},
};

/// Memory that the test keeps when the card is gone.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<RamDevice>>);

impl Shared {
    pub(crate) fn blank() -> Self {
        Self(Arc::new(Mutex::new(RamDevice::blank())))
    }

    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(RamDevice::from_bytes(bytes))))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.with(|ram| ram.as_bytes().to_vec())
    }

    fn with<T>(&self, work: impl FnOnce(&mut RamDevice) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Device for Shared {
    fn size(&mut self) -> io::Result<u64> {
        self.with(Device::size)
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|ram| ram.read(at, buffer))
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.with(|ram| ram.write(at, bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(Device::sync)
    }
}

/// What was done to a device.
#[derive(Clone)]
pub(crate) enum Step {
    Write(usize, Vec<u8>),
    Sync,
}

/// Memory that writes down each step.
pub(crate) struct Recording {
    inner: Shared,
    steps: Steps,
}

/// The steps so far.
#[derive(Clone, Default)]
pub(crate) struct Steps(Arc<Mutex<Vec<Step>>>);

impl Steps {
    pub(crate) fn all(&self) -> Vec<Step> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins anew.
    pub(crate) fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn push(&self, step: Step) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(step);
    }
}

impl Recording {
    pub(crate) fn of(bytes: Vec<u8>) -> (Self, Steps) {
        let steps = Steps::default();
        let inner = Shared::of(bytes);
        (
            Self {
                inner,
                steps: steps.clone(),
            },
            steps,
        )
    }
}

impl Recording {
    /// The bytes, for when the card is gone.
    pub(crate) fn memory(&self) -> Shared {
        self.inner.clone()
    }
}

impl Device for Recording {
    fn size(&mut self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read(at, buffer)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.steps.push(Step::Write(at, bytes.to_vec()));
        self.inner.write(at, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.steps.push(Step::Sync);
        self.inner.sync()
    }
}

/// The same bytes at every run, so that keys made twice are alike.
#[derive(Default)]
pub(crate) struct Counting(u8);

impl Entropy for Counting {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        for byte in out {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
        Ok(())
    }
}
