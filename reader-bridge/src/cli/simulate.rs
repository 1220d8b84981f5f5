//! `simulate`: what load a schedule makes, on a virtual clock.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use reader_bridge::session::simulate::{Fleet, Load};

use super::{
    exit::Failure,
    options::{Polling, Waiting},
};

const EXAMPLE: &str = "\
Example: an hourly schedule, silent by day, for a fleet of a thousand
  reader-bridge simulate --cards 1000 --days 30 --interval 1h --quiet 06:00-22:00";

/// Run a fleet's schedule on a virtual clock, and tell what load it makes.
///
/// The times are those that `run` would poll at; cards, cryptography and servers are left out. The same
/// seed gives the same digest.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Simulate {
    /// How many cards.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    cards: u32,
    /// For how many days, at most ten years.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    #[command(flatten)]
    polling: Polling,
    #[command(flatten)]
    waiting: Waiting,
    /// How many polls or answers in a hundred are lost.
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=99))]
    loss: u8,
    /// How many exchanges in a thousand bring a message that raises or lowers the frequency.
    #[arg(long, value_name = "PERMILLE", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    changes: u16,
    /// How often a year a card is powered on anew or its terminal restarts.
    #[arg(long, value_name = "N", default_value_t = 12)]
    restarts: u16,
    /// Of all dice.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// When it begins, in POSIX seconds [default: midnight UTC of today].
    #[arg(long, value_name = "TIME")]
    start: Option<u64>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

impl Simulate {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let fleet = Fleet {
            cards: self.cards,
            days: self.days,
            schedule: self.polling.schedule()?,
            timeouts: self.waiting.timeouts()?,
            loss: self.loss,
            changes: self.changes,
            restarts: self.restarts,
            start: self.start.unwrap_or_else(midnight),
            seed: self.seed,
        };
        let begun = Instant::now();
        let load = fleet.run();
        let took = begun.elapsed().as_secs_f64();
        let text = if self.json {
            json(&load).to_string() + "\n"
        } else {
            text(&fleet, &load, took)
        };
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(Failure::Output)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn midnight() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() / 86_400 * 86_400)
}

fn json(load: &Load) -> serde_json::Value {
    serde_json::json!({
        "polls": load.polls,
        "exchanges": load.exchanges,
        "polls_by_hour": load.hours,
        "busiest_minute": load.busiest_minute,
        "in_quiet_window": load.in_quiet_window,
        "digest": format!("{:016x}", load.digest),
    })
}

fn text(fleet: &Fleet, load: &Load, took: f64) -> String {
    let average = load.polls / (u64::from(fleet.days) * 24 * 60);
    let mut text = format!(
        "{} cards, {} days: {} polls, {} exchanges\nbusiest minute {} polls, average {average}\nin the quiet window {}\n",
        fleet.cards,
        fleet.days,
        load.polls,
        load.exchanges,
        load.busiest_minute,
        load.in_quiet_window,
    );
    let most = load.hours.iter().copied().max().unwrap_or(0).max(1);
    for (hour, polls) in load.hours.iter().enumerate() {
        let bar = "█".repeat(usize::try_from(polls * 50 / most).unwrap_or(0));
        text += &format!("{hour:02}:00 UTC {polls:>12}  {bar}\n");
    }
    text + &format!("digest {:016x}, in {took:.1} s\n", load.digest)
}
