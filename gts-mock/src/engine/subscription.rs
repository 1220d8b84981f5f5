//! One subscription as the server keeps it in memory: where its card is believed to be, what waits
//! for it, and how good its link is. K itself stays on disk.

use std::net::SocketAddr;

use protocol::{
    chain::{Link, RecoveryLink},
    identity::{Iccid, Mode, Uid},
    secret::ServerSecret,
};

use super::{index::Place, queue::Queue, walk::Walked};
use crate::store::{ChainRecord, IdentityRecord, SubId, recovery_link, recovery_uids};

/// A subscription in memory.
#[derive(Debug)]
pub struct Subscription {
    /// Its number in the store.
    pub id: SubId,
    /// What the operator calls it.
    pub reference: Box<str>,
    /// The card's ICCID.
    pub iccid: Iccid,
    /// The first identity.
    pub uid_1: Uid,
    /// The mode, the same on card and server.
    pub mode: Mode,
    /// `UID_n` and `K_n`.
    pub current: Link,
    /// e and `K_R(e)`.
    pub recovery: RecoveryLink,
    /// The generation in which the children of the current identity may have been made first.
    pub generation: u32,
    /// Raised while a child exists in the system already.
    pub attempt: u8,
    /// Messages that wait, are on offer, or were withdrawn.
    pub queue: Queue,
    /// Sent and the highest Resend_Counter under the current identity.
    pub sent: Pair,
    /// Counted over all its exchanges since the server was started.
    pub quality: Quality,
    /// POSIX time and source of the last valid poll.
    pub last_poll: Option<(u64, SocketAddr)>,
    pub(super) recovery_sent: Vec<(u32, Pair)>,
    pub(super) walk: Vec<Walked>,
    pub(super) identities: Vec<Uid>,
    /// The sync round of its last promotion.
    pub(super) promoted_in: u64,
    pub(super) attempt_unsaved: bool,
}

/// Sent and the highest Resend_Counter seen under one identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// How many answers were sent, repetitions not counted.
    pub sent: u16,
    /// `None` before the first poll.
    pub highest: Option<u8>,
}

impl Pair {
    /// Counts a poll; false if it is a repetition, to which the same Sent goes out again.
    pub fn count(&mut self, resend_counter: u8) -> bool {
        let new = self.highest.is_none_or(|highest| resend_counter > highest);
        if new {
            self.highest = Some(resend_counter);
            self.sent = self.sent.saturating_add(1);
        }
        new
    }
}

/// The link's quality, as both counters tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Exchanges that ended with an accepted response.
    pub exchanges: u64,
    /// Polls that never reached the server: `Resend_Counter + 1 - Sent`.
    pub polls_lost: u64,
    /// Answers that were lost on the way back: `Sent - 1`.
    pub answers_lost: u64,
}

impl Quality {
    /// Adds the exchange that this pair has counted, after its response was accepted.
    pub(super) fn add(&mut self, pair: Pair) {
        let polls = pair.highest.map_or(0, |highest| u64::from(highest) + 1);
        self.exchanges += 1;
        self.polls_lost += polls.saturating_sub(u64::from(pair.sent));
        self.answers_lost += u64::from(pair.sent).saturating_sub(1);
    }
}

impl Subscription {
    /// A subscription as the store keeps it.
    pub fn new(identity: &IdentityRecord, chain: &ChainRecord) -> Self {
        Self {
            id: identity.id,
            reference: identity.reference.clone(),
            iccid: identity.iccid,
            uid_1: identity.uid_1,
            mode: identity.mode,
            current: chain.link(),
            recovery: recovery_link(identity, chain.e),
            generation: chain.generation,
            attempt: chain.attempt,
            queue: Queue::default(),
            sent: Pair::default(),
            quality: Quality::default(),
            last_poll: None,
            recovery_sent: Vec::new(),
            walk: Vec::new(),
            identities: Vec::new(),
            promoted_in: 0,
            attempt_unsaved: false,
        }
    }

    /// As it is to be stored, in a store of this secret and generation.
    pub fn chain_record(&self, secret: &ServerSecret, generation: u32) -> ChainRecord {
        let (recovery, recovery_child) = recovery_uids(&self.recovery, &self.reference, secret);
        ChainRecord {
            id: self.id,
            mode: self.mode,
            uid: self.current.uid(),
            key: self.current.key().clone(),
            secret: secret.device(&self.reference, generation),
            attempt: self.attempt,
            generation: self.generation,
            e: self.recovery.e(),
            recovery,
            recovery_child,
        }
    }

    /// `K_R(e + ahead)`.
    pub(super) fn recovery_ahead(&self, ahead: u8) -> RecoveryLink {
        (0..ahead).fold(self.recovery.clone(), |link, _| link.next())
    }

    /// The counts of the identity at this place. A card that stands elsewhere is promoted first, so
    /// there are only two kinds: the current identity and recovery identities.
    pub(super) fn pair(&mut self, place: Place) -> &mut Pair {
        let Place::Recovery { ahead } = place else {
            return &mut self.sent;
        };
        let e = self.recovery.e().saturating_add(u32::from(ahead));
        let at = self
            .recovery_sent
            .iter()
            .position(|(of, _)| *of == e)
            .unwrap_or_else(|| {
                self.recovery_sent.push((e, Pair::default()));
                self.recovery_sent.len() - 1
            });
        &mut self.recovery_sent[at].1
    }
}
