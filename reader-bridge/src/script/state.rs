//! What statements change, and what a line of a shell leaves to the next.

use std::time::Duration;

use super::{machine::COMMAND_LIMIT, value::Variables};
use crate::scp03::Session;

/// Values and settings, the channel and the secure channel that commands go through.
pub struct State {
    pub(super) variables: Variables,
    pub(super) channel: u8,
    pub(super) fetch: bool,
    pub(super) limit: Duration,
    pub(super) session: Option<Box<Session>>,
}

impl State {
    /// As each case begins.
    pub(super) fn new(variables: Variables) -> Self {
        Self {
            variables,
            channel: 0,
            fetch: false,
            limit: COMMAND_LIMIT,
            session: None,
        }
    }

    /// The card has lost what it had in RAM.
    pub(super) fn lose_ram(&mut self) {
        self.channel = 0;
        self.session = None;
    }
}
