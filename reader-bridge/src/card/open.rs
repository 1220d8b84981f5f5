//! From what `--card` says to a port: the same in every command.

use std::{path::Path, time::Duration};

use applet::{InsertError, Protocol, nvm::WrapKey};

use super::{
    CardError, CardPort, CardSpec,
    image::ImagePort,
    pcsc::{PcscPort, Sharing},
    vpcd::VpcdPort,
};

/// What a port needs besides its place.
pub struct Options {
    /// Unwraps a card image.
    pub image_key: Option<WrapKey>,
    /// How long a virtual card may take for one command. Readers have limits of their own.
    pub command_timeout: Duration,
}

/// Why there is no port at this place.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The reader.
    #[error(transparent)]
    Port(#[from] CardError),
    /// The card image.
    #[error(transparent)]
    Image(#[from] InsertError),
}

/// Opens the port. It waits for readers and cards later; an image must be there.
pub fn open(spec: &CardSpec, options: Options) -> Result<Box<dyn CardPort>, OpenError> {
    Ok(match spec {
        CardSpec::AnyReader => Box::new(PcscPort::new(None, Sharing::Shared)?),
        CardSpec::Reader(name) => Box::new(PcscPort::new(Some(name.clone()), Sharing::Shared)?),
        CardSpec::Vpcd(port) => {
            let port = VpcdPort::listen(*port)?;
            Box::new(port.with_command_timeout(options.command_timeout))
        }
        CardSpec::Image(file) => Box::new(image(file, options.image_key, spec.to_string())?),
    })
}

fn image(file: &Path, key: Option<WrapKey>, place: String) -> Result<ImagePort, InsertError> {
    let protocol = Protocol::T1;
    let (card, handle) = applet::open_image_to_tear(file, key.clone(), protocol)?;
    let file = file.to_owned();
    let reopen = move || applet::open_image_to_tear(&file, key.clone(), protocol);
    Ok(ImagePort::new(card, protocol, place).with_tear(handle, Box::new(reopen)))
}
