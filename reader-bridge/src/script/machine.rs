//! Runs one case: statements in, commands for the card out, its answers in, a verdict in the end.
//!
//! Owns variables, channel, secure channel, repeated blocks, and what a case's failure is. Opens nothing and reads no
//! clock: whoever runs it carries [`Request`]s to a card and brings back [`Reply`]s.

use std::{collections::HashMap, sync::Arc, time::Duration};

use protocol::card::StatusWord;

use super::{
    ast::{Block, Case, Comparison, Function, Kind, Need, Repeat, Rounds, Row, Statement},
    eval::{Scope, with_scope},
    exchange::{Sent, split},
    expr::Expr,
    place::{Place, ScriptError},
    request::{Failure, Reply, Request, Setting, Verdict},
    secure::Greeting,
    value::{Value, Variables},
};
use crate::{card::Transport, scp03::Session};

/// How long a command may take, unless the script says otherwise.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// Statements between two requests: whoever runs the machine looks at the clock at least so often.
const STEPS: usize = 1000;
/// Rounds of one repeat.
const MAX_ROUNDS: i64 = 1_000_000;
/// Why a case goes no further.
pub(super) enum Stop {
    Fail(Failure),
    Skip(String),
}

impl From<ScriptError> for Stop {
    fn from(error: ScriptError) -> Self {
        Self::Fail(Failure {
            place: error.place,
            message: error.message,
            card: false,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Preamble,
    Setup,
    Body,
    Teardown,
    Over,
}

/// A block being run.
struct Frame {
    block: Block,
    next: usize,
    rounds: Option<Round>,
}

struct Round {
    names: Vec<String>,
    index: i64,
    count: i64,
    rows: Option<Arc<[Row]>>,
}

impl Round {
    /// Where the row of this round stands.
    fn row(&self) -> String {
        let row = self.rows.as_ref().zip(usize::try_from(self.index - 1).ok());
        let row = row.and_then(|(rows, index)| rows.get(index));
        row.map_or(String::new(), |row| format!(" ({})", row.place))
    }
}

/// What the reply that is waited for belongs to.
pub(super) enum Pending {
    None,
    Connect,
    Power,
    Tear,
    Command(Sent),
    Greeting(Place, Box<Greeting>),
    Authenticate(Place, Box<Session>),
}

/// One case on its way.
pub struct Machine {
    case: Case,
    functions: Arc<HashMap<String, Function>>,
    emulator: bool,
    phase: Phase,
    stack: Vec<Frame>,
    pub(super) pending: Pending,
    pub(super) variables: Variables,
    given: Vec<String>,
    transport: Transport,
    pub(super) channel: u8,
    pub(super) fetch: bool,
    pub(super) limit: Duration,
    pub(super) elapsed: Duration,
    pub(super) session: Option<Box<Session>>,
    pub(super) random: fastrand::Rng,
    verdict: Verdict,
}

impl Machine {
    /// A case, ready to be run.
    pub fn new(case: &Case, script: &super::Script, setting: &Setting) -> Self {
        Self {
            case: case.clone(),
            functions: Arc::clone(&script.functions),
            emulator: setting.emulator,
            phase: Phase::Start,
            stack: Vec::new(),
            pending: Pending::None,
            variables: setting.variables.clone(),
            given: setting.variables.keys().cloned().collect(),
            transport: Transport::Apdu,
            channel: 0,
            fetch: false,
            limit: COMMAND_LIMIT,
            elapsed: Duration::ZERO,
            session: None,
            random: fastrand::Rng::with_seed(setting.seed),
            verdict: Verdict::Passed,
        }
    }

    /// The first request.
    pub fn start(&mut self) -> Request {
        self.pending = Pending::Connect;
        Request::Connect
    }

    /// Goes on with what became of the last request.
    pub fn resume(&mut self, reply: Reply) -> Request {
        let pending = std::mem::replace(&mut self.pending, Pending::None);
        match self.accept(pending, reply) {
            Ok(Some(request)) => request,
            Ok(None) => self.run(),
            Err(stop) => {
                self.stop(stop);
                self.run()
            }
        }
    }

    /// Ends the case from outside: its time is over, or the card is gone. What the teardown holds is still done, unless
    /// the card is gone.
    pub fn abort(&mut self, message: String, card: bool) -> Request {
        let place = self.place();
        self.pending = Pending::None;
        self.stop(Stop::Fail(Failure {
            place,
            message,
            card,
        }));
        self.run()
    }

    /// The values that names have.
    pub fn into_variables(self) -> Variables {
        self.variables
    }

    /// The statement that is being run.
    pub fn place(&self) -> Place {
        let statement = self
            .stack
            .last()
            .and_then(|frame| frame.block.get(frame.next.saturating_sub(1)));
        statement.map_or_else(
            || self.case.place.clone(),
            |statement| statement.place.clone(),
        )
    }

    /// The first failure counts. Without a card there is nothing to tear down.
    fn stop(&mut self, stop: Stop) {
        let over = self.phase == Phase::Teardown;
        let (verdict, card) = match stop {
            Stop::Fail(mut failure) => {
                failure.message.push_str(&self.rounds());
                let card = failure.card;
                (Verdict::Failed(failure), card)
            }
            Stop::Skip(why) => (Verdict::Skipped(why), false),
        };
        if !matches!(self.verdict, Verdict::Failed(_)) {
            self.verdict = verdict;
        }
        self.stack.clear();
        self.session = None;
        self.phase = if over || card {
            Phase::Over
        } else {
            Phase::Body
        };
    }

    /// Which rounds of repeats are being run.
    fn rounds(&self) -> String {
        let rounds = self.stack.iter().filter_map(|frame| frame.rounds.as_ref());
        let lines = rounds.map(|round| {
            let values = round.names.iter().filter_map(|name| {
                let value = self.variables.get(name)?;
                Some(format!(", {name} = {value}"))
            });
            format!(
                "
in round {} of {}{}{}",
                round.index,
                round.count,
                round.row(),
                values.collect::<String>()
            )
        });
        lines.collect()
    }

    fn accept(&mut self, pending: Pending, reply: Reply) -> Result<Option<Request>, Stop> {
        let place = self.place();
        if let Reply::Failed(message) = reply {
            return Err(fail_card(&place, message));
        }
        match (pending, reply) {
            (Pending::Connect | Pending::Power, Reply::Powered { atr, transport }) => {
                self.powered(atr, transport);
                Ok(None)
            }
            (Pending::Command(sent), Reply::Answer { bytes, elapsed }) => {
                self.answered(&sent, &bytes, elapsed).map(|()| None)
            }
            (Pending::Command(_), Reply::Torn) => {
                self.torn();
                Ok(None)
            }
            (Pending::Greeting(place, greeting), Reply::Answer { bytes, .. }) => {
                self.greeted(place, *greeting, &bytes).map(Some)
            }
            (Pending::Authenticate(place, session), Reply::Answer { bytes, .. }) => {
                let (_, status) = split(&bytes, &place)?;
                if status != StatusWord::OK {
                    return Err(fail(
                        &place,
                        format!("EXTERNAL AUTHENTICATE was answered with {status}"),
                    ));
                }
                self.session = Some(session);
                Ok(None)
            }
            (Pending::Tear | Pending::Power, Reply::Unsupported(why)) => Err(Stop::Skip(why)),
            (Pending::None | Pending::Tear, _) => Ok(None),
            (_, Reply::Torn) => {
                self.torn();
                Ok(None)
            }
            _ => Err(fail_card(
                &place,
                "the reader gave an answer to something else".to_owned(),
            )),
        }
    }

    fn powered(&mut self, atr: Vec<u8>, transport: Transport) {
        self.transport = transport;
        self.channel = 0;
        self.session = None;
        self.variables.insert("atr".to_owned(), Value::Bytes(atr));
    }

    /// The command has no answer, and nothing of RAM is left.
    fn torn(&mut self) {
        self.channel = 0;
        self.session = None;
        self.store_answer(Vec::new(), Vec::new());
        self.variables.insert("torn".to_owned(), Value::Int(1));
    }

    pub(super) fn store_answer(&mut self, data: Vec<u8>, status: Vec<u8>) {
        self.variables
            .insert("answer".to_owned(), Value::Bytes(data));
        self.variables.insert("sw".to_owned(), Value::Bytes(status));
        self.variables.insert("torn".to_owned(), Value::Int(0));
    }

    /// Runs statements until one needs the card, or the case has ended.
    fn run(&mut self) -> Request {
        for _ in 0..STEPS {
            let Some(statement) = self.next_statement() else {
                if let Some(done) = self.next_phase() {
                    return done;
                }
                continue;
            };
            match self.execute(&statement) {
                Ok(None) => {}
                Ok(Some(request)) => return request,
                Err(stop) => self.stop(stop),
            }
        }
        Request::Continue
    }

    fn next_phase(&mut self) -> Option<Request> {
        let (phase, block) = match self.phase {
            Phase::Start => (Phase::Preamble, &self.case.preamble),
            Phase::Preamble => (Phase::Setup, &self.case.setup),
            Phase::Setup => (Phase::Body, &self.case.body),
            Phase::Body => (Phase::Teardown, &self.case.teardown),
            Phase::Teardown | Phase::Over => return Some(Request::Done(self.verdict.clone())),
        };
        self.phase = phase;
        self.stack.push(Frame {
            block: Arc::clone(block),
            next: 0,
            rounds: None,
        });
        None
    }

    /// The next statement of the innermost block. A block at its end begins its next round, or is left.
    fn next_statement(&mut self) -> Option<Statement> {
        let frame = self.stack.last_mut()?;
        if let Some(statement) = frame.block.get(frame.next) {
            frame.next += 1;
            return Some(statement.clone());
        }
        let again = frame
            .rounds
            .as_ref()
            .is_some_and(|round| round.index < round.count);
        if !again {
            self.stack.pop();
        } else if let Err(error) = self.next_round() {
            self.stop(error.into());
        }
        // An empty statement, so that rounds are counted as steps.
        Some(Statement {
            place: self.case.place.clone(),
            kind: Kind::Print(Vec::new()),
        })
    }

    fn next_round(&mut self) -> Result<(), ScriptError> {
        let Some(frame) = self.stack.last_mut() else {
            return Ok(());
        };
        frame.next = 0;
        let Some(round) = &mut frame.rounds else {
            return Ok(());
        };
        let index = round.index;
        round.index += 1;
        let (names, rows) = (round.names.clone(), round.rows.clone());
        let Some(rows) = rows else {
            self.variables
                .extend(names.into_iter().map(|name| (name, Value::Int(index))));
            return Ok(());
        };
        let row = usize::try_from(index)
            .ok()
            .and_then(|index| rows.get(index));
        let Some(row) = row else { return Ok(()) };
        let values: Result<Vec<Vec<u8>>, ScriptError> =
            self.scope(|scope| row.cells.iter().map(|cell| scope.bytes(cell)).collect());
        let values = values?.into_iter().map(Value::Bytes);
        self.variables.extend(names.into_iter().zip(values));
        Ok(())
    }

    pub(super) fn scope<T>(&self, work: impl FnOnce(&Scope<'_>) -> T) -> T {
        let dek = self.session.as_ref().map(|session| session.dek());
        with_scope(&self.variables, &self.functions, dek, work)
    }

    fn int(&self, expr: &Expr) -> Result<i64, ScriptError> {
        let value = self.scope(|scope| scope.value(expr))?;
        value
            .to_int()
            .map_err(|why| ScriptError::new(&expr.place, why))
    }

    fn execute(&mut self, statement: &Statement) -> Result<Option<Request>, Stop> {
        let place = &statement.place;
        match &statement.kind {
            Kind::Command(command) => return self.send(place, command).map(Some),
            Kind::Power(power) => {
                self.pending = Pending::Power;
                return Ok(Some(Request::Power(*power)));
            }
            Kind::Tear(writes) => return self.tear(place, writes).map(Some),
            Kind::SecureOn(channel) => return self.greet(place, channel).map(Some),
            Kind::SecureOff => self.session = None,
            Kind::Print(values) if values.is_empty() => {}
            Kind::Print(values) => return self.print(values).map(Some),
            Kind::Assign(name, expr) => {
                let value = self.scope(|scope| scope.value(expr))?;
                self.variables.insert(name.clone(), value);
            }
            Kind::Param(name, default) => self.param(place, name, default.as_ref())?,
            Kind::Channel(expr) => self.channel = self.wanted_channel(expr)?,
            Kind::Fetch(on) => self.fetch = *on,
            Kind::Limit(limit) => self.limit = *limit,
            Kind::ExpectWithin(limit) => self.in_time(place, *limit)?,
            Kind::Check(left, comparison, right) => self.check(place, left, *comparison, right)?,
            Kind::Repeat(repeat) => self.enter(place, repeat)?,
            Kind::Needs(need) => self.need(need)?,
            Kind::Skip(why) => return Err(Stop::Skip(why.clone())),
        }
        Ok(None)
    }

    fn param(&mut self, place: &Place, name: &str, default: Option<&Expr>) -> Result<(), Stop> {
        if self.given.iter().any(|given| given == name) {
            return Ok(());
        }
        let Some(default) = default else {
            return Err(fail(
                place,
                format!("this script needs a value: --set {name}=HEX"),
            ));
        };
        let value = self.scope(|scope| scope.value(default))?;
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }

    /// 0 to 19 (ISO/IEC 7816-4:2020, 5.4.1).
    fn wanted_channel(&self, expr: &Expr) -> Result<u8, Stop> {
        let number = self.int(expr)?;
        u8::try_from(number)
            .ok()
            .filter(|channel| *channel < 20)
            .ok_or_else(|| {
                fail(
                    &expr.place,
                    format!("{number} is no logical channel; there are 0 to 19"),
                )
            })
    }

    fn enter(&mut self, place: &Place, repeat: &Repeat) -> Result<(), Stop> {
        let (count, rows) = match &repeat.rounds {
            Rounds::Count(expr) => (self.int(expr)?, None),
            Rounds::Table(rows) => (
                i64::try_from(rows.len()).unwrap_or(i64::MAX),
                Some(Arc::clone(rows)),
            ),
        };
        if !(0..=MAX_ROUNDS).contains(&count) {
            return Err(fail(
                place,
                format!("{count} rounds; a repeat has 0 to {MAX_ROUNDS}"),
            ));
        }
        // At its end, so that the first round begins like all others.
        self.stack.push(Frame {
            next: repeat.body.len(),
            block: Arc::clone(&repeat.body),
            rounds: Some(Round {
                names: repeat.names.clone(),
                index: 0,
                count,
                rows,
            }),
        });
        Ok(())
    }

    fn need(&self, need: &Need) -> Result<(), Stop> {
        let (there, what) = match need {
            Need::Emulator => (self.emulator, "the emulator (image:FILE)".to_owned()),
            Need::T0 => (
                self.transport == Transport::T0,
                "a card that speaks T=0".to_owned(),
            ),
            Need::T1 => (
                self.transport == Transport::Apdu,
                "a card that speaks T=1".to_owned(),
            ),
            Need::Variable(name) => (
                self.variables.contains_key(name),
                format!("a value of {name} (--set {name}=HEX)"),
            ),
        };
        if there {
            Ok(())
        } else {
            Err(Stop::Skip(format!("needs {what}")))
        }
    }

    fn print(&mut self, values: &[Expr]) -> Result<Request, Stop> {
        let mut text = String::new();
        for expr in values {
            if let super::expr::ExprKind::Text(literal) = &expr.kind {
                text.push_str(literal);
            } else {
                text.push_str(&self.scope(|scope| scope.value(expr))?.to_string());
            }
        }
        Ok(Request::Print(text))
    }

    fn check(
        &self,
        place: &Place,
        left: &Expr,
        comparison: Comparison,
        right: &Expr,
    ) -> Result<(), Stop> {
        let (left, right) =
            self.scope(|scope| Ok::<_, ScriptError>((scope.value(left)?, scope.value(right)?)))?;
        let number = |value: &Value| value.to_int().map_err(|why| fail(place, why));
        let equal = || -> Result<bool, Stop> {
            Ok(match (&left, &right) {
                (Value::Int(_), Value::Int(_)) | (Value::Bytes(_), Value::Bytes(_)) => {
                    left == right
                }
                _ => number(&left)? == number(&right)?,
            })
        };
        let holds = match comparison {
            Comparison::Equal => equal()?,
            Comparison::Unequal => !equal()?,
            Comparison::Less => number(&left)? < number(&right)?,
            Comparison::AtMost => number(&left)? <= number(&right)?,
            Comparison::Greater => number(&left)? > number(&right)?,
            Comparison::AtLeast => number(&left)? >= number(&right)?,
        };
        if holds {
            return Ok(());
        }
        Err(fail(
            place,
            format!("the check does not hold\n left: {left}\nright: {right}"),
        ))
    }

    pub(super) fn in_time(&self, place: &Place, limit: Duration) -> Result<(), Stop> {
        if self.elapsed <= limit {
            return Ok(());
        }
        Err(fail(
            place,
            format!(
                "expected an answer within {limit:?}; it took {:?}",
                self.elapsed
            ),
        ))
    }

    fn tear(&mut self, place: &Place, writes: &Expr) -> Result<Request, Stop> {
        let number = self.int(writes)?;
        let writes = u64::try_from(number)
            .map_err(|_| fail(place, format!("{number} is no number of writes")))?;
        self.pending = Pending::Tear;
        Ok(Request::Tear(writes))
    }
}

pub(super) fn fail(place: &Place, message: String) -> Stop {
    Stop::Fail(Failure {
        place: place.clone(),
        message,
        card: false,
    })
}

fn fail_card(place: &Place, message: String) -> Stop {
    Stop::Fail(Failure {
        place: place.clone(),
        message,
        card: true,
    })
}
