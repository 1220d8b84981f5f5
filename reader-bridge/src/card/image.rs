//! `image:FILE`: an emulated card in this process.
//!
//! Owns the power of a card of the `applet` crate. Its image is locked while this lives. Refuses to
//! know what the commands mean.

use applet::{Card, Protocol};

use super::{Atr, CardError, CardPort, Held, Transport, Wait};

/// An emulated card, always in its reader.
pub struct ImagePort {
    place: String,
    card: Card,
    transport: Transport,
    /// It was refused, and no other card will ever be here.
    refused: bool,
}

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
            refused: false,
        }
    }
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

    fn release(&mut self, refused: bool) {
        self.card.power_off();
        self.refused = refused;
    }
}

struct HeldImage<'a>(&'a mut ImagePort);

impl Held for HeldImage<'_> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let answer = self.0.card.transmit(command).to_vec();
        match self.0.card.take_fault() {
            // The answer says so too (6581); why, only the emulator knows.
            Some(fault) => Err(CardError::Reader(format!("the image failed: {fault}"))),
            None => Ok(answer),
        }
    }

    fn transport(&self) -> Transport {
        self.0.transport
    }
}
