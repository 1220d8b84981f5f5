//! `secapp insert` in a real pcscd with vpcd: what a PC/SC client sees of the card.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use e2e::card_client::CardClient;
use e2e::pcscd::Pcscd;
use protocol::chain::Link;

use crate::parts::inserted::{SELECT, insert, inserted};
use crate::parts::subscriber::Subscriber;

const GET_UID: [u8; 5] = [0x80, 0x40, 0x00, 0x00, 0x00];
const GET_UID_AFTER_SILENCE: [u8; 5] = [0x80, 0x40, 0x01, 0x00, 0x00];

/// Selects SecApp and asks for the poll.
fn poll(client: &mut CardClient) -> Vec<u8> {
    let fci = client.transmit(&SELECT).unwrap();
    assert!(
        fci.starts_with(&[0x6F]) && fci.ends_with(&[0x90, 0x00]),
        "{fci:02X?}"
    );
    client.transmit(&GET_UID).unwrap()
}

fn expected(link: &Link, resends: u8) -> Vec<u8> {
    [link.poll(resends).as_bytes(), &[0x90, 0x00]].concat()
}

#[test]
fn every_kind_of_card_gives_its_own_first_poll_over_pcsc() {
    let directory = tempfile::tempdir().unwrap();
    let kinds = [
        Subscriber::named("bare").mode(0),
        Subscriber::named("rotating").mode(1).aes256(),
        Subscriber::named("signing").mode(2).concealed(),
        Subscriber::named("default").own_uid(),
        Subscriber::named("strong").aes256().concealed(),
    ];
    let pcscd = Pcscd::start(kinds.len());
    for (subscriber, slot) in kinds.iter().zip(pcscd.slots()) {
        let _card = inserted(&subscriber.make_card(directory.path()), slot);
        let mut client = CardClient::of(&pcscd);
        client.await_card(&slot.reader).unwrap();
        client.connect(&slot.reader).unwrap();
        assert_eq!(
            poll(&mut client),
            expected(&subscriber.link(), 0),
            "{}",
            subscriber.reference
        );
    }
}

#[test]
fn the_poll_survives_reset_power_off_and_a_restart_of_pcscd() {
    let (directory, one) = (tempfile::tempdir().unwrap(), Subscriber::named("one"));
    let mut pcscd = Pcscd::start(1);
    let slot = pcscd.slots()[0].clone();
    let mut card = inserted(&one.make_card(directory.path()), &slot);
    let mut client = CardClient::of(&pcscd);
    client.await_card(&slot.reader).unwrap();
    client.connect(&slot.reader).unwrap();
    assert_eq!(poll(&mut client), expected(&one.link(), 0));
    let raised = client.transmit(&GET_UID_AFTER_SILENCE).unwrap();
    assert_eq!(raised, expected(&one.link(), 1));
    client.reset().unwrap();
    assert_eq!(
        poll(&mut client),
        expected(&one.link(), 1),
        "after a warm reset"
    );
    client.power_cycle().unwrap();
    assert_eq!(
        poll(&mut client),
        expected(&one.link(), 1),
        "after power off and on"
    );
    drop(client);
    pcscd.stop();
    card.expect_line("no reader at");
    pcscd.restart();
    card.expect_line("powered on");
    let mut client = CardClient::of(&pcscd);
    client.await_card(&slot.reader).unwrap();
    client.connect(&slot.reader).unwrap();
    assert_eq!(
        poll(&mut client),
        expected(&one.link(), 1),
        "after a restart of pcscd"
    );
}

#[test]
fn a_card_killed_and_put_back_goes_on_where_it_was() {
    let (directory, one) = (tempfile::tempdir().unwrap(), Subscriber::named("one"));
    let pcscd = Pcscd::start(1);
    let (slot, image) = (&pcscd.slots()[0], one.make_card(directory.path()));
    for resends in 1..=3 {
        let mut card = inserted(&image, slot);
        let mut client = CardClient::of(&pcscd);
        client.await_card(&slot.reader).unwrap();
        client.connect(&slot.reader).unwrap();
        poll(&mut client);
        let raised = client.transmit(&GET_UID_AFTER_SILENCE).unwrap();
        assert_eq!(raised, expected(&one.link(), resends));
        card.kill();
        client.await_empty(&slot.reader).unwrap();
    }
}

#[test]
fn a_card_in_use_is_refused_to_a_second_reader() {
    let (directory, one) = (tempfile::tempdir().unwrap(), Subscriber::named("one"));
    let pcscd = Pcscd::start(2);
    let image = one.make_card(directory.path());
    let mut card = inserted(&image, &pcscd.slots()[0]);
    let second = insert(&image, pcscd.slots()[1].port).run();
    assert_eq!(second.status.code(), Some(4), "{second:?}");
    assert!(second.stderr.join("\n").contains("in use"), "{second:?}");
    assert!(card.is_running());
    assert!(card.terminate().success());
    let mut again = inserted(&image, &pcscd.slots()[1]);
    assert!(again.terminate().success());
}

#[test]
fn an_image_is_its_owners_alone_and_a_damaged_one_is_named() {
    let (directory, one) = (tempfile::tempdir().unwrap(), Subscriber::named("one"));
    let image = one.make_card(directory.path());
    let mode = fs::metadata(&image).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let whole = fs::read(&image).unwrap();
    let half = &whole[..whole.len() / 2];
    for damaged in [
        &[][..],
        b"not a card",
        half,
        &[whole.as_slice(), &[0]].concat(),
    ] {
        fs::write(&image, damaged).unwrap();
        let refused = insert(&image, 1).run();
        assert_eq!(
            refused.status.code(),
            Some(3),
            "{} bytes: {refused:?}",
            damaged.len()
        );
        assert!(refused.stderr.concat().contains("one.img"), "{refused:?}");
    }
}
