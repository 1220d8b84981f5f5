//! What a terminal tells of: faults before what comes of them, and failures of the way to a server in words.
//!
//! Owns the order. Refuses to write: the reporter does.

use std::io;

use super::{Terminal, TerminalError};
use crate::session::Event;

impl Terminal<'_> {
    pub(super) fn tell(&self, event: &Event) -> Result<(), TerminalError> {
        self.tell_faults()?;
        self.tell_only(event)
    }

    /// Before what comes of them.
    pub(super) fn tell_faults(&self) -> Result<(), TerminalError> {
        let struck = self.faults.take().into_iter();
        struck
            .map(|what| Event::Fault { what })
            .try_for_each(|event| self.tell_only(&event))
    }

    fn tell_only(&self, event: &Event) -> Result<(), TerminalError> {
        self.reporter
            .tell(&self.label, event)
            .map_err(TerminalError::Output)
    }

    pub(super) fn link_failed(&self, error: &io::Error) -> Result<(), TerminalError> {
        let to = self
            .known
            .as_ref()
            .map(|known| known.session.server().to_owned());
        self.link_failed_to(to.unwrap_or_default(), error)
    }

    pub(super) fn link_failed_to(
        &self,
        to: String,
        error: &io::Error,
    ) -> Result<(), TerminalError> {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "nobody listens on this port (ICMP port unreachable)".into()
            }
            _ => error.to_string(),
        };
        self.tell(&Event::LinkFailed { to, why })
    }
}
