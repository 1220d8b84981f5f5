//! `run`: one card, its server, until told to stop or after one exchange.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use reader_bridge::{
    card::{self, CardSpec},
    report::{Form, Lines, Reporter},
    session::{Config, Event},
    terminal::{
        Setup, Terminal, TerminalError,
        control::Control,
        network,
        store::{Store, StoreError, default_directory},
    },
    trace::Trace,
};

use super::{
    exit::{CODES, Failure},
    key_file::wrap_key,
    options::{Polling, Waiting},
    signals::stop_on_signals,
    values,
};

const EXAMPLES: &str = "\
Examples:
  reader-bridge run --card pcsc --gts gts.example
  reader-bridge run --card 'pcsc:Virtual PCD 00 00' --gts 127.0.0.1:4753 --interval 10s
  reader-bridge run --card vpcd:35963 --gts 127.0.0.1      (then: secapp insert card.img)
  reader-bridge run --card image:card.img --gts '[::1]:4753' --once --json";

/// Poll for a card: select SecApp, ask the server, give its answer to the card, act on the message.
#[derive(Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub(super) struct Run {
    /// Where the card is: pcsc (first card found), pcsc:"READER NAME", vpcd:PORT (the bridge is the
    /// virtual reader), image:FILE (an emulated card in this process).
    #[arg(long)]
    card: CardSpec,
    /// The triggering server, host:port; 4753 if no port is given. Several are asked in their order.
    #[arg(long, required = true, value_name = "HOST:PORT", value_parser = values::server)]
    gts: Vec<String>,
    /// Make one exchange at once, and end.
    #[arg(long)]
    once: bool,
    /// With --once: give up after so many polls without an answer.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// How long to wait for a card [default: 10s with --once, for ever without].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    wait_card: Option<Duration>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    polling: Polling,
    /// Where cards are remembered [default: $STATE_DIRECTORY, $XDG_STATE_HOME/reader-bridge or
    /// ~/.local/state/reader-bridge].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The key that the image of image:FILE is wrapped under, 32 or 64 hexadecimal digits in a file;
    /// - is standard input.
    #[arg(long, value_name = "FILE")]
    image_key_file: Option<PathBuf>,
    /// How long a virtual card may take for one command.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s")]
    card_timeout: Duration,
    /// One JSON object a line, for programs.
    #[arg(long)]
    json: bool,
    /// Write everything that passes into a file for Wireshark.
    #[arg(long, value_name = "FILE.pcapng")]
    trace: Option<PathBuf>,
    /// Seed of all jitter, to repeat a run [default: a random one].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

fn trace(path: &Path) -> Result<Arc<Trace>, Failure> {
    let trace = Trace::create(path).map_err(|error| Failure::Trace {
        path: path.to_owned(),
        error,
    })?;
    Ok(Arc::new(trace))
}

/// How long `--once` waits for a card by default.
const CARD_WAIT: Duration = Duration::from_secs(10);

impl Run {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = self.config()?;
        let image_key = self.image_key_file.as_deref().map(wrap_key).transpose()?;
        let directory = self.state.clone().map_or_else(default_directory, Ok)?;
        let setup = Setup {
            config,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
            card_wait: self.wait_card.or(self.once.then_some(CARD_WAIT)),
            store: Store::open(directory)?,
            trace: self.trace.as_deref().map(trace).transpose()?,
        };
        let options = card::Options {
            image_key,
            command_timeout: self.card_timeout,
        };
        let port = card::open(&self.card, options)?;
        let form = if self.json { Form::Json } else { Form::Text };
        let reporter = Lines::new(form, io::stdout());
        let terminal = Terminal::new(setup, port, &reporter)?;
        self.until_the_end(terminal, &reporter)
    }

    fn until_the_end(
        &self,
        mut terminal: Terminal<'_>,
        reporter: &dyn Reporter,
    ) -> Result<ExitCode, Failure> {
        let _control = self.attend(&terminal)?;
        let received = stop_on_signals(terminal.post())
            .map_err(|error| Failure::System("signals cannot be caught", error))?;
        let ended = terminal.run();
        let why = match (&ended, received.signal()) {
            (Err(error), _) => error.to_string(),
            (Ok(()), Some(signal)) => format!("signal {signal}"),
            (Ok(()), None) => "done".into(),
        };
        let told = reporter.tell(terminal.label(), &Event::Stopped { why });
        ended?;
        told.map_err(|error| Failure::Terminal(TerminalError::Output(error)))?;
        let code = received.signal().filter(|_| self.once).unwrap_or_default();
        Ok(u8::try_from(code).map_or(ExitCode::FAILURE, |code| {
            ExitCode::from(if code == 0 {
                0
            } else {
                code.saturating_add(128)
            })
        }))
    }

    /// What else may wake the terminal: requests of this machine, and the network. A single exchange
    /// waits for neither.
    fn attend(&self, terminal: &Terminal<'_>) -> Result<Option<Control>, Failure> {
        if self.once {
            return Ok(None);
        }
        let posts = vec![terminal.post()];
        network::watch(posts.clone())
            .map_err(|error| Failure::System("the network cannot be watched", error))?;
        Control::listen(terminal.directory(), posts)
            .map(Some)
            .map_err(|source| {
                Failure::Store(StoreError::Io {
                    path: terminal.directory().to_owned(),
                    what: "listen in this directory",
                    source,
                })
            })
    }

    fn config(&self) -> Result<Config, Failure> {
        Ok(Config {
            homes: self.gts.clone(),
            timeouts: self.waiting.timeouts()?,
            schedule: self.polling.schedule()?,
            once: self.once.then_some(self.attempts),
        })
    }
}
