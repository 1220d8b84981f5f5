//! A UDP relay that loses what it is told to lose.
//!
//! Owns the way between a terminal and a server: it stands in front of the server, gives every
//! client a socket of its own towards it (so answers find their way back, as behind a NAT), numbers
//! the datagrams of each direction, asks the [`Plan`] about each, counts. Refuses to look inside.

mod forward;
mod plan;

use std::io::{self, PipeWriter};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

pub use plan::{BadPercent, Direction, Loss, Plan};

use crate::process::DEADLINE;

/// What became of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent on.
    Passed,
    /// Lost, as planned.
    Dropped,
    /// Lost because it could not be sent on (the far end's socket is closed).
    Refused,
}

/// One datagram's passage.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    /// Which way it went.
    pub direction: Direction,
    /// Its number among those of its direction, from 1.
    pub number: u64,
    /// Its bytes.
    pub datagram: &'a [u8],
    /// What became of it.
    pub fate: Fate,
}

/// Datagrams of one direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Sent on.
    pub passed: u64,
    /// Lost as planned.
    pub dropped: u64,
    /// Lost because they could not be sent on.
    pub refused: u64,
}

/// Datagrams of both directions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// From clients to the server.
    pub up: Count,
    /// From the server to clients.
    pub down: Count,
}

/// A running relay. Dropping it closes its sockets.
#[derive(Debug)]
pub struct LossyRelay {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl LossyRelay {
    /// Starts a relay on a free port of the loopback address, in front of `server`.
    ///
    /// # Panics
    ///
    /// When the system refuses a socket.
    #[must_use]
    #[track_caller]
    pub fn start(server: SocketAddr, plan: Plan) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::bind(listen, server, plan, |_| {})
            .unwrap_or_else(|error| panic!("cannot start a relay: {error}"))
    }

    /// Starts a relay at `listen`, in front of `server`; `report` is told of each datagram.
    ///
    /// # Errors
    ///
    /// What the system said to the socket.
    pub fn bind(
        listen: SocketAddr,
        server: SocketAddr,
        plan: Plan,
        report: impl FnMut(Passage<'_>) + Send + 'static,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind(listen)?;
        let address = socket.local_addr()?;
        let (stopped, stop) = io::pipe()?;
        let ledger = Arc::new(Ledger::default());
        let relay = forward::Relay::new(socket, server, plan, Arc::clone(&ledger), report)?;
        let thread = std::thread::spawn(move || relay.run(&stopped));
        Ok(Self {
            address,
            ledger,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where clients send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has passed and been lost so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// Stops; returns what has passed and been lost.
    #[must_use]
    pub fn stop(mut self) -> Counts {
        self.join();
        self.counts()
    }

    /// Waits until the counts are as `wanted` says; returns them.
    ///
    /// # Panics
    ///
    /// When they are not by the deadline; `what` names what was waited for.
    #[track_caller]
    pub fn await_counts(&self, what: &str, wanted: impl Fn(&Counts) -> bool) -> Counts {
        self.ledger.await_counts(wanted).unwrap_or_else(|counts| {
            panic!("the relay never saw {what}: {counts:?} after {DEADLINE:?}")
        })
    }

    /// Ends the relay's thread: closing the pipe is the word to stop.
    fn join(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for LossyRelay {
    fn drop(&mut self) {
        self.join();
    }
}

/// The counts, shared between the relay's thread and its owner.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: Mutex<Counts>,
    changed: Condvar,
}

impl Ledger {
    fn enter(&self, passage: Passage<'_>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match passage.direction {
            Direction::Up => &mut counts.up,
            Direction::Down => &mut counts.down,
        };
        match passage.fate {
            Fate::Passed => count.passed += 1,
            Fate::Dropped => count.dropped += 1,
            Fate::Refused => count.refused += 1,
        }
        self.changed.notify_all();
    }

    fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_counts(&self, wanted: impl Fn(&Counts) -> bool) -> Result<Counts, Counts> {
        let end = Instant::now() + DEADLINE;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        while !wanted(&counts) {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return Err(*counts);
            };
            counts = match self.changed.wait_timeout(counts, left) {
                Ok((counts, _)) => counts,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(*counts)
    }
}
