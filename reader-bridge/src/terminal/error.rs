//! Why a terminal ends without being told to.
//!
//! Owns the words, each with what to try. Refuses to know exit codes: the command line has those.

use std::io;

use super::store::StoreError;
use crate::{secapp::SecAppError, session::End};

/// Why a terminal ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// No card or no reader in the time given.
    #[error("no card: {0}")]
    NoCard(String),
    /// The card was lost more often in one exchange than that may have polls.
    #[error(
        "the card was lost more than {0} times (--attempts) in one exchange, the last time: {1}"
    )]
    LostAgain(u32, String),
    /// The card cannot be used.
    #[error(transparent)]
    CardRefused(SecAppError),
    /// The one exchange that was asked for failed.
    #[error("{}", failed_once(.0))]
    Once(End),
    /// The card cannot be remembered.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What happens cannot be told.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// Readers cannot be looked for.
    #[error("{0}")]
    Readers(String),
    /// The operating system failed.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

fn failed_once(end: &End) -> String {
    match end {
        End::Done => "done".into(),
        End::NoAnswer { polls, to } => format!(
            "no answer from {to} to {polls} polls; is a server there, and does it know this card? (--attempts and --timeout wait longer)"
        ),
        End::CardFailed { command, why } => format!("the card failed at {command}: {why}"),
    }
}
