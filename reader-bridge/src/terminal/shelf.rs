//! Which terminal of this process works with which card, and the sessions of those that are nowhere just now.
//!
//! Owns handing a session from the place that its card has left to the place that it comes to: another reader,
//! another slot, or the same one again. Refuses to know how cards travel.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Known;

/// What all terminals of a process share.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Cards>>);

#[derive(Default)]
struct Cards {
    /// Those that are nowhere, the longest away first.
    absent: VecDeque<Known>,
    /// The names of those that a terminal works with.
    present: HashSet<String>,
}

/// Where the session of a card is.
pub(super) enum Session {
    /// Here: it goes on.
    Here(Box<Known>),
    /// Nowhere: it is to be begun from what is remembered.
    New,
    /// Another terminal has it: the card is there twice, or the other has not noticed that it has left.
    Elsewhere,
}

/// So many absent cards are kept with all that was measured; of one beyond them, the longest away, what its file
/// says is still known.
const ROOM: usize = 4096;

impl Shelf {
    /// Takes up the session of the card with this name, unless it is elsewhere. It is to be put down again.
    pub(super) fn take(&self, name: &str) -> Session {
        let mut cards = self.lock();
        if !cards.present.insert(name.to_owned()) {
            return Session::Elsewhere;
        }
        let at = cards.absent.iter().position(|known| known.name == name);
        let known = at.and_then(|at| cards.absent.remove(at));
        known.map_or(Session::New, |known| Session::Here(Box::new(known)))
    }

    /// Puts down the session of a card that has gone.
    pub(super) fn put(&self, known: Known) {
        let mut cards = self.lock();
        cards.present.remove(&known.name);
        if cards.absent.len() >= ROOM {
            cards.absent.pop_front();
        }
        cards.absent.push_back(known);
    }

    /// A session that was to be begun was not.
    pub(super) fn give_up(&self, name: &str) {
        self.lock().present.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, Cards> {
        // No code that holds the lock can panic, so what is behind it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
