//! What the card's tests share: cards, servers, and commands in hexadecimal.

use applet::{
    Card, Protocol,
    nvm::{Device, RamDevice, Store},
    secapp::{FirstIdentity, Personalisation, personalise},
};
use protocol::{
    chain::{Link, RecoveryLink},
    identity::{Iccid, Mode, UidRand},
    key::Key,
};

/// Four modes, two key lengths, concealed or not.
pub(crate) const MODES_AND_KEYS: usize = 16;

/// A subscription to test with.
pub(crate) fn subscription(mode: u8) -> Personalisation {
    Personalisation {
        iccid: "8988374172470184089".parse().expect("an ICCID"),
        key: Key::from_bytes(&[0x2B; 16]).expect("a key"),
        mode: Mode::from_byte(mode).expect("a mode"),
        first: FirstIdentity::Iccid,
    }
}

/// The same as the vectors give it; the ICCID is that of EF_ICCID.
pub(crate) fn subscription_of(
    iccid: &str,
    key: &str,
    mode: u8,
    first: FirstIdentity,
) -> Personalisation {
    let iccid = hex(iccid).try_into().expect("10 bytes");
    Personalisation {
        iccid: Iccid::from_bytes(iccid).expect("an ICCID"),
        key: Key::from_hex(key).expect("a key"),
        mode: Mode::from_byte(mode).expect("a mode"),
        first,
    }
}

/// A card as `secapp new` makes it, powered, SecApp selected.
pub(crate) fn card(with: &Personalisation) -> Card {
    card_on(Box::new(RamDevice::blank()), with, Protocol::T1)
}

/// The same under T=0.
pub(crate) fn card_t0(with: &Personalisation) -> Card {
    card_on(Box::new(RamDevice::blank()), with, Protocol::T0)
}

/// The same on a device of the test's own.
pub(crate) fn card_on(device: Box<dyn Device>, with: &Personalisation, protocol: Protocol) -> Card {
    let mut memory = Store::format(device, None).expect("a new memory");
    personalise(&mut memory, with).expect("a new memory takes it");
    power(applet::card(memory, protocol).expect("a card"))
}

fn power(mut card: Card) -> Card {
    card.power_on();
    assert_eq!(
        status(&transmit(&mut card, "00A4040C08F047545341505001")),
        0x9000
    );
    card
}

/// The server's side of one card, without its queue.
pub(crate) struct Server {
    pub(crate) link: Link,
    pub(crate) recovery: RecoveryLink,
}

impl Server {
    pub(crate) fn of(with: &Personalisation) -> Self {
        Self {
            link: Link::first(&with.key, with.uid_1(), with.mode),
            recovery: RecoveryLink::first(&with.key, with.uid_1(), with.mode),
        }
    }

    /// A response under the current identity; the seed is made of `rand`.
    pub(crate) fn answer(&self, msg: &[u8], sent: u16, rand: u8) -> Vec<u8> {
        let sealed = self.link.seal(msg, sent, UidRand([rand; 8]));
        sealed.expect("a message that fits").as_bytes().to_vec()
    }

    /// What the server does when the card comes back under the child.
    pub(crate) fn promote(&mut self, rand: u8) {
        self.link = self.link.child(UidRand([rand; 8]));
    }
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hexadecimal digits")
}

pub(crate) fn transmit(card: &mut Card, apdu: &str) -> Vec<u8> {
    card.transmit(&hex(apdu)).to_vec()
}

pub(crate) fn status(answer: &[u8]) -> u16 {
    let (_, sw) = answer.split_last_chunk().expect("a status word");
    u16::from_be_bytes(*sw)
}

/// The data of an answer whose status word is 9000.
#[track_caller]
pub(crate) fn ok(answer: &[u8]) -> Vec<u8> {
    assert_eq!(status(answer), 0x9000, "{}", hex::encode(answer));
    answer[..answer.len() - 2].to_vec()
}

#[track_caller]
pub(crate) fn poll(card: &mut Card, p1: u8) -> Vec<u8> {
    ok(&transmit(card, &format!("8040{p1:02X}0000")))
}

/// PROCESS-RESPONSE with Le, short or extended as the datagram wants it.
pub(crate) fn process_response(card: &mut Card, datagram: &[u8]) -> Vec<u8> {
    let apdu = match u8::try_from(datagram.len()) {
        Ok(lc) => [&[0x80, 0x42, 0, 0, lc], datagram, &[0]].concat(),
        Err(_) => {
            let lc = u16::try_from(datagram.len())
                .expect("a command's data")
                .to_be_bytes();
            [&[0x80, 0x42, 0, 0, 0], &lc[..], datagram, &[0, 0]].concat()
        }
    };
    card.transmit(&apdu).to_vec()
}
