//! `lossy-relay`: the lossy UDP relay as a program, for the demo and for trying things by hand.
//!
//! Owns its command line and what it prints. The relay itself is [`e2e::relay`].

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use e2e::relay::{Count, Direction, Fate, Loss, LossyRelay, Passage, Plan};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Relay UDP datagrams to a server and lose some on purpose, the same ones every time.
#[derive(Parser)]
#[command(
    after_help = "Datagrams of each direction are numbered from 1. First line printed: `listening on ADDRESS`.\n\
    Ends on SIGINT or SIGTERM with a line of totals.\n\n\
    Examples:\n  lossy-relay --to 127.0.0.1:4753 --drop-up 2 --drop-down 1,4\n  \
    lossy-relay --listen 127.0.0.1:4754 --to 127.0.0.1:4753 --seed 7 --percent 20"
)]
struct Arguments {
    /// Where clients send to; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server's address.
    #[arg(long)]
    to: SocketAddr,
    /// Numbers of the datagrams towards the server to lose.
    #[arg(long, value_delimiter = ',', conflicts_with = "percent")]
    drop_up: Vec<u64>,
    /// Numbers of the datagrams from the server to lose.
    #[arg(long, value_delimiter = ',', conflicts_with = "percent")]
    drop_down: Vec<u64>,
    /// Lose this share of each direction, chosen by --seed.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    percent: Option<u8>,
    /// What --percent chooses by.
    #[arg(long, default_value_t = 1, requires = "percent")]
    seed: u64,
    /// Print each datagram's bytes too, in hexadecimal.
    #[arg(long)]
    hex: bool,
}

fn main() -> ExitCode {
    match relay(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads standard error either: the exit code still tells.
            let _ = writeln!(io::stderr(), "lossy-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn relay(arguments: Arguments) -> io::Result<()> {
    // Before anything is printed, so that a reader of the first line may already end us.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (listen, to, hex) = (arguments.listen, arguments.to, arguments.hex);
    let relay = LossyRelay::bind(listen, to, plan(arguments)?, move |passage| {
        // A reader that went away does not stop the relay.
        let _ = say(&line(passage, hex));
    })?;
    say(&format!("listening on {}", relay.address()))?;
    signals.forever().next();
    let counts = relay.stop();
    say(&format!(
        "up {}; down {}",
        totals(counts.up),
        totals(counts.down)
    ))
}

fn plan(arguments: Arguments) -> io::Result<Plan> {
    match arguments.percent {
        Some(percent) => Plan::share(arguments.seed, percent).map_err(io::Error::other),
        None => Ok(Plan {
            up: Loss::of_numbers(arguments.drop_up),
            down: Loss::of_numbers(arguments.drop_down),
        }),
    }
}

fn line(passage: Passage<'_>, hex: bool) -> String {
    let direction = match passage.direction {
        Direction::Up => "up",
        Direction::Down => "down",
    };
    let fate = match passage.fate {
        Fate::Passed => "passed",
        Fate::Dropped => "dropped",
        Fate::Refused => "refused",
    };
    let length = passage.datagram.len();
    let bytes = if hex {
        format!(": {}", hex::encode(passage.datagram))
    } else {
        String::new()
    };
    format!(
        "{direction} {} {fate} {length} bytes{bytes}",
        passage.number
    )
}

fn totals(count: Count) -> String {
    format!(
        "{} passed, {} dropped, {} refused",
        count.passed, count.dropped, count.refused
    )
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
