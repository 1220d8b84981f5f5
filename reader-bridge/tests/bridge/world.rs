//! The world: one card, its server, a network between them, and time.

use std::{collections::HashSet, os::fd::AsFd, time::Duration};

use nix::sys::eventfd::EventFd;
use protocol::{chain::Link, identity::Mode};
use reader_bridge::{
    card::Wait,
    ota::{Policy, Wish},
    secapp::{SecApp, SecAppError},
    session::{
        Action, Config, End, Event, Input, Memory, Message, Now, Occasion, Schedule, Session,
        Timeouts,
    },
};

use crate::{
    card::{BreakingPort, Cues, Subscription},
    server::Server,
};

pub(crate) const HOME: &str = "home:1";
pub(crate) const EDGE: &str = "edge:2";
/// A day's beginning, UTC.
pub(crate) const MIDNIGHT: u64 = 20_000 * 24 * 3600;
const TRIP: Duration = Duration::from_millis(40);

/// What the network does with the n-th datagram of a direction.
pub(crate) type Loses = Box<dyn FnMut(usize) -> bool>;

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) cues: Cues,
    pub(crate) session: Session,
    pub(crate) events: Vec<Event>,
    pub(crate) memory: Memory,
    pub(crate) config: Config,
    pub(crate) now: Now,
    /// Servers that do not answer.
    pub(crate) down: HashSet<String>,
    pub(crate) lose_up: Loses,
    pub(crate) lose_down: Loses,
    /// Answers of strangers that come before each real one.
    pub(crate) forged: Vec<Vec<u8>>,
    /// When each poll left, and where to.
    pub(crate) polls: Vec<(Now, String)>,
    pub(crate) end: Option<End>,
    /// What messages want done that takes its time.
    pub(crate) wishes: Vec<Wish>,
    /// The terminal's process dies before this action, counted from 0.
    pub(crate) crash_at: Option<usize>,
    pub(crate) actions: usize,
    subscription: Subscription,
    secapp: SecApp,
    /// Datagrams on their way to the terminal, and when they arrive.
    arriving: Vec<(Duration, Vec<u8>)>,
    answers: usize,
    seed: u64,
}

pub(crate) fn config() -> Config {
    Config {
        homes: vec![HOME.into()],
        timeouts: Timeouts::default(),
        schedule: Schedule {
            interval: 600,
            jitter: 0,
            floor: 60,
            ceiling: 7200,
            ..Schedule::default()
        },
        once: None,
        ota: Policy::default(),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Mode::DEFAULT, config())
    }

    pub(crate) fn with(mode: Mode, config: Config) -> Self {
        let subscription = Subscription::new(mode);
        let cues = Cues::default();
        let port = BreakingPort {
            inner: subscription.port(),
            cues: cues.clone(),
        };
        let now = Now {
            mono: Duration::from_secs(500),
            wall: MIDNIGHT + 12 * 3600,
        };
        let mut world = Self {
            server: Server::new(&subscription),
            cues,
            session: Session::new(config.clone(), Memory::default(), 1, now),
            events: Vec::new(),
            memory: Memory::default(),
            config,
            now,
            down: HashSet::new(),
            lose_up: Box::new(|_| false),
            lose_down: Box::new(|_| false),
            forged: Vec::new(),
            polls: Vec::new(),
            end: None,
            wishes: Vec::new(),
            crash_at: None,
            actions: 0,
            subscription,
            secapp: SecApp::new(Box::new(port)),
            arriving: Vec::new(),
            answers: 0,
            seed: 1,
        };
        world.insert(true);
        world
    }

    /// The terminal starts anew with what it has saved. The card loses its power.
    pub(crate) fn restart(&mut self) {
        self.seed += 1;
        self.arriving.clear();
        let memory = self.memory.clone();
        self.session = Session::new(self.config.clone(), memory, self.seed, self.now);
        self.end = None;
        self.insert(true);
    }

    /// The card loses its power and comes back.
    pub(crate) fn insert(&mut self, inserted: bool) {
        let bell = EventFd::new().unwrap();
        loop {
            match self.secapp.open(&Wait::new(bell.as_fd(), None)) {
                Ok(_) => break,
                Err(SecAppError::Port(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.input(Input::CardReady { inserted });
    }

    /// The card is reset, and the session does not know.
    pub(crate) fn reset_quietly(&mut self) {
        let bell = EventFd::new().unwrap();
        self.secapp.open(&Wait::new(bell.as_fd(), None)).unwrap();
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.session.handle(input, self.now);
    }

    pub(crate) fn wake(&mut self, occasion: Occasion) {
        self.input(Input::Wake(occasion));
    }

    /// Goes on until `until` is true of the world.
    pub(crate) fn run(&mut self, what: &str, until: impl Fn(&Self) -> bool) {
        for _ in 0..100_000 {
            if until(self) {
                return;
            }
            self.step();
        }
        panic!(
            "never: {what}; {:#?}",
            self.events.iter().rev().take(20).collect::<Vec<_>>()
        );
    }

    /// Goes on until so many exchanges are done in all.
    pub(crate) fn run_exchanges(&mut self, count: usize) {
        self.run("exchanges done", |world| world.done() >= count);
        while let Some(action) = self.session.next_action() {
            self.take(action);
        }
    }

    /// Goes on for this long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now.mono + time;
        self.run("time passed", |world| world.now.mono >= end);
    }

    /// One action, or else time passes until something happens.
    pub(crate) fn step(&mut self) {
        match self.session.next_action() {
            Some(action) => self.take(action),
            None => self.pass_time(),
        }
    }

    /// Does as told, unless the process dies just now.
    fn take(&mut self, action: Action) {
        self.actions += 1;
        if self.crash_at == Some(self.actions - 1) {
            self.restart();
        } else {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Ask(ask) => match self.secapp.ask(ask) {
                Ok(reply) => self.input(Input::Card(reply)),
                Err(_) => {
                    self.input(Input::CardGone);
                    self.drain();
                    self.insert(true);
                }
            },
            Action::Send { to, datagram, .. } => self.send(to, &datagram),
            Action::Close => self.arriving.clear(),
            Action::Save(memory) => self.memory = memory,
            Action::Tell(event) => self.events.push(event),
            Action::Act(wish) => self.wishes.push(wish),
            Action::Finish(end) => self.end = Some(end),
        }
    }

    /// What the session does when its card goes.
    fn drain(&mut self) {
        while let Some(action) = self.session.next_action() {
            self.act(action);
        }
    }

    fn send(&mut self, to: String, datagram: &[u8]) {
        let number = self.polls.len();
        let lost = self.down.contains(&to) || (self.lose_up)(number);
        self.polls.push((self.now, to));
        if lost {
            return;
        }
        for forged in &self.forged {
            self.arriving
                .push((self.now.mono + TRIP / 2, forged.clone()));
        }
        if let Some(answer) = self.server.answer(datagram) {
            let lost = (self.lose_down)(self.answers);
            self.answers += 1;
            if !lost {
                self.arriving.push((self.now.mono + TRIP, answer));
            }
        }
    }

    fn pass_time(&mut self) {
        let arrival = self.arriving.iter().map(|(at, _)| *at).min();
        let next = [arrival, self.session.deadline()]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next else {
            panic!("the session sleeps for ever: {:#?}", self.events.last());
        };
        self.advance(next.saturating_sub(self.now.mono));
        if let Some(at) = self
            .arriving
            .iter()
            .position(|(at, _)| *at <= self.now.mono)
        {
            let (_, datagram) = self.arriving.remove(at);
            self.input(Input::Datagram(&datagram));
        }
        self.input(Input::Time);
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        let before = self.now.mono;
        self.now.mono += time;
        // Whole seconds that went by, so that fractions add up.
        self.now.wall += self.now.mono.as_secs() - before.as_secs();
    }

    /// The answer that the first poll will have; the server answers the same again.
    pub(crate) fn first_answer(&mut self) -> Vec<u8> {
        let link = Link::first(
            &self.subscription.key,
            self.subscription.uid_1(),
            self.subscription.mode,
        );
        self.server.answer(link.poll(0).as_bytes()).unwrap()
    }

    /// How many exchanges are done.
    pub(crate) fn done(&self) -> usize {
        self.exchanges().count()
    }

    pub(crate) fn exchanges(&self) -> impl Iterator<Item = &reader_bridge::session::ExchangeEvent> {
        self.events.iter().filter_map(|event| match event {
            Event::ExchangeDone(exchange) => Some(exchange),
            _ => None,
        })
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.events.iter().filter_map(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
    }

    /// The interval that the terminal goes by.
    pub(crate) fn interval(&self) -> u32 {
        self.memory.rules.over(self.config.schedule).interval
    }
}
