//! The terminals of a process, a thread for each: no card's trouble is another's.
//!
//! Owns starting them, also for places that are found later, and their end. Refuses to look for places itself:
//! finders do (`find`), and offer them.

use std::{
    any::Any,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc::{self, Receiver, RecvError, RecvTimeoutError, Sender},
    thread::{self, Scope},
    time::Duration,
};

use super::{Listed, Mail, Mailbox, Post, Posts, Setup, Terminal, TerminalError};
use crate::{
    card::{CardError, CardPort},
    report::Reporter,
    session::Event,
};

/// Opens a place that was found.
pub type Open = Box<dyn FnOnce() -> Result<Box<dyn CardPort>, CardError> + Send>;

/// What a finder says.
enum Order {
    /// A place is there. If its terminal runs already, nothing happens.
    Offer { place: String, open: Open },
    /// The place is there no more.
    Withdraw { place: String, why: String },
    /// A thread has come to its end.
    Ended { number: usize, ended: Ended },
}

/// What a thread panicked with.
type Panic = Box<dyn Any + Send>;

/// How a thread ended.
type Ended = Result<Result<(), TerminalError>, Panic>;

/// A finder's way to the crew.
#[derive(Clone)]
pub struct Orders(Sender<Order>);

impl Orders {
    /// There is a place for cards. A terminal is started there, unless one runs already.
    pub fn offer(&self, place: String, open: Open) {
        // Whoever finds something after the end finds it in vain.
        let _ = self.0.send(Order::Offer { place, open });
    }

    /// That place is there no more; its terminal ends.
    pub fn withdraw(&self, place: String, why: &str) {
        let why = why.to_owned();
        let _ = self.0.send(Order::Withdraw { place, why });
    }
}

/// Looks for places until its mailbox says stop.
pub type Finder<'a> = Box<dyn FnOnce(&Mailbox, &Orders) -> Result<(), TerminalError> + Send + 'a>;

/// Those that are to run.
pub struct Crew<'a> {
    setup: Setup,
    reporter: &'a dyn Reporter,
    posts: Posts,
    terminals: Vec<Terminal<'a>>,
    finders: Vec<Finder<'a>>,
    tick: Option<(Duration, fn())>,
}

/// While they run.
struct Running<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    setup: Setup,
    reporter: &'env dyn Reporter,
    posts: Posts,
    why: &'env (dyn Fn() -> String + Sync),
    orders: Orders,
    /// Threads that have not ended.
    threads: HashMap<usize, Thread>,
    /// How many were ever started; the next one's number.
    started: usize,
    panic: Option<Panic>,
}

struct Thread {
    /// The place of one that was offered.
    place: Option<String>,
    post: Post,
    /// On the list of those who get letters, until it ends.
    _listed: Listed,
}

impl<'a> Crew<'a> {
    /// Nobody yet. Who is to run is told to end through `posts`.
    pub fn new(setup: Setup, reporter: &'a dyn Reporter, posts: Posts) -> Self {
        Self {
            setup,
            reporter,
            posts,
            terminals: Vec::new(),
            finders: Vec::new(),
            tick: None,
        }
    }

    /// A terminal for this place, from the beginning to the end.
    pub fn serve(&mut self, port: Box<dyn CardPort>) -> Result<(), TerminalError> {
        let setup = self.setup.numbered(self.terminals.len());
        let terminal = Terminal::new(setup, port, self.reporter)?;
        self.terminals.push(terminal);
        Ok(())
    }

    /// The places that are served from the beginning, as their events call them.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.terminals.iter().map(Terminal::label)
    }

    /// A finder of places.
    pub fn find(&mut self, finder: Finder<'a>) {
        self.finders.push(finder);
    }

    /// Has this done so often by the thread that runs the crew: a sign that it has not hung.
    pub fn every(&mut self, time: Duration, tick: fn()) {
        self.tick = Some((time, tick));
    }

    /// Runs them until all have ended, and tells why each did. The results are of the finders and of the places
    /// served from the beginning, in their order: trouble at a place that was found is told, and ends nothing else.
    ///
    /// `why` says what ended those that were stopped from outside.
    pub fn run(self, why: impl Fn() -> String + Sync) -> Vec<Result<(), TerminalError>> {
        let lasting = self.terminals.len() + self.finders.len();
        let mut results: Vec<_> = (0..lasting).map(|_| Ok(())).collect();
        let (sender, orders) = mpsc::channel();
        let panic = thread::scope(|scope| {
            let mut running = Running {
                scope,
                setup: self.setup,
                reporter: self.reporter,
                posts: self.posts,
                why: &why,
                orders: Orders(sender),
                threads: HashMap::new(),
                started: 0,
                panic: None,
            };
            for terminal in self.terminals {
                running.start(None, terminal);
            }
            for finder in self.finders {
                let number = running.started;
                results[number] = running.start_finder(finder);
            }
            running.until_all_have_ended(&orders, self.tick, &mut results);
            running.panic
        });
        // A panic is a defect: it is not hidden, once the other cards have ended.
        panic.map_or(results, |panic| resume_unwind(panic))
    }
}

impl<'env> Running<'_, 'env> {
    fn until_all_have_ended(
        &mut self,
        orders: &Receiver<Order>,
        tick: Option<(Duration, fn())>,
        results: &mut [Result<(), TerminalError>],
    ) {
        while !self.threads.is_empty() {
            match next(orders, tick) {
                Ok(Order::Offer { place, open }) => self.offered(place, open),
                Ok(Order::Withdraw { place, why }) => self.withdrawn(&place, why),
                Ok(Order::Ended { number, ended }) => self.ended(number, ended, results),
                // Not while the sender in `self` lives.
                Err(RecvError) => return,
            }
        }
    }

    fn offered(&mut self, place: String, open: Open) {
        if self.at(&place).is_some() {
            return;
        }
        let setup = self.setup.numbered(self.started);
        let terminal = open().map_err(|error| error.to_string()).and_then(|port| {
            Terminal::new(setup, port, self.reporter).map_err(|error| error.to_string())
        });
        match terminal {
            Ok(terminal) => self.start(Some(place), terminal),
            // A reporter that fails will fail again where it can be told.
            Err(why) => drop(self.reporter.tell(&place, &Event::Stopped { why })),
        }
    }

    fn at(&self, place: &str) -> Option<&Thread> {
        let mut threads = self.threads.values();
        threads.find(|thread| thread.place.as_deref() == Some(place))
    }

    fn withdrawn(&self, place: &str, why: String) {
        if let Some(thread) = self.at(place) {
            thread.post.send(Mail::Close(why));
        }
    }

    fn ended(&mut self, number: usize, ended: Ended, results: &mut [Result<(), TerminalError>]) {
        self.threads.remove(&number);
        match ended {
            Err(panic) => {
                self.panic.get_or_insert(panic);
            }
            // Nobody reads any more what is told: that concerns all.
            Ok(Err(error @ TerminalError::Output(_))) if number >= results.len() => {
                self.posts.stop();
                if let Some(first) = results.first_mut().filter(|first| first.is_ok()) {
                    *first = Err(error);
                }
            }
            Ok(result) => {
                if let Some(place) = results.get_mut(number) {
                    *place = result;
                }
            }
        }
    }

    fn start(&mut self, place: Option<String>, mut terminal: Terminal<'env>) {
        let (reporter, why, post) = (self.reporter, self.why, terminal.post());
        self.spawn(place, post, move || {
            let ended = terminal.run();
            let why = match (&ended, terminal.closed()) {
                (Err(error), _) => error.to_string(),
                (Ok(()), Some(closed)) => closed.to_owned(),
                (Ok(()), None) => why(),
            };
            let told = reporter.tell(terminal.label(), &Event::Stopped { why });
            if terminal.closed().is_some() {
                // Before the terminal gives up the place, whose name the next one may get.
                reporter.forget(terminal.label());
            }
            ended.and(told.map_err(TerminalError::Output))
        });
    }

    fn start_finder(&mut self, finder: Finder<'env>) -> Result<(), TerminalError> {
        let system = |error| TerminalError::System("cards cannot be looked for", error);
        let mailbox = Mailbox::new().map_err(system)?;
        let (post, orders) = (mailbox.post(), self.orders.clone());
        self.spawn(None, post, move || finder(&mailbox, &orders));
        Ok(())
    }

    fn spawn(
        &mut self,
        place: Option<String>,
        post: Post,
        work: impl FnOnce() -> Result<(), TerminalError> + Send + 'env,
    ) {
        let (number, orders) = (self.started, self.orders.0.clone());
        let thread = Thread {
            place,
            _listed: self.posts.add(post.clone()),
            post,
        };
        self.started += 1;
        self.threads.insert(number, thread);
        self.scope.spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(work));
            // Its receiver waits until the last thread has ended.
            let _ = orders.send(Order::Ended { number, ended });
        });
    }
}

/// The next order, with ticks while there is none.
fn next(orders: &Receiver<Order>, tick: Option<(Duration, fn())>) -> Result<Order, RecvError> {
    let Some((time, tick)) = tick else {
        return orders.recv();
    };
    loop {
        tick();
        match orders.recv_timeout(time) {
            Ok(order) => return Ok(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
        }
    }
}
