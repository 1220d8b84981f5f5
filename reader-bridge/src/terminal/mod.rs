//! One card's terminal: runs a [`Session`] with a card port, UDP, a clock and a file.
//!
//! Owns the loop and its thread's sleep. Refuses to decide: it asks the session and does as told. One
//! thread serves one card, so that no card's trouble is another's.

mod arrival;
pub mod board;
mod clock;
pub mod control;
mod crew;
mod deeds;
mod desk;
mod error;
pub mod find;
mod hook;
mod letters;
mod link;
mod mail;
pub mod network;
mod posts;
mod shelf;
mod socket;
pub mod store;
pub mod stream;
mod telling;
mod wait;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    card::{CardError, CardPort},
    fault::request::{Request, Told},
    ota::{self, Agent},
    report::Reporter,
    secapp::SecApp,
    session::{Action, Config, End, Event, Input, Memory, Session},
    trace::{CardTrace, Trace, TracedPort},
};
use clock::Timer;
pub use crew::{Crew, Finder, Open, Orders};
pub use deeds::Acting;
use desk::Desk;
pub use error::TerminalError;
pub use hook::Hook;
use link::Link;
pub use mail::{Mail, Mailbox, PollNowReply, PollNowResult, Post};
pub use posts::{Listed, Posts};
pub use shelf::Shelf;
use store::{CardFile, Store};

/// How one terminal is set up.
#[derive(Clone)]
pub struct Setup {
    /// What the session goes by.
    pub config: Config,
    /// Seed of all jitter.
    pub seed: u64,
    /// For how long a first card is waited for, and with a single exchange any; for ever if `None`.
    pub card_wait: Option<Duration>,
    /// Where cards are remembered.
    pub store: Store,
    /// Where everything that passes is written.
    pub trace: Option<Arc<Trace>>,
    /// Sessions of cards that are nowhere just now.
    pub shelf: Shelf,
    /// What messages are acted on with.
    pub acting: Acting,
    /// What is to go wrong.
    pub faults: Request,
}

impl Setup {
    /// The same for the terminal with this number, with dice of its own.
    fn numbered(&self, number: usize) -> Self {
        Self {
            // Neighbouring seeds give unrelated sequences (wyrand).
            seed: self.seed.wrapping_add(number as u64),
            ..self.clone()
        }
    }
}

/// A card's terminal.
pub struct Terminal<'a> {
    setup: Setup,
    reporter: &'a dyn Reporter,
    label: String,
    secapp: SecApp,
    mailbox: Mailbox,
    link: Link,
    timer: Timer,
    trace: Option<CardTrace>,
    faults: Told,
    /// The card that is there, with its file.
    known: Option<Known>,
    /// The name of the card that was there last, to whose polls the link still hears answers.
    last: Option<String>,
    /// Why its place is there no more.
    closed: Option<String>,
    /// Another terminal works with the card that is there; that has been told.
    elsewhere: bool,
    card_is_there: bool,
    /// Until when a card must have come.
    card_until: Option<Instant>,
    /// How often the card was lost.
    losses: u32,
    stopping: bool,
    /// The one exchange that was asked for is over; what its message wants is still done.
    finishing: bool,
}

struct Known {
    name: String,
    file: CardFile,
    session: Session,
    agent: Agent,
    desk: Desk,
}

/// Whether the work with a card goes on.
enum Step {
    On,
    CardLost { removed: bool },
    Ended,
}

impl<'a> Terminal<'a> {
    /// A terminal for the card in `port`.
    pub fn new(
        setup: Setup,
        port: Box<dyn CardPort>,
        reporter: &'a dyn Reporter,
    ) -> Result<Self, TerminalError> {
        let system = |error| TerminalError::System("a terminal cannot be set up", error);
        let mailbox = Mailbox::new().map_err(system)?;
        let label = port.place();
        let trace = setup
            .trace
            .as_ref()
            .map(|trace| trace.of_card(label.clone()));
        let faults = Told::default();
        let port = setup.faults.around(port, setup.seed, faults.tell());
        let port = match trace.clone() {
            Some(trace) => Box::new(TracedPort::traced(port, trace)),
            None => port,
        };
        Ok(Self {
            link: Link::new(mailbox.post(), trace.clone())
                .with_faults(setup.faults.on_the_way(setup.seed, &faults)),
            trace,
            faults,
            timer: Timer::new().map_err(system)?,
            setup,
            reporter,
            label,
            secapp: SecApp::new(port),
            mailbox,
            known: None,
            last: None,
            closed: None,
            elsewhere: false,
            card_is_there: false,
            card_until: None,
            losses: 0,
            stopping: false,
            finishing: false,
        })
    }

    /// A way to stop it, or to wake it for a poll.
    pub fn post(&self) -> Post {
        self.mailbox.post()
    }

    /// Where its card is, as its events call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Why its place is there no more, if that is what has ended it.
    pub fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Where it remembers its cards.
    pub fn directory(&self) -> &Path {
        self.setup.store.directory()
    }

    /// Runs until it is stopped, its one exchange is over, or it cannot go on.
    pub fn run(&mut self) -> Result<(), TerminalError> {
        let _span = tracing::error_span!("card", place = %self.label).entered();
        let mut inserted = true;
        while !self.is_over() {
            if self.open_card(&mut inserted)? {
                self.card_is_there = true;
                let step = self.work(inserted);
                self.card_is_there = false;
                self.put_down()?;
                match step? {
                    Step::Ended => break,
                    Step::CardLost { removed } => inserted = removed,
                    Step::On => {}
                }
            }
        }
        Ok(())
    }

    const fn is_over(&self) -> bool {
        self.stopping || self.closed.is_some()
    }

    /// Runs the session until the card is lost or everything is over.
    fn work(&mut self, inserted: bool) -> Result<Step, TerminalError> {
        self.input(Input::CardReady { inserted })?;
        self.tell_agent(ota::Input::CardReady)?;
        self.clear_desk()?;
        loop {
            for step in [self.act()?, self.attend()?] {
                if !matches!(step, Step::On) {
                    return Ok(step);
                }
            }
            if self.is_over() || self.is_finished()? {
                return Ok(Step::Ended);
            }
            self.tell_faults()?;
            if !self.link.is_ready() {
                self.sleep()?;
            }
            self.read_mail()?;
            if let Err(error) = self.secapp.port().check() {
                return self.lost(&error);
            }
            match self.link.receive() {
                Some(Ok(datagram)) => self.input(Input::Datagram(&datagram))?,
                Some(Err(error)) => self.link_failed(&error)?,
                None => self.input(Input::Time)?,
            }
            self.tell_agent(ota::Input::Time)?;
        }
    }

    /// Whether the one exchange is over, and what its message wants is done or waits for a time.
    fn is_finished(&self) -> Result<bool, TerminalError> {
        let now = deeds::now()?;
        let settled = self
            .known
            .as_ref()
            .is_none_or(|known| known.is_settled(now));
        Ok(self.finishing && settled)
    }

    /// Does what the session wants done.
    fn act(&mut self) -> Result<Step, TerminalError> {
        let mut lost = None;
        while let Some(action) = self
            .known
            .as_mut()
            .and_then(|known| known.session.next_action())
        {
            self.follow_in_trace()?;
            let _span = self.exchange_span().entered();
            match action {
                Action::Ask(ask) => match self.secapp.ask(ask) {
                    Ok(reply) => self.input(Input::Card(reply))?,
                    Err(error) => lost = Some(self.lost(&error)?),
                },
                Action::Send {
                    identity,
                    to,
                    datagram,
                } => {
                    if let Err(error) = self.link.send(identity, &to, datagram) {
                        self.link_failed_to(to, &error)?;
                    }
                }
                Action::Close => self.link.close(),
                Action::Save(memory) => self.save(&memory)?,
                Action::Tell(event) => self.tell(&event)?,
                Action::Act(wish) => {
                    self.tell_agent(ota::Input::Message(wish))?;
                    self.keep_promises()?;
                }
                Action::Finish(End::Done) => self.finishing = true,
                Action::Finish(end) => return Err(TerminalError::Once(end)),
            }
        }
        Ok(lost.unwrap_or(Step::On))
    }

    /// Ties what is logged to its exchange.
    fn exchange_span(&self) -> tracing::Span {
        let number = self
            .known
            .as_ref()
            .map(|known| known.session.exchange_number());
        tracing::error_span!("exchange", number)
    }

    /// Ties what passes to its exchange.
    fn follow_in_trace(&self) -> Result<(), TerminalError> {
        let (Some(trace), Some(known)) = (&self.trace, &self.known) else {
            return Ok(());
        };
        trace.set_exchange(known.session.exchange_number());
        match trace.take_failure() {
            Some(error) => self.tell(&Event::TraceFailed {
                why: error.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// The card is gone, or the way to it broke.
    fn lost(&mut self, error: &CardError) -> Result<Step, TerminalError> {
        self.tell(&Event::CardGone {
            why: error.to_string(),
        })?;
        self.input(Input::CardGone)?;
        self.tell_agent(ota::Input::CardGone)?;
        self.losses = self.losses.saturating_add(1);
        let most = self.setup.config.once.unwrap_or(u32::MAX);
        if self.losses > most {
            return Err(TerminalError::LostAgain(most, error.to_string()));
        }
        let removed = matches!(error, CardError::Gone(_));
        Ok(Step::CardLost { removed })
    }

    fn sleep(&self) -> Result<(), TerminalError> {
        let failed = |error| TerminalError::System("cannot wait", error);
        let now = deeds::now()?;
        let deadlines = self
            .known
            .as_ref()
            .map(|known| [known.session.deadline(), known.agent.deadline(now)]);
        let deadline = deadlines.into_iter().flatten().flatten().min();
        self.timer.set(deadline).map_err(failed)?;
        let mut fds = vec![self.timer.fd(), self.mailbox.bell()];
        fds.extend(self.link.fds());
        fds.extend(self.secapp.removal());
        wait::wait(fds).map_err(failed)
    }

    fn input(&mut self, input: Input<'_>) -> Result<(), TerminalError> {
        let now = clock::now().map_err(|error| TerminalError::System("no clock", error))?;
        if let Some(known) = &mut self.known {
            known.session.handle(input, now);
        }
        Ok(())
    }

    fn save(&self, memory: &Memory) -> Result<(), TerminalError> {
        match &self.known {
            Some(known) => Ok(known.file.save(memory)?),
            None => Ok(()),
        }
    }
}
