//! The poll session of one card: when to poll, what to wait for, what to do with what comes.
//!
//! Owns every decision. Refuses to do I/O: [`Session::handle`] is handed what happened and the time;
//! [`Session::next_action`] says what to do about it, [`Session::deadline`] when to come back. Dice
//! are seeded from outside, so that the same seed and inputs give the same actions. Governed by
//! `docs/terminal.md`.
//!
//! ```text
//!            card there            outcome read           recognised
//!  NoCard ──────────────▶ Reading ─────────────▶ Recognising ─────────▶ Idle ◀────────────┐
//!    ▲                       ▲                        │  unanswered       │ due           │
//!    │ card gone             │ in doubt               ▼                   ▼               │
//!  (any)                   Giving ◀──── answer ──── Waiting ◀── sent ── Asking            │
//!                            │                        ▲     silence ──────▲               │
//!                            │  refused: not for us ──┘                                   │
//!                            └─ accepted ──▶ Accepted ── identity learned, acted, saved ──┘
//! ```

mod act;
mod asked;
mod backoff;
mod event;
mod exchange;
mod io;
mod memory;
mod planner;
mod resume;
mod route;
mod schedule;
pub mod simulate;

use std::{collections::VecDeque, time::Duration};

use crate::ota::Policy;
use fastrand::Rng;
use protocol::{card::Outcome, msg::Events};

pub(crate) use act::in_words;
pub use asked::{Asked, Done, Message, What};
pub use backoff::{Backoff, Timeouts};
pub use event::{Counted, Event, Exchange as ExchangeEvent, Quality};
pub use io::{Action, Ask, Command, End, Input, Now, Occasion, Reply};
pub use memory::{Memory, Outstanding, Transport};
pub use planner::Planner;
pub use route::{Because, MAX_LIFETIME, NotFollowed, RESENDS_BEFORE_CHANGE, Route, Via};
pub use schedule::{Rules, Schedule};

use exchange::Exchange;

/// Answers that the card refuses, given to it after one poll. The rest is dropped: somebody floods.
pub const MAX_REFUSED: u8 = 8;
/// After trouble with a card that is there, it is left alone for so long.
const CARD_RETRY: Duration = Duration::from_secs(60);

/// How a terminal is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// host:port of the home servers in order of preference, at least one.
    pub homes: Vec<String>,
    /// Bounds of the wait for an answer.
    pub timeouts: Timeouts,
    /// The schedule where no message has changed it.
    pub schedule: Schedule,
    /// One exchange only, at once, with at most so many polls.
    pub once: Option<u32>,
    /// Where messages may have sessions opened.
    pub ota: Policy,
}

/// The session of one card.
#[derive(Debug)]
pub struct Session {
    config: Config,
    memory: Memory,
    rng: Rng,
    planner: Planner,
    route: Route,
    backoff: Backoff,
    state: State,
    /// The poll that is not answered yet. Outlives the card's absence.
    exchange: Option<Exchange>,
    exchanges: u64,
    quality: Quality,
    /// Whether the card's last outcome was read since it came.
    resumed: bool,
    /// The card came from outside, so this may be an occasion for a poll.
    inserted: bool,
    /// The card's own count says that a poll has gone unanswered.
    card_waits: bool,
    out: VecDeque<Action>,
}

/// What is being waited for.
#[derive(Debug)]
enum State {
    /// A card.
    NoCard,
    /// The card's last outcome.
    Reading,
    /// The identity it now has.
    Recognising(Option<Outcome>),
    /// The time of the next poll.
    Idle,
    /// The poll to be sent.
    Asking,
    /// An answer from the server.
    Waiting,
    /// The card's judgement of an answer.
    Giving,
    /// The card's next identity; its outcome is known.
    Accepted(Outcome),
    /// Nothing: the one exchange that was asked for is over.
    Over,
}

impl Session {
    /// A session for the card that `memory` is about, at the time `now`. `seed` is for jitter.
    pub fn new(config: Config, memory: Memory, seed: u64, now: Now) -> Self {
        let schedule = memory.rules.over(config.schedule);
        let route = Route::new(
            config.homes.clone(),
            memory.transport.as_ref(),
            now.mono,
            now.wall,
        );
        let mut planner = Planner::resume(schedule, memory.next_poll, memory.last_poll, now);
        if config.once.is_some() {
            planner.request(now);
        }
        Self {
            backoff: Backoff::new(config.timeouts),
            planner,
            config,
            memory,
            rng: Rng::with_seed(seed),
            route,
            state: State::NoCard,
            exchange: None,
            exchanges: 0,
            quality: Quality::default(),
            resumed: false,
            inserted: false,
            card_waits: false,
            out: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        match input {
            Input::CardReady { inserted } => self.card_ready(inserted),
            Input::CardGone => self.card_gone(now),
            Input::Card(reply) => self.replied(reply, now),
            Input::Datagram(datagram) => self.datagram(datagram, now),
            Input::Time => self.time(now),
            Input::Wake(occasion) => self.wake(occasion, now),
        }
    }

    /// What to do next; to be asked until there is nothing more, in order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// When to come back with [`Input::Time`], if nothing happens before.
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Idle => Some(self.planner.due()),
            State::Waiting => self.exchange.as_ref().map(|exchange| exchange.deadline),
            _ => None,
        }
    }

    /// host:port of the server that is asked now.
    pub fn server(&self) -> &str {
        self.route.endpoint().0
    }

    /// Number of the exchange under way, or else of the next one.
    pub fn exchange_number(&self) -> u64 {
        let under_way = self.exchange.as_ref().map(|exchange| exchange.number);
        under_way.unwrap_or(self.exchanges + 1)
    }

    /// What is to be remembered of this card.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    fn replied(&mut self, reply: Reply, now: Now) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Reading => self.outcome_read(reply, now),
            State::Recognising(outcome) => self.recognised(outcome, reply, now),
            State::Asking => self.poll_made(reply, now),
            State::Giving => self.judged(reply),
            State::Accepted(outcome) => self.identity_learned(&outcome, &reply, now),
            // Nothing was asked.
            other => self.state = other,
        }
    }

    fn time(&mut self, now: Now) {
        match self.state {
            State::Idle if now.mono >= self.planner.due() => self.due_now(now),
            State::Waiting if self.deadline().is_some_and(|at| now.mono >= at) => self.silence(now),
            _ => {}
        }
    }

    fn due_now(&mut self, now: Now) {
        let held_back = self.planner.held_back(now, &mut self.rng);
        if !held_back.is_zero() {
            self.planner.postpone(now, held_back);
            return self.announce(now);
        }
        if self.resumed {
            self.ask_for_poll();
        } else {
            self.resume();
        }
    }

    /// Whether the rules of this card's operator let this be an occasion for a poll.
    pub fn allows(&self, occasion: Occasion) -> bool {
        let bit = match occasion {
            Occasion::HostRequest => Events::HOST_REQUEST,
            Occasion::NetworkChange => Events::NETWORK_CHANGE,
        };
        self.planner.schedule().events.has(bit)
    }

    fn wake(&mut self, occasion: Occasion, now: Now) {
        if !self.allows(occasion) {
            if occasion == Occasion::HostRequest {
                self.tell(Event::RequestRefused {
                    why: "the polling rules of this card's operator do not allow polls on request",
                });
            }
            return;
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.deadline = exchange.deadline.min(now.mono);
        }
        match occasion {
            Occasion::HostRequest => self.planner.request(now),
            Occasion::NetworkChange => self.planner.event(now),
        }
        self.time(now);
    }

    fn tell(&mut self, event: Event) {
        self.out.push_back(Action::Tell(event));
    }

    fn ask(&mut self, state: State, ask: Ask) {
        self.state = state;
        self.out.push_back(Action::Ask(ask));
    }

    fn save(&mut self, now: Now) {
        self.memory.transport = self.route.transport(now.mono, now.wall);
        self.out.push_back(Action::Save(self.memory.clone()));
    }

    /// Tells when the next poll is due.
    fn announce(&mut self, now: Now) {
        let left = self.planner.due().saturating_sub(now.mono);
        self.tell(Event::NextPoll {
            in_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        });
    }

    fn server_changed(&mut self, because: Because, lifetime: Option<u64>) {
        let (to, via) = self.route.endpoint();
        let to = to.to_owned();
        self.tell(Event::ServerChanged {
            to,
            via,
            because,
            lifetime,
        });
    }

    fn finish(&mut self, end: End) {
        self.state = State::Over;
        self.out.push_back(Action::Finish(end));
    }

    /// The card refused a command, or answered nonsense: an error that no answer of a server causes.
    fn card_trouble(&mut self, command: Command, why: String, now: Now) {
        self.tell(Event::CardFailed {
            command: command.name(),
            why: why.clone(),
        });
        if self.config.once.is_some() {
            return self.finish(End::CardFailed {
                command: command.name(),
                why,
            });
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.deadline = exchange.deadline.max(now.mono + CARD_RETRY);
            self.state = State::Waiting;
        } else {
            self.planner.postpone(now, CARD_RETRY);
            self.state = State::Idle;
            self.announce(now);
        }
    }
}
