//! The command line: what can be asked for, and which exit code says what.

mod error;
mod insert;
mod inspect;
mod new;
mod rack;
mod reader;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use error::{Code, Error};

/// A smart card in software: makes card images, puts them into virtual readers, looks at them.
#[derive(Parser)]
#[command(name = "secapp", version, after_help = error::CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Insert(insert::Insert),
    Rack(rack::Rack),
    Inspect(inspect::Inspect),
    Completions(Completions),
}

/// Print completions for a shell.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  secapp completions bash > /etc/bash_completion.d/secapp")]
struct Completions {
    /// Which shell.
    shell: clap_complete::Shell,
}

impl Completions {
    fn run(&self, out: &mut dyn Write) -> Result<(), Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "secapp", &mut script);
        Ok(out.write_all(&script)?)
    }
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::New(new) => new.run(&mut io::stdout()),
        Command::Insert(insert) => insert.run(&mut io::stdout()),
        Command::Rack(rack) => rack.run(),
        Command::Inspect(inspect) => inspect.run(&mut io::stdout()),
        Command::Completions(completions) => completions.run(&mut io::stdout()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(Error::System(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "secapp: {error}");
            Code::of(&error).into()
        }
    }
}
