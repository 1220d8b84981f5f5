//! What the server answers to besides when state may have been lost: a power cut, a restore.
//!
//! A store has a generation; children are made with it. A subscription whose generation is older is
//! *uncertain*: its card may be further along than the store knows, on identities that the server
//! made in that older generation and has forgotten. They are all functions of what it still has, so
//! they are computed in advance. The first promotion to a child of the new generation ends it:
//! nobody can have recorded such a poll before.

use protocol::{
    chain::Link,
    secret::{DeviceSecret, NOTHING_TO_DO},
};

use super::{Engine, subscription::Subscription};
use crate::store::SubId;

/// The store's generation and how far the walk goes for what is older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// 4 bytes, 0 at first; raised whenever state may have been lost.
    pub generation: u32,
    /// W: how many promotions may have been lost.
    pub promotions: u8,
    /// E: how many recovery identities may have been used up, this one included.
    pub recoveries: u8,
    /// POSIX time until which nothing is queued after a restore.
    pub queue_from: u64,
    /// Ids up to this one were in a restored queue: what arrives of them may have been superseded.
    pub restored_ids: u32,
}

/// What may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Promotions that were written but not synced: at most one of a device.
    PowerCut,
    /// Everything since the backup.
    Restore,
}

impl Epoch {
    /// The epoch after a loss, at this POSIX time in seconds.
    #[must_use]
    pub fn after(self, loss: Loss, posix: u64) -> Self {
        let clock = u32::try_from(posix).unwrap_or(u32::MAX);
        let generation = self.generation.saturating_add(1).max(clock);
        let (w, e) = match loss {
            Loss::PowerCut => (2, 1),
            Loss::Restore => (8, 8),
        };
        let mut after = Self { generation, ..self };
        after.promotions = self.promotions.max(w);
        after.recoveries = self.recoveries.max(e);
        if loss == Loss::Restore {
            let last = posix.saturating_add(super::queue::MAX_ID_AHEAD);
            after.restored_ids = u32::try_from(last).unwrap_or(u32::MAX);
            after.queue_from = last.saturating_add(1);
        }
        after
    }

    /// Whether the card of this subscription may be further along than the store knows.
    pub(super) fn is_uncertain(&self, subscription: &Subscription) -> bool {
        subscription.generation < self.generation
    }

    /// How many recovery identities are answered.
    pub(super) fn recovery_window(&self, subscription: &Subscription) -> u8 {
        if self.is_uncertain(subscription) {
            self.recoveries.max(1)
        } else {
            1
        }
    }
}

/// An identity that lost promotions may have led to.
#[derive(Clone, Debug)]
pub(super) struct Walked {
    pub(super) link: Link,
    /// The message accepted on the way; 0 if none was.
    pub(super) message: u32,
    /// How many more promotions may have followed.
    pub(super) left: u8,
    /// Whether the way began at `R(e)`.
    pub(super) recovered: bool,
}

/// The number of steps, as places count them. A walk has at most a few hundred.
pub(super) fn length(walk: &[Walked]) -> u16 {
    u16::try_from(walk.len()).unwrap_or(u16::MAX)
}

impl Engine {
    /// Computes what an uncertain subscription answers to besides, from its stored identity and from
    /// the child of `R(e)`.
    pub(super) fn start_walk(&mut self, id: SubId) {
        let Some(subscription) = self.subscriptions.get(&id) else {
            return;
        };
        if !self.epoch.is_uncertain(subscription) {
            return;
        }
        let start = Walked {
            link: subscription.current.clone(),
            message: NOTHING_TO_DO,
            left: self.epoch.promotions,
            recovered: false,
        };
        let walk = self.walk_from(subscription, &start);
        self.set_walk(id, walk);
    }

    /// The walk after a promotion inside it: the identities below stay, and so does the way over
    /// `R(e)` unless it was taken.
    pub(super) fn continue_walk(&mut self, id: SubId, from: &Walked) {
        let Some(subscription) = self.subscriptions.get(&id) else {
            return;
        };
        let walk = self.walk_from(subscription, from);
        self.set_walk(id, walk);
    }

    fn set_walk(&mut self, id: SubId, walk: Vec<Walked>) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.walk = walk;
        }
    }

    fn walk_from(&self, subscription: &Subscription, start: &Walked) -> Vec<Walked> {
        let secret = self
            .secret
            .device(&subscription.reference, subscription.generation);
        let mut walk = Vec::new();
        descend(
            &mut walk,
            start,
            subscription,
            &secret,
            subscription.attempt,
        );
        if !start.recovered {
            let child = Walked {
                link: self.recovery_child(subscription, 0),
                message: NOTHING_TO_DO,
                left: self.epoch.promotions,
                recovered: true,
            };
            descend(&mut walk, &child, subscription, &secret, 0);
        }
        walk
    }
}

/// Appends all that can follow `from`, with at most one message on the way. At most W deep.
fn descend(
    walk: &mut Vec<Walked>,
    from: &Walked,
    subscription: &Subscription,
    secret: &DeviceSecret,
    attempts: u8,
) {
    if from.left == 0 {
        return;
    }
    let messages = subscription.queue.children();
    let messages = messages.filter(|id| from.message == NOTHING_TO_DO || *id == NOTHING_TO_DO);
    for message in messages {
        for attempt in 0..=attempts {
            let rand = secret.uid_rand(from.link.uid(), message, attempt);
            let step = Walked {
                link: from.link.child(rand),
                message: if message == NOTHING_TO_DO {
                    from.message
                } else {
                    message
                },
                left: from.left - 1,
                recovered: from.recovered,
            };
            walk.push(step.clone());
            descend(walk, &step, subscription, secret, 0);
        }
    }
}
