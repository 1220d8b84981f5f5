//! Following chains through a capture: who polls, and what the answers hold.
//!
//! Owns what is known at each moment. Told of datagrams in their order, it answers in words: messages, counters and
//! identities; never a key, and never UID_Rand, which is as secret as one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
};

use protocol::{
    DEFAULT_PORT,
    chain::{Link, RecoveryLink},
    identity::Uid,
    poll::Poll,
    response::{Opened, Response},
};

use super::keys::CardKeys;
use crate::session::in_words;

/// Recovery identities that are looked for, beyond the last one seen.
const RECOVERIES: u32 = 8;
/// Identities that may have polled from one port lately: its own, and the recovery identity.
const PER_FLOW: usize = 4;
/// Flows that are remembered.
const FLOWS: usize = 100_000;

/// What became of the datagrams of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Polls under identities that are known.
    pub polls: u64,
    /// Responses that could be read.
    pub responses: u64,
    /// Datagrams of the method that could not be followed.
    pub unknown: u64,
}

/// An identity whose key is known.
#[derive(Clone)]
struct Known {
    card: usize,
    link: Link,
    /// Which one it is, in words.
    which: String,
    /// The message that it proves to be accepted.
    proves: Option<String>,
    recovery: Option<RecoveryLink>,
}

/// What is known.
pub(super) struct Follower {
    names: Vec<String>,
    known: HashMap<Uid, Known>,
    flows: HashMap<(SocketAddr, SocketAddr), VecDeque<Uid>>,
    /// Whom known cards have polled.
    servers: HashSet<SocketAddr>,
    pub(super) counts: Counts,
}

impl Follower {
    pub(super) fn new(cards: Vec<CardKeys>) -> Self {
        let mut follower = Self {
            names: Vec::new(),
            known: HashMap::new(),
            flows: HashMap::new(),
            servers: HashSet::new(),
            counts: Counts::default(),
        };
        for (at, card) in cards.into_iter().enumerate() {
            follower.names.push(card.name);
            if let Some((link, recovery)) = card.first {
                follower.learn(at, link, "the first identity".into(), None);
                follower.learn_recoveries(at, recovery);
            }
            if let Some(link) = card.middle {
                follower.learn(at, link, "the identity given".into(), None);
            }
        }
        follower
    }

    fn learn(&mut self, card: usize, link: Link, which: String, proves: Option<String>) {
        let known = Known {
            card,
            which,
            proves,
            recovery: None,
            link,
        };
        self.known.entry(known.link.uid()).or_insert(known);
    }

    fn learn_recoveries(&mut self, card: usize, mut recovery: RecoveryLink) {
        for _ in 0..RECOVERIES {
            let link = recovery.identity();
            let known = Known {
                card,
                which: format!("recovery identity {}", recovery.e()),
                proves: None,
                recovery: Some(recovery.clone()),
                link,
            };
            self.known.entry(known.link.uid()).or_insert(known);
            recovery = recovery.next();
        }
    }

    /// What a datagram says; `None` if it is none of the method, or nothing is known of it at another port.
    pub(super) fn take(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
    ) -> Option<String> {
        if let Ok(poll) = Poll::parse(payload) {
            return self.poll((from, to), &poll);
        }
        let response = Response::parse(payload).ok()?;
        self.response((to, from), &response)
    }

    fn poll(&mut self, flow: (SocketAddr, SocketAddr), poll: &Poll) -> Option<String> {
        let Some(known) = self.known.get(&poll.uid).cloned() else {
            return self.unknown(
                flow,
                format!(
                    "identity {}: not of a card in the key file, or its chain began before this capture; identity and identity_key in the key file take it up",
                    poll.uid
                ),
            );
        };
        self.counts.polls += 1;
        self.remember(flow, poll.uid);
        if let Some(recovery) = known.recovery {
            self.learn_recoveries(known.card, recovery);
        }
        let judged = match known.link.verify(poll) {
            Ok(()) if poll.mac.is_some() => ", MAC right",
            Ok(()) => "",
            Err(_) => ", NOT AUTHENTIC: its MAC is wrong, or the mode is another",
        };
        let mut text = format!(
            "{}: poll under {} {}, Resend_Counter {}{judged}",
            self.names[known.card], known.which, poll.uid, poll.resend_counter
        );
        if let Some(message) = known.proves.filter(|_| judged.len() < 12) {
            text += &format!("; so the card has accepted: {message}");
        }
        Some(text)
    }

    fn remember(&mut self, flow: (SocketAddr, SocketAddr), uid: Uid) {
        if self.flows.len() >= FLOWS && !self.flows.contains_key(&flow) {
            self.flows.clear();
            self.servers.clear();
        }
        self.servers.insert(flow.1);
        let polled = self.flows.entry(flow).or_default();
        polled.retain(|other| *other != uid);
        polled.push_front(uid);
        polled.truncate(PER_FLOW);
    }

    fn response(
        &mut self,
        flow: (SocketAddr, SocketAddr),
        response: &Response<'_>,
    ) -> Option<String> {
        let polled: Vec<Uid> = self
            .flows
            .get(&flow)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for uid in &polled {
            let Some(known) = self.known.get(uid).cloned() else {
                continue;
            };
            if let Ok(opened) = known.link.open(response) {
                self.counts.responses += 1;
                return Some(self.opened(&known, &opened));
            }
        }
        let why = match polled.first() {
            Some(uid) => format!(
                "NOT AUTHENTIC for {uid}: for another identity, changed on its way, or made with another key"
            ),
            None => {
                "response to an identity that is not known, or whose poll is not in this capture"
                    .into()
            }
        };
        self.unknown(flow, why)
    }

    fn opened(&mut self, known: &Known, opened: &Opened) -> String {
        let child = known.link.child(opened.uid_rand());
        let message = in_words(opened.msg());
        let text = format!(
            "{}: answer to {} {}, Sent {}: {message}; next identity {}",
            self.names[known.card],
            known.which,
            known.link.uid(),
            opened.sent(),
            child.uid()
        );
        let which = format!("the identity after {}", known.link.uid().short());
        self.learn(known.card, child, which, Some(message));
        text
    }

    /// At other ports it may be anything.
    fn unknown(&mut self, (_, server): (SocketAddr, SocketAddr), why: String) -> Option<String> {
        if server.port() != DEFAULT_PORT && !self.servers.contains(&server) {
            return None;
        }
        self.counts.unknown += 1;
        Some(why)
    }
}
