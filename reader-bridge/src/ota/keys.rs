//! Public keys: read from the card before the session in which they are delivered, or only told of.

use protocol::{msg::KeyAlgorithm, remote::PublicKey};

use super::{
    agenda::{Carried, Hex},
    agent::{Agent, State},
    event::Deed,
    io::{Action, KeyRead},
};
use crate::session::Now;

impl Agent {
    /// Reads the public keys that are to be delivered, one after the other; then the session begins.
    pub(super) fn prepare(&mut self, now: Now) {
        let card = self.card;
        let Some(job) = self.job() else { return };
        match (job.keys.first(), card) {
            (None, _) => self.begin(Carried::Nothing, now),
            (Some(_), false) => self.state = State::NoCard,
            (Some(key), true) => {
                let slot = key.slot;
                self.state = State::Keys(Vec::new());
                self.push(Action::ReadKey(slot));
            }
        }
    }

    pub(super) fn key_read(&mut self, read: KeyRead, now: Now) {
        let State::Keys(mut keys) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let Some(job) = self.agenda.jobs.first() else {
            return;
        };
        let at = keys.len();
        let Some((made, message_id)) = job.keys.get(at).map(|key| (*key, job.message)) else {
            return;
        };
        let more = job.keys.get(at + 1).map(|key| key.slot);
        let algorithm = made.algorithm();
        let (point, why) = match read {
            Ok(point) => (point, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        self.tell(Deed::PublicKey {
            message_id,
            algorithm: match algorithm {
                KeyAlgorithm::P256 => "p256",
                KeyAlgorithm::Ed25519 => "ed25519",
            },
            slot: made.slot,
            key: why.is_none().then(|| hex::encode(&point)),
            why,
        });
        keys.push(PublicKey {
            algorithm,
            slot: made.slot,
            point,
        });
        match more {
            Some(slot) => {
                self.state = State::Keys(keys);
                self.push(Action::ReadKey(slot));
            }
            None => self.keys_read(keys, now),
        }
    }

    fn keys_read(&mut self, mut keys: Vec<PublicKey>, now: Now) {
        keys.retain(|key| !key.point.is_empty());
        if self
            .agenda
            .jobs
            .first()
            .is_some_and(|job| job.url.is_none())
        {
            self.agenda.jobs.remove(0);
            self.save();
            return self.proceed(now);
        }
        if keys.is_empty() {
            self.forget_keys();
            return self.begin(Carried::Nothing, now);
        }
        self.begin(Carried::Keys(Hex(PublicKey::encode_all(&keys))), now);
    }

    /// They were delivered, or there are none.
    fn forget_keys(&mut self) {
        if let Some(job) = self.job() {
            job.keys.clear();
        }
    }
}
