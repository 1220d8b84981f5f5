//! The card's non-volatile memory, from bytes on a device up to objects in transactions.
//!
//! ```text
//! Store    objects by application, begin / commit / abort       store.rs
//! Wrap     the whole state under a key, on request              wrap.rs
//! Slots    two slots and two marks: old state or new state      slots.rs, layout.rs
//! Device   read, write, sync; a file, RAM, or one that tears    device.rs, tear.rs, ../image.rs
//! ```
//!
//! The format is described to the byte in `docs/storage-card.md`.

mod device;
mod layout;
mod slots;
mod store;
mod tear;
mod wrap;

use std::io;

pub use device::{Device, RamDevice};
pub use layout::{BODY_CAPACITY, IMAGE_LEN, PAGE, VERSION, Wear};
pub use slots::{Finding, Slot};
pub use store::{COMMIT_CAPACITY, Examination, Store, TransactionError};
pub use tear::{TearHandle, TearingDevice};
pub use wrap::WrapKey;

/// Why a memory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NvmError {
    /// The device failed.
    #[error("the memory's device failed: {0}")]
    Device(#[from] io::Error),
    /// Another length than every image has.
    #[error("a card image has {IMAGE_LEN} bytes, this one has {0}: cut short, or not a card image")]
    Length(u64),
    /// It does not begin as a card image does.
    #[error("not a card image: it does not begin with \"SECAPPNV\"")]
    NotAnImage,
    /// A format of another version.
    #[error("a card image of format version {0}; this program reads version {VERSION}")]
    Version(u16),
    /// The first block's checksum is wrong.
    #[error("the image's header is damaged (offset 0); restore the file from a copy")]
    Header,
    /// The slot that held the last committed state cannot be read.
    #[error(
        "slot {slot}, which held the last committed state (number {committed}), is damaged; going back to \
         an older state would use identities a second time, so the card refuses: restore the file from a copy, \
         or make a new card and enter it at the server"
    )]
    Damaged {
        /// Where it was.
        slot: Slot,
        /// Its number.
        committed: u64,
    },
    /// Neither slots nor marks tell which state is the last.
    #[error(
        "no state that can be trusted: slots and marks are damaged; restore the file from a copy"
    )]
    NothingLeft,
    /// The state is under a key and none was given.
    #[error(
        "the image is wrapped under a key; name its key file (secapp: --wrap-key-file, reader-bridge: --image-key-file)"
    )]
    KeyNeeded,
    /// A key was given and the state is not under one.
    #[error("the image is not wrapped; name no key file for it")]
    KeyNotNeeded,
    /// The state cannot be unwrapped.
    #[error("the key does not open this image; it was wrapped under another key file")]
    WrongKey,
    /// Checksums are right and the content makes no sense.
    #[error("the image's checksums are right, but its content is not a card's: {0}")]
    Content(&'static str),
    /// More than the memory holds.
    #[error("the state has {0} bytes, the memory holds {BODY_CAPACITY}")]
    Full(usize),
}
