//! Events in the log, for whoever follows other lines of it.
//!
//! Owns only the level and the target: `event`, at level debug, so that an ordinary log does not say what standard
//! output says. Card and exchange are the spans that the terminal is in.

use std::io;

use super::Reporter;
use crate::session::Event;

/// Repeats each event in the log, for those who ask for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl Reporter for Log {
    fn tell(&self, card: &str, event: &Event) -> io::Result<()> {
        if tracing::enabled!(target: "event", tracing::Level::DEBUG) {
            let told = serde_json::to_string(event)?;
            tracing::debug!(target: "event", card, "{told}");
        }
        Ok(())
    }
}
