//! The faults of one card's terminal: around its port, on its way to the server, and what is told of them.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Faults, Tell,
    card::{FaultyPort, Plan},
    net::Way,
};
use crate::card::CardPort;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The faults.
    pub faults: Faults,
    /// How long a card that is mute is waited for.
    pub patience: Duration,
}

/// Streams of dice that do not depend on each other.
const CARD: u64 = 0;
const UP: u64 = 1 << 32;
const DOWN: u64 = 1 << 33;

impl Request {
    /// The port, with what was asked of its card.
    pub fn around(&self, port: Box<dyn CardPort>, seed: u64, tell: Tell) -> Box<dyn CardPort> {
        if !self.faults.has_card() {
            return port;
        }
        let plan = Plan::new(self.faults.card.clone(), seed ^ CARD);
        Box::new(FaultyPort::faulty(port, plan, self.patience, tell))
    }

    /// Both ways, if anything was asked of them.
    pub fn on_the_way<T: Clone>(&self, seed: u64, told: &Told) -> Option<Ways<T>> {
        self.faults.has_net().then(|| Ways {
            up: Way::new(self.faults.up, seed ^ UP, "a poll", told.tell()),
            down: Way::new(self.faults.down, seed ^ DOWN, "an answer", told.tell()),
            arrived: VecDeque::new(),
        })
    }
}

/// What has struck and is still to be told.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    /// Keeps what strikes.
    pub fn tell(&self) -> Tell {
        let told = Self::clone(self);
        Box::new(move |what| {
            told.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(what);
        })
    }

    /// Everything since the last time.
    pub fn take(&self) -> Vec<String> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Both ways between a terminal and its server.
pub struct Ways<T> {
    up: Way<T>,
    down: Way<()>,
    /// What has come through and was not taken yet.
    arrived: VecDeque<Vec<u8>>,
}

impl<T: Clone> Ways<T> {
    /// What leaves, in the place of this datagram.
    pub fn leave(&mut self, to: T, datagram: &[u8]) -> Vec<(T, Vec<u8>)> {
        self.up.pass(to, datagram.to_vec())
    }

    /// This datagram has come.
    pub fn arrive(&mut self, datagram: Vec<u8>) {
        let passed = self.down.pass((), datagram).into_iter();
        self.arrived.extend(passed.map(|(_, datagram)| datagram));
    }

    /// The next one that came through.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.arrived.pop_front()
    }

    /// Whether one waits to be taken.
    pub fn is_ready(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// The exchange is over: nothing that waits is of use.
    pub fn close(&mut self) {
        self.arrived.clear();
        self.up.close();
        self.down.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_have_dice_of_their_own_and_tell_in_one_place() {
        let told = Told::default();
        let request = Request {
            faults: "net:loss=50%".parse().unwrap(),
            patience: Duration::ZERO,
        };
        let mut ways = request.on_the_way::<()>(5, &told).unwrap();
        let lost = |name: &str, told: &[String]| {
            let lost = told.iter().map(|what| what.contains(name));
            lost.collect::<Vec<_>>()
        };
        let (mut left, mut came) = (Vec::new(), Vec::new());
        for _ in 0..64 {
            left.push(ways.leave((), &[0; 20]).is_empty());
            ways.arrive(vec![0; 40]);
            came.push(ways.take().is_none());
        }
        assert_ne!(left, came);
        let struck = left.iter().chain(&came).filter(|lost| **lost).count();
        let told = told.take();
        assert_eq!(told.len(), struck);
        assert!(lost("a poll of 20 bytes is lost", &told).contains(&true));
        assert!(lost("an answer of 40 bytes is lost", &told).contains(&true));
    }
}
