//! What PC/SC's error codes mean to a terminal, and what a user can try.

use pcsc::Error;

use crate::card::CardError;

/// Sorts an error of a card command.
pub(super) fn card_error(error: Error) -> CardError {
    match error {
        Error::ResetCard => CardError::Reset,
        Error::SharingViolation => {
            CardError::Busy(format!("for itself (SCARD_SHARE_EXCLUSIVE): {error}"))
        }
        Error::RemovedCard
        | Error::NoSmartcard
        | Error::ReaderUnavailable
        | Error::UnknownReader => CardError::Gone(error.to_string()),
        Error::NoService
        | Error::ServiceStopped
        | Error::InvalidHandle
        | Error::CommError
        | Error::Shutdown => CardError::Gone(no_service(error)),
        other => CardError::Reader(format!("the reader failed: {other}")),
    }
}

/// pcscd cannot be reached: why, and what to do.
pub(super) fn no_service(error: Error) -> String {
    match error {
        Error::NoAccess | Error::SecurityViolation => format!(
            "pcscd refuses this user ({error}): see polkit's rules for org.debian.pcsc-lite.access_pcsc, or run as root"
        ),
        _ => format!(
            "the PC/SC service does not answer ({error}): start it with \"systemctl start pcscd.socket\", or \"pcscd --foreground\" where there is no systemd"
        ),
    }
}
