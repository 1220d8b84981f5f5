//! How the commands that work on cards by hand open them: `script`, `shell`, `relay`, `diff`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use applet::{key_file::wrap_key, nvm::WrapKey};
use clap::{Args, ValueHint};
use reader_bridge::{
    card::{self, CardPort, CardSpec},
    fault::request::Request,
    script::COMMAND_LIMIT,
};

use super::{exit::Failure, faults::Wishes, values};

/// How cards are opened.
#[derive(Args)]
pub(super) struct Opening {
    /// How long to wait for a card.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s")]
    pub(super) wait_card: Duration,
    /// The key that the image of image:FILE is wrapped under, 32 or 64 hexadecimal digits in a file;
    /// - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    image_key_file: Option<PathBuf>,
    #[command(flatten)]
    wishes: Wishes,
    /// Seed of faults and of a host's challenges, to repeat a run [default: a random one].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl Opening {
    /// The seed that was given, or any.
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| fastrand::u64(..))
    }

    /// Reads the key and what is to go wrong.
    pub(super) fn prepare(&self, seed: u64) -> Result<Prepared, Failure> {
        Ok(Prepared {
            key: self.image_key_file.as_deref().map(wrap_key).transpose()?,
            request: Request {
                faults: self.wishes.card_faults()?,
                patience: COMMAND_LIMIT,
            },
            seed,
        })
    }
}

/// Ready to open cards.
pub(super) struct Prepared {
    key: Option<WrapKey>,
    request: Request,
    seed: u64,
}

impl Prepared {
    /// The `n`th card; its faults are its own.
    pub(super) fn open(&self, spec: &CardSpec, n: u64) -> Result<Box<dyn CardPort>, Failure> {
        let options = card::Options {
            image_key: self.key.clone(),
            command_timeout: COMMAND_LIMIT,
        };
        let port = card::open(spec, options)?;
        let place = spec.to_string();
        let tell = move |what| {
            // Without standard error nobody watches.
            drop(writeln!(
                io::stderr(),
                "reader-bridge: {place}: fault: {what}"
            ));
        };
        let seed = self.seed.wrapping_add(n);
        Ok(self.request.around(port, seed, Box::new(tell)))
    }
}
