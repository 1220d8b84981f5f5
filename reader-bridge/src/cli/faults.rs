//! `--fault`: what is to go wrong, the same in every command.

use clap::Args;
use reader_bridge::fault::Faults;

use super::exit::Failure;

/// What is to go wrong.
#[derive(Args)]
pub(super) struct Wishes {
    /// Let something go wrong on purpose; repeatable, several with commas: card:delay=50ms,mute-after=9,6Cxx=10%,pull-after=3
    /// and, with run, net:loss=10%,dup=1%,reorder=1%,corrupt=1% (net-up:, net-down: for one direction).
    #[arg(long, value_name = "FAULTS", value_parser = known)]
    fault: Vec<String>,
}

fn known(text: &str) -> Result<String, String> {
    text.parse::<Faults>()
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

impl Wishes {
    /// All of them together.
    pub(super) fn faults(&self) -> Result<Faults, Failure> {
        let mut faults = Faults::default();
        for text in &self.fault {
            faults
                .add(text)
                .map_err(|error| Failure::Arguments(format!("--fault {text}: {error}")))?;
        }
        Ok(faults)
    }

    /// Of commands that reach no server.
    pub(super) fn card_faults(&self) -> Result<Faults, Failure> {
        let faults = self.faults()?;
        if faults.has_net() {
            return Err(Failure::Arguments(
                "--fault net: this command has no network; run has".to_owned(),
            ));
        }
        Ok(faults)
    }
}
