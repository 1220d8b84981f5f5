//! `secapp insert`: puts a card into a virtual reader and keeps it there until told to stop.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    thread,
};

use applet::{
    Card, Protocol,
    nvm::TearHandle,
    vpcd::{self, End, Event, Socket, Stop},
};
use clap::{Args, ValueEnum, ValueHint};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{error::Error, files};

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
}

const EXAMPLES: &str = "\
Examples:
  secapp insert card.img                               into pcscd's first virtual slot
  secapp insert card.img --vpcd 127.0.0.1:35964        into its second
  secapp insert card.img --protocol t0                 short answers, GET RESPONSE";

/// How many bytes of the torn write arrive.
const TORN_AT: u64 = 11;

#[derive(Clone, Copy, ValueEnum)]
enum Transmission {
    T0,
    T1,
}

impl From<Transmission> for Protocol {
    fn from(transmission: Transmission) -> Self {
        match transmission {
            Transmission::T0 => Self::T0,
            Transmission::T1 => Self::T1,
        }
    }
}

impl Insert {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<(), Error> {
        let stop = stop_on_signal()?;
        let mut tear = self.tear_after;
        loop {
            let (mut card, handle) = self.card(tear.take())?;
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
        let wrap = files::wrap_key(self.wrap_key_file.as_deref())?;
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
            let _ = writeln!(out, "{}", self.line(&event)).and_then(|()| out.flush());
        })
    }

    fn line(&self, event: &Event) -> String {
        match event {
            Event::Connected => format!("in the reader at {}", self.vpcd),
            Event::PoweredOn(Protocol::T0) => "powered on, T=0".to_owned(),
            Event::PoweredOn(Protocol::T1) => "powered on, T=1".to_owned(),
            Event::Reset => "reset".to_owned(),
            Event::PoweredOff => "powered off".to_owned(),
            Event::Fault(error) => format!("a command was refused with 6581: {error}"),
            Event::Disconnected { why, again_in } => format!(
                "no reader at {}: {why}; is pcscd with vpcd, or the bridge, running? Trying again in {} ms",
                self.vpcd,
                again_in.as_millis()
            ),
        }
    }
}

/// A stop that comes with SIGINT or SIGTERM.
fn stop_on_signal() -> io::Result<Arc<Stop>> {
    let stop = Arc::new(Stop::default());
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            told.stop();
        }
    });
    Ok(stop)
}
