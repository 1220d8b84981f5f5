//! `relay`, `diff`, `import`: record what a client does with a card, compare two cards, take over other programs' logs.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueHint};
use nix::sys::eventfd::EventFd;
use reader_bridge::{
    card::{self, CardSpec},
    script::{
        self, Case, CaseResult, Finish, Outcome, Plan, Runner, Setting, SystemFiles,
        compare::{Log, difference},
        import::import,
        record,
        relay::relay,
        tap::Tap,
    },
};

use super::{
    exit::Failure,
    script::{Given, load},
};

/// Put a card into another virtual reader, and record what clients do with it as a script.
///
/// Ends when the reader closes its connection, or with SIGINT.
#[derive(Args)]
#[command(
    after_help = "Example:\n  reader-bridge relay --card pcsc --vpcd 127.0.0.1:35963 --record session.apdu"
)]
pub(super) struct Relay {
    /// pcsc, pcsc:"READER NAME", vpcd:PORT or image:FILE.
    #[arg(long)]
    card: CardSpec,
    /// The virtual reader: vsmartcard's vpcd.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:35963")]
    vpcd: String,
    /// The script to write.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    record: PathBuf,
}

fn open(spec: &CardSpec) -> Result<Box<dyn card::CardPort>, Failure> {
    let options = card::Options {
        image_key: None,
        command_timeout: script::COMMAND_LIMIT,
    };
    Ok(card::open(spec, options)?)
}

impl Relay {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let record = |error| Failure::KeyFile {
            path: self.record.clone(),
            error,
        };
        let mut port = open(&self.card)?;
        let mut out = BufWriter::new(File::create(&self.record).map_err(record)?);
        let header = record::header(&format!("the card in {}", self.card));
        out.write_all(header.as_bytes())
            .and_then(|()| out.flush())
            .map_err(record)?;
        let reader = TcpStream::connect(&self.vpcd).map_err(|error| {
            Failure::Arguments(format!(
                "--vpcd {}: {error}; is pcscd with vpcd running?",
                self.vpcd
            ))
        })?;
        let never = EventFd::new().map_err(|error| Failure::System("an event", error.into()))?;
        // Each line at once, so that an end by a signal loses nothing.
        let mut each = |passed| {
            out.write_all(record::line(&passed).as_bytes())?;
            out.flush()
        };
        match relay(&mut *port, reader, never.as_fd(), &mut each) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                drop(writeln!(io::stderr(), "reader-bridge: {error}"));
                Ok(1.into())
            }
        }
    }
}

/// Run one script on two cards and show where they differ.
///
/// Expected answers do not count: only what the cards answered does. Exit code 0: alike, 1: they differ.
#[derive(Args)]
#[command(
    after_help = "Example:\n  reader-bridge diff image:card.img pcsc --script tests/conformance/select.apdu"
)]
pub(super) struct Diff {
    /// One card.
    a: CardSpec,
    /// The other card.
    b: CardSpec,
    /// The scripts.
    #[arg(long, required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    script: Vec<PathBuf>,
    #[command(flatten)]
    given: Given,
}

struct Side {
    runner: Runner,
    log: Log,
}

impl Diff {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Some(scripts) = load(&self.script) else {
            return Ok(2.into());
        };
        // The same host challenges on both sides, or secure channels would differ.
        let seed = fastrand::u64(..);
        let mut sides = [self.side(&self.a, seed)?, self.side(&self.b, seed)?];
        for side in &mut sides {
            if let Finish::NoCard(why) = side.runner.connect() {
                drop(writeln!(io::stderr(), "reader-bridge: {why}"));
                return Ok(3.into());
            }
        }
        let mut differences = 0;
        let mut out = io::stdout();
        for script in &scripts {
            for case in &script.cases {
                let [a, b] = sides.each_mut().map(|side| side.case(script, case));
                let difference = difference(&a.1, &b.1).or_else(|| outcomes(&a.0, &b.0));
                if let Some(difference) = difference {
                    differences += 1;
                    write!(
                        out,
                        "{}: {}: {difference}",
                        script.path.display(),
                        case.name
                    )
                    .map_err(Failure::Output)?;
                }
            }
        }
        writeln!(out, "{differences} cases differ").map_err(Failure::Output)?;
        Ok(u8::from(differences > 0).into())
    }

    fn side(&self, spec: &CardSpec, seed: u64) -> Result<Side, Failure> {
        let log = Log::default();
        let listener = log.clone();
        let port = Tap::listened(open(spec)?, Box::new(move |passed| listener.push(passed)));
        let plan = Plan {
            setting: Setting {
                variables: self.given.variables()?,
                emulator: matches!(spec, CardSpec::Image(_)),
                seed,
            },
            ..Plan::default()
        };
        let runner = Runner::new(Box::new(port), plan);
        let runner =
            runner.map_err(|error| Failure::System("a thread cannot be started", error))?;
        Ok(Side { runner, log })
    }
}

impl Side {
    fn case(
        &mut self,
        script: &script::Script,
        case: &Case,
    ) -> (Option<CaseResult>, Vec<script::tap::Passed>) {
        let mut result = None;
        let wanted = |_: &script::Script, other: &Case| other.place == case.place;
        self.runner
            .run(script, &wanted, &mut |case| result = Some(case));
        (result, self.log.take())
    }
}

/// The same commands and answers, and yet another end: a time limit, a case that only one can run.
fn outcomes(a: &Option<CaseResult>, b: &Option<CaseResult>) -> Option<String> {
    let told = |side: &Option<CaseResult>| match side.as_ref().map(|side| &side.outcome) {
        Some(Outcome::Passed) => "passed".to_owned(),
        Some(Outcome::Failed { .. }) => "failed".to_owned(),
        Some(Outcome::Skipped(why)) => format!("skipped: {why}"),
        Some(Outcome::NotRun(why)) => format!("not run: {why}"),
        None => "nothing".to_owned(),
    };
    let (a, b) = (told(a), told(b));
    (a != b).then(|| format!("\n  A  {a}\n  B  {b}\n"))
}

/// Turn what scriptor printed, or a log or dump of apdu4j, into a script that asserts it.
#[derive(Args)]
#[command(
    after_help = "Example:\n  scriptor < commands.txt > log.txt; reader-bridge import log.txt > commands.apdu"
)]
pub(super) struct Import {
    /// The log; `-` is standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

impl Import {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        use script::Files as _;
        let text = SystemFiles
            .read(&self.file)
            .map_err(|error| Failure::KeyFile {
                path: self.file.clone(),
                error,
            })?;
        match import(&text, &self.file.display().to_string()) {
            Ok(script) => io::stdout()
                .write_all(script.as_bytes())
                .map_err(Failure::Output)
                .map(|()| ExitCode::SUCCESS),
            Err(error) => {
                drop(writeln!(
                    io::stderr(),
                    "reader-bridge: {}: {error}",
                    self.file.display()
                ));
                Ok(2.into())
            }
        }
    }
}
