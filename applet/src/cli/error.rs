//! What can go wrong, and the exit code that says so.

use std::{io, path::PathBuf, process::ExitCode};

use applet::{
    InsertError, OpenError,
    image::ImageError,
    key_file::KeyFileError,
    nvm::{NvmError, TransactionError},
};

/// Shown by `--help`.
pub(super) const CODES: &str = "\
Exit codes:
  0  done; for `insert`, stopped by SIGINT or SIGTERM
  1  the system refused: a file, the output, a connection
  2  the command line is not understood
  3  the card image cannot be used: damaged, of another version, another wrapping key
  4  the card is in use by another process
  5  the file to be made exists already
  6  a key file cannot be understood";

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Insert(#[from] InsertError),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("{0}")]
    System(#[from] io::Error),
}

/// An exit code of [`CODES`].
#[derive(Clone, Copy)]
pub(super) enum Code {
    System = 1,
    Image = 3,
    InUse = 4,
    Exists = 5,
    Key = 6,
}

impl Code {
    pub(super) const fn of(error: &Error) -> Self {
        match error {
            Error::Image(error) | Error::Insert(InsertError::Image(error)) => Self::of_image(error),
            Error::Insert(InsertError::Card { .. }) => Self::Image,
            Error::Key(KeyFileError::Form { .. } | KeyFileError::Key { .. }) => Self::Key,
            Error::Key(KeyFileError::Read { .. }) | Error::File { .. } | Error::System(_) => {
                Self::System
            }
        }
    }

    const fn of_image(error: &ImageError) -> Self {
        match error {
            ImageError::File { .. }
            | ImageError::Content {
                error: NvmError::Device(_),
                ..
            } => Self::System,
            ImageError::InUse { .. } => Self::InUse,
            ImageError::Exists { .. } => Self::Exists,
            ImageError::Content { .. } => Self::Image,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A new card's memory takes every subscription, so only its device can have failed.
pub(super) fn memory(error: TransactionError) -> NvmError {
    match error {
        TransactionError::Memory(error) => error,
        other => NvmError::Device(io::Error::other(other)),
    }
}

/// Applications that are part of this program install themselves, so only the device can have failed.
pub(super) fn opening(error: OpenError) -> NvmError {
    match error {
        OpenError::Memory(error) => error,
        other => NvmError::Device(io::Error::other(other)),
    }
}
