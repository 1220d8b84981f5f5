//! A card port on top of another: for what listens to the commands that pass, or meddles with them.
//!
//! Owns the passing on, so that nobody else forwards a port by hand. Refuses to know why somebody stands in between.

use std::os::fd::BorrowedFd;

use super::{Atr, CardError, CardPort, Held, Power, Transport, Wait};

/// What stands between a terminal and its card. Each method passes on unless it is overridden.
pub trait Between: Send {
    /// As [`CardPort::connect`].
    fn connect(&mut self, card: &mut dyn CardPort, wait: &Wait<'_>) -> Result<Atr, CardError> {
        card.connect(wait)
    }

    /// As [`Held::transmit`].
    fn transmit(&mut self, card: &mut dyn Held, command: &[u8]) -> Result<Vec<u8>, CardError> {
        card.transmit(command)
    }

    /// As [`CardPort::power`].
    fn power(&mut self, card: &mut dyn CardPort, how: Power) -> Result<Atr, CardError> {
        card.power(how)
    }

    /// As [`CardPort::check`].
    fn check(&mut self, card: &mut dyn CardPort) -> Result<(), CardError> {
        card.check()
    }
}

/// Any port, with something in between.
pub struct Interposed<B> {
    inner: Box<dyn CardPort>,
    between: B,
}

impl<B: Between> Interposed<B> {
    /// Puts `between` in front of `inner`.
    pub fn new(inner: Box<dyn CardPort>, between: B) -> Self {
        Self { inner, between }
    }
}

impl<B: Between> CardPort for Interposed<B> {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError> {
        self.between.connect(&mut *self.inner, wait)
    }

    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError> {
        Ok(Box::new(HeldBetween {
            inner: self.inner.hold()?,
            between: &mut self.between,
        }))
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn removal(&self) -> Option<BorrowedFd<'_>> {
        self.inner.removal()
    }

    fn check(&mut self) -> Result<(), CardError> {
        self.between.check(&mut *self.inner)
    }

    fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        self.between.power(&mut *self.inner, how)
    }

    fn tear(&mut self, writes: u64) -> Result<bool, CardError> {
        self.inner.tear(writes)
    }

    fn release(&mut self, refused: bool) {
        self.inner.release(refused);
    }
}

struct HeldBetween<'a, B> {
    inner: Box<dyn Held + 'a>,
    between: &'a mut B,
}

impl<B: Between> Held for HeldBetween<'_, B> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        self.between.transmit(&mut *self.inner, command)
    }

    fn transport(&self) -> Transport {
        self.inner.transport()
    }
}
