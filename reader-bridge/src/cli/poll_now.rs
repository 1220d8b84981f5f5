//! `poll-now`: asks running bridges for a poll at once.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use reader_bridge::terminal::{
    PollNowReply, PollNowResult,
    control::poll_now,
    store::{StoreError, default_directory},
};

use super::exit::Failure;

const EXAMPLE: &str = "\
Examples:
  reader-bridge poll-now
  reader-bridge poll-now --iccid 8988374172470184089

Exit codes:
  0  polls leave
  3  no running bridge of this directory has a card, or the card that was meant
  7  the state directory cannot be read
  9  the polling rules of the card's operator do not allow polls on request";

/// Ask running bridges for a poll at once (a host request).
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct PollNow {
    /// Only the card with this ICCID [default: all].
    #[arg(long)]
    iccid: Option<String>,
    /// The state directory of the bridges [default: as for run].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

impl PollNow {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let directory = self.state.map_or_else(default_directory, Ok)?;
        let replies =
            poll_now(&directory, self.iccid.as_deref()).map_err(|source| StoreError::Io {
                path: directory.clone(),
                what: "ask the bridges of this directory",
                source,
            })?;
        let text = if self.json {
            serde_json::json!(replies).to_string() + "\n"
        } else {
            replies.iter().map(line).collect()
        };
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(Failure::Output)?;
        verdict(&replies)
    }
}

fn verdict(replies: &[PollNowReply]) -> Result<ExitCode, Failure> {
    let any = |result| replies.iter().any(|reply| reply.result == result);
    if any(PollNowResult::Polling) {
        Ok(ExitCode::SUCCESS)
    } else if any(PollNowResult::NotAllowed) {
        Err(Failure::NotAllowed)
    } else {
        Err(Failure::NobodyToAsk)
    }
}

fn line(reply: &PollNowReply) -> String {
    let iccid = reply.iccid.as_deref().unwrap_or("no card");
    let result = match reply.result {
        PollNowResult::Polling => "polls now",
        PollNowResult::NoCard => "is not there",
        PollNowResult::OtherCard => "was not meant",
        PollNowResult::NotAllowed => "is not allowed to by its operator's polling rules",
    };
    format!("{}: {iccid} {result}\n", reply.card)
}
