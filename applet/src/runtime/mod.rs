//! The runtime: applets behind a small trait, routed by selection on each logical channel.
//!
//! ```text
//! transmit ─▶ apdu ─▶ channel open? ─▶ chain complete? ─▶ GET RESPONSE, SELECT, MANAGE CHANNEL
//!                                                      └▶ the applet selected on the channel
//! answer   ◀─ whole, or held for GET RESPONSE ◀────────── status word, data
//! ```
//!
//! Owns everything that is the same for every application (ISO/IEC 7816-4:2020; the model is Java Card's RE
//! Specification 3.1). Refuses to know any application.

mod card;
mod channels;
mod dispatch;
mod env;
mod life_cycle;
mod route;
mod security;
mod transfer;
mod transient;

use protocol::card::StatusWord;

pub use card::{Application, Card, Entropy, NoEntropy, OpenError, Protocol};
pub use env::Env;
pub use life_cycle::LifeCycle;
pub use transient::ClearOn;

pub(crate) use life_cycle::LIFE_CYCLE;
pub(crate) use security::is_setup;

use crate::apdu::Command;

/// The longest data field that a chain of commands, or one in extended form, carries to an applet, in bytes.
pub const DATA_LIMIT: usize = 65_535;

/// An application on the card.
///
/// Its fields are its RAM: the runtime makes the value anew, with [`Application::make`], at every reset. What is to be
/// forgotten when it is deselected it keeps in [`Env`]'s transient objects, what is to last in the persistent ones.
/// `examples/counter.rs` is a whole applet in a page.
pub trait Applet: Send {
    /// Called once in the card's life, in a transaction of its own: writes the first objects. The applet's life cycle
    /// is INSTALLED already.
    fn install(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        let _ = env;
        Ok(())
    }

    /// The applet has been selected on [`Env::channel`]; its FCI goes into [`Env::answer`]. A refusal
    /// leaves the channel without an applet (SW 6999).
    fn select(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord>;

    /// Another applet is about to be selected on [`Env::channel`], or the channel is closed.
    fn deselect(&mut self, env: &mut Env<'_>) {
        let _ = env;
    }

    /// Which data a command takes; or why there is no such command: 6E00, 6D00 or 6A86.
    fn form(&self, command: &Command<'_>) -> Result<Form, StatusWord>;

    /// Does what a command asks. Its data is as [`Applet::form`] said; the answer goes into [`Env::answer`].
    /// A transaction left open is aborted.
    fn process(&mut self, env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord>;
}

/// What an instruction takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The shortest data field, in bytes.
    pub min: usize,
    /// The longest data field, in bytes.
    pub max: usize,
    /// Whether the data may come in a chain of commands.
    pub chains: bool,
}

impl Form {
    /// A command without data.
    pub const NO_DATA: Self = Self {
        min: 0,
        max: 0,
        chains: false,
    };

    /// A command with `min` to `max` bytes of data, in one.
    pub const fn one(min: usize, max: usize) -> Self {
        Self {
            min,
            max,
            chains: false,
        }
    }

    /// A command with `min` to `max` bytes of data, in one or in a chain.
    pub const fn data(min: usize, max: usize) -> Self {
        Self {
            min,
            max,
            chains: true,
        }
    }
}
