//! A card port whose commands are written into a trace.

use super::CardTrace;
use crate::card::{Between, CardError, CardPort, Held, Interposed};

/// Any port, traced.
pub type TracedPort = Interposed<Tracing>;

/// Writes what passes.
pub struct Tracing(CardTrace);

impl TracedPort {
    /// Traces what passes through `inner`.
    pub fn traced(inner: Box<dyn CardPort>, trace: CardTrace) -> Self {
        Self::new(inner, Tracing(trace))
    }
}

impl Between for Tracing {
    fn transmit(&mut self, card: &mut dyn Held, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let answer = card.transmit(command);
        let told = answer
            .as_ref()
            .map(Vec::as_slice)
            .map_err(ToString::to_string);
        self.0.command(command, told);
        answer
    }
}
