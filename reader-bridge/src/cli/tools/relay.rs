//! `relay`: a card in another virtual reader, and what clients do with it as a script.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueHint};
use reader_bridge::{
    card::CardSpec,
    script::{
        record,
        relay::{self, Witness},
        tap::Passed,
    },
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    low_level::pipe,
};

use crate::cli::{
    exit::{CODES, Failure},
    opening::Opening,
};

/// Put a card into another virtual reader, and record what clients do with it as a script.
///
/// A card or a reader that goes away is waited for. Ends with SIGINT, SIGTERM or SIGHUP.
#[derive(Args)]
#[command(
    after_help = format!("Example:\n  reader-bridge relay --card pcsc --vpcd 127.0.0.1:35963 --record session.apdu\n\n{CODES}")
)]
pub(in crate::cli) struct Relay {
    /// pcsc, pcsc:"READER NAME", vpcd:PORT or image:FILE.
    #[arg(long)]
    card: CardSpec,
    /// The virtual reader: vsmartcard's vpcd.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:35963", value_parser = reader)]
    vpcd: String,
    /// The script to write.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    record: PathBuf,
    #[command(flatten)]
    opening: Opening,
}

fn reader(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("write HOST:PORT, for example 127.0.0.1:35963".to_owned()),
    }
}

impl Relay {
    pub(in crate::cli) fn run(self) -> Result<ExitCode, Failure> {
        let record = |error| Failure::Record {
            path: self.record.clone(),
            error,
        };
        let prepared = self.opening.prepare(self.opening.seed())?;
        let mut port = prepared.open(&self.card, 0)?;
        let mut recorder = Recorder {
            out: BufWriter::new(File::create(&self.record).map_err(record)?),
        };
        let header = record::header(&format!("the card in {}", self.card));
        recorder.line(&header).map_err(record)?;
        let stop = stop().map_err(|error| Failure::System("signals cannot be caught", error))?;
        let mut relay = relay::Relay {
            card: &mut *port,
            reader: &self.vpcd,
            stop: stop.as_fd(),
            witness: &mut recorder,
        };
        relay.run().map_err(record)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Becomes readable with the first signal.
fn stop() -> io::Result<UnixStream> {
    let (stop, signalled) = UnixStream::pair()?;
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        pipe::register(signal, signalled.try_clone()?)?;
    }
    Ok(stop)
}

struct Recorder {
    out: BufWriter<File>,
}

impl Recorder {
    /// Each line at once, so that whatever ends this loses nothing.
    fn line(&mut self, line: &str) -> io::Result<()> {
        self.out.write_all(line.as_bytes())?;
        self.out.flush()
    }
}

impl Witness for Recorder {
    fn passed(&mut self, passed: Passed) -> io::Result<()> {
        self.line(&record::line(&passed))
    }

    fn told(&mut self, what: &str) {
        // Without standard error nobody watches.
        drop(writeln!(io::stderr(), "reader-bridge: {what}"));
    }
}
