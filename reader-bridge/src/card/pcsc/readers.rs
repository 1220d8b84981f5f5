//! The names of all readers, as they come and go.

use std::os::fd::BorrowedFd;

use super::{failure::no_service, watch::Watch};
use crate::card::CardError;

/// All PC/SC readers, watched.
pub struct Readers(Watch);

impl Readers {
    /// Begins to watch. Without pcscd, it is waited for.
    pub fn watch() -> Result<Self, CardError> {
        Watch::start().map(Self)
    }

    /// Readable when something has changed since [`Readers::names`].
    pub fn changed(&self) -> BorrowedFd<'_> {
        self.0.changed()
    }

    /// Those that are attached, or why that is not known.
    pub fn names(&self) -> Result<Vec<String>, String> {
        self.0.clear();
        let snapshot = self.0.snapshot();
        match snapshot.failure {
            Some(error) => Err(no_service(error)),
            None => Ok(snapshot
                .readers
                .iter()
                .map(|seen| seen.name.to_string_lossy().into_owned())
                .collect()),
        }
    }
}
