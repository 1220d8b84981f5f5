//! Holds the device of the load generators to the card itself: both get the same answers, lost and late and forged, and
//! have to send the same polls.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail by panic"
)]

use applet::{
    Card, Protocol,
    nvm::{RamDevice, Store},
    secapp::{FirstIdentity, Personalisation, personalise},
};
use bench::device::{Device, Fleet, Judged};
use protocol::{
    chain::{Link, RecoveryLink},
    identity::{Mode, Uid, UidRand},
    msg::NOTHING_TO_DO,
};

const SELECT: &[u8] = &[
    0x00, 0xA4, 0x04, 0x0C, 8, 0xF0, 0x47, 0x54, 0x53, 0x41, 0x50, 0x50, 0x01,
];
const NUMBER: u32 = 5;

/// Card and device, and what the server knows of both.
struct Pair {
    fleet: Fleet,
    device: Device,
    card: Card,
    link: Link,
    recovery: RecoveryLink,
    unanswered: bool,
    dice: fastrand::Rng,
}

impl Pair {
    fn new(mode: Mode, seed: u64) -> Self {
        let fleet = Fleet::new(seed, mode);
        let profile = fleet.profile(NUMBER);
        let (iccid, uid_1) = (profile.iccid, Uid::from(profile.iccid));
        let mut memory = Store::format(Box::new(RamDevice::blank()), None).unwrap();
        let link = Link::first(&profile.k, uid_1, mode);
        let recovery = RecoveryLink::first(&profile.k, uid_1, mode);
        let with = Personalisation {
            iccid,
            key: profile.k,
            mode,
            first: FirstIdentity::Iccid,
        };
        personalise(&mut memory, &with).unwrap();
        let mut card = applet::card(memory, Protocol::T1).unwrap();
        card.power_on();
        assert_eq!(card.transmit(SELECT), [0x90, 0x00]);
        Self {
            device: fleet.device(NUMBER),
            fleet,
            card,
            link,
            recovery,
            unanswered: false,
            dice: fastrand::Rng::with_seed(seed),
        }
    }

    /// Both poll, and have to say the same; returns the link that the poll was under.
    fn poll(&mut self) -> Link {
        let answer = self
            .card
            .transmit(&[0x80, 0x40, u8::from(self.unanswered), 0, 0]);
        if self.unanswered {
            self.device.raise();
        }
        self.unanswered = true;
        let poll = self.device.poll(&self.fleet);
        assert_eq!(answer, [poll.as_bytes(), &[0x90, 0x00]].concat());
        let recovery = self.recovery.identity();
        let asked = &poll.as_bytes()[2..12];
        if asked == recovery.uid().0 {
            recovery
        } else {
            self.link.clone()
        }
    }

    /// Both are given the same answer, and have to judge it alike.
    fn answer(&mut self, datagram: &[u8]) -> Judged {
        let length = u8::try_from(datagram.len()).unwrap();
        let command = [&[0x80, 0x42, 0, 0, length], datagram, &[0]].concat();
        let outcome = self.card.transmit(&command);
        let judged = self.device.judge(&self.fleet, datagram);
        let status = match judged {
            Judged::Accepted { .. } => [0x90, 0x00],
            Judged::Foreign => [0x98, 0x62],
            Judged::ImpossibleSent => [0x98, 0x65],
        };
        assert!(
            outcome.ends_with(&status),
            "{judged:?}, the card says {outcome:02X?}"
        );
        judged
    }

    /// A poll, and an answer that is lost, forged, impossible or right.
    fn exchange(&mut self) {
        let under = self.poll();
        let rand = UidRand(std::array::from_fn(|_| self.dice.u8(..)));
        let sent = if self.dice.u8(..) < 20 { 300 } else { 1 };
        let mut datagram = under
            .seal(&NOTHING_TO_DO, sent, rand)
            .unwrap()
            .as_bytes()
            .to_vec();
        match self.dice.u8(..) {
            // Long silences, so that the recovery identity has its turn.
            0..=220 => return,
            221..=230 => datagram[20] ^= 1,
            _ => {}
        }
        if let Judged::Accepted { recovered, .. } = self.answer(&datagram) {
            self.unanswered = false;
            self.link = under.child(rand);
            if recovered {
                self.recovery = self.recovery.next();
            }
        }
    }
}

#[test]
fn a_device_polls_and_judges_as_the_card_does() {
    for mode in 0..=3 {
        let mut recoveries = 0;
        for seed in 0..20 {
            let mut pair = Pair::new(Mode::from_byte(mode).unwrap(), seed);
            (0..400).for_each(|_| pair.exchange());
            recoveries += pair.recovery.e();
        }
        assert!(recoveries > 0, "mode {mode}: nobody ever polled under R(e)");
    }
}
