//! The thread that a card port lives in, so that a card that goes mute stops nobody.
//!
//! Owns the port and when it is connected. Refuses to know scripts.

use std::{
    os::fd::AsFd as _,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use nix::sys::eventfd::EventFd;

use super::request::{Powered, Reply};
use crate::card::{Atr, CardError, CardPort, Power, Transport, Wait, exchange::whole_answer};

/// What the thread is asked to do.
pub(super) enum Ask {
    /// Power for a card, if it has none; waits for one so long.
    Connect(Duration),
    Transmit {
        command: Vec<u8>,
        whole: bool,
    },
    Power(Power),
    Tear(u64),
    /// Let go of the card.
    Release,
}

/// The other end of the thread.
pub(super) struct Worker {
    asks: Sender<Ask>,
    replies: Receiver<Reply>,
    /// A reply is still to come that nobody waits for any more.
    late: bool,
}

/// Why there is no reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NoReply {
    /// Not in time. The port is not to be used until it has answered.
    Late,
    /// The thread has ended.
    Gone,
}

/// How long a port may take to come back after a time limit was exceeded.
const GRACE: Duration = Duration::from_secs(2);

impl Worker {
    pub(super) fn start(port: Box<dyn CardPort>) -> std::io::Result<Self> {
        let (asks, asked) = channel();
        let (told, replies) = channel();
        thread::Builder::new()
            .name("card".into())
            .spawn(move || work(port, &asked, &told))?;
        Ok(Self {
            asks,
            replies,
            late: false,
        })
    }

    /// Asks, and waits for the reply so long.
    pub(super) fn ask(&mut self, ask: Ask, limit: Duration) -> Result<Reply, NoReply> {
        if self.late && !self.is_back() {
            return Err(NoReply::Late);
        }
        self.asks.send(ask).map_err(|_| NoReply::Gone)?;
        let reply = self.replies.recv_timeout(limit);
        reply.map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                self.late = true;
                NoReply::Late
            }
            RecvTimeoutError::Disconnected => NoReply::Gone,
        })
    }

    /// Whether the port has come back after a time limit; it is given a little time more.
    pub(super) fn is_back(&mut self) -> bool {
        if self.late && self.replies.recv_timeout(GRACE).is_ok() {
            self.late = false;
        }
        !self.late
    }
}

/// A port and what is known of its card.
struct Place {
    port: Box<dyn CardPort>,
    card: Option<(Atr, Transport)>,
}

fn work(port: Box<dyn CardPort>, asked: &Receiver<Ask>, told: &Sender<Reply>) {
    let mut place = Place { port, card: None };
    for ask in asked {
        let reply = place.reply(ask);
        if told.send(reply).is_err() {
            break;
        }
    }
    place.port.release(false);
}

fn powered(atr: &Atr, transport: Transport, anew: bool) -> Reply {
    Reply::Powered(Powered {
        atr: atr.as_bytes().to_vec(),
        transport,
        anew,
    })
}

impl Place {
    fn reply(&mut self, ask: Ask) -> Reply {
        let done = match ask {
            Ask::Connect(wait) => self.connect(wait),
            Ask::Transmit { command, whole } => self.transmit(&command, whole),
            Ask::Power(power) => self.port.power(power).and_then(|atr| self.powered(atr)),
            Ask::Tear(writes) => return self.tear(writes),
            Ask::Release => {
                self.lose();
                Ok(Reply::Done)
            }
        };
        match done {
            Ok(reply) => reply,
            Err(CardError::Torn) => Reply::Torn,
            Err(error) => {
                self.lose();
                Reply::Failed(error.to_string())
            }
        }
    }

    fn lose(&mut self) {
        self.card = None;
        self.port.release(false);
    }

    fn connect(&mut self, wait: Duration) -> Result<Reply, CardError> {
        if let Some((atr, transport)) = &self.card
            && self.port.check().is_ok()
        {
            return Ok(powered(atr, *transport, false));
        }
        let never = EventFd::new().map_err(|error| CardError::io("an event", error.into()))?;
        let atr = self.port.connect(&Wait::new(never.as_fd(), Some(wait)))?;
        self.powered(atr)
    }

    fn powered(&mut self, atr: Atr) -> Result<Reply, CardError> {
        let transport = self.port.hold()?.transport();
        let reply = powered(&atr, transport, true);
        self.card = Some((atr, transport));
        Ok(reply)
    }

    fn transmit(&mut self, command: &[u8], whole: bool) -> Result<Reply, CardError> {
        let mut held = self.port.hold()?;
        let begun = Instant::now();
        let bytes = if whole {
            let answer = whole_answer(&mut *held, command)?;
            [&answer.data[..], &answer.status.to_bytes()].concat()
        } else {
            held.transmit(command)?
        };
        Ok(Reply::Answer {
            bytes,
            elapsed: begun.elapsed(),
        })
    }

    fn tear(&mut self, writes: u64) -> Reply {
        match self.port.tear(writes) {
            Ok(true) => Reply::Done,
            Ok(false) => Reply::Unsupported(
                "tear: only an emulated card in this process (image:FILE) can lose its power in the middle of a write".into(),
            ),
            Err(error) => Reply::Failed(error.to_string()),
        }
    }
}
