//! Runs one case: statements in, commands for the card out, its answers in, a verdict in the end.
//!
//! Owns variables, channel, secure channel, repeated blocks, and what a case's failure is. Opens nothing and reads no
//! clock: whoever runs it carries [`Request`]s to a card and brings back [`Reply`]s.

use std::{collections::HashMap, sync::Arc, time::Duration};

use protocol::card::StatusWord;

use super::{
    ast::{Case, Function},
    eval::{Scope, with_scope},
    exchange::{Sent, split},
    place::{Place, ScriptError},
    request::{Failure, Powered, Reply, Request, Setting, Verdict},
    rounds::Frame,
    secure::Greeting,
    state::State,
    value::Value,
};
use crate::{card::Transport, scp03::Session};

/// How long a command may take, unless the script says otherwise.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// Statements between two requests: whoever runs the machine looks at the clock at least so often.
const STEPS: usize = 1000;

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
    pub(super) case: Case,
    functions: Arc<HashMap<String, Function>>,
    pub(super) emulator: bool,
    phase: Phase,
    pub(super) stack: Vec<Frame>,
    pub(super) pending: Pending,
    pub(super) given: Vec<String>,
    pub(super) transport: Transport,
    pub(super) elapsed: Duration,
    pub(super) random: fastrand::Rng,
    pub(super) state: State,
    /// The secure channel that a failure took away: the card still has it.
    left: Option<Box<Session>>,
    verdict: Verdict,
}

impl Machine {
    /// A case, ready to be run.
    pub fn new(case: &Case, script: &super::Script, setting: &Setting) -> Self {
        let state = State::new(setting.variables.clone());
        Self::after(state, case, script, setting)
    }

    /// The same, with what another one has left.
    pub fn after(state: State, case: &Case, script: &super::Script, setting: &Setting) -> Self {
        Self {
            case: case.clone(),
            functions: Arc::clone(&script.functions),
            emulator: setting.emulator,
            phase: Phase::Start,
            stack: Vec::new(),
            pending: Pending::None,
            given: setting.variables.keys().cloned().collect(),
            transport: Transport::Apdu,
            elapsed: Duration::ZERO,
            random: fastrand::Rng::with_seed(setting.seed),
            state,
            left: None,
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

    /// What the case leaves.
    pub fn into_state(mut self) -> State {
        self.state.session = self.state.session.or(self.left.take());
        self.state
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
    pub(super) fn stop(&mut self, stop: Stop) {
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
        if card {
            self.lose_ram();
        }
        self.left = self.state.session.take().or(self.left.take());
        self.phase = if over || card {
            Phase::Over
        } else {
            Phase::Body
        };
    }

    fn accept(&mut self, pending: Pending, reply: Reply) -> Result<Option<Request>, Stop> {
        let place = self.place();
        if let Reply::Failed(message) = reply {
            return Err(fail_card(&place, message));
        }
        match (pending, reply) {
            (Pending::Connect | Pending::Power, Reply::Powered(powered)) => {
                self.powered(powered);
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
                self.state.session = Some(session);
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

    fn powered(&mut self, powered: Powered) {
        self.transport = powered.transport;
        if powered.anew {
            self.lose_ram();
        }
        let atr = Value::Bytes(powered.atr);
        self.state.variables.insert("atr".to_owned(), atr);
    }

    fn lose_ram(&mut self) {
        self.state.lose_ram();
        self.left = None;
    }

    /// The command has no answer, and nothing of RAM is left.
    fn torn(&mut self) {
        self.lose_ram();
        self.store_answer(Vec::new(), Vec::new());
        self.state
            .variables
            .insert("torn".to_owned(), Value::Int(1));
    }

    pub(super) fn store_answer(&mut self, data: Vec<u8>, status: Vec<u8>) {
        self.state
            .variables
            .insert("answer".to_owned(), Value::Bytes(data));
        self.state
            .variables
            .insert("sw".to_owned(), Value::Bytes(status));
        self.state
            .variables
            .insert("torn".to_owned(), Value::Int(0));
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
        self.stack.push(Frame::new(block));
        None
    }

    pub(super) fn scope<T>(&self, work: impl FnOnce(&Scope<'_>) -> T) -> T {
        let dek = self.state.session.as_ref().map(|session| session.dek());
        with_scope(&self.state.variables, &self.functions, dek, work)
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
