//! What SecApp promises about polls, responses and messages.

use applet::{
    nvm::{RamDevice, Store},
    secapp::personalise,
};
use protocol::{
    card::{Flags, Outcome, Statistics},
    identity::UidRand,
    msg::{KeyAlgorithm, NOTHING_TO_DO, Object, compose},
    poll::Poll,
};

use crate::common::{
    Server, card, hex, ok, poll, process_response, status, subscription, transmit,
};

fn outcome(answer: &[u8]) -> Outcome {
    Outcome::decode(&ok(answer)).expect("an outcome")
}

fn statistics(card: &mut applet::Card) -> Statistics {
    Statistics::decode(&ok(&transmit(card, "80CA00E700"))).expect("statistics")
}

fn last_outcome(card: &mut applet::Card) -> Outcome {
    outcome(&transmit(card, "80CA00E100"))
}

fn resend_counter(datagram: &[u8]) -> u8 {
    Poll::parse(datagram).expect("a poll").resend_counter
}

#[test]
fn a_poll_is_the_same_until_it_is_said_to_be_lost() {
    let mut card = card(&subscription(3));
    let first = poll(&mut card, 0);
    assert_eq!(poll(&mut card, 0), first);
    card.reset();
    transmit(&mut card, "00A4040C08F047545341505001");
    assert_eq!(poll(&mut card, 0), first, "over a reset, too");
    assert_eq!(resend_counter(&poll(&mut card, 1)), 1);
    assert_eq!(resend_counter(&poll(&mut card, 0)), 1);
}

#[test]
fn get_uid_as_it_stands_writes_nothing() {
    let mut card = card(&subscription(3));
    let before = card.examination().commits;
    for _ in 0..50 {
        poll(&mut card, 0);
    }
    assert_eq!(card.examination().commits, before);
    poll(&mut card, 1);
    assert_eq!(card.examination().commits, before + 1);
}

#[test]
fn the_wire_counter_stays_at_255_and_the_cards_goes_on() {
    let mut card = card(&subscription(2));
    for _ in 0..255 {
        poll(&mut card, 1);
    }
    assert_eq!(resend_counter(&poll(&mut card, 0)), 255);
    let recovery = Server::of(&subscription(2)).recovery.identity().uid();
    let at_256 = poll(&mut card, 1);
    assert_eq!(resend_counter(&at_256), 255);
    assert_eq!(
        Poll::parse(&at_256).expect("a poll").uid,
        recovery,
        "256 is a multiple of 8"
    );
}

#[test]
fn recovery_polls_at_24_32_40_and_at_no_other_count() {
    let mut card = card(&subscription(3));
    let server = Server::of(&subscription(3));
    let recovery = server.recovery.identity().uid();
    for count in 1..=48u32 {
        let datagram = poll(&mut card, 1);
        let uid = Poll::parse(&datagram).expect("a poll").uid;
        let expected = if [24, 32, 40, 48].contains(&count) {
            recovery
        } else {
            server.link.uid()
        };
        assert_eq!(uid, expected, "at count {count}");
    }
}

#[test]
fn from_the_first_recovery_poll_on_both_identities_are_listened_to() {
    let with = subscription(3);
    let server = Server::of(&with);
    let recovered = server
        .recovery
        .identity()
        .seal(&NOTHING_TO_DO, 1, UidRand([9; 8]))
        .expect("fits");
    let recovered = recovered.as_bytes();

    let mut card = card(&with);
    for _ in 0..23 {
        poll(&mut card, 1);
    }
    assert_eq!(
        status(&process_response(&mut card, recovered)),
        0x9862,
        "before it, only the chain"
    );
    for _ in 0..2 {
        poll(&mut card, 1);
    }
    assert_eq!(
        status(&process_response(
            &mut card,
            &server.answer(&NOTHING_TO_DO, 1, 1)
        )),
        0x9000
    );
    assert_eq!(
        statistics(&mut card).e,
        0,
        "accepted under the chain: e stays"
    );

    let mut card = crate::common::card(&with);
    for _ in 0..25 {
        poll(&mut card, 1);
    }
    assert_eq!(status(&process_response(&mut card, recovered)), 0x9000);
    assert_eq!(statistics(&mut card).e, 1);
    let child = server.recovery.identity().child(UidRand([9; 8]));
    assert_eq!(poll(&mut card, 0), child.poll(0).as_bytes());
}

#[test]
fn without_an_open_poll_a_response_is_refused() {
    let with = subscription(3);
    let mut card = card(&with);
    let answer = Server::of(&with).answer(&NOTHING_TO_DO, 1, 1);
    assert_eq!(status(&process_response(&mut card, &answer)), 0x6985);
    poll(&mut card, 0);
    card.reset();
    transmit(&mut card, "00A4040C08F047545341505001");
    assert_eq!(
        status(&process_response(&mut card, &answer)),
        0x6985,
        "a reset closes it"
    );
    poll(&mut card, 0);
    ok(&process_response(&mut card, &answer));
    assert_eq!(
        status(&process_response(&mut card, &answer)),
        0x6985,
        "an acceptance closes it"
    );
}

#[test]
fn a_response_is_accepted_once() {
    let with = subscription(1);
    let mut card = card(&with);
    let answer = Server::of(&with).answer(&NOTHING_TO_DO, 1, 1);
    poll(&mut card, 0);
    ok(&process_response(&mut card, &answer));
    poll(&mut card, 0);
    assert_eq!(status(&process_response(&mut card, &answer)), 0x9862);
}

#[test]
fn sent_must_be_possible() {
    for (mode, sent, expected) in [
        (3, 0, 0x9865),
        (3, 3, 0x9865),
        (3, 2, 0x9000),
        (0, 0, 0x9865),
        (0, 3, 0x9000),
    ] {
        let with = subscription(mode);
        let mut card = card(&with);
        poll(&mut card, 1);
        let got = process_response(
            &mut card,
            &Server::of(&with).answer(&NOTHING_TO_DO, sent, 1),
        );
        assert_eq!(
            status(&got),
            expected,
            "mode {mode}, Sent {sent} after Resend_Counter 1"
        );
        if mode == 0 && sent == 3 {
            assert_eq!(outcome(&got).flags, Flags::OTHERS_POLLED);
        }
    }
}

#[test]
fn loss_is_counted_on_both_ways() {
    let with = subscription(3);
    let mut card = card(&with);
    for _ in 0..3 {
        poll(&mut card, 1);
    }
    ok(&process_response(
        &mut card,
        &Server::of(&with).answer(&NOTHING_TO_DO, 2, 1),
    ));
    let counted = statistics(&mut card);
    assert_eq!(
        (counted.accepted, counted.polls_lost, counted.answers_lost),
        (1, 2, 1)
    );
}

#[test]
fn refusals_are_counted_without_a_write_and_kept_with_the_next() {
    let with = subscription(3);
    let mut card = card(&with);
    poll(&mut card, 0);
    let before = card.examination().commits;
    for _ in 0..7 {
        process_response(&mut card, &[0x81; 40]);
    }
    assert_eq!(statistics(&mut card).refused, 7);
    assert_eq!(card.examination().commits, before);
    ok(&process_response(
        &mut card,
        &Server::of(&with).answer(&NOTHING_TO_DO, 1, 1),
    ));
    card.reset();
    transmit(&mut card, "00A4040C08F047545341505001");
    assert_eq!(statistics(&mut card).refused, 7);
}

#[test]
fn a_message_id_that_is_not_newer_is_a_duplicate_and_makes_no_key() {
    let with = subscription(3);
    let (mut card, mut server) = (card(&with), Server::of(&with));
    let key = Object::GenerateKey {
        algorithm: KeyAlgorithm::Ed25519,
        slot: 1,
    };
    let mut give = |card: &mut applet::Card, id: u32, rand: u8| {
        poll(card, 0);
        let answer = server.answer(&compose(id, std::slice::from_ref(&key)), 1, rand);
        server.promote(rand);
        outcome(&process_response(card, &answer)).flags
    };
    assert_eq!(give(&mut card, 1000, 1), Flags::default());
    let made = ok(&transmit(&mut card, "80CA010100"));
    for (rand, id) in [(2, 1000), (3, 999)] {
        assert_eq!(give(&mut card, id, rand), Flags::DUPLICATE);
        assert_eq!(ok(&transmit(&mut card, "80CA010100")), made);
        assert_eq!(statistics(&mut card).last_message, 1000);
    }
    assert_eq!(give(&mut card, 1001, 4), Flags::default());
    assert_ne!(
        ok(&transmit(&mut card, "80CA010100")),
        made,
        "a newer message makes a new key"
    );
    assert_eq!(statistics(&mut card).last_message, 1001);
}

#[test]
fn what_cannot_be_done_is_accepted_and_flagged() {
    let with = subscription(3);
    let cases: [&[u8]; 6] = [
        &[],
        &[0x80],
        &[0x81, 4, 0, 0, 0],
        &[0x82, 0],
        &compose(
            5,
            &[Object::GenerateKey {
                algorithm: KeyAlgorithm::P256,
                slot: 8,
            }],
        ),
        &[0x81, 4, 0, 0, 0, 5, 0x88, 1, 1],
    ];
    for msg in cases {
        let mut card = card(&with);
        poll(&mut card, 0);
        let got = outcome(&process_response(
            &mut card,
            &Server::of(&with).answer(msg, 1, 1),
        ));
        assert_eq!(got.flags, Flags::NOT_DONE, "{msg:02X?}");
        assert_eq!(got.msg, msg);
        assert_ne!(
            poll(&mut card, 0),
            poll(&mut crate::common::card(&with), 0),
            "the chain has moved"
        );
    }
}

#[test]
fn no_message_asks_for_more_than_the_card_can_do() {
    let with = subscription(3);
    for (slots, flags) in [(8, Flags::default()), (9, Flags::NOT_DONE)] {
        let mut card = card(&with);
        let asked = (0..55).map(|at| Object::GenerateKey {
            algorithm: if at < 30 {
                KeyAlgorithm::P256
            } else {
                KeyAlgorithm::Ed25519
            },
            slot: at % slots,
        });
        let msg = compose(1, &asked.collect::<Vec<_>>());
        assert!(msg.len() > 220, "as many as fit");
        poll(&mut card, 0);
        let got = outcome(&process_response(
            &mut card,
            &Server::of(&with).answer(&msg, 1, 1),
        ));
        assert_eq!(got.flags, flags);
        for slot in 0..8 {
            let key = ok(&transmit(&mut card, &format!("80CA01{slot:02X}00")));
            assert_eq!(key.len(), 5 + 32, "the last one for each slot");
        }
    }
}

#[test]
fn without_randomness_no_key_is_made_and_the_response_is_accepted() {
    struct Broken;
    impl applet::runtime::Entropy for Broken {
        fn fill(&mut self, _: &mut [u8]) -> Result<(), applet::runtime::NoEntropy> {
            Err(applet::runtime::NoEntropy)
        }
    }
    let with = subscription(3);
    let mut memory = Store::format(Box::new(RamDevice::blank()), None).expect("a memory");
    personalise(&mut memory, &with).expect("it takes it");
    let card = applet::Card::open(
        memory,
        &applet::applications(),
        Box::new(Broken),
        applet::Protocol::T1,
    );
    let mut card = card.expect("a card");
    card.power_on();
    transmit(&mut card, "00A4040C08F047545341505001");
    poll(&mut card, 0);
    let key = Object::GenerateKey {
        algorithm: KeyAlgorithm::P256,
        slot: 0,
    };
    let answer = Server::of(&with).answer(&compose(1, &[key]), 1, 1);
    assert_eq!(
        outcome(&process_response(&mut card, &answer)).flags,
        Flags::NOT_DONE
    );
    assert_eq!(status(&transmit(&mut card, "80CA010000")), 0x6A88);
}

#[test]
fn an_unknown_object_is_handed_on_as_it_is() {
    let with = subscription(3);
    let mut card = card(&with);
    let msg = hex("810400000009BF200201028203616263");
    poll(&mut card, 0);
    let got = outcome(&process_response(
        &mut card,
        &Server::of(&with).answer(&msg, 1, 1),
    ));
    assert_eq!((got.flags, got.msg), (Flags::default(), msg));
}

#[test]
fn the_outcome_stays_readable_until_the_next_acceptance() {
    let with = subscription(2);
    let (mut card, mut server) = (card(&with), Server::of(&with));
    assert_eq!(status(&transmit(&mut card, "80CA00E100")), 0x6A88);
    poll(&mut card, 0);
    let first = outcome(&process_response(
        &mut card,
        &server.answer(&compose(7, &[]), 1, 1),
    ));
    server.promote(1);
    card.power_off();
    card.power_on();
    transmit(&mut card, "00A4040C08F047545341505001");
    assert_eq!(last_outcome(&mut card), first);
    poll(&mut card, 0);
    assert_eq!(last_outcome(&mut card), first);
    process_response(&mut card, &server.answer(&NOTHING_TO_DO, 1, 2));
    assert_eq!(last_outcome(&mut card).msg, NOTHING_TO_DO);
}

#[test]
fn key_pairs_are_real() {
    let with = subscription(3);
    let mut card = card(&with);
    let objects = [
        Object::GenerateKey {
            algorithm: KeyAlgorithm::P256,
            slot: 0,
        },
        Object::GenerateKey {
            algorithm: KeyAlgorithm::Ed25519,
            slot: 7,
        },
    ];
    poll(&mut card, 0);
    ok(&process_response(
        &mut card,
        &Server::of(&with).answer(&compose(1, &objects), 1, 1),
    ));
    let p256 = ok(&transmit(&mut card, "80CA010000"));
    assert_eq!(p256[..6], hex("7F4943864104")[..]);
    p256::PublicKey::from_sec1_bytes(&p256[5..]).expect("a point on the curve");
    let ed25519 = ok(&transmit(&mut card, "80CA010700"));
    assert_eq!(ed25519[..5], hex("7F49228620")[..]);
    let point = ed25519[5..].try_into().expect("32 bytes");
    ed25519_dalek::VerifyingKey::from_bytes(&point).expect("a point on the curve");
    assert_eq!(
        status(&transmit(&mut card, "80CA010100")),
        0x6A88,
        "the other slots are empty"
    );
}

#[test]
fn keys_made_on_the_card_sign_challenges() {
    use ed25519_dalek::Verifier as _;
    let with = subscription(3);
    let mut card = card(&with);
    assert_eq!(
        status(&transmit(
            &mut card,
            &format!("8088000010{}00", "5A".repeat(16))
        )),
        0x6A88,
        "no key yet"
    );
    let objects = [(KeyAlgorithm::P256, 0), (KeyAlgorithm::Ed25519, 1)];
    let objects = objects.map(|(algorithm, slot)| Object::GenerateKey { algorithm, slot });
    poll(&mut card, 0);
    ok(&process_response(
        &mut card,
        &Server::of(&with).answer(&compose(1, &objects), 1, 1),
    ));
    for len in [16, 64] {
        let challenge = vec![0x5A; len];
        let sign = |card: &mut applet::Card, slot: u8| {
            ok(&transmit(
                card,
                &format!("808800{slot:02X}{len:02X}{}00", hex::encode(&challenge)),
            ))
        };
        let p256 = p256::ecdsa::Signature::from_slice(&sign(&mut card, 0)).expect("r and s");
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(
            &ok(&transmit(&mut card, "80CA010000"))[5..],
        );
        key.expect("a point")
            .verify(&challenge, &p256)
            .expect("the key's own signature");
        let ed25519 = ed25519_dalek::Signature::from_slice(&sign(&mut card, 1)).expect("64 bytes");
        let point = ok(&transmit(&mut card, "80CA010100"))[5..]
            .try_into()
            .expect("32 bytes");
        let key = ed25519_dalek::VerifyingKey::from_bytes(&point).expect("a point");
        key.verify(&challenge, &ed25519)
            .expect("the key's own signature");
    }
}

#[test]
fn a_poll_opened_on_one_channel_can_be_answered_on_another() {
    let with = subscription(3);
    let mut card = card(&with);
    assert_eq!(ok(&transmit(&mut card, "0070000001")), [1]);
    assert_eq!(
        status(&transmit(&mut card, "01A4040C08F047545341505001")),
        0x9000
    );
    let datagram = poll(&mut card, 0);
    assert_eq!(ok(&transmit(&mut card, "8140000000")), datagram);
    let answer = Server::of(&with).answer(&NOTHING_TO_DO, 1, 1);
    let apdu = [&[0x81, 0x42, 0, 0, 29][..], &answer, &[0]].concat();
    ok(card.transmit(&apdu));
}
