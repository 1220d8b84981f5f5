//! `run`: one card, its server, until told to stop or after one exchange.

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use applet::nvm::WrapKey;
use clap::Args;
use reader_bridge::{
    card::{self, CardPort},
    report::{Each, Lines, Log, Reporter},
    session::Config,
    terminal::{
        Posts, Setup, Terminal,
        board::Board,
        control::Control,
        network, run_all,
        store::{Store, StoreError},
    },
};

use super::{
    exit::{CODES, Failure},
    options::{Cards, Observing, Polling, Servers, Service, Telling, Waiting},
    signals::stop_on_signals,
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
    #[command(flatten)]
    cards: Cards,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    polling: Polling,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    observing: Observing,
    #[command(flatten)]
    service: Service,
}

/// How long `--once` waits for a card by default.
const CARD_WAIT: Duration = Duration::from_secs(10);

impl Run {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = self.check()?;
        self.observing.start_log();
        let setup = self.setup(config)?;
        let board = Arc::new(Board::default());
        let metrics = self.observing.metrics(&board)?;
        let lines = Lines::new(self.telling.form(), io::stdout());
        let mut reporters: Vec<&dyn Reporter> = vec![&*board, &Log];
        reporters.extend(metrics.as_deref().map(|metrics| metrics as &dyn Reporter));
        // Last: whoever has read of an event finds it counted.
        reporters.push(&lines);
        let reporter = Each(reporters);
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
        let _server = self.observing.serve(metrics.as_ref())?;
        for terminal in &terminals {
            board.expect(terminal.label());
        }
        self.until_the_end(terminals, &reporter, &board)
    }

    /// Whether the options go together, without touching anything; what the session goes by.
    pub(super) fn check(&self) -> Result<Config, Failure> {
        self.cards.check()?;
        self.observing.check()?;
        if self.servers.gts.is_empty() {
            return Err(Failure::Arguments(
                "no server is named: give --gts HOST:PORT, or gts in the configuration".into(),
            ));
        }
        Ok(Config {
            homes: self.servers.gts.clone(),
            timeouts: self.waiting.timeouts()?,
            schedule: self.polling.schedule()?,
            once: self.servers.single(),
        })
    }

    fn setup(&self, config: Config) -> Result<Setup, Failure> {
        let wait = self.servers.once.then_some(CARD_WAIT);
        Ok(Setup {
            config,
            seed: self.service.seed(),
            card_wait: self.cards.wait_card.or(wait),
            store: Store::open(self.service.directory()?)?,
            trace: self.telling.trace()?,
        })
    }

    fn ports(&self) -> Result<Vec<Box<dyn CardPort>>, Failure> {
        let image_key = self.cards.image_key()?;
        let open = |spec| {
            let options = card::Options {
                image_key: image_key.as_ref().map(WrapKey::new),
                command_timeout: self.cards.card_timeout,
            };
            Ok(card::open(spec, options)?)
        };
        self.cards.card.iter().map(open).collect()
    }

    fn until_the_end(
        &self,
        terminals: Vec<Terminal<'_>>,
        reporter: &dyn Reporter,
        board: &Arc<Board>,
    ) -> Result<ExitCode, Failure> {
        let posts: Posts = terminals.iter().map(Terminal::post).collect();
        let _control = self.attend(&terminals, &posts, board)?;
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
        let code = received
            .signal()
            .filter(|_| self.servers.once)
            .unwrap_or_default();
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
        posts: &Posts,
        board: &Arc<Board>,
    ) -> Result<Option<Control>, Failure> {
        let Some(first) = terminals.first().filter(|_| !self.servers.once) else {
            return Ok(None);
        };
        network::watch(posts.clone())
            .map_err(|error| Failure::System("the network cannot be watched", error))?;
        Control::listen(first.directory(), posts.clone(), Arc::clone(board))
            .map(Some)
            .map_err(|source| {
                Failure::Store(StoreError::Io {
                    path: first.directory().to_owned(),
                    what: "listen in this directory",
                    source,
                })
            })
    }
}
