//! `shell`: commands typed by hand, answers decoded.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use reader_bridge::{
    card::{self, CardSpec},
    script::{
        self, Finish, Outcome, Plan, Runner, Setting, WORDS,
        compare::Log,
        decode,
        tap::{Passed, Tap},
    },
};
use rustyline::{
    Completer, Editor, Helper, Highlighter, Hinter, Validator,
    completion::{Completer as Complete, Pair},
    error::ReadlineError,
    history::FileHistory,
};

use super::exit::Failure;

/// Type commands for a card by hand: hexadecimal bytes, or any statement of a test script.
///
/// Arrows find what was typed before, the tab key completes. Values carry over from line to line; end with Ctrl-D.
#[derive(Args)]
#[command(
    after_help = "Example:\n  reader-bridge shell --card pcsc\n  > 00A4040008F04754534150500100\n  > 80 40 00 00 00 -> ** 9000"
)]
pub(super) struct Shell {
    /// pcsc, pcsc:"READER NAME", vpcd:PORT or image:FILE.
    #[arg(long)]
    card: CardSpec,
}

/// Beginnings of lines worth completing.
#[derive(Helper, Completer, Hinter, Highlighter, Validator)]
struct Words {
    #[rustyline(Completer)]
    words: Known,
}

struct Known;

/// Commands by name.
const COMMANDS: [&str; 6] = [
    "00 A4 04 00 08 F047545341505001 00",
    "80 40 00 00 00",
    "80 40 01 00 00",
    "80 CA 00 E1 00",
    "80 CA 00 E7 00",
    "80 CA 00 5A 00",
];

impl Complete for Known {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..at).unwrap_or_default();
        let known = WORDS.iter().chain(&COMMANDS);
        let fitting = known.filter(|word| word.starts_with(typed));
        let pair = |word: &&str| Pair {
            display: (*word).to_owned(),
            replacement: (*word).to_owned(),
        };
        Ok((0, fitting.map(pair).collect()))
    }
}

/// One line as a script.
struct Line(String);

impl script::Files for Line {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path == Path::new(TYPED) {
            Ok(self.0.clone())
        } else {
            script::SystemFiles.read(path)
        }
    }
}

const TYPED: &str = "line";

impl Shell {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let log = Log::default();
        let mut runner = self.runner(log.clone())?;
        if let Finish::NoCard(why) = runner.connect() {
            drop(writeln!(io::stderr(), "reader-bridge: {why}"));
            return Ok(3.into());
        }
        let terminal =
            |error: ReadlineError| Failure::System("the terminal", io::Error::other(error));
        let mut editor: Editor<Words, FileHistory> = Editor::new().map_err(terminal)?;
        editor.set_helper(Some(Words { words: Known }));
        let history = history();
        if let Some(file) = &history {
            // A first start has none.
            drop(editor.load_history(file));
        }
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    drop(editor.add_history_entry(&line));
                    print(&execute(&mut runner, &log, &line))?;
                }
                Err(ReadlineError::Eof) => break,
                Err(ReadlineError::Interrupted) => {}
                Err(error) => return Err(terminal(error)),
            }
        }
        if let Some(file) = &history {
            drop(editor.save_history(file));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn runner(&self, log: Log) -> Result<Runner, Failure> {
        let options = card::Options {
            image_key: None,
            command_timeout: script::COMMAND_LIMIT,
        };
        let port = Tap::listened(
            card::open(&self.card, options)?,
            Box::new(move |passed| log.push(passed)),
        );
        let plan = Plan {
            setting: Setting {
                emulator: matches!(self.card, CardSpec::Image(_)),
                seed: fastrand::u64(..),
                ..Setting::default()
            },
            carry_over: true,
            ..Plan::default()
        };
        Runner::new(Box::new(port), plan)
            .map_err(|error| Failure::System("a thread cannot be started", error))
    }
}

/// Beside the history of other shells.
fn history() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(PathBuf::from(home).join(".reader-bridge_history"))
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::Output)
}

fn execute(runner: &mut Runner, log: &Log, line: &str) -> String {
    if line.trim().is_empty() {
        return String::new();
    }
    let script = match script::load(Path::new(TYPED), &Line(format!("{line}\n"))) {
        Ok(script) => script,
        Err(error) => return format!("{error}\n"),
    };
    let mut told = String::new();
    runner.run(&script, &|_, _| true, &mut |result| {
        for text in result.printed {
            told = format!("{told}{text}\n");
        }
        for passed in log.take() {
            told.push_str(&show(&passed));
        }
        match result.outcome {
            Outcome::Failed { place, message } => {
                told = format!("{told}{message}\n{}\n", place.excerpt())
            }
            Outcome::Skipped(why) | Outcome::NotRun(why) => told = format!("{told}{why}\n"),
            Outcome::Passed => {}
        }
    });
    told
}

fn show(passed: &Passed) -> String {
    match passed {
        Passed::Power(_, atr) => format!("ATR {}\n", hex::encode_upper(atr)),
        Passed::Command(_, Ok(answer)) => decode::answer(answer),
        Passed::Command(_, Err(why)) => format!("{why}\n"),
    }
}
