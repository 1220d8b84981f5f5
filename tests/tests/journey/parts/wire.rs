//! The link, with a listener on it: a lossy relay that keeps every datagram.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use e2e::relay::{Direction, LossyRelay, Plan};
use protocol::chain::Link;
use protocol::poll::Poll;
use protocol::response::{Opened, Response};

/// A relay, and all that has passed it.
pub(crate) struct Wire {
    pub(crate) relay: LossyRelay,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// One datagram, whatever became of it.
#[derive(Clone)]
pub(crate) struct Heard {
    pub(crate) direction: Direction,
    pub(crate) bytes: Vec<u8>,
}

impl Wire {
    /// Stands in front of `server`.
    pub(crate) fn to(server: SocketAddr, plan: Plan) -> Self {
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let notes = Arc::clone(&heard);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let relay = LossyRelay::bind(listen, server, plan, move |passage| {
            notes.lock().expect("nobody panics with it").push(Heard {
                direction: passage.direction,
                bytes: passage.datagram.to_vec(),
            });
        });
        Self {
            relay: relay.expect("a relay"),
            heard,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("nobody panics with it").clone()
    }

    /// All polls, in order.
    pub(crate) fn polls(&self) -> Vec<Poll> {
        let up = self
            .heard()
            .into_iter()
            .filter(|heard| heard.direction == Direction::Up);
        up.map(|heard| Poll::parse(&heard.bytes).expect("a terminal sends polls only"))
            .collect()
    }

    /// All answers, in order.
    pub(crate) fn answers(&self) -> Vec<Vec<u8>> {
        let down = self
            .heard()
            .into_iter()
            .filter(|heard| heard.direction == Direction::Down);
        down.map(|heard| heard.bytes).collect()
    }
}

/// Opens an answer as the card at this link of the chain would.
pub(crate) fn open(link: &Link, answer: &[u8]) -> Option<Opened> {
    link.open(&Response::parse(answer).expect("a server sends responses only"))
        .ok()
}
