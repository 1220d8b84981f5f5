//! A card port that tells what passes through it, for recording, comparing and showing.

use std::os::fd::BorrowedFd;

use crate::card::{Atr, CardError, CardPort, Held, Power, Transport, Wait};

/// What passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// The card lost what it had in RAM, and answered to reset.
    Power(Power, Vec<u8>),
    /// A command, and its answer or why there was none.
    Command(Vec<u8>, Result<Vec<u8>, String>),
}

/// Told of what passes.
pub type Listener = Box<dyn FnMut(Passed) + Send>;

/// Any port, listened to.
pub struct Tap {
    inner: Box<dyn CardPort>,
    listener: Listener,
}

impl Tap {
    /// Tells `listener` what passes through `inner`.
    pub fn new(inner: Box<dyn CardPort>, listener: Listener) -> Self {
        Self { inner, listener }
    }
}

impl CardPort for Tap {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError> {
        self.inner.connect(wait)
    }

    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError> {
        Ok(Box::new(TappedCard {
            inner: self.inner.hold()?,
            listener: &mut self.listener,
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
        let atr = self.inner.power(how)?;
        (self.listener)(Passed::Power(how, atr.as_bytes().to_vec()));
        Ok(atr)
    }

    fn tear(&mut self, writes: u64) -> Result<bool, CardError> {
        self.inner.tear(writes)
    }

    fn release(&mut self, refused: bool) {
        self.inner.release(refused);
    }
}

struct TappedCard<'a> {
    inner: Box<dyn Held + 'a>,
    listener: &'a mut Listener,
}

impl Held for TappedCard<'_> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let answer = self.inner.transmit(command);
        let told = answer.as_ref().cloned().map_err(ToString::to_string);
        (self.listener)(Passed::Command(command.to_vec(), told));
        answer
    }

    fn transport(&self) -> Transport {
        self.inner.transport()
    }
}
