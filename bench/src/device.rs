//! One device: identity, key, count of resends, and the card's rules for polls and answers
//! (`docs/protocol.md`, chapter 5). All devices of a fleet come from one seed.
//!
//! It is a model of SecApp without its APDUs and its memory, so that millions fit into one process: what it
//! keeps between polls is 64 bytes, the recovery identity is derived when it is needed. `tests/card.rs` holds it
//! to the card itself.

use std::io::{self, Write};

use protocol::{
    chain::{Link, RecoveryLink},
    identity::{Iccid, Mode, Uid},
    key::{Key, Prf},
    msg::Msg,
    poll::{AUTHENTICATED_LEN, PLAIN_LEN, PollDatagram},
    response::{Opened, Response},
};

/// The count of resends at which the recovery identity polls first, and again after so many more.
const RECOVERY: (u32, u32) = (24, 8);
/// Issuer part of the ICCIDs: 89 (telecom), 999 (no country), then the device's number.
const ICCID_PREFIX: &str = "89999";

/// What the operator knows of a device.
pub struct Profile {
    /// Its reference at the server.
    pub reference: String,
    /// Its ICCID, which is its first identity too.
    pub iccid: Iccid,
    /// K.
    pub k: Key,
    /// The mode.
    pub mode: Mode,
}

/// Makes the devices of a fleet.
pub struct Fleet {
    seed: Prf,
    mode: Mode,
}

impl Fleet {
    /// A fleet of this seed and mode.
    pub fn new(seed: u64, mode: Mode) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        // 16 bytes are a key.
        let key = Key::from_bytes(&bytes).unwrap_or_else(|_| unreachable!());
        Self {
            seed: Prf::new(&key),
            mode,
        }
    }

    /// Device `number` as it leaves the factory.
    pub fn device(&self, number: u32) -> Device {
        let profile = self.profile(number);
        Device {
            number,
            link: Link::first(&profile.k, Uid::from(profile.iccid), profile.mode),
            e: 0,
            resends: 0,
            last_message: 0,
        }
    }

    /// `R(e)` of device `number`.
    fn recovery(&self, number: u32, e: u32) -> Link {
        let profile = self.profile(number);
        let first = RecoveryLink::first(&profile.k, Uid::from(profile.iccid), profile.mode);
        (0..e).fold(first, |link, _| link.next()).identity()
    }

    /// Length of a poll in bytes.
    pub fn poll_len(&self) -> usize {
        if self.mode.authenticates_polls() {
            AUTHENTICATED_LEN
        } else {
            PLAIN_LEN
        }
    }

    /// Writes the devices' subscriptions as CSV for an import.
    pub fn write_csv(
        &self,
        numbers: impl IntoIterator<Item = u32>,
        mut to: impl Write,
    ) -> io::Result<()> {
        writeln!(to, "reference,iccid,key,mode,first_identity")?;
        for number in numbers {
            let profile = self.profile(number);
            let (reference, iccid) = (&profile.reference, &profile.iccid);
            let key = hex::encode(profile.k.as_bytes());
            writeln!(to, "{reference},{iccid},{key},{},iccid", self.mode.byte())?;
        }
        Ok(())
    }

    /// What the operator knows of device `number`.
    pub fn profile(&self, number: u32) -> Profile {
        let k = self.seed.mac(&[b"fleet", &number.to_be_bytes()]);
        // Prefix and number have 18 digits together; 16 bytes are a key.
        let iccid = format!("{ICCID_PREFIX}{number:013}")
            .parse()
            .unwrap_or_else(|_| unreachable!());
        let k = Key::from_bytes(&k).unwrap_or_else(|_| unreachable!());
        Profile {
            reference: format!("fleet-{number}"),
            iccid,
            k,
            mode: self.mode,
        }
    }
}

/// What an answer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Accepted: the device has moved on. `message` is the id of a message executed now.
    Accepted {
        /// Sent, as the server counts.
        sent: u16,
        /// The message id.
        message: Option<u32>,
        /// It came under the recovery identity.
        recovered: bool,
    },
    /// Not for this device as it is now: late, duplicated, changed or forged.
    Foreign,
    /// Authentic, but with a Sent that cannot be.
    ImpossibleSent,
}

/// A device that polls.
#[derive(Clone)]
pub struct Device {
    number: u32,
    link: Link,
    e: u32,
    resends: u32,
    last_message: u32,
}

impl Device {
    /// The poll at the present count.
    pub fn poll(&self, fleet: &Fleet) -> PollDatagram {
        let (first, every) = RECOVERY;
        let recovery = self.resends >= first && self.resends.is_multiple_of(every);
        let counter = self.resend_counter();
        if recovery {
            fleet.recovery(self.number, self.e).poll(counter)
        } else {
            self.link.poll(counter)
        }
    }

    /// A poll has gone unanswered.
    pub fn raise(&mut self) {
        self.resends = self.resends.saturating_add(1);
    }

    /// Resend_Counter on the wire.
    pub fn resend_counter(&self) -> u8 {
        u8::try_from(self.resends).unwrap_or(u8::MAX)
    }

    /// Judges an answer as the card does, and moves on if it is right.
    pub fn judge(&mut self, fleet: &Fleet, datagram: &[u8]) -> Judged {
        let opened = Response::parse(datagram)
            .ok()
            .and_then(|response| self.open(fleet, &response));
        let Some((opened, link)) = opened else {
            return Judged::Foreign;
        };
        let possible = u16::from(self.resend_counter()) + 1;
        if opened.sent() == 0 || (link.mode().authenticates_polls() && opened.sent() > possible) {
            return Judged::ImpossibleSent;
        }
        let recovered = link.uid() != self.link.uid();
        if recovered {
            self.e += 1;
        }
        let id = Msg::parse(opened.msg()).ok().and_then(|msg| msg.id());
        let message = id.filter(|id| *id > self.last_message);
        self.last_message = message.unwrap_or(self.last_message);
        self.link = link.child(opened.uid_rand());
        self.resends = 0;
        Judged::Accepted {
            sent: opened.sent(),
            message,
            recovered,
        }
    }

    /// Opens an answer under the current identity or, once that has polled, under the recovery identity.
    fn open(&self, fleet: &Fleet, response: &Response<'_>) -> Option<(Opened, Link)> {
        if let Ok(opened) = self.link.open(response) {
            return Some((opened, self.link.clone()));
        }
        let recovering = self.resends >= RECOVERY.0;
        let link = recovering.then(|| fleet.recovery(self.number, self.e))?;
        let opened = link.open(response).ok()?;
        Some((opened, link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::identity::UidRand;

    fn fleet() -> Fleet {
        Fleet::new(1, Mode::DEFAULT)
    }

    #[test]
    fn a_device_takes_64_bytes() {
        assert!(size_of::<Device>() <= 64);
    }

    #[test]
    fn a_fleet_is_the_same_for_the_same_seed() {
        let profile = |seed, number| Fleet::new(seed, Mode::DEFAULT).profile(number);
        assert_eq!(profile(1, 2).k.as_bytes(), profile(1, 2).k.as_bytes());
        assert_ne!(profile(1, 2).k.as_bytes(), profile(1, 3).k.as_bytes());
        assert_ne!(profile(1, 2).k.as_bytes(), profile(2, 2).k.as_bytes());
        assert_eq!(
            profile(1, 4_294_967_295).iccid.to_string(),
            "899990004294967295"
        );
    }

    #[test]
    fn an_answer_is_accepted_once_and_moves_the_device_on() {
        let (fleet, mut device) = (fleet(), fleet().device(7));
        let answer = device.link.seal(&[0x80, 0], 1, UidRand([9; 8])).unwrap();
        let accepted = Judged::Accepted {
            sent: 1,
            message: None,
            recovered: false,
        };
        assert_eq!(device.judge(&fleet, answer.as_bytes()), accepted);
        assert_eq!(device.judge(&fleet, answer.as_bytes()), Judged::Foreign);
    }

    #[test]
    fn the_recovery_identity_polls_at_24_and_its_answer_is_accepted_from_then_on() {
        let (fleet, mut device) = (fleet(), fleet().device(7));
        let recovery = fleet.recovery(7, 0);
        let answer = recovery.seal(&[0x80, 0], 1, UidRand([9; 8])).unwrap();
        (0..23).for_each(|_| device.raise());
        assert_eq!(device.judge(&fleet, answer.as_bytes()), Judged::Foreign);
        device.raise();
        assert_eq!(device.poll(&fleet), recovery.poll(24));
        let accepted = Judged::Accepted {
            sent: 1,
            message: None,
            recovered: true,
        };
        assert_eq!(device.judge(&fleet, answer.as_bytes()), accepted);
        (0..24).for_each(|_| device.raise());
        assert_eq!(device.poll(&fleet), fleet.recovery(7, 1).poll(24));
    }
}
