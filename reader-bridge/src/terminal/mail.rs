//! What other threads tell a card's thread while it sleeps.
//!
//! Owns a queue and the file descriptor that wakes its reader.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use serde::{Deserialize, Serialize};

use crate::session::Occasion;

/// One letter.
#[derive(Debug)]
pub enum Mail {
    /// End.
    Stop,
    /// End: the place is there no more, and why.
    Close(String),
    /// An occasion for a poll.
    Wake(Occasion),
    /// Somebody on this machine asks for a poll, and wants to know what becomes of that.
    PollNow {
        /// Only if the card has this ICCID.
        iccid: Option<String>,
        /// Where the answer goes.
        reply: Sender<PollNowReply>,
    },
    /// Something that was begun for the card's agent is done: its desk has the answer.
    Desk,
    /// A server's name was looked up.
    Resolved {
        /// host:port as it was asked for.
        endpoint: String,
        /// Its addresses, at least one.
        addresses: io::Result<Vec<SocketAddr>>,
    },
}

/// What becomes of a request for a poll at one card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollNowReply {
    /// Where the card is, in the words of `--card`.
    pub card: String,
    /// The card's ICCID; absent where none is there.
    pub iccid: Option<String>,
    /// What is done about it.
    pub result: PollNowResult,
}

/// The same in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PollNowResult {
    /// A poll leaves.
    Polling,
    /// No card is there.
    NoCard,
    /// Another card is there than the one that was meant.
    OtherCard,
    /// The polling rules of its operator do not allow polls on request.
    NotAllowed,
}

/// Puts mail into one mailbox.
#[derive(Clone, Debug)]
pub struct Post {
    sender: Sender<Mail>,
    bell: Arc<EventFd>,
}

impl Post {
    /// Delivers. Mail to somebody who has ended is lost, as it should be.
    pub fn send(&self, mail: Mail) {
        if self.sender.send(mail).is_ok() {
            // Fails only when the counter is full: then the bell rings already.
            let _ = self.bell.write(1);
        }
    }
}

/// One thread's mail.
#[derive(Debug)]
pub struct Mailbox {
    receiver: Receiver<Mail>,
    post: Post,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let bell = Arc::new(bell);
        Ok(Self {
            receiver,
            post: Post { sender, bell },
        })
    }

    /// A way to put mail into it.
    pub fn post(&self) -> Post {
        self.post.clone()
    }

    /// Readable while there is mail.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.post.bell.as_fd()
    }

    /// All the mail that there is.
    pub fn take(&self) -> Vec<Mail> {
        // First the bell, then the mail: what comes in between rings again.
        let _ = self.post.bell.read();
        self.receiver.try_iter().collect()
    }
}
