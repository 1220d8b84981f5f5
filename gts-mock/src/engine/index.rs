//! Which identity is whose: every identity that the server answers to, computed in advance, so that
//! one that is not known costs a single look-up.

use std::collections::{HashMap, hash_map};

use protocol::{chain::Link, identity::Uid, secret::NOTHING_TO_DO};

use super::{Engine, subscription::Subscription, walk};
use crate::store::SubId;

/// Where a card stands that polls with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `UID_n`: it has accepted nothing since.
    Current,
    /// A child of `UID_n`: it has accepted this message (0: nothing to do) of this attempt.
    Child { message: u32, attempt: u8 },
    /// `R(e + ahead)`.
    Recovery { ahead: u8 },
    /// The child of `R(e + ahead)`.
    RecoveryChild { ahead: u8 },
    /// An identity that promotions which were lost may have led to.
    Walked(u16),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) subscription: SubId,
    pub(super) place: Place,
}

/// The standard library's hasher is keyed at random: nobody can aim at one bucket.
#[derive(Default)]
pub(super) struct Index(HashMap<Uid, Entry>);

impl Index {
    pub(super) fn get(&self, uid: &Uid) -> Option<Entry> {
        self.0.get(uid).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the identity is now in the index at that place: false if it is somebody else's, or
    /// stands at another place already.
    fn claim(&mut self, uid: Uid, subscription: SubId, place: Place) -> bool {
        match self.0.entry(uid) {
            hash_map::Entry::Occupied(_) => false,
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry {
                    subscription,
                    place,
                });
                true
            }
        }
    }
}

impl Engine {
    /// The identity and key of a place, derived anew.
    pub(super) fn link_at(&self, subscription: &Subscription, place: Place) -> Link {
        match place {
            Place::Current => subscription.current.clone(),
            Place::Child { message, attempt } => self.child(subscription, message, attempt),
            Place::Recovery { ahead } => subscription.recovery_ahead(ahead).identity(),
            Place::RecoveryChild { ahead } => self.recovery_child(subscription, ahead),
            Place::Walked(step) => subscription.walk[usize::from(step)].link.clone(),
        }
    }

    fn child(&self, subscription: &Subscription, message: u32, attempt: u8) -> Link {
        let secret = self
            .secret
            .device(&subscription.reference, self.epoch.generation);
        let current = &subscription.current;
        current.child(secret.uid_rand(current.uid(), message, attempt))
    }

    pub(super) fn recovery_child(&self, subscription: &Subscription, ahead: u8) -> Link {
        let secret = self.secret.device(&subscription.reference, 0);
        let identity = subscription.recovery_ahead(ahead).identity();
        identity.child(secret.uid_rand(identity.uid(), NOTHING_TO_DO, 0))
    }

    /// Makes the index answer to all identities of a subscription as it is now, and to no others of it.
    ///
    /// Where the child on offer exists in the system already, `attempt` is raised until it does not.
    pub(super) fn reindex(&mut self, id: SubId) {
        let Some(mut subscription) = self.subscriptions.remove(&id) else {
            return;
        };
        for uid in subscription.identities.drain(..) {
            self.index.0.remove(&uid);
        }
        self.claim(&mut subscription, Place::Current);
        self.claim_children(&mut subscription);
        for ahead in 0..self.epoch.recovery_window(&subscription) {
            self.claim(&mut subscription, Place::Recovery { ahead });
            self.claim(&mut subscription, Place::RecoveryChild { ahead });
        }
        for step in 0..walk::length(&subscription.walk) {
            self.claim(&mut subscription, Place::Walked(step));
        }
        self.subscriptions.insert(id, subscription);
    }

    /// Claims the current identity alone.
    pub(super) fn index_current(&mut self, id: SubId) {
        if let Some(mut subscription) = self.subscriptions.remove(&id) {
            self.claim(&mut subscription, Place::Current);
            self.subscriptions.insert(id, subscription);
        }
    }

    /// The children already offered, then the one on offer.
    fn claim_children(&mut self, subscription: &mut Subscription) {
        let offered: Vec<u32> = subscription.queue.children().collect();
        for attempt in 0..=subscription.attempt {
            for &message in &offered {
                self.claim(subscription, Place::Child { message, attempt });
            }
        }
        let on_offer = subscription
            .queue
            .head()
            .map_or(NOTHING_TO_DO, |head| head.id);
        while !self.is_claimed(subscription, on_offer) && subscription.attempt < u8::MAX {
            subscription.attempt += 1;
            subscription.attempt_unsaved = true;
            let attempt = subscription.attempt;
            self.claim(
                subscription,
                Place::Child {
                    message: on_offer,
                    attempt,
                },
            );
        }
    }

    fn is_claimed(&self, subscription: &Subscription, message: u32) -> bool {
        let attempt = subscription.attempt;
        let uid = self.child(subscription, message, attempt).uid();
        let place = Place::Child { message, attempt };
        self.index
            .get(&uid)
            .is_some_and(|entry| entry.subscription == subscription.id && entry.place == place)
    }

    pub(super) fn claim(&mut self, subscription: &mut Subscription, place: Place) {
        let uid = self.link_at(subscription, place).uid();
        if self.index.claim(uid, subscription.id, place) {
            subscription.identities.push(uid);
        }
    }

    /// Whether somebody has this identity already.
    pub(super) fn is_taken(&self, uid: &Uid) -> Option<&str> {
        let entry = self.index.get(uid)?;
        self.subscriptions
            .get(&entry.subscription)
            .map(|owner| &*owner.reference)
    }
}
