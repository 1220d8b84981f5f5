//! `events`: what running bridges tell, as it happens.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use reader_bridge::terminal::{
    store::{StoreError, default_directory},
    stream,
};

use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  reader-bridge events
  reader-bridge events | jq 'select(.event == \"message\")'

Exit codes:
  0  all bridges have ended
  1  standard output cannot be written
  3  no bridge runs with this state directory
  7  the state directory cannot be read";

/// Print the events of all running bridges from now on, one JSON object a line.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Events {
    /// The state directory of the bridges [default: as for run].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Events {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let directory = self.state.map_or_else(default_directory, Ok)?;
        let mut failed = None;
        let followed = stream::follow(&directory, |line| {
            let mut out = io::stdout().lock();
            let written = writeln!(out, "{line}").and_then(|()| out.flush());
            written.map_err(|error| {
                let kind = error.kind();
                failed = Some(error);
                io::Error::from(kind)
            })
        });
        match (followed, failed) {
            // Whoever read on the other side has had enough.
            (_, Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            (_, Some(error)) => Err(Failure::Output(error)),
            (Ok(0), None) => Err(Failure::NobodyRuns),
            (Ok(_), None) => Ok(ExitCode::SUCCESS),
            (Err(source), None) => Err(Failure::Store(StoreError::Io {
                path: directory,
                what: "follow the bridges of this directory",
                source,
            })),
        }
    }
}
