//! The process itself: its configuration, its directory, its dice.

use std::path::PathBuf;

use clap::Args;
use reader_bridge::terminal::store::{StoreError, default_directory};

/// The process.
#[derive(Args)]
#[command(next_help_heading = "Process")]
pub(in crate::cli) struct Service {
    /// Take options from this TOML file, under the same names; those of the command line win.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// Where cards are remembered [default: $STATE_DIRECTORY, $XDG_STATE_HOME/reader-bridge or
    /// ~/.local/state/reader-bridge].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// As root: become this user once readers' ports, images and files are open.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) user: Option<String>,
    /// Seed of all jitter, to repeat a run [default: a random one].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl Service {
    /// The state directory.
    pub(in crate::cli) fn directory(&self) -> Result<PathBuf, StoreError> {
        self.state.clone().map_or_else(default_directory, Ok)
    }

    /// The seed.
    pub(in crate::cli) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| fastrand::u64(..))
    }
}
