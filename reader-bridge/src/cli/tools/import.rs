//! `import`: other programs' logs as scripts.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueHint};
use reader_bridge::script::{SystemFiles, import::import};

use crate::cli::exit::{CODES, Failure, WRONG};

/// Turn what scriptor printed, or a log or dump of apdu4j, into a script that asserts it.
#[derive(Args)]
#[command(
    after_help = format!("Example:\n  scriptor < commands.txt > log.txt; reader-bridge import log.txt > commands.apdu\n\n{CODES}")
)]
pub(in crate::cli) struct Import {
    /// The log; `-` is standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

impl Import {
    pub(in crate::cli) fn run(self) -> Result<ExitCode, Failure> {
        use reader_bridge::script::Files as _;
        let text = SystemFiles
            .read(&self.file)
            .map_err(|error| Failure::Input {
                path: self.file.clone(),
                error,
            })?;
        match import(&text, &self.file.display().to_string()) {
            Ok(script) => io::stdout()
                .write_all(script.as_bytes())
                .map_err(Failure::Output)
                .map(|()| ExitCode::SUCCESS),
            Err(error) => {
                drop(writeln!(
                    io::stderr(),
                    "reader-bridge: {}: {error}",
                    self.file.display()
                ));
                Ok(WRONG.into())
            }
        }
    }
}
