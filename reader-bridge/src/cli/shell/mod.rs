//! `shell`: commands typed by hand, answers decoded.

mod words;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use reader_bridge::{
    card::CardSpec,
    script::{
        self, Finish, Outcome, Plan, Runner, Script, Setting,
        compare::Log,
        decode,
        tap::{Passed, Tap},
    },
};
use rustyline::{Editor, error::ReadlineError, history::FileHistory};

use super::{
    exit::{CODES, Failure, NO_CARD},
    opening::Opening,
    script::Given,
};
use words::{Words, has_key};

/// Type commands for a card by hand: hexadecimal bytes, or any statement of a test script.
///
/// Arrows find what was typed before, the tab key completes. Values, functions, the channel and the secure channel
/// carry over from line to line; end with Ctrl-D.
#[derive(Args)]
#[command(
    after_help = format!("Example:\n  reader-bridge shell --card pcsc\n  > 00A4040008F04754534150500100\n  > 80 40 00 00 00 -> ** 9000\n\n{CODES}")
)]
pub(super) struct Shell {
    /// pcsc, pcsc:"READER NAME", vpcd:PORT or image:FILE.
    #[arg(long)]
    card: CardSpec,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    given: Given,
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
            return Ok(NO_CARD.into());
        }
        let mut editor: Editor<Words, FileHistory> = Editor::new().map_err(terminal)?;
        editor.set_helper(Some(Words::default()));
        let history = history();
        if let Some(file) = &history {
            // A first start has none.
            drop(editor.load_history(file));
        }
        let mut lines = Lines {
            runner,
            log,
            before: None,
        };
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    keep(&mut editor, history.as_deref(), &line);
                    print(&lines.execute(&line))?;
                    if let Some(words) = editor.helper_mut() {
                        words.values = lines.runner.names();
                    }
                }
                Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
                Err(ReadlineError::Interrupted) => {}
                Err(error) => return Err(terminal(error)),
            }
        }
    }

    fn runner(&self, log: Log) -> Result<Runner, Failure> {
        let seed = self.opening.seed();
        let port = self.opening.prepare(seed)?.open(&self.card, 0)?;
        let port = Tap::listened(port, Box::new(move |passed| log.push(passed)));
        let plan = Plan {
            setting: Setting {
                variables: self.given.variables()?,
                emulator: matches!(self.card, CardSpec::Image(_)),
                seed,
            },
            card_wait: self.opening.wait_card,
            carry_over: true,
            ..Plan::default()
        };
        Runner::new(Box::new(port), plan)
            .map_err(|error| Failure::System("a thread cannot be started", error))
    }
}

fn terminal(error: ReadlineError) -> Failure {
    Failure::System("the terminal", io::Error::other(error))
}

/// Each line at once, so that whatever ends this loses nothing. A history that cannot be written is none.
fn keep(editor: &mut Editor<Words, FileHistory>, history: Option<&Path>, line: &str) {
    if has_key(line) {
        return;
    }
    let added = editor.add_history_entry(line).unwrap_or_default();
    if let (true, Some(file)) = (added, history) {
        drop(editor.append_history(file));
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

/// Lines, one after the other.
struct Lines {
    runner: Runner,
    log: Log,
    /// The line before, and with it the functions that were made so far.
    before: Option<Script>,
}

impl Lines {
    fn execute(&mut self, line: &str) -> String {
        if line.trim().is_empty() {
            return String::new();
        }
        let text = Line(format!("{line}\n"));
        let script = match script::load_after(self.before.as_ref(), Path::new(TYPED), &text) {
            Ok(script) => script,
            Err(error) => return format!("{error}\n"),
        };
        let mut told = String::new();
        self.runner.run(&script, &|_, _| true, &mut |result| {
            for text in &result.printed {
                told = format!("{told}{text}\n");
            }
            for passed in self.log.take() {
                told.push_str(&show(&passed));
            }
            told.push_str(&outcome(result.outcome));
        });
        self.before = Some(script);
        told
    }
}

fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { place, message } => format!("{message}\n{}\n", place.excerpt()),
        Outcome::Skipped(why) | Outcome::NotRun(why) => format!("{why}\n"),
        Outcome::Passed => String::new(),
    }
}

fn show(passed: &Passed) -> String {
    match passed {
        Passed::Power(_, atr) => format!("ATR {}\n", hex::encode_upper(atr)),
        Passed::Command(_, Ok(answer)) => decode::answer(answer),
        Passed::Command(_, Err(why)) => format!("{why}\n"),
    }
}
