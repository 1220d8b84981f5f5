//! `secapp new`: makes a card image.

use std::{io::Write, path::PathBuf};

use applet::{
    image::Image,
    nvm::{NvmError, Store, WrapKey},
    secapp::{FirstIdentity, Personalisation, personalise},
};
use clap::{Args, ValueHint};
use protocol::identity::{Iccid, Mode, Uid};

use super::{
    error::{self, Error},
    files,
};

/// Make a card image.
///
/// The card keeps what is derived from the subscription's key K, and forgets K. The file has mode 0600.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct New {
    /// The card's ICCID, 18 to 20 digits.
    #[arg(long, value_name = "DIGITS")]
    iccid: Iccid,
    /// File with the subscription's key K, 32 or 64 hexadecimal digits; `-` is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key_file: PathBuf,
    /// Bit 0: the key changes with every response; bit 1: polls are authenticated. The same as at the server.
    #[arg(long, value_name = "0..3", default_value = "3", value_parser = mode)]
    mode: Mode,
    /// Derive the first identity from K, so that the ICCID never travels.
    #[arg(long)]
    concealed: bool,
    /// The first identity, 20 hexadecimal digits, instead of the ICCID.
    #[arg(long, value_name = "HEX", value_parser = Uid::from_hex, conflicts_with = "concealed")]
    uid: Option<Uid>,
    /// Wrap the image under the key in this file, 32 or 64 hexadecimal digits.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    wrap_key_file: Option<PathBuf>,
    /// The image file to make.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: PathBuf,
    /// Replace an existing file; the card on it is lost.
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  secapp new --iccid 8988374172470184089 --key-file k.hex --out card.img
  openssl rand -hex 16 | tee k.hex | secapp new --iccid 8988374172470184089 --key-file - --concealed --out card.img";

fn mode(text: &str) -> Result<Mode, String> {
    let byte = text.parse().map_err(|_| "a mode is a number from 0 to 3")?;
    Mode::from_byte(byte).map_err(|error| error.to_string())
}

impl New {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<(), Error> {
        let with = self.personalisation()?;
        let wrap = files::wrap_key(self.wrap_key_file.as_deref())?;
        Image::create(&self.out, self.force, |image| fill(image, wrap, &with))?;
        writeln!(
            out,
            "{}: card {}, mode {}, first identity {}",
            self.out.display(),
            with.iccid,
            with.mode.byte(),
            with.uid_1()
        )?;
        Ok(())
    }

    fn personalisation(&self) -> Result<Personalisation, Error> {
        let first = match self.uid {
            Some(uid) => FirstIdentity::Uid(uid),
            None if self.concealed => FirstIdentity::Concealed,
            None => FirstIdentity::Iccid,
        };
        Ok(Personalisation {
            iccid: self.iccid,
            key: files::key(&self.key_file)?,
            mode: self.mode,
            first,
        })
    }
}

/// The applications are installed when the card has power for the first time.
fn fill(image: Image, wrap: Option<WrapKey>, with: &Personalisation) -> Result<(), NvmError> {
    let mut memory = Store::format(Box::new(image), wrap)?;
    personalise(&mut memory, with).map_err(error::memory)
}
