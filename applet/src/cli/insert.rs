//! `secapp insert`: puts a card into a virtual reader and keeps it there until told to stop.

use std::{io::Write, path::PathBuf};

use applet::{
    Card,
    key_file::wrap_key,
    nvm::TearHandle,
    vpcd::{self, End, Socket, Stop},
};
use clap::{Args, ValueHint};

use super::{
    error::Error,
    reader::{Transmission, line, stop_on_signal},
};

/// Put a card into a virtual reader and keep it there until SIGINT or SIGTERM.
///
/// The card stays over power-off, reset and restarts of the reader. A line is printed at each change of state.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Insert {
    /// The card image.
    #[arg(value_hint = ValueHint::FilePath)]
    image: PathBuf,
    /// The reader: vsmartcard's vpcd, or a bridge that is its own reader.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:35963", value_parser = Socket::parse)]
    vpcd: Socket,
    /// The transmission protocol that the card speaks.
    #[arg(long, value_enum, default_value = "t1")]
    protocol: Transmission,
    /// The key file that the image is wrapped under.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    wrap_key_file: Option<PathBuf>,
    /// Tear the card's power in the middle of the write after N more; the card recovers and is back.
    #[arg(long, value_name = "N")]
    tear_after: Option<u64>,
    /// Put a card with this deliberate fault into the reader.
    #[cfg(feature = "wrong")]
    #[arg(long, value_name = "NAME", value_parser = fault)]
    wrong: Option<applet::wrong::Fault>,
}

#[cfg(feature = "wrong")]
fn fault(name: &str) -> Result<applet::wrong::Fault, String> {
    applet::wrong::named(name).ok_or_else(|| {
        let names: Vec<_> = applet::wrong::FAULTS
            .iter()
            .map(|fault| fault.name)
            .collect();
        format!("there are the faults {}", names.join(", "))
    })
}

const EXAMPLES: &str = "\
Examples:
  secapp insert card.img                               into pcscd's first virtual slot
  secapp insert card.img --vpcd 127.0.0.1:35964        into its second
  secapp insert card.img --protocol t0                 short answers, GET RESPONSE";

/// How many bytes of the torn write arrive.
const TORN_AT: u64 = 11;

impl Insert {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<(), Error> {
        let stop = stop_on_signal()?;
        let mut tear = self.tear_after;
        loop {
            let (mut card, handle) = self.card(tear.take())?;
            #[cfg(feature = "wrong")]
            if let Some(fault) = self.wrong {
                card = card.with_fault(fault);
            }
            match self.keep(&mut card, handle.as_ref(), &stop, out) {
                End::Stopped => return Ok(writeln!(out, "taken out")?),
                End::Torn => writeln!(
                    out,
                    "power torn in the middle of a write; the card recovers"
                )?,
            }
        }
    }

    fn card(&self, tear: Option<u64>) -> Result<(Card, Option<TearHandle>), Error> {
        let wrap = self.wrap_key_file.as_deref().map(wrap_key).transpose()?;
        let protocol = self.protocol.into();
        let Some(writes) = tear else {
            return Ok((applet::open_image(&self.image, wrap, protocol)?, None));
        };
        let (card, handle) = applet::open_image_to_tear(&self.image, wrap, protocol)?;
        handle.tear_after(writes, TORN_AT);
        Ok((card, Some(handle)))
    }

    fn keep(
        &self,
        card: &mut Card,
        tear: Option<&TearHandle>,
        stop: &Stop,
        out: &mut dyn Write,
    ) -> End {
        vpcd::insert(card, &self.vpcd, tear, stop, |event| {
            // A closed output is no reason to take the card out of the reader.
            let _ = writeln!(out, "{}", line(&self.vpcd, &event)).and_then(|()| out.flush());
        })
    }
}
