//! `fleet`: simulated devices that poll a GTS.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the program speaks to people"
)]

mod cli;

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use bench::{
    device::{Device, Fleet},
    drive::Drive,
    duel::meter,
    progress::Progress,
    report::Report,
};
use clap::Parser;
use cli::{Cli, Command, Run, Which};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Csv(which) => csv(&which),
        Command::Run(options) => run(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("fleet: {error}");
        ExitCode::from(2)
    })
}

fn csv(which: &Which) -> io::Result<ExitCode> {
    let fleet = Fleet::new(which.seed, which.mode.0);
    let mut out = BufWriter::new(io::stdout().lock());
    fleet.write_csv(which.numbers(), &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn run(options: &Run) -> io::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    allow_many_ports();
    let fleet = Fleet::new(options.which.seed, options.which.mode.0);
    let numbers = options.which.numbers();
    let mut devices: Vec<Device> = numbers.map(|number| fleet.device(number)).collect();
    let mut drive = Drive::new(options.plan(), &fleet, &mut devices)?;
    let mut progress = Progress::begin("exchanges", options.total());
    let before = meter::own_cpu()?;
    drive.run(&stop, |report| {
        let pace = format!("{:.0} per second", report.per_second());
        progress.at(report.counts.accepted, &pace);
    })?;
    drive.report.cpu = meter::own_cpu()?.saturating_sub(before);
    drop(progress);
    let report = &drive.report;
    match serde_json::to_string(&report.summary()) {
        Ok(json) if options.json => println!("{json}"),
        _ => println!("{}", report.table()),
    }
    Ok(verdict(report))
}

/// Each source port is a descriptor: as many as the system lets us have.
fn allow_many_ports() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // What is refused shows when the ports are bound.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn verdict(report: &Report) -> ExitCode {
    let right = report.counts.accepted > 0 && report.counts.impossible_sent == 0;
    ExitCode::from(u8::from(!right))
}
