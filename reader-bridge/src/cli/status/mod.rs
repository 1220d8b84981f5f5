//! `status`: where the cards of running bridges stand, once or live.
//!
//! Owns what is asked, chosen and sorted. [`table`] draws.

mod table;

use std::{
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use reader_bridge::terminal::{
    board::CardStatus,
    control::{self, BridgeStatus},
    store::{StoreError, default_directory},
};
use serde::Serialize;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{exit::Failure, values};
use table::Look;
pub(super) use table::colours;

const EXAMPLES: &str = "\
Examples:
  reader-bridge status
  reader-bridge status --filter resending --sort loss
  reader-bridge status --state /var/lib/bridge-a --state /var/lib/bridge-b --json

Exit codes:
  0  told; with --watch, ended by a signal
  3  no bridge runs with this state directory
  7  the state directory cannot be read";

/// Show where the cards of running bridges stand: live in a terminal, once into a pipe.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Status {
    /// The state directory of the bridges [default: as for run]. Repeatable.
    #[arg(long, value_name = "DIR")]
    state: Vec<PathBuf>,
    /// Only cards whose place, ICCID, state, identity or server contains this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// What comes first: names in their order; trouble, the next poll, or loss, most of it first.
    #[arg(long, value_name = "BY", value_enum, default_value_t = Order::Card)]
    sort: Order,
    /// Show so many cards [default: as many as fit when live, else all].
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave out so many first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
    /// Print JSON, for programs; with --watch one document a line.
    #[arg(long)]
    json: bool,
    /// Go on showing [default: in a terminal].
    #[arg(long, conflicts_with = "once")]
    watch: bool,
    /// Show once, in a terminal too.
    #[arg(long)]
    once: bool,
    /// How long until it is shown anew.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "1s")]
    every: Duration,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Card,
    Trouble,
    Next,
    Loss,
}

/// All that is shown at a time.
#[derive(Serialize)]
struct Shown {
    /// How many bridges answered.
    bridges: usize,
    /// How many cards they have, before any choice.
    all: usize,
    /// How many the filter has left.
    chosen: usize,
    cards: Vec<Row>,
}

/// A card, and whose it is.
#[derive(Serialize)]
struct Row {
    state_directory: PathBuf,
    pid: u32,
    #[serde(flatten)]
    status: CardStatus,
}

impl Status {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let live = self.watch || (io::stdout().is_terminal() && !self.json && !self.once);
        if !live {
            let shown = self.ask()?;
            if shown.bridges == 0 {
                return Err(Failure::NobodyRuns);
            }
            return self.show(&shown, None).map(|()| ExitCode::SUCCESS);
        }
        self.watch()
    }

    /// Until a signal comes, or nobody reads any more.
    fn watch(&self) -> Result<ExitCode, Failure> {
        let stop = signals().map_err(|error| Failure::System("signals cannot be caught", error))?;
        let _screen = Screen::open(!self.json).map_err(Failure::Output)?;
        loop {
            let look = Look::of_terminal();
            self.show(&self.ask()?, look)?;
            match stop.recv_timeout(self.every) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    fn ask(&self) -> Result<Shown, Failure> {
        let directories = match &self.state[..] {
            [] => vec![default_directory()?],
            given => given.to_vec(),
        };
        let mut rows = Vec::new();
        let mut bridges = 0;
        for directory in directories {
            for bridge in ask(&directory)? {
                bridges += 1;
                let pid = bridge.pid;
                rows.extend(bridge.cards.into_iter().map(|status| Row {
                    state_directory: directory.clone(),
                    pid,
                    status,
                }));
            }
        }
        let all = rows.len();
        rows.retain(|row| self.wants(&row.status));
        rows.sort_by_cached_key(|row| self.sort.key(&row.status));
        Ok(Shown {
            bridges,
            all,
            chosen: rows.len(),
            cards: rows,
        })
    }

    fn wants(&self, status: &CardStatus) -> bool {
        let Some(filter) = &self.filter else {
            return true;
        };
        let texts = [&status.iccid, &status.identity, &status.server];
        status.card.contains(filter)
            || status.state.word().contains(filter.as_str())
            || texts
                .into_iter()
                .flatten()
                .any(|text| text.contains(filter))
    }

    /// `look`: how the terminal is, when live.
    fn show(&self, shown: &Shown, look: Option<Look>) -> Result<(), Failure> {
        let mut text = if self.json {
            serde_json::json!(self.page(shown, None)).to_string() + "\n"
        } else {
            let look = look.unwrap_or_else(|| Look::of_output(io::stdout().is_terminal()));
            table::draw(&self.page(shown, look.rows), self.offset, look)
        };
        if look.is_some() && !self.json {
            text = table::over_the_last_one(&text);
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Failure::Output)
    }

    /// The cards of one page; `fit`: how many lines there are for them.
    fn page<'a>(&self, shown: &'a Shown, fit: Option<usize>) -> Page<'a> {
        let limit = self.limit.or(fit).unwrap_or(usize::MAX);
        let from = self.offset.min(shown.cards.len());
        let to = from.saturating_add(limit).min(shown.cards.len());
        Page {
            bridges: shown.bridges,
            all: shown.all,
            chosen: shown.chosen,
            cards: &shown.cards[from..to],
        }
    }
}

/// What is shown of it.
#[derive(Serialize)]
struct Page<'a> {
    bridges: usize,
    all: usize,
    chosen: usize,
    cards: &'a [Row],
}

fn ask(directory: &std::path::Path) -> Result<Vec<BridgeStatus>, Failure> {
    control::status(directory).map_err(|source| {
        Failure::Store(StoreError::Io {
            path: directory.to_owned(),
            what: "ask the bridges of this directory",
            source,
        })
    })
}

impl Order {
    /// Less comes first; then the name, with numbers in it as numbers.
    fn key(self, status: &CardStatus) -> (u64, Vec<Part>) {
        let first = match self {
            Self::Card => 0,
            Self::Trouble => trouble(status),
            Self::Next => status.next_poll_in_ms.unwrap_or(u64::MAX),
            Self::Loss => u64::MAX - status.link.polls_lost - status.link.answers_lost,
        };
        (first, parts(&status.card))
    }
}

/// 0 is the worst.
fn trouble(status: &CardStatus) -> u64 {
    let signs = status.answers_refused + status.others_polled;
    u64::from(status.state.works()) * 2 + u64::from(status.unanswered < 2 && signs == 0)
}

/// A name in pieces, so that `vpcd:9` comes before `vpcd:10`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64, usize),
    Text(String),
}

fn parts(name: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for piece in name
        .as_bytes()
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
    {
        let text = String::from_utf8_lossy(piece).into_owned();
        parts.push(match text.parse() {
            Ok(number) => Part::Number(number, text.len()),
            Err(_) => Part::Text(text),
        });
    }
    parts
}

/// Says when a signal to end has come.
fn signals() -> io::Result<mpsc::Receiver<()>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let (tell, told) = mpsc::channel();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                // Whoever waits for it may have ended.
                let _ = tell.send(());
            }
        })?;
    Ok(told)
}

/// A terminal without its cursor; as it was when dropped.
struct Screen(bool);

impl Screen {
    fn open(live: bool) -> io::Result<Self> {
        let terminal = live && io::stdout().is_terminal();
        if terminal {
            io::stdout().write_all(table::OPEN.as_bytes())?;
        }
        Ok(Self(terminal))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.0 {
            // The program ends; there is nobody to tell.
            let _ = io::stdout().write_all(table::CLOSE.as_bytes());
            let _ = io::stdout().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = [
            "vpcd:10",
            "vpcd:9",
            "pcsc:B",
            "pcsc:A",
            "vpcd:99999999999999999999999",
        ];
        names.sort_by_key(|name| parts(name));
        assert_eq!(
            names,
            [
                "pcsc:A",
                "pcsc:B",
                "vpcd:9",
                "vpcd:10",
                "vpcd:99999999999999999999999"
            ]
        );
    }
}
