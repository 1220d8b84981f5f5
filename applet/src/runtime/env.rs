//! What an applet sees of the card while it works.

use std::time::Duration;

use protocol::card::StatusWord;

use super::{
    card::{Entropy, Protocol},
    security::Secure,
    transient::Transient,
};
use crate::{
    aid::Aid,
    nvm::{Store, TransactionError},
};

/// The card, lent to one applet for one call: its own persistent objects and nobody else's.
pub struct Env<'a> {
    pub(super) store: &'a mut Store,
    pub(super) space: usize,
    pub(super) channel: u8,
    pub(super) outgoing: Outgoing,
    pub(super) answer: &'a mut Vec<u8>,
    pub(super) entropy: &'a mut dyn Entropy,
    pub(super) fault: &'a mut Option<TransactionError>,
    pub(super) transient: &'a mut Transient,
    pub(super) secure: &'a mut Secure,
    pub(super) delay: &'a mut Duration,
    /// The card manager's objects.
    pub(super) domain: usize,
    /// All applications and the places of their objects.
    pub(super) names: &'a [(Aid, usize)],
}

/// How much of an answer the terminal takes at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    pub(super) protocol: Protocol,
    pub(super) data: bool,
    pub(super) ne: usize,
}

impl Outgoing {
    /// T=0 has no way to send fewer bytes than Le: the card refuses and names the length
    /// (ISO/IEC 7816-3:2006, 12.2.3). With data in the command it says 61XX instead.
    pub(super) fn check(self, available: usize) -> Result<(), StatusWord> {
        let exact = self.protocol == Protocol::T0 && !self.data && self.ne > 0;
        if exact && available > 0 && self.ne != available {
            Err(StatusWord::right_le(short(available)))
        } else {
            Ok(())
        }
    }
}

/// SW2 for a number of bytes: 00 stands for 256 and more.
pub(super) fn short(available: usize) -> u8 {
    u8::try_from(available).unwrap_or(0)
}

impl Env<'_> {
    /// The logical channel that the command came on, 0 to 3.
    pub const fn channel(&self) -> u8 {
        self.channel
    }

    /// Where the answer's data goes.
    pub const fn answer(&mut self) -> &mut Vec<u8> {
        self.answer
    }

    /// Announces how long the answer will be, before anything is changed: under T=0 a terminal that asked
    /// for another length is refused with 6CXX and asks again.
    pub fn outgoing(&self, len: usize) -> Result<(), StatusWord> {
        self.outgoing.check(len)
    }

    /// The value of a persistent object, as the open transaction sees it.
    pub fn get(&self, id: u16) -> Option<&[u8]> {
        self.store.get(self.space, id)
    }

    /// Writes a persistent object: within the open transaction, or at once. 6581 if the memory failed.
    pub fn put(&mut self, id: u16, value: &[u8]) -> Result<(), StatusWord> {
        self.put_at(self.space, id, value)
    }

    pub(super) fn put_at(&mut self, space: usize, id: u16, value: &[u8]) -> Result<(), StatusWord> {
        let done = self.store.put(space, id, value);
        self.note(done)
    }

    /// An object of the card manager, for what the runtime does in its name.
    pub(crate) fn domain_object(&self, id: u16) -> Option<&[u8]> {
        self.store.get(self.domain, id)
    }

    /// Writes an object of the card manager.
    pub(crate) fn put_domain_object(&mut self, id: u16, value: &[u8]) -> Result<(), StatusWord> {
        self.put_at(self.domain, id, value)
    }

    /// Removes a persistent object: within the open transaction, or at once.
    pub fn remove(&mut self, id: u16) -> Result<(), StatusWord> {
        let done = self.store.remove(self.space, id);
        self.note(done)
    }

    /// Opens a transaction; refused where one is open.
    pub fn begin(&mut self) -> Result<(), StatusWord> {
        let done = self.store.begin();
        self.note(done)
    }

    /// Makes the open transaction durable: all of it, or, with 6581, nothing.
    pub fn commit(&mut self) -> Result<(), StatusWord> {
        let done = self.store.commit();
        self.note(done)
    }

    /// Forgets the open transaction.
    pub fn abort(&mut self) -> Result<(), StatusWord> {
        let done = self.store.abort();
        self.note(done)
    }

    /// Random bytes for keys and challenges; 6581 if there are none to be had.
    pub fn random(&mut self, out: &mut [u8]) -> Result<(), StatusWord> {
        self.entropy
            .fill(out)
            .map_err(|_| StatusWord::MEMORY_FAILURE)
    }

    /// The terminal is told a status word; whoever runs the card can ask it for the reason.
    fn note(&mut self, done: Result<(), TransactionError>) -> Result<(), StatusWord> {
        done.map_err(|error| {
            let status = status(&error);
            *self.fault = Some(error);
            status
        })
    }
}

fn status(error: &TransactionError) -> StatusWord {
    match error {
        TransactionError::Memory(_) | TransactionError::Capacity => StatusWord::MEMORY_FAILURE,
        // The applet's own mistake: no precise diagnosis (ISO/IEC 7816-4:2020, 5.6).
        TransactionError::Nested | TransactionError::None => StatusWord(0x6F00),
    }
}
