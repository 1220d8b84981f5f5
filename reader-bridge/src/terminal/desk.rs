//! Where answers wait for a card's agent: of servers, of the hook program.
//!
//! Owns that none is lost while the card is nowhere: the desk goes where the card's session goes, and whoever works
//! with the card is called when something comes.

use std::sync::{
    Arc, Mutex, PoisonError,
    mpsc::{self, Receiver, Sender},
};

use super::{Mail, Post};
use crate::ota::Input;

/// One card's desk.
#[derive(Debug)]
pub(super) struct Desk {
    receiver: Receiver<Input>,
    tray: Tray,
}

/// A way to put something on a desk.
#[derive(Clone, Debug)]
pub(super) struct Tray {
    sender: Sender<Input>,
    /// Whoever works with the card now.
    attendant: Arc<Mutex<Option<Post>>>,
}

impl Desk {
    /// An empty one that nobody attends.
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        let attendant = Arc::default();
        Self {
            receiver,
            tray: Tray { sender, attendant },
        }
    }

    /// From now on, this terminal is called; nobody if `None`.
    pub(super) fn attend(&self, post: Option<Post>) {
        *self.tray.lock() = post;
    }

    /// A way to put something on it.
    pub(super) fn tray(&self) -> Tray {
        self.tray.clone()
    }

    /// The next thing that lies on it.
    pub(super) fn take(&self) -> Option<Input> {
        self.receiver.try_recv().ok()
    }
}

impl Tray {
    /// Puts it there. For a card that was forgotten it is lost, and what was begun is begun again from the disk.
    pub(super) fn put(&self, input: Input) {
        if self.sender.send(input).is_ok()
            && let Some(post) = &*self.lock()
        {
            post.send(Mail::Desk);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Post>> {
        // Nothing that holds the lock can panic.
        self.attendant
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
