//! A smart card in software: the application SecApp on a JavaCard-style runtime with durable memory.
//!
//! A command's way: [`runtime::Card::transmit`] → [`apdu`] → the applet selected on the channel, e.g.
//! [`secapp`] → its persistent objects in [`nvm`] → a device, e.g. an [`image`] file. [`vpcd`] puts a card into a
//! virtual reader.
//!
//! Everything but [`image`], [`key_file`], [`entropy`] and [`vpcd`]'s client is functions of bytes.
//!
//! ```
//! use applet::{Protocol, nvm::{RamDevice, Store}, secapp::{FirstIdentity, Personalisation}};
//! use protocol::{identity::Mode, key::Key};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut memory = Store::format(Box::new(RamDevice::blank()), None)?;
//! applet::secapp::personalise(&mut memory, &Personalisation {
//!     iccid: "8988374172470184089".parse()?,
//!     key: Key::from_bytes(&[0x2b; 16])?,
//!     mode: Mode::DEFAULT,
//!     first: FirstIdentity::Iccid,
//! })?;
//! let mut card = applet::card(memory, Protocol::T1)?;
//! card.power_on();
//! let selected = card.transmit(&[0x00, 0xA4, 0x04, 0x00, 8, 0xF0, 0x47, 0x54, 0x53, 0x41, 0x50, 0x50, 0x01, 0x00]);
//! assert!(selected.ends_with(&[0x90, 0x00]));
//! let poll = card.transmit(&[0x80, 0x40, 0x00, 0x00, 0x00]);
//! assert_eq!(poll.len(), 20 + 2);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod aid;
pub mod apdu;
pub mod entropy;
pub mod image;
pub mod key_file;
pub mod manager;
pub mod nvm;
pub mod runtime;
pub mod scp03;
pub mod secapp;
pub mod vpcd;
#[cfg(feature = "wrong")]
pub mod wrong;

use std::path::Path;

pub use runtime::{Card, OpenError, Protocol};

use image::{Image, ImageError};
use nvm::{Device, Store, TearHandle, TearingDevice, WrapKey};

/// The applications of every card, in the order in which partial names find them.
pub fn applications() -> Vec<runtime::Application> {
    vec![secapp::application(), manager::application()]
}

/// A card with the usual applications on this memory, powered off.
pub fn card(memory: Store, protocol: Protocol) -> Result<Card, OpenError> {
    Card::open(
        memory,
        &applications(),
        Box::new(entropy::OsEntropy),
        protocol,
    )
}

/// Why an image file does not become a card.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The file or its content.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The card on it.
    #[error("{path}: {error}")]
    Card {
        /// The file.
        path: String,
        /// What is wrong.
        error: OpenError,
    },
}

/// The card of an image file, powered off. The file is locked until the card is dropped: a card can be in one place
/// only.
pub fn open_image(
    path: &Path,
    wrap: Option<WrapKey>,
    protocol: Protocol,
) -> Result<Card, InsertError> {
    let image = Image::open(path)?;
    open_device(path, Box::new(image), wrap, protocol)
}

/// The same, and the power fails when the handle says so.
pub fn open_image_to_tear(
    path: &Path,
    wrap: Option<WrapKey>,
    protocol: Protocol,
) -> Result<(Card, TearHandle), InsertError> {
    let (device, handle) = TearingDevice::new(Image::open(path)?);
    let card = open_device(path, Box::new(device), wrap, protocol)?;
    Ok((card, handle))
}

fn open_device(
    path: &Path,
    device: Box<dyn Device>,
    wrap: Option<WrapKey>,
    protocol: Protocol,
) -> Result<Card, InsertError> {
    let memory = Store::open(device, wrap).map_err(|error| image::content(path, error))?;
    card(memory, protocol).map_err(|error| InsertError::Card {
        path: path.display().to_string(),
        error,
    })
}
