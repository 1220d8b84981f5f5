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

use crate::session::Occasion;

/// One letter.
#[derive(Debug)]
pub enum Mail {
    /// End.
    Stop,
    /// An occasion for a poll.
    Wake(Occasion),
    /// A server's name was looked up.
    Resolved {
        /// host:port as it was asked for.
        endpoint: String,
        /// Its addresses, at least one.
        addresses: io::Result<Vec<SocketAddr>>,
    },
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
