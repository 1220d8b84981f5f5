//! What passes through a card port, for recording, comparing and showing.

use crate::card::{Atr, Between, CardError, CardPort, Held, Interposed, Power};

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
pub type Tap = Interposed<Listening>;

/// Tells what passes.
pub struct Listening(Listener);

impl Tap {
    /// Tells `listener` what passes through `inner`.
    pub fn listened(inner: Box<dyn CardPort>, listener: Listener) -> Self {
        Self::new(inner, Listening(listener))
    }
}

impl Between for Listening {
    fn transmit(&mut self, card: &mut dyn Held, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let answer = card.transmit(command);
        let told = answer.as_ref().cloned().map_err(ToString::to_string);
        (self.0)(Passed::Command(command.to_vec(), told));
        answer
    }

    fn power(&mut self, card: &mut dyn CardPort, how: Power) -> Result<Atr, CardError> {
        let atr = card.power(how)?;
        (self.0)(Passed::Power(how, atr.as_bytes().to_vec()));
        Ok(atr)
    }
}
