//! The options of `run`, a struct for each concern.
//!
//! Each is an option of the command line and, under the same name, a key of the configuration file
//! (`config`): there is no second list. A switch is a `bool`; a key or password is never an option, only
//! the path of its file is. What goes together is checked in `check` and not by clap, for whom a switch that a
//! file sets to `false` is given, too.

mod cards;
mod messages;
mod observing;
mod service;
mod telling;
mod timing;

pub(super) use cards::Cards;
pub(super) use messages::Messages;
pub(super) use observing::Observing;
pub(super) use service::Service;
pub(super) use telling::Telling;
pub(super) use timing::{Polling, Waiting};

use clap::Args;

use super::values;

/// Whom to ask, and how often.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(super) struct Servers {
    /// The triggering server, host:port; 4753 if no port is given. Several are asked in their order.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::server)]
    pub(super) gts: Vec<String>,
    /// Make one exchange at once, and end.
    #[arg(long)]
    pub(super) once: bool,
    /// With --once: give up after so many polls without an answer.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
}

impl Servers {
    /// With a single exchange: how many polls it may take.
    pub(super) fn single(&self) -> Option<u32> {
        self.once.then_some(self.attempts)
    }
}
