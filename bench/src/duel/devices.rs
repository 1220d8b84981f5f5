//! The devices of a duel: any number of them, made when they poll first, in a random order that takes no memory.

use std::collections::HashMap;

use protocol::{
    identity::Uid,
    poll::{POLL_MAC_LEN, PollDatagram, TAG_AUTHENTICATED, TAG_PLAIN},
};

use super::{Failure, order::Permutation, volley::Volley};
use crate::{
    device::{Device, Fleet, Judged},
    expected::Expected,
    wire::{BATCH, Inbox},
};

/// Unknown identities between two polls that are answered.
pub const MISSES_PER_MARK: usize = 4 * BATCH - 1;

/// After so many wrong answers the rest is not tried on every device that waits.
const ENOUGH_WRONG: u64 = 16;

/// Devices that have polled, and the order in which they do.
pub struct Devices {
    fleet: Fleet,
    moved: HashMap<u32, Device>,
    order: Permutation,
    ring: u64,
    next: u64,
    dice: fastrand::Rng,
}

/// A volley and who polls in it; `None` for an identity that nobody has.
pub struct Polls {
    /// What is sent.
    pub volley: Volley,
    numbers: Vec<Option<u32>>,
}

/// What a device does with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It accepts it and moves on.
    Accept,
    /// It verifies it and behaves as if it had been lost.
    Lose,
}

/// What the answers of a volley turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Authentic, and for a device that waited.
    pub right: u64,
    /// Of them, with a message.
    pub messages: u64,
    /// Nobody's answer.
    pub wrong: u64,
    /// Polls without an answer.
    pub missing: u64,
}

impl Verdict {
    /// Fails if any of so many answers is wrong.
    pub fn check(&self, answers: usize) -> Result<(), Failure> {
        match self.wrong {
            0 => Ok(()),
            wrong => Err(Failure::Wrong {
                wrong,
                answers: answers as u64,
            }),
        }
    }
}

impl Devices {
    /// The devices 0 to `count` - 1, of whom `touched` at most are to poll.
    pub fn new(fleet: Fleet, count: u32, touched: u64, seed: u64) -> Self {
        Self {
            fleet,
            moved: HashMap::new(),
            order: Permutation::new(count, seed),
            ring: touched.clamp(1, u64::from(count.max(1))),
            next: 0,
            dice: fastrand::Rng::with_seed(seed),
        }
    }

    /// How many devices poll, each in its turn.
    pub const fn ring(&self) -> u64 {
        self.ring
    }

    /// The fleet.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The next devices in their order. As long as it is not more than [`Devices::ring`], all are different.
    pub fn take(&mut self, count: usize) -> Vec<u32> {
        let taken = (0..count).map(|_| {
            let place = self.next % self.ring;
            self.next += 1;
            self.order.at(place)
        });
        taken.collect()
    }

    /// Puts devices that are done with out of mind.
    pub fn forget(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.moved.remove(number);
        }
    }

    /// The polls of these devices.
    pub fn polls(&mut self, numbers: &[u32]) -> Polls {
        let mut bytes = Vec::with_capacity(numbers.len() * self.fleet.poll_len());
        for number in numbers {
            bytes.extend_from_slice(self.poll(*number).as_bytes());
        }
        Polls {
            volley: Volley::answered(bytes, self.fleet.poll_len()),
            numbers: numbers.iter().copied().map(Some).collect(),
        }
    }

    /// At least `misses` polls under identities that nobody has, with a known device's after every 255.
    pub fn misses(&mut self, misses: usize) -> Polls {
        let each = self.fleet.poll_len();
        let marks = self.take(misses.div_ceil(MISSES_PER_MARK));
        let mut bytes = Vec::with_capacity(marks.len() * (MISSES_PER_MARK + 1) * each);
        let mut numbers = Vec::new();
        for mark in marks {
            for _ in 0..MISSES_PER_MARK {
                unknown(&mut self.dice, each, &mut bytes);
                numbers.push(None);
            }
            bytes.extend_from_slice(self.poll(mark).as_bytes());
            numbers.push(Some(mark));
        }
        let volley = Volley {
            run: MISSES_PER_MARK + 1,
            marked: true,
            ..Volley::answered(bytes, each)
        };
        Polls { volley, numbers }
    }

    /// Polls that look like any other and are nobody's: for an echo.
    pub fn dummies(&mut self, count: usize) -> Volley {
        let each = self.fleet.poll_len();
        let mut bytes = Vec::with_capacity(count * each);
        (0..count).for_each(|_| unknown(&mut self.dice, each, &mut bytes));
        Volley::answered(bytes, each)
    }

    /// Verifies every answer as the card does. A device whose answer is missing will poll again with a raised count.
    pub fn verify(&mut self, polls: &Polls, replies: &Inbox, wires: usize, then: Then) -> Verdict {
        let mut waiting: Vec<Expected> = Vec::new();
        waiting.resize_with(wires, Expected::default);
        for (at, number) in polls.numbers.iter().enumerate() {
            if let Some(number) = number {
                waiting[polls.volley.wire(at, wires)].push(*number);
            }
        }
        let mut verdict = Verdict::default();
        for (wire, reply) in replies.iter() {
            if verdict.wrong >= ENOUGH_WRONG {
                verdict.wrong += 1;
                continue;
            }
            let mut message = false;
            let found = waiting[wire].find(|number| {
                let judged = self.judge(number, reply, then);
                message = matches!(
                    judged,
                    Judged::Accepted {
                        message: Some(_),
                        ..
                    }
                );
                matches!(judged, Judged::Accepted { .. })
            });
            verdict.messages += u64::from(found.is_some() && message);
            verdict.right += u64::from(found.is_some());
            verdict.wrong += u64::from(found.is_none());
        }
        for number in waiting.iter().flat_map(Expected::iter) {
            verdict.missing += 1;
            self.device(number).raise();
        }
        verdict
    }

    fn judge(&mut self, number: u32, reply: &[u8], then: Then) -> Judged {
        let Self { fleet, moved, .. } = self;
        let device = moved.entry(number).or_insert_with(|| fleet.device(number));
        match then {
            Then::Accept => device.judge(fleet, reply),
            Then::Lose => {
                let judged = device.clone().judge(fleet, reply);
                if matches!(judged, Judged::Accepted { .. }) {
                    device.raise();
                }
                judged
            }
        }
    }

    fn poll(&mut self, number: u32) -> PollDatagram {
        let Self { fleet, moved, .. } = self;
        let device = moved.entry(number).or_insert_with(|| fleet.device(number));
        device.poll(fleet)
    }

    fn device(&mut self, number: u32) -> &mut Device {
        let Self { fleet, moved, .. } = self;
        moved.entry(number).or_insert_with(|| fleet.device(number))
    }
}

/// A poll of the right form under a random identity.
fn unknown(dice: &mut fastrand::Rng, each: usize, to: &mut Vec<u8>) {
    let mut poll = [0; 2 + size_of::<Uid>() + POLL_MAC_LEN];
    dice.fill(&mut poll[2..]);
    poll[0] = if each == poll.len() {
        TAG_AUTHENTICATED
    } else {
        TAG_PLAIN
    };
    to.extend_from_slice(&poll[..each]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{identity::Mode, poll::Poll};

    fn devices(count: u32, touched: u64) -> Devices {
        Devices::new(Fleet::new(1, Mode::DEFAULT), count, touched, 1)
    }

    #[test]
    fn no_device_is_taken_twice_before_all_of_the_ring_were() {
        let mut devices = devices(1000, 100);
        let mut first = devices.take(100);
        let again = devices.take(100);
        assert_eq!(first, again);
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 100);
    }

    #[test]
    fn misses_are_polls_with_a_known_device_at_the_end_of_each_run() {
        let mut devices = devices(10, 10);
        let polls = devices.misses(300);
        assert_eq!((polls.volley.len(), polls.volley.answers()), (512, 2));
        for (at, number) in polls.numbers.iter().enumerate() {
            assert_eq!(number.is_some(), polls.volley.is_answered(at));
        }
        assert!(
            polls
                .volley
                .polls
                .chunks(20)
                .all(|poll| Poll::parse(poll).is_ok())
        );
    }

    #[test]
    fn an_answer_that_is_no_response_is_wrong_and_the_device_keeps_waiting() {
        let mut devices = devices(10, 10);
        let numbers = devices.take(3);
        let polls = devices.polls(&numbers);
        let verdict = devices.verify(&polls, &Inbox::default(), 1, Then::Accept);
        assert_eq!((verdict.right, verdict.missing), (0, 3));
        let counter = devices.polls(&numbers).volley.polls[1];
        assert_eq!(counter, 1);
    }
}
