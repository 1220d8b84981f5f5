//! `duel`: what the server costs, measured against a bare echo on the same machine.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the program speaks to people"
)]

mod cli;
mod growth;
mod import;
mod memory;
mod rig;
mod run;
mod start;

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use bench::duel::{Failure, echo::Echo};
use clap::Parser;
use cli::{Cli, Command, EchoOptions};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether a run that came to its end counts.
pub(crate) enum Verdict {
    /// It does.
    Sound,
    /// Echo against echo left its bounds.
    Void,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match measure(&cli.command) {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Void) => ExitCode::from(3),
        Err(failure) => {
            eprintln!("duel: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) {
                2
            } else {
                1
            })
        }
    }
}

fn measure(command: &Command) -> Result<Verdict, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    if let Command::Echo(options) = command {
        return echo(options);
    }
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    match command {
        Command::Run(options) => run::run(options, &stop),
        Command::Growth(options) => growth::run(options, &stop),
        Command::Memory(options) => memory::run(options, &stop),
        Command::Start(options) => start::run(options, &stop),
        Command::Import(options) => import::run(options),
        Command::Echo(options) => echo(options),
    }
}

/// Echoes until its parent ends.
fn echo(options: &EchoOptions) -> Result<Verdict, Failure> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(std::io::Error::from)?;
    let echo = Echo::bind(options.listen, options.workers, options.reply, options.wait)?;
    println!("{}", echo.address()?);
    echo.run()?;
    Ok(Verdict::Sound)
}
