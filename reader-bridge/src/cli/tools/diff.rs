//! `diff`: one script on two cards.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueHint};
use reader_bridge::{
    card::{CardPort, CardSpec},
    script::{
        self, Case, CaseResult, Finish, Outcome, Plan, Runner, Setting,
        compare::{Log, difference},
        tap::Tap,
    },
};

use crate::cli::{
    exit::{CODES, Failure, NO_CARD, WRONG},
    opening::Opening,
    script::{Given, load},
};

/// Run one script on two cards and show where they differ.
///
/// Expected answers do not count: only what the cards answered does. Exit code 0: alike, 1: they differ.
#[derive(Args)]
#[command(
    after_help = format!("Example:\n  reader-bridge diff image:card.img pcsc --script tests/conformance/select.apdu\n\n{CODES}")
)]
pub(in crate::cli) struct Diff {
    /// One card.
    a: CardSpec,
    /// The other card.
    b: CardSpec,
    /// The scripts.
    #[arg(long, required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    script: Vec<PathBuf>,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    given: Given,
}

struct Side {
    runner: Runner,
    log: Log,
}

impl Diff {
    pub(in crate::cli) fn run(self) -> Result<ExitCode, Failure> {
        let Some(scripts) = load(&self.script) else {
            return Ok(WRONG.into());
        };
        // The same host challenges on both sides, or secure channels would differ.
        let seed = self.opening.seed();
        let prepared = self.opening.prepare(seed)?;
        let [a, b] = [(&self.a, 0), (&self.b, 1)].map(|(spec, n)| prepared.open(spec, n));
        let mut sides = [self.side(&self.a, a?, seed)?, self.side(&self.b, b?, seed)?];
        for side in &mut sides {
            if let Finish::NoCard(why) = side.runner.connect() {
                drop(writeln!(io::stderr(), "reader-bridge: {why}"));
                return Ok(NO_CARD.into());
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

    fn side(&self, spec: &CardSpec, port: Box<dyn CardPort>, seed: u64) -> Result<Side, Failure> {
        let log = Log::default();
        let listener = log.clone();
        let port = Tap::listened(port, Box::new(move |passed| listener.push(passed)));
        let plan = Plan {
            setting: Setting {
                variables: self.given.variables()?,
                emulator: matches!(spec, CardSpec::Image(_)),
                seed,
            },
            card_wait: self.opening.wait_card,
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
