//! Promotion: a card that polls under a child has accepted the response that led there. The child
//! becomes current, the parent is forgotten, and what the card accepted is delivered.

use protocol::{chain::Link, identity::Uid, secret::NOTHING_TO_DO};

use super::{
    Delivery, Durability, Engine, Now, SyncPolicy,
    index::Place,
    subscription::{Pair, Subscription},
    walk::Walked,
};
use crate::store::{Change, MessageRecord, MessageState, Outcome, Promoted, SubId};

/// What a promotion has to put on disk before the answer leaves.
pub(super) struct Promotion {
    pub(super) changes: Vec<Change>,
    pub(super) durability: Durability,
    pub(super) delivered: Option<Delivery>,
}

impl Engine {
    /// Promotes if the card stands anywhere but at the current identity or at a recovery identity.
    pub(super) fn promote(
        &mut self,
        id: SubId,
        place: Place,
        link: &Link,
        now: Now,
    ) -> Option<Promotion> {
        let accepted = match place {
            Place::Current | Place::Recovery { .. } => return None,
            Place::Child { message, .. } => message,
            Place::RecoveryChild { .. } => NOTHING_TO_DO,
            Place::Walked(step) => self.subscriptions.get(&id)?.walk[usize::from(step)].message,
        };
        let resolved = self.resolve_messages(id, place, accepted);
        let is_delivered = resolved.iter().any(|message| message.id == accepted);
        let parent = self.subscriptions.get(&id)?.current.uid();
        self.move_on(id, place, link);
        self.reindex(id);

        let mut changes = vec![self.promoted(id, place, parent)?];
        changes.extend(resolved.iter().map(|message| outcome(message, now)));
        let subscription = self.subscriptions.get_mut(&id)?;
        subscription.attempt_unsaved = false;
        let reference = &subscription.reference;
        let delivered = is_delivered.then(|| Delivery {
            reference: reference.clone(),
            id: accepted,
        });
        let durability = self.durability(id, place, delivered.is_some());
        self.counters.promotions += 1;
        self.counters.delivered += u64::from(delivered.is_some());
        self.counters.recoveries += u64::from(matches!(place, Place::RecoveryChild { .. }));
        Some(Promotion {
            changes,
            durability,
            delivered,
        })
    }

    /// How a promotion that has been carried out is stored: as a step from the parent, or, where that
    /// does not tell all, as the chain that has come of it.
    fn promoted(&self, id: SubId, place: Place, parent: Uid) -> Option<Change> {
        let subscription = self.subscriptions.get(&id)?;
        Some(match place {
            Place::Child { message, attempt } if subscription.attempt == 0 => {
                Change::Promoted(Promoted {
                    id,
                    parent: Promoted::short(parent),
                    child: Promoted::short(subscription.current.uid()),
                    message,
                    attempt,
                })
            }
            _ => Change::Chain(Box::new(self.chain_record(subscription))),
        })
    }

    /// A subscription's second promotion that is not synced, one inside a walk (which makes up for
    /// others that were lost), a delivery, a recovery, a raised attempt and what the operator's policy
    /// asks for are synced; the others are written.
    fn durability(&mut self, id: SubId, place: Place, delivered: bool) -> Durability {
        let (open, synced) = (self.sync.open, self.sync.synced);
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return Durability::Synced;
        };
        let second = subscription.promoted_in > synced;
        subscription.promoted_in = open;
        let found = matches!(place, Place::RecoveryChild { .. } | Place::Walked(_));
        let must = delivered || second || found || subscription.attempt > 0;
        if must || self.policy == SyncPolicy::EveryPromotion {
            Durability::Synced
        } else {
            Durability::Written
        }
    }

    /// What becomes of the messages: the accepted one is delivered; of those withdrawn it is now known
    /// that they were not accepted, or, where a recovery came between, it never will be.
    fn resolve_messages(&mut self, id: SubId, place: Place, accepted: u32) -> Vec<MessageRecord> {
        let restored = self.epoch.restored_ids;
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return Vec::new();
        };
        let mut done = Vec::new();
        if accepted != NOTHING_TO_DO
            && let Some(mut message) = subscription.queue.take(accepted)
        {
            let superseded = message.id <= restored;
            message.state = if superseded {
                MessageState::DeliveredOrSuperseded
            } else {
                MessageState::Delivered
            };
            done.push(message);
        }
        let inside_walk = matches!(place, Place::Walked(_)) && accepted == NOTHING_TO_DO;
        if !inside_walk {
            let recovery = matches!(place, Place::RecoveryChild { .. });
            done.extend(
                subscription
                    .queue
                    .take_withdrawn()
                    .into_iter()
                    .map(|mut message| {
                        message.state = message.state.resolved(recovery);
                        message
                    }),
            );
        }
        done
    }

    /// Puts the subscription where the card is.
    fn move_on(&mut self, id: SubId, place: Place, link: &Link) {
        let generation = self.epoch.generation;
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        let before = subscription.sent;
        subscription.current = link.clone();
        subscription.attempt = 0;
        subscription.sent = Pair::default();
        subscription.recovery_sent.clear();
        let walk = std::mem::take(&mut subscription.walk);
        match place {
            Place::Child { .. } => {
                subscription.generation = generation;
                subscription.quality.add(before);
                self.counters.quality.add(before);
            }
            Place::RecoveryChild { ahead } => {
                raise_e(subscription, ahead);
                self.start_walk(id);
            }
            Place::Walked(step) => {
                let from: Walked = walk[usize::from(step)].clone();
                subscription.generation = from.generation;
                if from.recovered {
                    raise_e(subscription, 0);
                }
                self.continue_walk(id, from);
            }
            Place::Current | Place::Recovery { .. } => {}
        }
    }
}

fn raise_e(subscription: &mut Subscription, ahead: u8) {
    subscription.recovery = subscription.recovery_ahead(ahead).next();
}

fn outcome(message: &MessageRecord, now: Now) -> Change {
    Change::Outcome(Outcome {
        subscription: message.subscription,
        message: message.id,
        state: message.state,
        changed_at: now.posix,
    })
}
