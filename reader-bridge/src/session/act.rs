//! What a message asks for, and what the terminal does about it.
//!
//! Owns judging each object of a MSG: acted on here (schedule, server), done by the card (keys), or
//! told to whoever listens (the rest). Refuses to open connections.

use protocol::{
    card::{Flags, Outcome},
    msg::{KeyAlgorithm, Malformed, Msg, MsgError, Object, TransportUpdate},
};

use crate::ota::{Wanted, Wish};

use super::{
    Action, Now, Session,
    asked::{Asked, Done, Message, What},
    event::Event,
    route::{Because, Via},
};

/// Where an outcome was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Whom the poll went to; `None` where nobody knows.
    pub(super) via: Option<Via>,
    /// On the card when the session began, rather than in an answer just now.
    pub(super) pending: bool,
}

impl Session {
    /// Acts on the message of an accepted response. What it changes is in the memory afterwards, with
    /// the message's id, and saved as one: nothing relative is done twice.
    pub(super) fn act(&mut self, outcome: &Outcome, found: Found, now: Now) {
        let msg = match Msg::parse(&outcome.msg) {
            Ok(msg) => msg,
            Err(error) => {
                let message = unreadable(error, found);
                self.want(Wish::of(None), &message);
                return self.tell(Event::Message(message));
            }
        };
        let Some(id) = msg.id() else { return };
        let duplicate = outcome.flags.contains(Flags::DUPLICATE) || id <= self.memory.last_message;
        let schedule = *self.planner.schedule();
        let mut wish = Wish::of(Some(id));
        let objects = msg
            .objects()
            .map(|object| self.judge(object, duplicate, outcome.flags, found.via, &mut wish, now))
            .collect();
        let message = Message {
            id: Some(id),
            pending: found.pending,
            duplicate,
            objects,
            error: None,
        };
        if !duplicate {
            self.want(wish, &message);
        }
        self.tell(Event::Message(message));
        self.memory.last_message = self.memory.last_message.max(id);
        if *self.planner.schedule() != schedule {
            self.tell(Event::schedule(self.planner.schedule()));
        }
    }

    /// Has the agent do what takes its time, before the message is told of and remembered.
    fn want(&mut self, wish: Wish, message: &Message) {
        // A message has nothing in it that JSON has not.
        let message = serde_json::to_value(message).unwrap_or_default();
        self.out.push_back(Action::Act(Wish { message, ..wish }));
    }

    fn judge(
        &mut self,
        object: Result<Object<'_>, Malformed>,
        duplicate: bool,
        flags: Flags,
        via: Option<Via>,
        wish: &mut Wish,
        now: Now,
    ) -> Asked {
        let object = match object {
            Ok(object) => object,
            Err(malformed) => return not_understood(malformed),
        };
        let (done, why) = if duplicate {
            (Done::Before, None)
        } else {
            self.carry_out(&object, flags, via, wish, now)
        };
        Asked {
            text: object.to_string(),
            what: what(&object),
            done,
            why,
        }
    }

    fn carry_out(
        &mut self,
        object: &Object<'_>,
        flags: Flags,
        via: Option<Via>,
        wish: &mut Wish,
        now: Now,
    ) -> (Done, Option<String>) {
        let own = self.config.schedule;
        match object {
            Object::UpdateAvailable(_) => return self.open(None, None, wish),
            Object::Connect(at) => return self.open(None, *at, wish),
            Object::OpenHttp(url) => return self.open(*url, None, wish),
            Object::Raise(factor) => self.memory.rules.raise(own, *factor),
            Object::Lower(factor) => self.memory.rules.lower(own, *factor),
            Object::PollingRules(rules) => self.memory.rules.set(own, rules),
            Object::TransportUpdate(update) => return self.follow(update, via, now),
            Object::GenerateKey { .. } if flags.contains(Flags::NOT_DONE) => {
                return (Done::CardFailed, None);
            }
            Object::GenerateKey { algorithm, slot } => {
                wish.keys.push((*algorithm, *slot));
                return (Done::ByCard, None);
            }
            _ => return (Done::Reported, None),
        }
        self.planner.follow(self.memory.rules.over(own));
        (Done::Acted, None)
    }

    /// Has a session opened, if the owner lets messages do that, and there.
    fn open(&self, url: Option<&str>, at: Option<u32>, wish: &mut Wish) -> (Done, Option<String>) {
        match self.config.ota.resolve(url) {
            Ok(None) => (Done::Reported, None),
            Ok(Some(url)) => {
                let url = url.to_string();
                wish.sessions.push(Wanted { url, at });
                (Done::Queued, None)
            }
            Err(why) => (Done::NotFollowed, Some(why.to_string())),
        }
    }

    fn follow(
        &mut self,
        update: &TransportUpdate<'_>,
        via: Option<Via>,
        now: Now,
    ) -> (Done, Option<String>) {
        match self.route.follow(update, via, now.mono) {
            Ok(lifetime) => {
                self.backoff.forget();
                let away = update.endpoint.is_some();
                self.server_changed(Because::Asked, away.then_some(lifetime.as_secs()));
                (Done::Acted, None)
            }
            Err(why) => (Done::NotFollowed, Some(why.to_string())),
        }
    }
}

/// A message in a few words.
pub(crate) fn in_words(msg: &[u8]) -> String {
    let msg = match Msg::parse(msg) {
        Ok(msg) => msg,
        Err(error) => return error.to_string(),
    };
    let Some(id) = msg.id() else {
        return "nothing to do".into();
    };
    let objects: Vec<_> = msg
        .objects()
        .map(|object| object.map_or_else(|error| error.to_string(), |object| object.to_string()))
        .collect();
    format!("message {id}: {}", objects.join("; "))
}

fn unreadable(error: MsgError, found: Found) -> Message {
    Message {
        id: None,
        pending: found.pending,
        duplicate: false,
        objects: Vec::new(),
        error: Some(error.to_string()),
    }
}

fn not_understood(malformed: Malformed) -> Asked {
    Asked {
        what: What::Malformed {
            tag: format!("{:02X}", malformed.tag),
        },
        done: Done::NotFollowed,
        why: Some(malformed.why.to_string()),
        text: malformed.to_string(),
    }
}

fn what(object: &Object<'_>) -> What {
    match *object {
        Object::UpdateAvailable(reference) => What::UpdateAvailable {
            reference: reference.map(str::to_owned),
        },
        Object::Connect(at) => What::Connect { at },
        Object::OpenHttp(url) => What::OpenHttp {
            url: url.map(str::to_owned),
        },
        Object::Raise(factor) => What::Raise {
            percent: factor.percent(),
        },
        Object::Lower(factor) => What::Lower {
            percent: factor.percent(),
        },
        Object::PollingRules(_) => What::PollingRules,
        Object::GenerateKey { algorithm, slot } => What::GenerateKey {
            algorithm: match algorithm {
                KeyAlgorithm::P256 => "p256",
                KeyAlgorithm::Ed25519 => "ed25519",
            },
            slot,
        },
        Object::TransportUpdate(update) => What::TransportUpdate {
            endpoint: update.endpoint.map(str::to_owned),
            lifetime: update.lifetime,
        },
        Object::Opaque(data) => What::Opaque {
            data: hex::encode(data),
        },
        Object::Unknown { tag, value } => What::Unknown {
            tag: format!("{tag:02X}"),
            value: hex::encode(value),
        },
    }
}
