//! `fleet`: simulated devices that poll a GTS.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the program speaks to people"
)]

use std::{
    fmt::Write as _,
    io::IsTerminal,
    net::{SocketAddr, ToSocketAddrs},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bench::{
    device::{Device, Fleet},
    drive::{Drive, Faults, Plan},
    report::Report,
};
use clap::{Args, Parser, Subcommand};
use protocol::identity::Mode;
use signal_hook::consts::{SIGINT, SIGTERM};

const EXAMPLES: &str = "\
Examples:
  fleet csv --devices 10000 | gts-mock subscriptions import -
  fleet run --gts 127.0.0.1:4753 --devices 10000 --duration 30
  fleet run --gts 127.0.0.1:4753 --devices 10000 --rate 5000 --lose-up 10 --lose-down 10 --json

Devices begin where the server has them after an import: run a fleet once, or take others with --first.

Exit codes: 0 done, 1 no answer was accepted or a wrong one was, 2 wrong command line or no network";

/// Simulated devices that poll a Global Triggering Server, each answer verified
#[derive(Parser)]
#[command(name = "fleet", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the fleet's subscriptions as CSV for an import. Their keys come from the seed: for tests only
    Csv(Which),
    /// Let the fleet poll
    Run(Box<Run>),
}

#[derive(Args)]
struct Which {
    /// How many devices
    #[arg(long, default_value_t = 1000)]
    devices: u32,
    /// The number of the first one
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Seed of identities and keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mode: 0 bare, 1 ROTATE, 2 AUTH, 3 both
    #[arg(long, default_value_t = ModeOption(Mode::DEFAULT), value_parser = mode)]
    mode: ModeOption,
}

#[derive(Args)]
struct Run {
    /// The server's host:port
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    gts: SocketAddr,
    #[command(flatten)]
    which: Which,
    /// Polls under way at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// Exchanges begun per second; as many as the server answers if absent
    #[arg(long)]
    rate: Option<f64>,
    /// End after so many exchanges
    #[arg(long)]
    exchanges: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    duration: u64,
    /// Milliseconds before a poll is repeated
    #[arg(long, value_name = "MS", default_value_t = 500)]
    timeout: u64,
    /// Polls of one exchange before a device is given up for now
    #[arg(long, default_value_t = 40)]
    attempts: u32,
    /// Percent of polls that do not leave
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    lose_up: u8,
    /// Percent of answers that are not looked at
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    lose_down: u8,
    /// Percent of polls that are sent twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    duplicate: u8,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// A mode, printed as its number.
#[derive(Clone, Copy)]
struct ModeOption(Mode);

impl std::fmt::Display for ModeOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.byte())
    }
}

fn mode(text: &str) -> Result<ModeOption, String> {
    let byte: u8 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number from 0 to 3"))?;
    Mode::from_byte(byte)
        .map(ModeOption)
        .map_err(|error| error.to_string())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("{text:?}: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("{text:?} has no address"))
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Csv(which) => {
            print!("{}", csv(&which));
            ExitCode::SUCCESS
        }
        Command::Run(options) => run(&options).unwrap_or_else(|error| {
            eprintln!("fleet: {error}");
            ExitCode::from(2)
        }),
    }
}

fn csv(which: &Which) -> String {
    let fleet = Fleet::new(which.seed, which.mode.0);
    let mut text = String::from("reference,iccid,key,mode,first_identity\n");
    for number in which.numbers() {
        let profile = fleet.profile(number);
        let key = hex::encode(profile.k.as_bytes());
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{},{},{key},{},iccid",
            profile.reference, profile.iccid, which.mode
        );
    }
    text
}

impl Which {
    fn numbers(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.devices)
    }
}

fn run(options: &Run) -> std::io::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let which = &options.which;
    let fleet = Fleet::new(which.seed, which.mode.0);
    let mut devices: Vec<Device> = which
        .numbers()
        .map(|number| Device::from(&fleet.profile(number)))
        .collect();
    let mut drive = Drive::new(plan(options), &mut devices)?;
    let watched = std::io::stderr().is_terminal();
    drive.run(&stop, |report| {
        if watched {
            eprint!(
                "\r{:>12} exchanges, {:>8.0} per second ",
                report.counts.accepted,
                report.per_second()
            );
        }
    })?;
    if watched {
        eprintln!();
    }
    let report = &drive.report;
    match serde_json::to_string(&report.summary()) {
        Ok(json) if options.json => println!("{json}"),
        _ => println!("{}", report.table()),
    }
    Ok(verdict(report))
}

fn verdict(report: &Report) -> ExitCode {
    let right = report.counts.accepted > 0 && report.counts.impossible_sent == 0;
    ExitCode::from(u8::from(!right))
}

fn plan(options: &Run) -> Plan {
    Plan {
        server: options.gts,
        in_flight: options.in_flight as usize,
        rate: options.rate,
        exchanges: options.exchanges,
        duration: Some(Duration::from_secs(options.duration)),
        timeout: Duration::from_millis(options.timeout),
        attempts: options.attempts,
        faults: Faults {
            lose_up: options.lose_up,
            lose_down: options.lose_down,
            duplicate: options.duplicate,
        },
        seed: options.which.seed,
    }
}
