//! The server's decisions, without a socket, file or clock: a datagram, its source and the time
//! come in; an answer, or the reason why there is none, goes out, with what must be on disk before.
//!
//! ```text
//! datagram ─▶ form ─▶ index ─▶ MAC and mode ─▶ promotion? ─▶ count ─▶ seal ─▶ answer
//!             │        │        │                            │
//!             └────────┴────────┴──── dropped and counted ───┘
//! ```
//!
//! What a subscription is and how it moves: [`subscription`]; messages: [`queue`]; what is answered
//! besides after state may have been lost: [`walk`]; who asks too much: [`limits`].

pub mod counters;
mod index;
pub mod limits;
mod operator;
mod promotion;
pub mod queue;
pub mod subscription;
pub mod walk;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use protocol::{
    chain::Link,
    msg,
    poll::Poll,
    response::ResponseDatagram,
    secret::{self, ServerSecret},
};

use crate::store::{Change, Loaded, StoreError, SubId};
use counters::{Counters, Dropped};
use index::{Index, Place};
use limits::{Misses, Repeats};
use queue::Deadlines;
use subscription::Subscription;
use walk::Epoch;

pub use operator::{Prepared, QueueRefused};

/// The moment of a decision, told by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// POSIX time in seconds: for message ids, expiry and what people read.
    pub posix: u64,
    /// Time since any fixed moment; never goes back. For limits.
    pub monotonic: Duration,
}

/// What must have happened to an answer's changes before it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Written, so that a killed process loses nothing.
    #[default]
    Written,
    /// Synced, so that a power cut loses nothing.
    Synced,
}

/// An answer and what it rests on.
#[derive(Debug)]
pub struct Answer {
    /// To be sent to where the poll came from.
    pub datagram: ResponseDatagram,
    /// Whose poll it was.
    pub subscription: SubId,
    /// To be stored before the datagram leaves. Empty for all but promotions.
    pub changes: Vec<Change>,
    /// How firmly.
    pub durability: Durability,
    /// What the poll has proved to be delivered.
    pub delivered: Option<Delivery>,
}

/// A message that the card has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whose it was.
    pub reference: Box<str>,
    /// The message id.
    pub id: u32,
}

/// Whether every promotion is synced before its answer, or only those that must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Only deliveries, recoveries, raised attempts and a subscription's second unsynced promotion:
    /// a power cut loses at most one promotion of a device.
    #[default]
    Group,
    /// All of them.
    EveryPromotion,
}

/// All subscriptions and what the server answers to.
pub struct Engine {
    secret: ServerSecret,
    epoch: Epoch,
    policy: SyncPolicy,
    subscriptions: HashMap<SubId, Subscription>,
    references: HashMap<Box<str>, SubId>,
    next_id: SubId,
    index: Index,
    repeats: Repeats,
    deadlines: Deadlines,
    /// Unknown identities by source prefix.
    pub misses: Misses,
    /// What has been answered and dropped, by reason.
    pub counters: Counters,
    sync: SyncRounds,
}

/// Tells which promotions are on disk for good. A promotion belongs to the round that was open when
/// it was decided; a round is synced when a sync that began after its end has returned.
#[derive(Debug)]
struct SyncRounds {
    open: u64,
    synced: u64,
}

impl Engine {
    /// An engine with all that the store held, ready to answer.
    pub fn new(loaded: Loaded, policy: SyncPolicy) -> Result<Self, StoreError> {
        let mut engine = Self {
            secret: loaded.secret,
            epoch: loaded.epoch,
            policy,
            subscriptions: HashMap::new(),
            references: HashMap::new(),
            next_id: 0,
            index: Index::default(),
            repeats: Repeats::default(),
            deadlines: Deadlines::default(),
            misses: Misses::default(),
            counters: Counters::default(),
            sync: SyncRounds { open: 1, synced: 0 },
        };
        let mut identities = loaded.identities;
        for chain in loaded.chains {
            let chain = chain?;
            let identity = identities.next().transpose()?;
            let identity = identity.filter(|identity| identity.id == chain.id);
            let identity = identity.ok_or_else(|| StoreError::Damaged {
                what: format!("the identity of subscription {}", chain.id),
            })?;
            engine.adopt(Subscription::new(&identity, &chain));
        }
        for (id, highest) in loaded.highest_ids {
            if let Some(subscription) = engine.subscriptions.get_mut(&id) {
                subscription.queue.note_highest(highest);
            }
        }
        for message in loaded.messages {
            engine.deadlines.note(&message);
            if let Some(subscription) = engine.subscriptions.get_mut(&message.subscription) {
                subscription.queue.restore(message);
            }
        }
        engine.index_all();
        Ok(engine)
    }

    /// Current identities first: a child that equals one of them yields, by a raised attempt.
    fn index_all(&mut self) {
        let ids: Vec<SubId> = self.subscriptions.keys().copied().collect();
        for id in &ids {
            self.index_current(*id);
        }
        for id in ids {
            self.start_walk(id);
            self.reindex(id);
        }
    }

    fn adopt(&mut self, subscription: Subscription) {
        self.next_id = self.next_id.max(subscription.id + 1);
        self.references
            .insert(subscription.reference.clone(), subscription.id);
        self.subscriptions.insert(subscription.id, subscription);
    }

    /// Decides what becomes of one datagram.
    pub fn receive(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        now: Now,
    ) -> Result<Answer, Dropped> {
        let decision = self.decide(datagram, source, now);
        match &decision {
            Ok(_) => self.counters.answered += 1,
            Err(reason) => self.counters.note(*reason),
        }
        decision
    }

    fn decide(&mut self, datagram: &[u8], source: SocketAddr, now: Now) -> Result<Answer, Dropped> {
        let poll = Poll::parse(datagram)?;
        let Some(entry) = self.index.get(&poll.uid) else {
            self.misses.note(source.ip());
            return Err(Dropped::UnknownIdentity);
        };
        // The index holds identities of subscriptions that exist, and of no others.
        let Some(subscription) = self.subscriptions.get(&entry.subscription) else {
            return Err(Dropped::UnknownIdentity);
        };
        let link = self.link_at(subscription, entry.place);
        link.verify(&poll)?;

        let promotion = self.promote(entry.subscription, entry.place, &link, now);
        let place = if promotion.is_some() {
            Place::Current
        } else {
            entry.place
        };
        let sent = self.count(entry.subscription, place, &poll, source, now)?;
        let datagram = self.answer(entry.subscription, place, &link, sent)?;
        let mut answer = Answer {
            datagram,
            subscription: entry.subscription,
            changes: Vec::new(),
            durability: Durability::Written,
            delivered: None,
        };
        if let Some(promotion) = promotion {
            answer.delivered = promotion.delivered;
            answer.durability = promotion.durability;
            answer.changes = promotion.changes;
        }
        self.settle(&mut answer);
        Ok(answer)
    }

    /// Raises Sent, or refuses a repetition that comes too soon.
    fn count(
        &mut self,
        id: SubId,
        place: Place,
        poll: &Poll,
        source: SocketAddr,
        now: Now,
    ) -> Result<u16, Dropped> {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return Err(Dropped::UnknownIdentity);
        };
        subscription.last_poll = Some((now.posix, source));
        let pair = subscription.pair(place);
        if pair.count(poll.resend_counter) {
            self.repeats.note(poll.uid, source.ip(), now.monotonic);
        } else if !self.repeats.allow(poll.uid, source.ip(), now.monotonic) {
            return Err(Dropped::RepeatedTooSoon);
        }
        Ok(pair.sent)
    }

    /// The answer to a poll that has been counted: the head of the queue or nothing to do, with the
    /// seed of the child that was indexed for it in advance.
    fn answer(
        &self,
        id: SubId,
        place: Place,
        link: &Link,
        sent: u16,
    ) -> Result<ResponseDatagram, Dropped> {
        let Some(subscription) = self.subscriptions.get(&id) else {
            return Err(Dropped::UnknownIdentity);
        };
        let head = subscription
            .queue
            .head()
            .filter(|_| place == Place::Current);
        let (message, text) = match head {
            Some(head) => (head.id, head.msg.as_slice()),
            None => (secret::NOTHING_TO_DO, msg::NOTHING_TO_DO.as_slice()),
        };
        let rand = match place {
            Place::Current => {
                let secret = self
                    .secret
                    .device(&subscription.reference, self.epoch.generation);
                secret.uid_rand(link.uid(), message, subscription.attempt)
            }
            // R(e) has exactly one child, in every generation.
            _ => self
                .secret
                .device(&subscription.reference, 0)
                .uid_rand(link.uid(), message, 0),
        };
        // Queueing refuses a message that is too long for the mode, so this drops nothing today.
        link.seal(text, sent, rand)
            .map_err(|_| Dropped::MessageTooLong)
    }

    /// A raised attempt is on disk before the first answer that rests on it.
    fn settle(&mut self, answer: &mut Answer) {
        let Some(subscription) = self.subscriptions.get_mut(&answer.subscription) else {
            return;
        };
        if std::mem::take(&mut subscription.attempt_unsaved) {
            let generation = self.epoch.generation;
            let record = subscription.chain_record(&self.secret, generation);
            answer.changes.push(Change::Chain(Box::new(record)));
            answer.durability = Durability::Synced;
        }
    }

    /// Opens the next round; what was decided until now is in the one whose number is returned.
    pub fn end_sync_round(&mut self) -> u64 {
        let ended = self.sync.open;
        self.sync.open += 1;
        ended
    }

    /// A sync that began after the end of this round has returned.
    pub fn synced(&mut self, round: u64) {
        self.sync.synced = self.sync.synced.max(round);
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether there is no subscription at all.
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// How many identities the server answers to.
    pub fn identities(&self) -> usize {
        self.index.len()
    }

    /// The generation of the store.
    pub const fn generation(&self) -> u32 {
        self.epoch.generation
    }

    /// The subscription of this reference.
    pub fn subscription(&self, reference: &str) -> Option<&Subscription> {
        self.subscriptions.get(self.references.get(reference)?)
    }

    /// All subscriptions, in no order.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.values()
    }
}
