//! `run`: one card, its server, until told to stop or after one exchange.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use applet::nvm::WrapKey;
use clap::Args;
use reader_bridge::{
    card::{self, CardPort, CardSpec},
    report::{Form, Lines, Reporter},
    session::Config,
    terminal::{
        Post, Setup, Terminal,
        control::Control,
        network, run_all,
        store::{Store, StoreError, default_directory},
    },
    trace::Trace,
};

use super::{
    exit::{CODES, Failure},
    key_file::key,
    options::{Polling, Waiting},
    signals::stop_on_signals,
    values,
};

const EXAMPLES: &str = "\
Examples:
  reader-bridge run --card pcsc --gts gts.example
  reader-bridge run --card 'pcsc:Virtual PCD 00 00' --gts 127.0.0.1:4753 --interval 10s
  reader-bridge run --card vpcd:35963 --gts 127.0.0.1      (then: secapp insert card.img)
  reader-bridge run --card image:card.img --gts '[::1]:4753' --once --json
  reader-bridge run --card 'pcsc:Reader A' --card 'pcsc:Reader B' --gts gts.example";

/// Poll for a card: select SecApp, ask the server, give its answer to the card, act on the message.
#[derive(Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub(super) struct Run {
    /// Where the card is: pcsc (first card found), pcsc:"READER NAME", vpcd:PORT (the bridge is the
    /// virtual reader), image:FILE (an emulated card in this process). Repeatable: each card is served
    /// by itself.
    #[arg(long, required = true, value_name = "CARD")]
    card: Vec<CardSpec>,
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
        self.check_cards()?;
        let setup = self.setup()?;
        let form = if self.json { Form::Json } else { Form::Text };
        let reporter = Lines::new(form, io::stdout());
        let ports = self.ports()?;
        // Neighbouring seeds give unrelated sequences (wyrand).
        let seeds = (0..).map(|n| setup.seed.wrapping_add(n));
        let terminals = ports
            .into_iter()
            .zip(seeds)
            .map(|(port, seed)| {
                let setup = Setup {
                    seed,
                    ..setup.clone()
                };
                Terminal::new(setup, port, &reporter)
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.until_the_end(terminals, &reporter)
    }

    /// The same place twice would be two terminals for one card.
    fn check_cards(&self) -> Result<(), Failure> {
        let same = |(at, card)| self.card[..at].contains(card);
        if let Some((_, twice)) = self.card.iter().enumerate().find(|card| same(*card)) {
            return Err(Failure::Arguments(format!(
                "--card {twice} is given twice; several cards need a place each, for example two readers by their names"
            )));
        }
        Ok(())
    }

    fn setup(&self) -> Result<Setup, Failure> {
        let directory = self.state.clone().map_or_else(default_directory, Ok)?;
        Ok(Setup {
            config: self.config()?,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
            card_wait: self.wait_card.or(self.once.then_some(CARD_WAIT)),
            store: Store::open(directory)?,
            trace: self.trace.as_deref().map(trace).transpose()?,
        })
    }

    fn ports(&self) -> Result<Vec<Box<dyn CardPort>>, Failure> {
        let image_key = self.image_key_file.as_deref().map(key).transpose()?;
        let open = |spec| {
            let options = card::Options {
                image_key: image_key.as_ref().map(WrapKey::new),
                command_timeout: self.card_timeout,
            };
            Ok(card::open(spec, options)?)
        };
        self.card.iter().map(open).collect()
    }

    fn until_the_end(
        &self,
        terminals: Vec<Terminal<'_>>,
        reporter: &dyn Reporter,
    ) -> Result<ExitCode, Failure> {
        let posts: Vec<_> = terminals.iter().map(Terminal::post).collect();
        let _control = self.attend(&terminals, &posts)?;
        let received = stop_on_signals(posts)
            .map_err(|error| Failure::System("signals cannot be caught", error))?;
        let why = || match received.signal() {
            Some(signal) => format!("signal {signal}"),
            None => "done".into(),
        };
        let ended = run_all(terminals, reporter, why);
        let mut failures = ended.into_iter().filter_map(Result::err).map(Failure::from);
        if let Some(first) = failures.next() {
            failures.for_each(|failure| super::complain(&failure));
            return Err(first);
        }
        let code = received.signal().filter(|_| self.once).unwrap_or_default();
        Ok(u8::try_from(code).map_or(ExitCode::FAILURE, |code| {
            ExitCode::from(if code == 0 {
                0
            } else {
                code.saturating_add(128)
            })
        }))
    }

    /// What else may wake the terminals: requests of this machine, and the network. A single exchange
    /// waits for neither.
    fn attend(
        &self,
        terminals: &[Terminal<'_>],
        posts: &[Post],
    ) -> Result<Option<Control>, Failure> {
        let Some(first) = terminals.first().filter(|_| !self.once) else {
            return Ok(None);
        };
        network::watch(posts.to_vec())
            .map_err(|error| Failure::System("the network cannot be watched", error))?;
        Control::listen(first.directory(), posts.to_vec())
            .map(Some)
            .map_err(|source| {
                Failure::Store(StoreError::Io {
                    path: first.directory().to_owned(),
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
