//! The card manager and SecApp in secure channels: every option and level, keys, personalisation, life cycles.

use applet::{
    Card, Protocol,
    manager::{Configuration, configure},
    nvm::Store,
    scp03::{Keys, Options},
};
use protocol::key::Key;

use crate::{
    common::{Server, hex, ok, poll, status, subscription, transmit},
    devices::Shared,
    host::{Host, derive, greet},
};

const VERSION: u8 = 0x30;
const ICCID: &str = "988873142774104880F9";
const SECAPP: &str = "F047545341505001";

/// A key of this length.
fn key(first: u8, len: u8) -> Vec<u8> {
    (0..len).map(|at| first + at).collect()
}

/// A blank card with keys of its own.
pub(crate) struct Blank {
    keys: [Vec<u8>; 3],
    i: u8,
    pub(crate) memory: Shared,
}

impl Blank {
    pub(crate) fn new(i: u8, len: u8) -> Self {
        let keys = [key(0x10, len), key(0x40, len), key(0x70, len)];
        let [enc, mac, dek] = [0, 1, 2].map(|at: usize| Key::from_bytes(&keys[at]).expect("a key"));
        let memory = Shared::blank();
        let mut store = Store::format(Box::new(memory.clone()), None).expect("a memory");
        let with = Configuration {
            options: Options::new(i).expect("an option"),
            keys: Some((VERSION, Keys { enc, mac, dek })),
            diversification: [7; 10],
        };
        configure(&mut store, &with).expect("it takes it");
        Self { keys, i, memory }
    }

    pub(crate) fn card(&self) -> Card {
        let store = Store::open(Box::new(self.memory.clone()), None).expect("a memory");
        let mut card = applet::card(store, Protocol::T1).expect("a card");
        card.power_on();
        card
    }

    fn keys(&self) -> [&[u8]; 3] {
        [&self.keys[0], &self.keys[1], &self.keys[2]]
    }

    /// INITIALIZE UPDATE is answered; the EXTERNAL AUTHENTICATE that follows.
    pub(crate) fn begin(&self, card: &mut Card) -> Vec<u8> {
        Host::begin(card, 0, VERSION, &self.keys(), 0x01, self.i).1
    }

    #[track_caller]
    pub(crate) fn open(&self, card: &mut Card, level: u8) -> Host {
        let (host, answered) = Host::open(card, 0, VERSION, &self.keys(), level, self.i);
        assert_eq!(answered, 0x9000);
        host
    }
}

/// What STORE DATA brings for the subscription of the tests.
pub(crate) fn personal(host: &Host, more: &str) -> Vec<u8> {
    let k = hex::encode(host.hide(&[0x2B; 16]));
    let body = hex(&format!("5A0A{ICCID}D010{k}D10103{more}"));
    let len = u8::try_from(body.len()).expect("short");
    [&[0xE8, len][..], &body].concat()
}

#[test]
fn every_option_level_and_key_length_opens_a_session_that_protects() {
    for i in [0x60, 0x61, 0x70, 0x71] {
        for len in [16, 32] {
            for level in [0x01, 0x03, 0x11, 0x13, 0x33] {
                let blank = Blank::new(i, len);
                let mut card = blank.card();
                let mut host = blank.open(&mut card, level);
                let (sw, data) = host.send(&mut card, 0xCA, 0x00, 0x66, &[]);
                assert_eq!((sw, data[0]), (0x9000, 0x66), "i {i:02X} level {level:02X}");
                let (sw, all) = host.send(&mut card, 0xF2, 0x40, 0x02, &[0x4F, 0x00]);
                assert_eq!(sw, 0x9000);
                assert!(hex::encode_upper(&all).contains(SECAPP));
                assert_eq!(
                    host.send(&mut card, 0xCA, 0x12, 0x34, &[]).0,
                    0x6A88,
                    "an error is not protected"
                );
                assert_eq!(
                    host.send(&mut card, 0xCA, 0x00, 0xE0, &[]).0,
                    0x9000,
                    "and the session goes on"
                );
            }
        }
    }
}

#[test]
fn a_pseudo_random_challenge_is_a_function_of_the_sequence_and_never_repeats() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    for sequence in 1..=3u8 {
        let (_, greeting) = greet(&mut card, 0, VERSION, 8);
        assert_eq!(greeting[..10], [7; 10]);
        assert_eq!(greeting[29..], [0, 0, sequence]);
        let context = [&[0, 0, sequence][..], &hex("A000000151000000")].concat();
        assert_eq!(greeting[13..21], derive(&blank.keys[0], 2, &context, 8));
        card.reset();
    }
    let random = Blank::new(0x60, 16);
    let mut card = random.card();
    let greetings = [(); 2].map(|()| greet(&mut card, 0, VERSION, 8).1);
    assert_eq!(greetings[0].len(), 29, "no sequence counter");
    assert_ne!(greetings[0], greetings[1]);
}

#[test]
fn secapp_is_personalised_in_its_own_session_and_polls() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    let fci = ok(&transmit(&mut card, &format!("00A4040008{SECAPP}00")));
    assert!(
        fci.ends_with(&hex("C10101C30103")),
        "INSTALLED, no mode: {}",
        hex::encode(&fci)
    );
    assert_eq!(status(&transmit(&mut card, "8040000000")), 0x6985);

    let mut host = blank.open(&mut card, 0x33);
    let data = personal(&host, "");
    assert_eq!(host.send(&mut card, 0xE2, 0x80, 0, &data), (0x9000, vec![]));
    let fci = ok(&transmit(&mut card, &format!("00A4040008{SECAPP}00")));
    assert!(fci.ends_with(&hex("C10101C20103C3010F")), "PERSONALISED");
    let expected = Server::of(&subscription(3)).link.poll(0);
    assert_eq!(
        poll(&mut card, 0),
        expected.as_bytes(),
        "as the card that was made with its key"
    );
    drop(card);
    let bytes = blank.memory.bytes();
    assert!(
        !bytes.windows(16).any(|window| window == [0x2B; 16]),
        "K is forgotten"
    );
}

#[test]
fn personalisation_may_come_in_blocks_and_name_the_first_identity() {
    for (more, uid) in [
        ("D20101", None),
        ("D20A00112233445566778899", Some("00112233445566778899")),
    ] {
        let blank = Blank::new(0x70, 16);
        let mut card = blank.card();
        transmit(&mut card, &format!("00A4040C08{SECAPP}"));
        let mut host = blank.open(&mut card, 0x03);
        let data = personal(&host, more);
        let (first, second) = data.split_at(20);
        assert_eq!(host.send(&mut card, 0xE2, 0x00, 0, first).0, 0x9000);
        assert_eq!(
            host.send(&mut card, 0xE2, 0x80, 2, second).0,
            0x6A86,
            "a block is missing"
        );
        assert_eq!(host.send(&mut card, 0xE2, 0x00, 0, first).0, 0x9000);
        assert_eq!(host.send(&mut card, 0xE2, 0x80, 1, second).0, 0x9000);
        transmit(&mut card, &format!("00A4040C08{SECAPP}"));
        let asked = hex::encode(&poll(&mut card, 0)[2..12]);
        assert_ne!(asked, ICCID.to_lowercase());
        assert_eq!(asked, uid.map_or(asked.clone(), str::to_owned));
    }
}

#[test]
fn personalisation_needs_signature_and_encryption() {
    for level in [0x00, 0x01, 0x11] {
        let blank = Blank::new(0x70, 16);
        let mut card = blank.card();
        transmit(&mut card, &format!("00A4040C08{SECAPP}"));
        let mut host = blank.open(&mut card, level);
        let data = personal(&host, "");
        let before = card.examination().commits;
        assert_eq!(
            host.send(&mut card, 0xE2, 0x80, 0, &data).0,
            0x6982,
            "level {level:02X}"
        );
        assert_eq!(card.examination().commits, before);
    }
}

#[test]
fn a_key_can_be_replaced_and_nothing_of_the_old_subscription_stays() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    for _ in 0..2 {
        transmit(&mut card, &format!("00A4040C08{SECAPP}"));
        let mut host = blank.open(&mut card, 0x33);
        let data = personal(&host, "");
        assert_eq!(host.send(&mut card, 0xE2, 0x80, 0, &data).0, 0x9000);
        transmit(&mut card, &format!("00A4040C08{SECAPP}"));
        assert_eq!(
            status(&transmit(&mut card, "80CA00E100")),
            0x6A88,
            "no outcome"
        );
        assert_eq!(poll(&mut card, 1)[1], 1, "the count begins anew");
    }
}

#[test]
fn wrong_personalisation_is_refused_whole() {
    let blank = Blank::new(0x70, 16);
    for data in [
        "",
        "E800",
        "E80C5A0A988873142774104880F9",
        "E90100",
        "5A0A988873142774104880F9",
        "E8225A0A988873142774104880F9D00F000000000000000000000000000000D10103",
        "E8235A0A988873142774104880FAD01000000000000000000000000000000000D10103",
        "E8235A0A988873142774104880F9D01000000000000000000000000000000000D10104",
        "E8265A0A988873142774104880F9D01000000000000000000000000000000000D10103D20102",
    ] {
        let mut card = blank.card();
        transmit(&mut card, &format!("00A4040C08{SECAPP}"));
        let mut host = blank.open(&mut card, 0x33);
        let (sw, _) = host.send(&mut card, 0xE2, 0x80, 0, &hex(data));
        assert!(matches!(sw, 0x6A80 | 0x6700), "{data}: {sw:04X}");
    }
}

#[test]
fn secapp_speaks_in_a_session_and_only_protected() {
    let with = subscription(3);
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    transmit(&mut card, &format!("00A4040C08{SECAPP}"));
    let mut host = blank.open(&mut card, 0x33);
    let data = personal(&host, "");
    host.send(&mut card, 0xE2, 0x80, 0, &data);
    assert_eq!(
        status(&transmit(&mut card, "8040000000")),
        0x6982,
        "unprotected"
    );
    let (sw, datagram) = host.send(&mut card, 0x40, 0, 0, &[]);
    assert_eq!(
        (sw, &datagram[..]),
        (0x9000, Server::of(&with).link.poll(0).as_bytes())
    );
    let response = Server::of(&with).answer(&[0x80, 0x00], 1, 1);
    let (sw, outcome) = host.send(&mut card, 0x42, 0, 0, &response);
    assert_eq!((sw, outcome[0]), (0x9000, 0xE1));
}

#[test]
fn a_protected_command_may_be_extended_or_come_in_a_chain() {
    let with = subscription(3);
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    transmit(&mut card, &format!("00A4040C08{SECAPP}"));
    let mut host = blank.open(&mut card, 0x33);
    let data = personal(&host, "");
    let apdu = host.protect(0xE2, 0x80, 0, &data, true);
    assert_eq!(host.receive(card.transmit(&apdu)).0, 0x9000, "extended");
    transmit(&mut card, &format!("00A4040C08{SECAPP}"));
    let mut host = blank.open(&mut card, 0x33);
    host.send(&mut card, 0x40, 0, 0, &[]);
    let long = protocol::msg::compose(1, &[protocol::msg::Object::Opaque(&[7; 219])]);
    let response = Server::of(&with).answer(&long, 1, 1);
    let whole = host.protect(0x42, 0, 0, &response, true);
    let data = &whole[7..whole.len() - 2];
    let (first, last) = data.split_at(200);
    assert_eq!(
        status(card.transmit(&[&[0x94, 0x42, 0, 0, 200][..], first].concat())),
        0x9000
    );
    let lc = u8::try_from(last.len()).expect("short");
    let answer = card
        .transmit(&[&[0x84, 0x42, 0, 0, lc][..], last, &[0]].concat())
        .to_vec();
    let fetched = if answer[answer.len() - 2] == 0x61 {
        let rest = transmit(&mut card, "00C0000000");
        [&answer[..answer.len() - 2], &rest].concat()
    } else {
        answer
    };
    let (sw, outcome) = host.receive(&fetched);
    assert_eq!((sw, outcome[0]), (0x9000, 0xE1), "chained");
}

#[test]
fn a_command_that_is_not_the_hosts_ends_the_session() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    for spoil in [4, 20] {
        let mut host = blank.open(&mut card, 0x33);
        let mut apdu = host.protect(0xF2, 0x40, 0x02, &[0x4F, 0x00], false);
        apdu[spoil] ^= 1;
        let refused = status(card.transmit(&apdu));
        assert!(matches!(refused, 0x6982 | 0x6700), "{refused:04X}");
        if refused == 0x6982 {
            assert_eq!(
                host.send(&mut card, 0xCA, 0, 0x66, &[]).0,
                0x6882,
                "no session any more"
            );
        }
    }
    let mut host = blank.open(&mut card, 0x01);
    let apdu = host.protect(0xCA, 0, 0x66, &[], false);
    ok(card.transmit(&apdu));
    assert_eq!(status(card.transmit(&apdu)), 0x6982, "a repetition");
}

#[test]
fn a_session_ends_with_selection_reset_and_its_channel() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    for end in ["00A4040000", "reset"] {
        let mut host = blank.open(&mut card, 0x33);
        if end == "reset" {
            card.reset();
        } else {
            ok(&transmit(&mut card, end));
        }
        assert_eq!(host.send(&mut card, 0xCA, 0, 0x66, &[]).0, 0x6882, "{end}");
    }
    transmit(&mut card, "0070000001");
    let (mut host, answered) = Host::open(&mut card, 1, VERSION, &blank.keys(), 0x33, 0x70);
    assert_eq!((answered, host.channel), (0x9000, 1));
    assert_eq!(
        status(&transmit(&mut card, "80CA006600")),
        0x9000,
        "the basic channel has none"
    );
    assert_eq!(host.send(&mut card, 0xCA, 0, 0x66, &[]).0, 0x9000);
    transmit(&mut card, "00708001");
    transmit(&mut card, "0070000001");
    assert_eq!(host.send(&mut card, 0xCA, 0, 0x66, &[]).0, 0x6882);
}

#[test]
fn guessing_keys_gets_slower_and_never_locks_the_card() {
    let blank = Blank::new(0x70, 16);
    let wrong = key(0x99, 16);
    let mut card = blank.card();
    let mut waits = Vec::new();
    for _ in 0..12 {
        // Without the right key a guesser cannot verify the card either; only the proof is wrong here.
        greet(&mut card, 0, VERSION, 8);
        waits.push(card.take_delay());
        let apdu = [&[0x84, 0x82, 0x33, 0, 16][..], &wrong].concat();
        assert_eq!(status(card.transmit(&apdu)), 0x6300);
        card.reset();
    }
    assert!(
        waits[..4].iter().all(std::time::Duration::is_zero),
        "{waits:?}"
    );
    assert!(waits.is_sorted() && waits[11].as_secs() == 5, "{waits:?}");
    blank.open(&mut card, 0x33);
    assert_eq!(greet(&mut card, 0, VERSION, 8).1.len(), 32);
    assert!(card.take_delay().is_zero(), "forgotten after a success");
}

/// What PUT KEY brings; a check value is spoilt on request.
fn put_key(host: &Host, keys: &[Vec<u8>; 3], version: u8, spoil: u8) -> Vec<u8> {
    let mut data = vec![version];
    for key in keys {
        let mut check = crate::host::cbc_encrypt(key, &[0; 16], &[1; 16]);
        check.truncate(3);
        check[0] ^= spoil;
        data.extend_from_slice(&[0x88, 0x11, 0x10]);
        data.extend_from_slice(&host.hide(key));
        data.push(3);
        data.extend_from_slice(&check);
    }
    data
}

/// New keys as PUT KEY brings them.
pub(crate) fn new_keys(host: &Host, version: u8) -> Vec<u8> {
    put_key(
        host,
        &[key(0x21, 16), key(0x51, 16), key(0x81, 16)],
        version,
        0,
    )
}

#[test]
fn keys_are_replaced_under_the_dek() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    let mut host = blank.open(&mut card, 0x33);
    let new = [key(0x21, 16), key(0x51, 16), key(0x81, 16)];
    let put = |host: &Host, version: u8, spoil: u8| put_key(host, &new, version, spoil);
    let spoilt = put(&host, 0x31, 1);
    assert_eq!(
        host.send(&mut card, 0xD8, VERSION, 0x81, &spoilt).0,
        0x6A80,
        "a wrong check value"
    );
    assert_eq!(
        host.send(&mut card, 0xD8, 0x44, 0x81, &put(&host, 0x31, 0))
            .0,
        0x6A88,
        "no such version"
    );
    let data = put(&host, 0x31, 0);
    let (sw, checks) = host.send(&mut card, 0xD8, VERSION, 0x81, &data);
    assert_eq!((sw, checks[0], checks.len()), (0x9000, 0x31, 10));
    card.reset();
    let refused = transmit(
        &mut card,
        &format!("8050{VERSION:02X}0008000000000000000000"),
    );
    assert_eq!(status(&refused), 0x6A88, "the old ones are gone");
    let (_, answered) = Host::open(&mut card, 0, 0x31, &[&new[0], &new[1], &new[2]], 0x33, 0x70);
    assert_eq!(answered, 0x9000);
}

#[test]
fn a_card_with_a_subscription_and_no_keys_lets_nobody_in() {
    let mut card = crate::common::card(&subscription(3));
    assert_eq!(
        status(&transmit(&mut card, "80500000080000000000000000")),
        0x6A88
    );
}

#[test]
fn the_owner_blocks_and_unblocks_secapp() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    let set = |card: &mut Card, p2: u8| {
        transmit(card, "00A4040000");
        let mut host = blank.open(card, 0x01);
        assert_eq!(host.send(card, 0xF0, 0x40, p2, &hex(SECAPP)).0, 0x9000);
        ok(&transmit(card, &format!("00A4040008{SECAPP}00")))
    };
    transmit(&mut card, &format!("00A4040C08{SECAPP}"));
    let mut host = blank.open(&mut card, 0x33);
    let data = personal(&host, "");
    host.send(&mut card, 0xE2, 0x80, 0, &data);
    assert!(set(&mut card, 0x80).ends_with(&hex("C3018F")));
    assert_eq!(status(&transmit(&mut card, "8040000000")), 0x6985);
    card.reset();
    assert!(set(&mut card, 0x00).ends_with(&hex("C3010F")));
    poll(&mut card, 0);
}

#[test]
fn the_card_goes_through_its_life() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    let set = |card: &mut Card, p2: u8| {
        transmit(card, "00A4040000");
        blank.open(card, 0x01).send(card, 0xF0, 0x80, p2, &[]).0
    };
    assert_eq!(set(&mut card, 0x0F), 0x6985, "not before INITIALIZED");
    assert_eq!(set(&mut card, 0x07), 0x9000);
    assert_eq!(set(&mut card, 0x0F), 0x9000);
    assert_eq!(set(&mut card, 0x01), 0x6985, "not back");
    assert_eq!(set(&mut card, 0x7F), 0x9000);
    assert_eq!(
        status(&transmit(&mut card, &format!("00A4040008{SECAPP}00"))),
        0x6A82,
        "locked"
    );
    assert_eq!(set(&mut card, 0x0F), 0x9000);
    assert_eq!(
        status(&transmit(&mut card, &format!("00A4040008{SECAPP}00"))),
        0x9000
    );
    assert_eq!(set(&mut card, 0xFF), 0x9000);
    card.reset();
    ok(&transmit(&mut card, "80CA006600"));
    assert_eq!(
        status(&transmit(&mut card, "80500000080000000000000000")),
        0x6985,
        "and nothing else"
    );
    assert_eq!(
        status(&transmit(&mut card, &format!("00A4040008{SECAPP}00"))),
        0x6A82
    );
}

#[test]
fn numbers_of_issuer_and_card_are_stored_signed_and_read_by_all() {
    let blank = Blank::new(0x70, 16);
    let mut card = blank.card();
    assert_eq!(status(&transmit(&mut card, "80CA004200")), 0x6A88);
    assert_eq!(
        status(&transmit(&mut card, "80E28000064204AABBCCDD")),
        0x6982
    );
    let mut host = blank.open(&mut card, 0x01);
    assert_eq!(
        host.send(&mut card, 0xE2, 0x80, 0, &hex("4204AABBCCDD45020102"))
            .0,
        0x9000
    );
    assert_eq!(
        host.send(&mut card, 0xE2, 0x80, 0, &hex("43020102")).0,
        0x6A80
    );
    card.reset();
    assert_eq!(ok(&transmit(&mut card, "80CA004200")), hex("4204AABBCCDD"));
    assert_eq!(ok(&transmit(&mut card, "80CA004500")), hex("45020102"));
}
