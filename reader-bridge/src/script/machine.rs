//! Runs one case: statements in, commands for the card out, its answers in, a verdict in the end.
//!
//! Owns variables, channel, secure channel, repeated blocks, and what a case's failure is. Opens nothing and reads no
//! clock: whoever runs it carries [`Request`]s to a card and brings back [`Reply`]s.

use std::{collections::HashMap, sync::Arc, time::Duration};

use protocol::{card::StatusWord, key::Key};

use super::{
    ast::{
        Block, Case, Command, Comparison, Function, Kind, Need, Repeat, Rounds, Row, SecureChannel,
        Statement,
    },
    eval::{Scope, with_scope},
    expr::Expr,
    pattern::{self, Mismatch},
    place::{Place, ScriptError},
    template::Template,
    value::{Value, Variables},
};
use crate::{
    card::{Power, Transport},
    scp03::{Session, StaticKeys},
};

/// How long a command may take, unless the script says otherwise.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// Statements between two requests: whoever runs the machine looks at the clock at least so often.
const STEPS: usize = 1000;
/// Rounds of one repeat.
const MAX_ROUNDS: i64 = 1_000_000;
/// A header (ISO/IEC 7816-4:2020, 5.2). A virtual reader takes one byte for a control code.
const MIN_COMMAND: usize = 4;

/// What a case is run with.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Values from the command line.
    pub variables: Variables,
    /// Whether the card is an emulated one in this process.
    pub emulator: bool,
    /// For the host's challenges.
    pub seed: u64,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How commands travel to this card, and power for it if it has none.
    Connect,
    /// Send a command.
    Transmit {
        /// The command.
        command: Vec<u8>,
        /// Whether 61XX and 6CXX are followed until the answer is whole.
        whole: bool,
        /// How long the answer may take.
        limit: Duration,
    },
    /// Take what the card has in RAM.
    Power(Power),
    /// Let the power fail after so many more writes.
    Tear(u64),
    /// Tell this to whoever watches.
    Print(String),
    /// Nothing; look at the clock.
    Continue,
    /// The case has ended.
    Done(Verdict),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// [`Request::Print`], [`Request::Continue`] and [`Request::Tear`] are done.
    Done,
    /// [`Request::Connect`] and [`Request::Power`] are done.
    Powered {
        /// The answer to reset.
        atr: Vec<u8>,
        /// How commands travel.
        transport: Transport,
    },
    /// The answer to a command, with its status word.
    Answer {
        /// At least two bytes.
        bytes: Vec<u8>,
        /// How long it took.
        elapsed: Duration,
    },
    /// The power failed in the middle of the command, as [`Request::Tear`] asked; it is back.
    Torn,
    /// This card or reader cannot do that.
    Unsupported(String),
    /// The card did not answer, or is gone.
    Failed(String),
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was as expected.
    Passed,
    /// Something was not: what, and where.
    Failed(Failure),
    /// It could not be run here: why.
    Skipped(String),
}

/// What was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The statement.
    pub place: Place,
    /// What was expected and what came, in lines.
    pub message: String,
    /// The card itself failed: no answer, or it is gone.
    pub card: bool,
}

enum Stop {
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
enum Pending {
    None,
    Connect,
    Power,
    Tear,
    Command(Sent),
    Greeting(Place, Box<Greeting>),
    Authenticate(Place, Box<Session>),
}

struct Sent {
    place: Place,
    statement: Command,
    command: Vec<u8>,
    protected: bool,
}

struct Greeting {
    keys: StaticKeys,
    level: u8,
    version: u8,
    host: Vec<u8>,
    given: bool,
}

/// One case on its way.
pub struct Machine {
    case: Case,
    functions: Arc<HashMap<String, Function>>,
    emulator: bool,
    phase: Phase,
    stack: Vec<Frame>,
    pending: Pending,
    variables: Variables,
    given: Vec<String>,
    transport: Transport,
    channel: u8,
    fetch: bool,
    limit: Duration,
    elapsed: Duration,
    session: Option<Box<Session>>,
    random: fastrand::Rng,
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

    fn store_answer(&mut self, data: Vec<u8>, status: Vec<u8>) {
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

    fn scope<T>(&self, work: impl FnOnce(&Scope<'_>) -> T) -> T {
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

    fn in_time(&self, place: &Place, limit: Duration) -> Result<(), Stop> {
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

    fn send(&mut self, place: &Place, statement: &Command) -> Result<Request, Stop> {
        let mut command = self.scope(|scope| scope.bytes(&statement.template))?;
        if command.len() < MIN_COMMAND {
            return Err(fail(
                place,
                format!(
                    "a command has at least {MIN_COMMAND} bytes (CLA INS P1 P2), this one {}",
                    command.len()
                ),
            ));
        }
        // Interindustry commands are the card's own, and never protected here.
        let protected = !statement.raw && command[0] & 0x80 != 0;
        if let (true, Some(session)) = (protected, &mut self.session) {
            command = session
                .protect(&command)
                .map_err(|error| fail(place, error.to_string()))?;
        }
        let protected = protected && self.session.is_some();
        if !statement.raw {
            on_channel(&mut command, self.channel);
        }
        self.pending = Pending::Command(Sent {
            place: place.clone(),
            statement: statement.clone(),
            command: command.clone(),
            protected,
        });
        Ok(self.transmit(command, self.fetch))
    }

    const fn transmit(&self, command: Vec<u8>, whole: bool) -> Request {
        Request::Transmit {
            command,
            whole,
            limit: self.limit,
        }
    }

    fn answered(&mut self, sent: &Sent, bytes: &[u8], elapsed: Duration) -> Result<(), Stop> {
        let (data, status) = split(bytes, &sent.place)?;
        let mut data = data.to_vec();
        if let (true, Some(session)) = (sent.protected, &self.session) {
            data = session
                .open_answer(&data, status.to_bytes())
                .map_err(|error| fail(&sent.place, error.to_string()))?;
        }
        self.elapsed = elapsed;
        let answer = [&data[..], &status.to_bytes()].concat();
        self.store_answer(data, status.to_bytes().to_vec());
        self.variables.insert(
            "elapsed".to_owned(),
            Value::Int(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)),
        );
        self.expected(sent, &answer)?;
        match sent.statement.within {
            Some(limit) => self.in_time(&sent.place, limit),
            None => Ok(()),
        }
    }

    fn expected(&self, sent: &Sent, answer: &[u8]) -> Result<(), Stop> {
        let Some(expect) = &sent.statement.expect else {
            return Ok(());
        };
        let mut furthest = 0;
        for items in &expect.alternatives {
            let atoms = self.scope(|scope| scope.atoms(items))?;
            match pattern::matches(&atoms, answer) {
                Ok(()) => return Ok(()),
                Err(Mismatch(at)) => furthest = furthest.max(at),
            }
        }
        Err(fail(
            &expect.place,
            unexpected(&sent.command, answer, furthest),
        ))
    }

    fn greet(&mut self, place: &Place, channel: &SecureChannel) -> Result<Request, Stop> {
        let level = self.one_byte(&channel.level, "a level")?;
        let version = match &channel.version {
            Some(version) => self.one_byte(version, "a key version")?,
            None => 0,
        };
        let keys = StaticKeys {
            enc: self.key(&channel.enc)?,
            mac: self.key(&channel.mac)?,
            dek: self.key(&channel.dek)?,
        };
        let given = match &channel.host_challenge {
            Some(challenge) => Some(self.scope(|scope| scope.bytes(challenge))?),
            None => None,
        };
        self.session = None;
        let greeting = Greeting {
            keys,
            level,
            version,
            given: given.is_some(),
            host: given.unwrap_or_else(|| self.random_bytes(S8)),
        };
        Ok(self.initialize_update(place, greeting))
    }

    fn random_bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.random.fill(&mut bytes);
        bytes
    }

    fn one_byte(&self, template: &Template, what: &str) -> Result<u8, Stop> {
        match self.scope(|scope| scope.bytes(template))?[..] {
            [byte] => Ok(byte),
            _ => Err(fail(&template.place, format!("{what} is one byte"))),
        }
    }

    fn key(&self, template: &Template) -> Result<Key, Stop> {
        let bytes = self.scope(|scope| scope.bytes(template))?;
        Key::from_bytes(&bytes).map_err(|error| fail(&template.place, error.to_string()))
    }

    fn initialize_update(&mut self, place: &Place, greeting: Greeting) -> Request {
        let lc = u8::try_from(greeting.host.len()).unwrap_or(u8::MAX);
        let mut command = [
            &[0x80, 0x50, greeting.version, 0, lc],
            &greeting.host[..],
            &[0],
        ]
        .concat();
        on_channel(&mut command, self.channel);
        self.pending = Pending::Greeting(place.clone(), Box::new(greeting));
        self.transmit(command, true)
    }

    /// A card of 16-byte challenges says that 8 bytes are too few; then it is asked again, once.
    fn greeted(
        &mut self,
        place: Place,
        mut greeting: Greeting,
        answer: &[u8],
    ) -> Result<Request, Stop> {
        let (data, status) = split(answer, &place)?;
        if status == StatusWord::WRONG_LENGTH && !greeting.given && greeting.host.len() == S8 {
            greeting.host = self.random_bytes(S16);
            return Ok(self.initialize_update(&place, greeting));
        }
        if status != StatusWord::OK {
            return Err(fail(
                &place,
                format!("INITIALIZE UPDATE was answered with {status}"),
            ));
        }
        let opened = Session::open(&greeting.keys, &greeting.host, data, greeting.level);
        let (session, mut command) = opened.map_err(|error| fail(&place, error.to_string()))?;
        on_channel(&mut command, self.channel);
        self.pending = Pending::Authenticate(place, Box::new(session));
        Ok(self.transmit(command, true))
    }
}

const S8: usize = 8;
const S16: usize = 16;

fn fail(place: &Place, message: String) -> Stop {
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

fn split<'a>(answer: &'a [u8], place: &Place) -> Result<(&'a [u8], StatusWord), Stop> {
    match answer.split_last_chunk::<2>() {
        Some((data, status)) => Ok((data, (*status).into())),
        None => Err(fail(
            place,
            format!("an answer of {} bytes has no status word", answer.len()),
        )),
    }
}

/// The channel's number in the class byte, if the script has not put one there (ISO/IEC 7816-4:2020, 5.4.1).
fn on_channel(command: &mut [u8], channel: u8) {
    let Some(class) = command.first_mut() else {
        return;
    };
    match channel {
        0 => {}
        1..=3 if *class & 0x43 == 0 => *class |= channel,
        // Bit 7 tells channels from 4 on, and secure messaging moves to bit 6.
        4..=19 if *class & 0x43 == 0 => {
            let secure = if *class & 0x0C == 0 { 0 } else { 0x20 };
            *class = *class & 0x90 | 0x40 | secure | (channel - 4);
        }
        _ => {}
    }
}

fn unexpected(command: &[u8], answer: &[u8], at: usize) -> String {
    let status = answer
        .split_last_chunk::<2>()
        .map_or(String::new(), |(_, status)| {
            format!(" ({})", StatusWord::from(*status).meaning())
        });
    let offset = if at < answer.len() {
        format!("byte {at} ({:02X}) is not as expected", answer[at])
    } else {
        format!("it ends after {at} bytes, and more was expected")
    };
    format!(
        "another answer was expected\ncommand: {}\n answer: {}{status}\n         {offset}",
        hex::encode_upper(command),
        hex::encode_upper(answer)
    )
}
