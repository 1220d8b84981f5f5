//! What an operator does: import subscriptions, queue, cancel. Each is prepared here, stored by the
//! caller, and only then takes effect: what an operator is told is queued, is on disk.
//!
//! The caller lets one of these run at a time.

use protocol::{identity::Uid, msg, msg::Object, response::max_msg, secret::ServerSecret};

use zeroize::Zeroizing;

use super::{Engine, Now, subscription::Subscription};
use crate::store::{ChainRecord, Change, IdentityRecord, MessageRecord, MessageState, SubId};

/// Why a message is not queued, or not withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueRefused {
    /// Nobody of this reference.
    #[error("no subscription {0:?}")]
    NoSubscription(String),
    /// It would not fit into an answer.
    #[error("the message has {len} bytes; a subscription of mode {mode} takes at most {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The longest that the mode allows, in bytes.
        max: usize,
        /// The mode.
        mode: u8,
    },
    /// Ids would run too far ahead of the clock, or a restore is too fresh.
    #[error("message ids run ahead of the clock: try again in {0} s")]
    Wait(u64),
    /// The queue is full.
    #[error("{0} messages wait already, more are not taken")]
    Full(usize),
    /// No such message waits.
    #[error("no message {0} waits there")]
    NoMessage(u32),
    /// Too many were withdrawn while they may have been offered.
    #[error("four withdrawn messages are still answered: try again after the device's next poll")]
    TooManyWithdrawn,
}

/// How many messages may wait for one subscription.
const MAX_WAITING: usize = 1000;

/// A message that is to be stored before it is put on offer, or after it was withdrawn.
#[derive(Debug)]
pub struct Prepared {
    /// The message.
    pub message: MessageRecord,
    /// To be stored, synced.
    pub changes: Vec<Change>,
}

impl Engine {
    /// Who answers to this identity already, so that no new subscription can begin with it.
    pub fn owner(&self, uid_1: &Uid) -> Option<&str> {
        self.is_taken(uid_1)
    }

    /// S, for chains that begin.
    pub fn secret(&self) -> ServerSecret {
        let mut bytes = Zeroizing::new([0; 16]);
        bytes.copy_from_slice(self.secret.as_bytes());
        ServerSecret::from_bytes(*bytes)
    }

    /// The number that the next subscription gets.
    pub const fn next_id(&self) -> SubId {
        self.next_id
    }

    /// Where the chain of a new subscription begins.
    pub fn first_chain(&self, identity: &IdentityRecord) -> ChainRecord {
        ChainRecord::first(identity, &self.secret)
    }

    /// The chains from this subscription on, at most `limit` of them, for a snapshot; and the number
    /// that follows them.
    pub fn chains(&self, from: SubId, limit: u32) -> (Vec<ChainRecord>, SubId) {
        let end = from.saturating_add(limit).min(self.next_id);
        let subscriptions = (from..end).filter_map(|id| self.subscriptions.get(&id));
        let chains = subscriptions.map(|subscription| self.chain_record(subscription));
        (chains.collect(), end)
    }

    pub(super) fn chain_record(&self, subscription: &Subscription) -> ChainRecord {
        subscription.chain_record(&self.secret, self.epoch.generation)
    }

    /// Takes a subscription that is on disk.
    pub fn add(&mut self, identity: &IdentityRecord, chain: &ChainRecord) {
        self.adopt(Subscription::new(identity, chain));
        self.reindex(identity.id);
    }

    /// Gives a message its id. Nothing is on offer before [`Engine::offer`].
    pub fn prepare(
        &mut self,
        reference: &str,
        objects: &[Object<'_>],
        expires_in: Option<u64>,
        now: Now,
    ) -> Result<Prepared, QueueRefused> {
        let queue_from = self.epoch.queue_from;
        if now.posix < queue_from {
            return Err(QueueRefused::Wait(queue_from - now.posix));
        }
        let subscription = self.subscription_mut(reference)?;
        check_length(subscription, objects)?;
        if subscription.queue.waiting().len() >= MAX_WAITING {
            return Err(QueueRefused::Full(MAX_WAITING));
        }
        let id = subscription
            .queue
            .take_id(now.posix)
            .map_err(QueueRefused::Wait)?;
        let message = MessageRecord {
            subscription: subscription.id,
            id,
            msg: msg::compose(id, objects),
            queued_at: now.posix,
            expires_at: expires_in.map(|seconds| now.posix.saturating_add(seconds)),
            state: MessageState::Queued,
            changed_at: now.posix,
        };
        Ok(Prepared {
            changes: vec![Change::Message(message.clone())],
            message,
        })
    }

    /// Lets a message that is on disk wait its turn, or go on offer if nothing else waits.
    pub fn offer(&mut self, message: MessageRecord) {
        let id = message.subscription;
        self.deadlines.note(&message);
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        let on_offer = subscription.queue.head().is_none();
        subscription.queue.restore(message);
        if on_offer {
            self.reindex(id);
        }
    }

    /// Lets no message of this subscription go on offer until [`Engine::release`]: one that is written
    /// is not synced yet.
    pub fn hold(&mut self, id: SubId) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.queue.hold();
        }
    }

    /// Takes a message out of the queue; the changes are to be stored, synced, and followed by
    /// [`Engine::release`]. If it may have been offered, its child stays answered until the next
    /// promotion.
    pub fn cancel(&mut self, reference: &str, id: u32, now: Now) -> Result<Prepared, QueueRefused> {
        let subscription = self.subscription_mut(reference)?.id;
        self.withdraw(subscription, id, MessageState::Cancelled, now)
    }

    /// Lets the next message go on offer after a withdrawal that is on disk.
    pub fn release(&mut self, id: SubId) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.queue.release();
            self.reindex(id);
        }
    }

    /// Messages whose time has come, at most `limit` of them; to be stored and released as with
    /// [`Engine::cancel`].
    pub fn expire(&mut self, now: Now, limit: usize) -> Vec<Prepared> {
        let mut expired = Vec::new();
        for (subscription, id) in self.deadlines.due(now.posix, limit) {
            match self.withdraw(subscription, id, MessageState::Expired, now) {
                Ok(message) => expired.push(message),
                Err(QueueRefused::TooManyWithdrawn) => {
                    self.deadlines.postpone(now.posix + 1, subscription, id);
                }
                // Delivered or cancelled meanwhile.
                Err(_) => {}
            }
        }
        expired
    }

    fn withdraw(
        &mut self,
        subscription: SubId,
        id: u32,
        reason: MessageState,
        now: Now,
    ) -> Result<Prepared, QueueRefused> {
        let Some(owner) = self.subscriptions.get_mut(&subscription) else {
            return Err(QueueRefused::NoMessage(id));
        };
        let waits = owner.queue.waiting().iter().any(|message| message.id == id);
        let Some(mut message) = owner.queue.withdraw(id, reason) else {
            return Err(if waits {
                QueueRefused::TooManyWithdrawn
            } else {
                QueueRefused::NoMessage(id)
            });
        };
        message.changed_at = now.posix;
        if message.state.is_withdrawn() {
            self.reindex(subscription);
        }
        Ok(Prepared {
            changes: vec![Change::Message(message.clone())],
            message,
        })
    }

    fn subscription_mut(&mut self, reference: &str) -> Result<&mut Subscription, QueueRefused> {
        let id = self.references.get(reference);
        let subscription = id.and_then(|id| self.subscriptions.get_mut(id));
        subscription.ok_or_else(|| QueueRefused::NoSubscription(reference.into()))
    }
}

fn check_length(subscription: &Subscription, objects: &[Object<'_>]) -> Result<(), QueueRefused> {
    // Every id takes four bytes, so the length is known before there is one.
    let len = msg::compose(1, objects).len();
    let max = max_msg(subscription.mode);
    if len > max {
        return Err(QueueRefused::TooLong {
            len,
            max,
            mode: subscription.mode.byte(),
        });
    }
    Ok(())
}
