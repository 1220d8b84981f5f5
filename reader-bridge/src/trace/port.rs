//! A card port whose commands are written into a trace.

use std::os::fd::BorrowedFd;

use super::CardTrace;
use crate::card::{Atr, CardError, CardPort, Held, Power, Transport, Wait};

/// Any port, traced.
pub struct TracedPort {
    inner: Box<dyn CardPort>,
    trace: CardTrace,
}

impl TracedPort {
    /// Traces what passes through `inner`.
    pub fn new(inner: Box<dyn CardPort>, trace: CardTrace) -> Self {
        Self { inner, trace }
    }
}

impl CardPort for TracedPort {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError> {
        self.inner.connect(wait)
    }

    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError> {
        Ok(Box::new(TracedHeld {
            inner: self.inner.hold()?,
            trace: &self.trace,
        }))
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn removal(&self) -> Option<BorrowedFd<'_>> {
        self.inner.removal()
    }

    fn check(&mut self) -> Result<(), CardError> {
        self.inner.check()
    }

    fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        self.inner.power(how)
    }

    fn tear(&mut self, writes: u64) -> Result<bool, CardError> {
        self.inner.tear(writes)
    }

    fn release(&mut self, refused: bool) {
        self.inner.release(refused);
    }
}

struct TracedHeld<'a> {
    inner: Box<dyn Held + 'a>,
    trace: &'a CardTrace,
}

impl Held for TracedHeld<'_> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let answer = self.inner.transmit(command);
        let told = answer
            .as_ref()
            .map(Vec::as_slice)
            .map_err(ToString::to_string);
        self.trace.command(command, told);
        answer
    }

    fn transport(&self) -> Transport {
        self.inner.transport()
    }
}
