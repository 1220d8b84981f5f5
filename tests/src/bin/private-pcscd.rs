//! `private-pcscd`: a pcscd with virtual readers of its own, as a program, for the demo and for trying things by hand.
//!
//! Owns its command line and what it prints. The daemon itself is [`e2e::pcscd`].

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use e2e::pcscd::Pcscd;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Run a pcscd with virtual readers, beside the machine's own and without touching it.
#[derive(Parser)]
#[command(
    after_help = "Prints one line per slot, `slot PORT READER NAME`, then `socket PATH`, then `ready`.\n\
    A virtual card connects to 127.0.0.1:PORT; a PC/SC client runs with PCSCLITE_CSOCK_NAME=PATH.\n\
    Ends on SIGINT or SIGTERM and removes all its files. Needs Debian's packages pcscd and vsmartcard-vpcd, and\n\
    root or user namespaces.\n\nExample:\n  private-pcscd --slots 2"
)]
struct Arguments {
    /// How many slots at least (a driver gives two): 1 to 16.
    #[arg(long, default_value_t = 2)]
    slots: usize,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads standard error either: the exit code still tells.
            let _ = writeln!(io::stderr(), "private-pcscd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    // Before the daemon starts, so that a signal never leaves its files behind.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let pcscd = Pcscd::try_start(arguments.slots).map_err(io::Error::other)?;
    describe(&pcscd)?;
    signals.forever().next();
    Ok(())
}

fn describe(pcscd: &Pcscd) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for slot in pcscd.slots() {
        writeln!(out, "slot {} {}", slot.port, slot.reader)?;
    }
    writeln!(out, "socket {}", pcscd.socket().display())?;
    writeln!(out, "ready")?;
    out.flush()
}
