//! The configuration file of `run`: its options under the same names, in TOML.
//!
//! Owns reading the file and joining it with the command line, which wins. There is no list of keys here:
//! what can be set, and how a value must look, is what clap knows of `run`'s options. No key of the file
//! is a secret, and no line of it is repeated in an error, since somebody may have put one there.

mod effective;
mod file;
mod values;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, parser::ValueSource};

pub(super) use effective::text as effective;
pub(super) use file::Mistake;

use super::{exit::Failure, run::Run};
use file::Setting;

/// The option that names the file: the only one that the file itself cannot have.
const CONFIG: &str = "config";

/// What the file sets, each with the words that the command line would have for it.
pub(super) struct Configuration {
    settings: Vec<Setting>,
}

/// Why a configuration cannot be used: everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("{}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the configuration is not understood\n{}", lines(path, mistakes))]
    Mistakes {
        path: PathBuf,
        mistakes: Vec<Mistake>,
    },
}

fn lines(path: &Path, mistakes: &[Mistake]) -> String {
    let line = |mistake: &Mistake| format!("  {}:{mistake}", path.display());
    mistakes.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `run`'s options as clap knows them; switches take no value.
fn run_options() -> Command {
    Run::augment_args(Command::new("run"))
}

/// The same where a switch may be turned off, too: otherwise no flag could win over a file that turns it on.
pub(super) fn with_switches(run: Command) -> Command {
    run.mut_args(|arg| if is_switch(&arg) { switch(arg) } else { arg })
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn switch(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .value_parser(clap::builder::BoolValueParser::new())
        .value_name("true|false")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .hide_possible_values(true)
}

/// Parses the command line, with what its configuration file adds. Ends the process where clap would.
pub(super) fn matches(command: Command, line: Vec<OsString>) -> Result<ArgMatches, Failure> {
    let given = command.clone().ignore_errors(true);
    // What is wrong is told by the second, whole, parse.
    let given = given.try_get_matches_from(&line).ok();
    let run = given.as_ref().and_then(|all| all.subcommand_matches("run"));
    let Some((run, file)) = run.and_then(|run| Some((run, file_of(run)?))) else {
        return Ok(command.get_matches_from(line));
    };
    let configuration = Configuration::read(&file)?;
    let line = line.into_iter().chain(configuration.words(run));
    Ok(command.get_matches_from(line))
}

fn file_of(run: &ArgMatches) -> Option<PathBuf> {
    run.get_one::<PathBuf>(CONFIG).cloned()
}

impl Configuration {
    /// Reads the file; each value is checked as its option would.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let (settings, mut mistakes) = file::settings(&text, &run_options());
        let command = with_switches(run_options());
        mistakes.extend(
            settings
                .iter()
                .filter_map(|setting| values::mistake(setting, &command)),
        );
        if mistakes.is_empty() {
            return Ok(Self { settings });
        }
        mistakes.sort_by_key(Mistake::place);
        Err(ConfigError::Mistakes {
            path: path.to_owned(),
            mistakes,
        })
    }

    /// The settings as words of a command line, without those that `run` was given there.
    fn words(&self, run: &ArgMatches) -> impl Iterator<Item = OsString> {
        let given =
            |setting: &&Setting| run.value_source(&setting.id) == Some(ValueSource::CommandLine);
        let settings: Vec<_> = self
            .settings
            .iter()
            .filter(|setting| !given(setting))
            .collect();
        settings.into_iter().flat_map(Setting::words)
    }

    /// `run` with these settings alone.
    pub(super) fn alone(&self) -> Result<ArgMatches, clap::Error> {
        let words = self.settings.iter().flat_map(Setting::words);
        let line = std::iter::once("run".into()).chain(words);
        with_switches(run_options()).try_get_matches_from(line)
    }
}
