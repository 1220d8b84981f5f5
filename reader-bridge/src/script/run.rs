//! Runs cases on a card: carries commands and answers between [`Machine`] and a card port, within time limits.
//!
//! Owns clocks and what happens to the cases after one that went wrong. Refuses to know how results are told.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Machine, Place, Reply, Request, Script, Setting, State, Verdict,
    worker::{Ask, NoReply, Worker},
};
use crate::card::CardPort;

/// How cases are run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Values from the command line.
    pub setting: Setting,
    /// How long a card is waited for.
    pub card_wait: Duration,
    /// How long one case may take.
    pub case_limit: Duration,
    /// Cases after the first failure are not run.
    pub fail_fast: bool,
    /// Each case begins with the values, channel and secure channel that the one before ended with: lines of a shell.
    pub carry_over: bool,
}

impl Default for Plan {
    /// No values; 10 s for a card, 1 min for a case.
    fn default() -> Self {
        Self {
            setting: Setting::default(),
            card_wait: Duration::from_secs(10),
            case_limit: Duration::from_secs(60),
            fail_fast: false,
            carry_over: false,
        }
    }
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as expected.
    Passed,
    /// Something was not.
    Failed {
        /// The statement.
        place: Place,
        /// What was expected and what came.
        message: String,
    },
    /// It cannot be run with this card: why.
    Skipped(String),
    /// It was not tried, since something before it went wrong: what.
    NotRun(String),
}

/// One case's result.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The script.
    pub file: PathBuf,
    /// The case.
    pub name: String,
    /// What it checks.
    pub clauses: Vec<String>,
    /// The card, in the words of `--card`.
    pub card: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What it printed.
    pub printed: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

impl CaseResult {
    /// Whether it failed, or could not be tried because the card went away.
    pub const fn is_bad(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. } | Outcome::NotRun(_))
    }
}

/// Whether there was a card at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Cases were run.
    Done,
    /// There was no card for the first one: why.
    NoCard(String),
}

/// A card that cases are run on.
pub struct Runner {
    worker: Worker,
    card: String,
    plan: Plan,
    /// From now on nothing can be run: why.
    over: Option<String>,
    /// What the last case left, if cases are lines of a shell.
    left: Option<State>,
}

/// Resets take a moment.
const POWER_LIMIT: Duration = Duration::from_secs(10);

impl Runner {
    /// A runner with this port.
    pub fn new(port: Box<dyn CardPort>, plan: Plan) -> std::io::Result<Self> {
        Ok(Self {
            card: port.place(),
            worker: Worker::start(port)?,
            plan,
            over: None,
            left: None,
        })
    }

    /// Whether there is a card.
    pub fn connect(&mut self) -> Finish {
        let wait = self.plan.card_wait;
        match self.worker.ask(Ask::Connect(wait), wait + POWER_LIMIT) {
            Ok(Reply::Powered(_)) => Finish::Done,
            Ok(Reply::Failed(why)) => Finish::NoCard(why),
            _ => Finish::NoCard("the reader does not answer".into()),
        }
    }

    /// Runs the cases of a script that `wanted` picks; each result goes to `each` as it comes.
    pub fn run(
        &mut self,
        script: &Script,
        wanted: &dyn Fn(&Script, &super::Case) -> bool,
        each: &mut dyn FnMut(CaseResult),
    ) {
        for case in script.cases.iter().filter(|case| wanted(script, case)) {
            let begun = Instant::now();
            let mut printed = Vec::new();
            let outcome = match &self.over {
                Some(why) => Outcome::NotRun(why.clone()),
                None => self.case(script, case, &mut printed),
            };
            let result = CaseResult {
                file: script.path.clone(),
                name: case.name.clone(),
                clauses: case.clauses.clone(),
                card: self.card.clone(),
                outcome,
                printed,
                elapsed: begun.elapsed(),
            };
            if self.plan.fail_fast && result.is_bad() {
                self.stop("an earlier case failed (--fail-fast)");
            }
            each(result);
        }
    }

    /// Names of the values that the last case left.
    pub fn names(&self) -> Vec<String> {
        let state = self.left.as_ref();
        state.map_or_else(Vec::new, |state| state.variables.keys().cloned().collect())
    }

    /// Nothing more is run.
    pub fn stop(&mut self, why: &str) {
        self.over.get_or_insert_with(|| why.to_owned());
    }

    /// Whether a failure stops the cases of other cards, too.
    pub const fn fails_fast(&self) -> bool {
        self.plan.fail_fast
    }

    /// Whether nothing more is run.
    pub const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    fn case(&mut self, script: &Script, case: &super::Case, printed: &mut Vec<String>) -> Outcome {
        let setting = &self.plan.setting;
        let mut machine = match self.left.take() {
            Some(state) => Machine::after(state, case, script, setting),
            None => Machine::new(case, script, setting),
        };
        let end = Instant::now() + self.plan.case_limit;
        let mut request = machine.start();
        let verdict = loop {
            request = match request {
                Request::Done(verdict) => break verdict,
                Request::Print(text) => {
                    printed.push(text);
                    machine.resume(Reply::Done)
                }
                Request::Continue if Instant::now() < end => machine.resume(Reply::Done),
                Request::Continue => machine.abort(self.too_long(), false),
                other => self.carry(&mut machine, other, end),
            };
        };
        if self.plan.carry_over {
            self.left = Some(machine.into_state());
            // No line has the challenges of another.
            self.plan.setting.seed = self.plan.setting.seed.wrapping_add(1);
        }
        self.outcome(verdict)
    }

    fn too_long(&self) -> String {
        format!(
            "the case takes longer than {:?} (--case-limit)",
            self.plan.case_limit
        )
    }

    /// After a card's failure it is connected anew; without one, nothing more is run.
    fn outcome(&mut self, verdict: Verdict) -> Outcome {
        match verdict {
            Verdict::Passed => Outcome::Passed,
            Verdict::Skipped(why) => Outcome::Skipped(why),
            Verdict::Failed(failure) => {
                if failure.card && !self.is_over() {
                    self.recover();
                }
                Outcome::Failed {
                    place: failure.place,
                    message: failure.message,
                }
            }
        }
    }

    fn recover(&mut self) {
        if !self.worker.is_back() {
            self.stop("the reader still waits for an answer of the card");
        } else if self.worker.ask(Ask::Release, POWER_LIMIT).is_err() {
            self.stop("the reader does not answer");
        } else if let Finish::NoCard(why) = self.connect() {
            self.stop(&format!("the card did not come back: {why}"));
        }
    }

    fn carry(&mut self, machine: &mut Machine, request: Request, end: Instant) -> Request {
        let left = end.saturating_duration_since(Instant::now());
        let (ask, limit) = match request {
            Request::Transmit {
                command,
                whole,
                limit,
            } => (Ask::Transmit { command, whole }, limit),
            Request::Power(power) => (Ask::Power(power), POWER_LIMIT),
            Request::Tear(writes) => (Ask::Tear(writes), POWER_LIMIT),
            _ => {
                let wait = self.plan.card_wait;
                (Ask::Connect(wait), wait + POWER_LIMIT)
            }
        };
        if left.is_zero() {
            // The teardown gets as much time again, and no more.
            return machine.abort(self.too_long(), false);
        }
        match self.worker.ask(ask, limit.min(left)) {
            Ok(reply) => machine.resume(reply),
            Err(NoReply::Late) if limit > left => machine.abort(self.too_long(), true),
            Err(NoReply::Late) => machine.abort(
                format!("the card is mute: no answer within {limit:?}"),
                true,
            ),
            Err(NoReply::Gone) => machine.abort("the reader's thread has ended".to_owned(), true),
        }
    }
}
