//! A subscription's messages: first in, first out; at most one on offer, and that one immutable.
//!
//! A message that is cancelled or expires while it may have been offered is offered no more, but its
//! child stays answered until the next promotion: the card may have accepted it.

use std::collections::BTreeSet;

use protocol::secret::NOTHING_TO_DO;

use crate::store::{MessageRecord, MessageState, SubId};

/// How many withdrawn messages may stay answered at once; more have to wait.
pub const MAX_WITHDRAWN: usize = 4;
/// How far a message id may run ahead of the clock, in seconds.
pub const MAX_ID_AHEAD: u64 = 60;

/// A subscription's messages that are not done with: first those withdrawn, then those that wait.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    withdrawn: Vec<MessageRecord>,
    waiting: Vec<MessageRecord>,
    /// The head was withdrawn and that is not on disk yet: nothing else goes on offer before, or a
    /// crash could put the old head back in front of a message that the card has accepted.
    held: bool,
}

impl Queue {
    /// Whether nothing waits and nothing is held back for.
    pub(super) fn is_empty(&self) -> bool {
        self.withdrawn.is_empty() && self.waiting.is_empty() && !self.held
    }

    /// The message on offer.
    pub fn head(&self) -> Option<&MessageRecord> {
        self.waiting.first().filter(|_| !self.held)
    }

    /// Those that wait, the one on offer first.
    pub fn waiting(&self) -> &[MessageRecord] {
        &self.waiting
    }

    /// Those that are offered no more and may have been accepted.
    pub fn withdrawn(&self) -> &[MessageRecord] {
        &self.withdrawn
    }

    /// Puts back a message that the store held. Ids grow, so their order is the queue's.
    pub(super) fn restore(&mut self, message: MessageRecord) {
        let list = if message.state.is_withdrawn() {
            &mut self.withdrawn
        } else {
            &mut self.waiting
        };
        let at = list.partition_point(|other| other.id < message.id);
        list.insert(at, message);
    }

    /// The ids of all children of the current identity: of nothing to do, of the message on offer, of
    /// those withdrawn.
    pub(super) fn children(&self) -> impl Iterator<Item = u32> + '_ {
        let messages = self.head().into_iter().chain(&self.withdrawn);
        std::iter::once(NOTHING_TO_DO).chain(messages.map(|message| message.id))
    }

    /// Takes out the message that a promotion has proved to be accepted.
    pub(super) fn take(&mut self, id: u32) -> Option<MessageRecord> {
        let from = |list: &mut Vec<MessageRecord>| {
            let at = list.iter().position(|message| message.id == id)?;
            Some(list.remove(at))
        };
        from(&mut self.waiting).or_else(|| from(&mut self.withdrawn))
    }

    /// Takes out all that were withdrawn: their children are answered no more.
    pub(super) fn take_withdrawn(&mut self) -> Vec<MessageRecord> {
        std::mem::take(&mut self.withdrawn)
    }

    /// Takes a message out of the queue for this reason (cancelled or expired). The one on offer stays
    /// answered as withdrawn. `None`: no such message, or too many withdrawn already.
    pub(super) fn withdraw(&mut self, id: u32, reason: MessageState) -> Option<MessageRecord> {
        let at = self.waiting.iter().position(|message| message.id == id)?;
        if at == 0 && self.withdrawn.len() >= MAX_WITHDRAWN {
            return None;
        }
        let mut message = self.waiting.remove(at);
        message.state = reason;
        if at == 0 {
            message.state = reason.withdrawn();
            self.withdrawn.push(message.clone());
            self.held = true;
        }
        Some(message)
    }

    /// Lets nothing go on offer until [`Queue::release`].
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// What was held back for is on disk: the next message may go on offer.
    pub(super) fn release(&mut self) {
        self.held = false;
    }
}

/// The next message id of a subscription: `max(highest + 1, now)`, at most 60 s ahead of the clock.
/// Otherwise tells for how many seconds queueing has to wait.
pub(super) fn next_id(highest: u32, posix: u64) -> Result<u32, u64> {
    let clock = u32::try_from(posix).unwrap_or(u32::MAX);
    let id = highest.saturating_add(1).max(clock);
    let ahead = u64::from(id).saturating_sub(posix);
    if ahead > MAX_ID_AHEAD {
        return Err(ahead - MAX_ID_AHEAD);
    }
    Ok(id)
}

/// When messages expire, over all subscriptions.
#[derive(Debug, Default)]
pub struct Deadlines(BTreeSet<(u64, SubId, u32)>);

impl Deadlines {
    /// Remembers when this message expires, if ever.
    pub(super) fn note(&mut self, message: &MessageRecord) {
        if let Some(at) = message
            .expires_at
            .filter(|_| message.state == MessageState::Queued)
        {
            self.0.insert((at, message.subscription, message.id));
        }
    }

    /// Those whose time has come, at most `limit`; each is told once.
    pub(super) fn due(&mut self, posix: u64, limit: usize) -> Vec<(SubId, u32)> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(first) = self.0.first().copied().filter(|first| first.0 <= posix)
        {
            self.0.remove(&first);
            due.push((first.1, first.2));
        }
        due
    }

    /// Asks again later for a message that could not be withdrawn yet.
    pub(super) fn postpone(&mut self, until: u64, subscription: SubId, id: u32) {
        self.0.insert((until, subscription, id));
    }
}
