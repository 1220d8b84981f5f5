//! Images that were damaged: a clear error, or the last committed state; never an older one, never a panic.

use applet::nvm::{NvmError, Store, WrapKey};
use proptest::{collection::vec, prelude::*};
use protocol::key::Key;

use crate::{
    common::{Server, card_on, ok, poll, subscription, transmit},
    devices::Shared,
};

/// A card's image after some commits, and how many they were.
fn image() -> (Vec<u8>, u64) {
    let memory = Shared::blank();
    let mut card = card_on(
        Box::new(memory.clone()),
        &subscription(3),
        applet::Protocol::T1,
    );
    for _ in 0..3 {
        poll(&mut card, 1);
    }
    (memory.bytes(), card.examination().commits)
}

fn open(bytes: &[u8], wrap: Option<WrapKey>) -> Result<Store, NvmError> {
    Store::open(Box::new(Shared::of(bytes.to_vec())), wrap)
}

fn wrap_key(byte: u8) -> WrapKey {
    WrapKey::new(&Key::from_bytes(&[byte; 32]).expect("a key"))
}

#[test]
fn a_flipped_byte_is_an_error_or_costs_nothing() {
    let (mut bytes, commits) = image();
    let mut errors = 0;
    for at in 0..bytes.len() {
        for flip in [0x01, 0xFF] {
            bytes[at] ^= flip;
            match open(&bytes, None) {
                Ok(store) => assert_eq!(
                    store.examination().commits,
                    commits,
                    "an older state at offset {at}"
                ),
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    errors += 1;
                }
            }
            bytes[at] ^= flip;
        }
    }
    assert!(
        errors > 500,
        "the header and the last state are protected: {errors}"
    );
}

#[test]
fn a_flip_in_the_last_state_is_told_as_damage() {
    let (mut bytes, commits) = image();
    let slot = if commits.is_multiple_of(2) {
        12_288
    } else {
        28_672
    };
    bytes[slot + 512 + 20] ^= 1;
    match open(&bytes, None).err() {
        Some(NvmError::Damaged { committed, .. }) => assert_eq!(committed, commits),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_of_another_length_is_refused() {
    let (bytes, _) = image();
    for len in 0..bytes.len() {
        assert!(open(&bytes[..len], None).is_err(), "{len} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(open(&longer, None), Err(NvmError::Length(45_057))));
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    let (mut bytes, _) = image();
    assert!(matches!(
        open(&[0; 45_056], None),
        Err(NvmError::NotAnImage)
    ));
    assert!(matches!(
        open(b"#!/bin/sh", None),
        Err(NvmError::NotAnImage)
    ));
    bytes[9] = 2;
    assert!(
        matches!(open(&bytes, None), Err(NvmError::Header)),
        "a flip is no version"
    );
    let crc = crc32fast::hash(&bytes[..16]).to_be_bytes();
    bytes[16..20].copy_from_slice(&crc);
    assert!(matches!(open(&bytes, None), Err(NvmError::Version(2))));
}

#[test]
fn a_wrapped_image_opens_under_its_own_key_only_and_holds_no_secret_in_clear() {
    let memory = Shared::blank();
    let with = subscription(3);
    let mut store = Store::format(Box::new(memory.clone()), Some(wrap_key(1))).expect("a memory");
    applet::secapp::personalise(&mut store, &with).expect("it takes it");
    drop(store);
    let bytes = memory.bytes();
    assert!(open(&bytes, Some(wrap_key(1))).is_ok());
    assert!(matches!(
        open(&bytes, Some(wrap_key(2))),
        Err(NvmError::WrongKey)
    ));
    assert!(matches!(open(&bytes, None), Err(NvmError::KeyNeeded)));
    let uid = with.uid_1().0;
    assert!(!bytes.windows(uid.len()).any(|window| window == uid));
    let (plain, _) = image();
    assert!(
        plain.windows(uid.len()).any(|window| window == uid),
        "which the other one shows"
    );
    assert!(matches!(
        open(&plain, Some(wrap_key(1))),
        Err(NvmError::KeyNotNeeded)
    ));
}

#[test]
fn k_is_on_no_image() {
    let (bytes, _) = image();
    assert!(!bytes.windows(16).any(|window| window == [0x2B; 16]));
}

proptest! {
    /// Checksums right, content nonsense: an answer, and nothing that looks like a card's.
    #[test]
    fn objects_that_make_no_sense_are_survived(id in prop_oneof![1..6u16, Just(0x100), Just(0x130)], junk in vec(any::<u8>(), 0..120), manager in any::<bool>()) {
        let (bytes, _) = image();
        let mut store = open(&bytes, None).expect("an image");
        let aid = if manager { applet::manager::aid() } else { applet::secapp::aid() };
        let space = store.space(&aid);
        store.put(space, id, &junk).expect("a small object");
        applet::secapp::inspect(&mut store);
        applet::manager::inspect(&mut store);
        let mut card = applet::card(store, applet::Protocol::T1).expect("a card");
        card.power_on();
        for apdu in ["80500000080000000000000000", "80CA00E000", "80CA006600", "00A4040008F04754534150500100", "8040000000",
            "80CA00E100", "80CA00E700", "80CA010000", "808800001000000000000000000000000000000000"] {
            prop_assert!(transmit(&mut card, apdu).len() >= 2);
        }
    }
}

/// Images of every format version are opened for ever, by a card that goes on polling.
#[test]
fn the_sample_of_version_1_opens_and_polls() {
    let bytes = include_bytes!("../samples/card-v1.bin");
    let mut store = open(bytes, None).expect("an image of version 1");
    let (_, state) = applet::secapp::inspect(&mut store);
    let (profile, chain) = state.expect("a personalised card");
    assert_eq!(profile.iccid.to_string(), "8988374172470184089");
    let counted = &chain.statistics;
    assert_eq!(
        (chain.resends, counted.accepted, counted.last_message),
        (2, 1, 7)
    );
    let mut card = applet::card(store, applet::Protocol::T1).expect("a card");
    card.power_on();
    ok(&transmit(&mut card, "00A4040C08F047545341505001"));
    let mut server = Server::of(&subscription(3));
    server.promote(1);
    assert_eq!(poll(&mut card, 0), server.link.poll(2).as_bytes());
    assert_eq!(
        ok(&transmit(&mut card, "80CA010000")).len(),
        70,
        "its key pair is there"
    );
}
