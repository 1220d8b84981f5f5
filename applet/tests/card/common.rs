//! What the card's tests share: cards to test, and commands in hexadecimal.

use applet::{
    Card, Protocol,
    nvm::{Device, RamDevice, Store},
    secapp::{FirstIdentity, Personalisation, personalise},
};
use protocol::{
    identity::{Iccid, Mode},
    key::Key,
};

/// Four modes, two key lengths, concealed or not.
pub(crate) const MODES_AND_KEYS: usize = 16;

pub(crate) const SELECT_SECAPP: &str = "00A4040008F04754534150500100";

/// Makes cards.
pub(crate) struct Bench;

impl Bench {
    /// A card as `secapp new` makes it, powered, SecApp selected. The ICCID is that of EF_ICCID.
    pub(crate) fn card(iccid: &str, key: &str, mode: u8, first: FirstIdentity) -> Card {
        let iccid = hex(iccid).try_into().expect("10 bytes");
        let with = Personalisation {
            iccid: Iccid::from_bytes(iccid).expect("an ICCID"),
            key: Key::from_hex(key).expect("a key"),
            mode: Mode::from_byte(mode).expect("a mode"),
            first,
        };
        Self::on(Box::new(RamDevice::blank()), &with)
    }

    /// The same on a device of the test's own.
    pub(crate) fn on(device: Box<dyn Device>, with: &Personalisation) -> Card {
        let mut memory = Store::format(device, None).expect("a new memory");
        personalise(&mut memory, with).expect("a new memory takes it");
        let mut card = applet::card(memory, Protocol::T1).expect("a card");
        card.power_on();
        assert_eq!(status(&transmit(&mut card, SELECT_SECAPP)), 0x9000);
        card
    }
}

/// A subscription to test with.
pub(crate) fn subscription(mode: u8) -> Personalisation {
    Personalisation {
        iccid: "8988374172470184089".parse().expect("an ICCID"),
        key: Key::from_bytes(&[0x2B; 16]).expect("a key"),
        mode: Mode::from_byte(mode).expect("a mode"),
        first: FirstIdentity::Iccid,
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

pub(crate) fn process_response(card: &mut Card, datagram: &[u8]) -> Vec<u8> {
    let mut apdu = if datagram.len() <= 255 {
        let lc = datagram.len().to_be_bytes()[7];
        vec![0x80, 0x42, 0, 0, lc]
    } else {
        let lc = datagram.len().to_be_bytes();
        vec![0x80, 0x42, 0, 0, 0, lc[6], lc[7]]
    };
    let extended = apdu.len() == 7;
    apdu.extend_from_slice(datagram);
    apdu.extend_from_slice(if extended { &[0, 0] } else { &[0] });
    card.transmit(&apdu).to_vec()
}
