//! `image:FILE`: an emulated card in this process.
//!
//! Owns the power of a card of the `applet` crate. Its image is locked while this lives. Refuses to
//! know what the commands mean.

use std::thread;

use applet::{
    Card, InsertError, Protocol,
    nvm::{RamDevice, Store, TearHandle},
};

use super::{Atr, CardError, CardPort, Held, Power, Transport, Wait};

/// A card whose power can be torn, and what tears it.
pub type Torn = (Card, TearHandle);

/// An emulated card, always in its reader.
pub struct ImagePort {
    place: String,
    card: Card,
    transport: Transport,
    tear: Option<Tear>,
    /// It was refused, and no other card will ever be here.
    refused: bool,
}

/// Tears the power, and brings the card back from its image.
struct Tear {
    handle: TearHandle,
    reopen: Reopen,
}

/// Opens the card of an image once more; the one before is gone by then.
pub type Reopen = Box<dyn FnMut() -> Result<Torn, InsertError> + Send>;

impl ImagePort {
    /// The card in its reader, without power. `place` is what it is called, `protocol` decides how
    /// long answers are fetched.
    pub fn new(card: Card, protocol: Protocol, place: String) -> Self {
        Self {
            place,
            card,
            transport: match protocol {
                Protocol::T0 => Transport::T0,
                Protocol::T1 => Transport::Apdu,
            },
            tear: None,
            refused: false,
        }
    }

    /// Makes [`CardPort::tear`] possible: `handle` is that of the card, `reopen` brings it back.
    #[must_use]
    pub fn with_tear(mut self, handle: TearHandle, reopen: Reopen) -> Self {
        self.tear = Some(Tear { handle, reopen });
        self
    }

    /// Whether the power has been torn; then the card is back from its image when this returns.
    fn recover(&mut self) -> Result<bool, CardError> {
        let Some(tear) = self.tear.as_mut().filter(|tear| tear.handle.is_torn()) else {
            return Ok(false);
        };
        // The image is locked by the card that lost its power, so that one goes first.
        drop(std::mem::replace(&mut self.card, nothing()?));
        let (card, handle) = (tear.reopen)()
            .map_err(|error| CardError::Reader(format!("the card does not come back: {error}")))?;
        self.card = card;
        tear.handle = handle;
        self.card.power_on();
        Ok(true)
    }
}

/// A card with nothing on it, in the place of one that is being opened again.
fn nothing() -> Result<Card, CardError> {
    let memory = Store::format(Box::new(RamDevice::blank()), None);
    memory
        .ok()
        .and_then(|memory| applet::card(memory, Protocol::T1).ok())
        .ok_or_else(|| CardError::Reader("no memory for a card".into()))
}

impl CardPort for ImagePort {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError> {
        if self.refused {
            return Err(
                wait.for_nothing("the card of this image was refused, and there is no other")
            );
        }
        Atr::parse(self.card.power_on())
    }

    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError> {
        Ok(Box::new(HeldImage(self)))
    }

    fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        if let Some(tear) = &self.tear {
            tear.handle.tear_after(u64::MAX, 0);
        }
        match how {
            Power::Cycle => self.card.power_off(),
            Power::Reset => {}
        }
        Atr::parse(self.card.reset())
    }

    fn tear(&mut self, writes: u64) -> Result<bool, CardError> {
        if let Some(tear) = &self.tear {
            tear.handle.tear_after(writes, TORN_AT);
        }
        Ok(self.tear.is_some())
    }

    fn release(&mut self, refused: bool) {
        self.card.power_off();
        self.refused = refused;
    }
}

/// How many bytes of the torn write arrive.
const TORN_AT: u64 = 11;

struct HeldImage<'a>(&'a mut ImagePort);

impl Held for HeldImage<'_> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let answer = self.0.card.transmit(command).to_vec();
        let fault = self.0.card.take_fault();
        if self.0.recover()? {
            return Err(CardError::Torn);
        }
        // As in a virtual reader: whoever guesses card keys waits.
        thread::sleep(self.0.card.take_delay());
        match fault {
            // The answer says so too (6581); why, only the emulator knows.
            Some(fault) => Err(CardError::Reader(format!("the image failed: {fault}"))),
            None => Ok(answer),
        }
    }

    fn transport(&self) -> Transport {
        self.0.transport
    }
}
