//! Any bytes at all: an answer, no panic, and nothing changed by what was refused.

use proptest::{collection::vec, prelude::*};

use crate::common::{card, card_t0, poll, status, subscription, transmit};

/// Bytes, and bytes that look like commands.
fn apdu() -> impl Strategy<Value = Vec<u8>> {
    let cla = prop_oneof![
        Just(0x00),
        Just(0x80),
        Just(0x90),
        Just(0x81),
        Just(0x84),
        any::<u8>()
    ];
    let ins = prop_oneof![
        Just(0x40),
        Just(0x42),
        Just(0x44),
        Just(0x70),
        Just(0xA4),
        Just(0xC0),
        Just(0xCA),
        any::<u8>()
    ];
    let parameter = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(4), 1 => any::<u8>()];
    let body = vec(any::<u8>(), 0..64);
    let likely = (cla, ins, parameter.clone(), parameter, body, 0..4u8).prop_map(
        |(cla, ins, p1, p2, data, form)| {
            let lc = data.len().to_le_bytes()[0];
            let body = match form {
                0 => vec![],
                1 => vec![lc],
                2 => [&[lc][..], &data].concat(),
                _ => [&[0, 0, lc][..], &data, &[0, 0]].concat(),
            };
            [&[cla, ins, p1, p2][..], &body].concat()
        },
    );
    prop_oneof![3 => likely, 1 => vec(any::<u8>(), 0..300)]
}

proptest! {
    #[test]
    fn whatever_is_refused_changes_nothing(apdus in vec(apdu(), 1..40), t0 in any::<bool>()) {
        let with = subscription(3);
        let mut card = if t0 { card_t0(&with) } else { card(&with) };
        for apdu in apdus {
            let before = card.examination().commits;
            let answer = card.transmit(&apdu).to_vec();
            prop_assert!(answer.len() >= 2);
            let done = matches!(status(&answer), 0x9000 | 0x6100..=0x61FF);
            prop_assert!(done || (answer.len() == 2 && card.examination().commits == before), "{:02X?}", apdu);
        }
    }

    #[test]
    fn no_forged_response_is_accepted(mut datagram in vec(any::<u8>(), 27..256), resends in 0..30u8) {
        let mut card = card(&subscription(3));
        for _ in 0..resends {
            poll(&mut card, 1);
        }
        let before = poll(&mut card, 0);
        datagram[0] = 0x81;
        prop_assert_eq!(status(&crate::common::process_response(&mut card, &datagram)), 0x9862);
        prop_assert_eq!(poll(&mut card, 0), before);
    }
}

#[test]
fn a_card_without_power_says_so() {
    let mut card = card(&subscription(3));
    card.power_off();
    assert_eq!(transmit(&mut card, "8040000000"), [0x6F, 0x00]);
}
