//! A server for one subscription, as far as a terminal can tell: made of `protocol` alone.

use std::collections::VecDeque;

use protocol::{
    chain::{Link, RecoveryLink},
    identity::{Uid, UidRand},
    key::Key,
    msg::{NOTHING_TO_DO, Object, compose},
    poll::Poll,
    secret::{DeviceSecret, ServerSecret},
};

use crate::card::Subscription;

/// One subscription's state.
pub(crate) struct Server {
    link: Link,
    recovery: RecoveryLink,
    secret: DeviceSecret,
    queue: VecDeque<(u32, Vec<u8>)>,
    sent: u16,
    highest: Option<u8>,
    /// Ids of messages that the card has proved to have accepted.
    pub(crate) delivered: Vec<u32>,
}

impl Server {
    pub(crate) fn new(of: &Subscription) -> Self {
        Self::with_key(of, &of.key)
    }

    /// A server that believes in another key.
    pub(crate) fn with_key(of: &Subscription, key: &Key) -> Self {
        Self {
            link: Link::first(key, of.uid_1(), of.mode),
            recovery: RecoveryLink::first(key, of.uid_1(), of.mode),
            secret: ServerSecret::from_bytes([7; 16]).device("test", 0),
            queue: VecDeque::new(),
            sent: 0,
            highest: None,
            delivered: Vec::new(),
        }
    }

    /// Queues a message.
    pub(crate) fn queue(&mut self, id: u32, objects: &[Object<'_>]) {
        self.queue.push_back((id, compose(id, objects)));
    }

    /// Queues a MSG as it is.
    pub(crate) fn queue_raw(&mut self, id: u32, msg: &[u8]) {
        self.queue.push_back((id, msg.to_vec()));
    }

    /// The identity that the card is known under.
    pub(crate) fn current(&self) -> Uid {
        self.link.uid()
    }

    /// Loses what it knew of the chain, as a server put back from a wrong backup.
    pub(crate) fn forget_chain(&mut self) {
        self.link = Link::restore(Uid([0xEE; 10]), self.link.key().clone(), self.link.mode());
    }

    /// The answer to a datagram, if it is to have one.
    pub(crate) fn answer(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let poll = Poll::parse(datagram).ok()?;
        if poll.uid == self.recovery.identity().uid() {
            return self.answer_recovery(&poll);
        }
        self.promote(poll.uid);
        if poll.uid != self.link.uid() {
            return None;
        }
        self.link.verify(&poll).ok()?;
        if self
            .highest
            .is_none_or(|highest| poll.resend_counter > highest)
        {
            self.highest = Some(poll.resend_counter);
            self.sent += 1;
        }
        let (id, msg) = self.head();
        let rand = self.rand(&self.link, id);
        let answer = self.link.seal(&msg, self.sent, rand).unwrap();
        Some(answer.as_bytes().to_vec())
    }

    fn answer_recovery(&mut self, poll: &Poll) -> Option<Vec<u8>> {
        let identity = self.recovery.identity();
        identity.verify(poll).ok()?;
        let rand = self.rand(&identity, 0);
        let answer = identity.seal(&NOTHING_TO_DO, 1, rand).unwrap();
        Some(answer.as_bytes().to_vec())
    }

    fn head(&self) -> (u32, Vec<u8>) {
        self.queue
            .front()
            .cloned()
            .unwrap_or((0, NOTHING_TO_DO.to_vec()))
    }

    fn rand(&self, link: &Link, id: u32) -> UidRand {
        self.secret.uid_rand(link.uid(), id, 0)
    }

    /// A poll under a child proves what the card accepted.
    fn promote(&mut self, uid: Uid) {
        let (id, _) = self.head();
        for candidate in [0, id] {
            let child = self.link.child(self.rand(&self.link, candidate));
            if child.uid() == uid {
                if candidate != 0 {
                    self.delivered.push(id);
                    self.queue.pop_front();
                }
                return self.become_link(child);
            }
        }
        let identity = self.recovery.identity();
        let child = identity.child(self.rand(&identity, 0));
        if child.uid() == uid {
            self.recovery = self.recovery.next();
            self.become_link(child);
        }
    }

    fn become_link(&mut self, link: Link) {
        self.link = link;
        self.sent = 0;
        self.highest = None;
    }
}
