//! `secapp new`: makes a card image.

use std::{io::Write, path::PathBuf};

use applet::{
    Protocol,
    image::Image,
    key_file::{self, wrap_key},
    manager::{Configuration, FACTORY, configure},
    nvm::{NvmError, Store, WrapKey},
    scp03::{Keys, Options},
    secapp::{FirstIdentity, Personalisation, personalise},
};
use clap::{Args, ValueHint};
use protocol::{
    identity::{Iccid, Mode, Uid},
    key::Key,
};

use super::error::{self, Error};

/// Make a card image.
///
/// The card keeps what is derived from the subscription's key K, and forgets K. Without --iccid and --key-file it is
/// blank, to be personalised in a secure channel (SCP03). The file has mode 0600.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct New {
    /// The card's ICCID, 18 to 20 digits.
    #[arg(long, value_name = "DIGITS", requires = "key_file")]
    iccid: Option<Iccid>,
    /// File with the subscription's key K, 32 or 64 hexadecimal digits; `-` is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "iccid")]
    key_file: Option<PathBuf>,
    /// Bit 0: the key changes with every response; bit 1: polls are authenticated. The same as at the server.
    #[arg(long, value_name = "0..3", default_value = "3", value_parser = mode)]
    mode: Mode,
    /// Derive the first identity from K, so that the ICCID never travels.
    #[arg(long, requires = "iccid")]
    concealed: bool,
    /// The first identity, 20 hexadecimal digits, instead of the ICCID.
    #[arg(long, value_name = "HEX", value_parser = Uid::from_hex, conflicts_with = "concealed", requires = "iccid")]
    uid: Option<Uid>,
    /// File with the card manager's key, 32 or 64 hexadecimal digits: ENC, MAC and DEK of key version 30. Without it a
    /// blank card has the test key 40 41 … 4F as version FF, and one with a subscription has none.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    card_key_file: Option<PathBuf>,
    /// How the card does SCP03: i = 60 or 70 (random or pseudo-random challenge), 61 or 71 (the same with 16 bytes).
    #[arg(long, value_name = "I", default_value = "70", value_parser = scp)]
    scp: Options,
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
  openssl rand -hex 16 | tee k.hex | secapp new --iccid 8988374172470184089 --key-file - --concealed --out card.img
  secapp new --card-key-file isd.hex --scp 71 --out blank.img";

/// The key that blank test cards have everywhere, of the version that says so.
const TEST_KEY: [u8; 16] = [
    0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F,
];
/// Key version of an operator's own key.
const OWN_VERSION: u8 = 0x30;

fn scp(text: &str) -> Result<Options, String> {
    let byte = u8::from_str_radix(text, 16).ok();
    byte.and_then(Options::new)
        .ok_or_else(|| "i is 60, 61, 70 or 71".to_owned())
}

fn mode(text: &str) -> Result<Mode, String> {
    let byte = text.parse().map_err(|_| "a mode is a number from 0 to 3")?;
    Mode::from_byte(byte).map_err(|error| error.to_string())
}

impl New {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<(), Error> {
        let subscription = self.subscription()?;
        let manager = self.manager(subscription.is_none())?;
        let wrap = self.wrap_key_file.as_deref().map(wrap_key).transpose()?;
        Image::create(&self.out, self.force, |image| {
            fill(image, wrap, &manager, subscription.as_ref())
        })?;
        let path = self.out.display();
        match &subscription {
            Some(with) => writeln!(
                out,
                "{path}: card {}, mode {}, first identity {}",
                with.iccid,
                with.mode.byte(),
                with.uid_1()
            )?,
            None if self.card_key_file.is_none() => {
                writeln!(
                    out,
                    "{path}: a blank card with the test key: for tests only"
                )?;
            }
            None => writeln!(out, "{path}: a blank card")?,
        }
        Ok(())
    }

    /// `None` for a blank card. The command line has both, ICCID and key, or neither.
    fn subscription(&self) -> Result<Option<Personalisation>, Error> {
        let (Some(iccid), Some(key_file)) = (self.iccid, &self.key_file) else {
            return Ok(None);
        };
        let first = match self.uid {
            Some(uid) => FirstIdentity::Uid(uid),
            None if self.concealed => FirstIdentity::Concealed,
            None => FirstIdentity::Iccid,
        };
        Ok(Some(Personalisation {
            iccid,
            key: key_file::key(key_file)?,
            mode: self.mode,
            first,
        }))
    }

    fn manager(&self, blank: bool) -> Result<Configuration, Error> {
        let keys = match &self.card_key_file {
            Some(file) => Some((OWN_VERSION, Keys::same(&key_file::key(file)?))),
            None if blank => Key::from_bytes(&TEST_KEY)
                .ok()
                .map(|key| (FACTORY, Keys::same(&key))),
            None => None,
        };
        Ok(Configuration {
            options: self.scp,
            keys,
            diversification: [0; 10],
        })
    }
}

/// Sets up the card manager, personalises SecApp, and brings the card to life once, so that what is left is installed.
fn fill(
    image: Image,
    wrap: Option<WrapKey>,
    manager: &Configuration,
    with: Option<&Personalisation>,
) -> Result<(), NvmError> {
    let mut memory = Store::format(Box::new(image), wrap)?;
    configure(&mut memory, manager).map_err(error::memory)?;
    if let Some(with) = with {
        personalise(&mut memory, with).map_err(error::memory)?;
    }
    applet::card(memory, Protocol::T1)
        .map(drop)
        .map_err(error::opening)
}
