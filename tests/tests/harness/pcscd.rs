//! A private pcscd is private, whole and comes back.

use e2e::card_client::CardClient;
use e2e::pcscd::{Isolation, MAX_SLOTS, Pcscd, StartError};
use e2e::process::Program;

use crate::plain_card::{ATR, PlainCard};

const APDU: [u8; 5] = [0x00, 0xB0, 0x00, 0x00, 0x02];

#[test]
fn a_card_in_a_private_reader_answers() {
    let pcscd = Pcscd::start(2);
    let slot = &pcscd.slots()[0];
    let _card = PlainCard::insert(slot.port, &[0xCA, 0xFE, 0x90, 0x00]);
    let mut client = CardClient::of(&pcscd);
    assert_eq!(client.await_card(&slot.reader).unwrap(), ATR);
    assert_eq!(client.connect(&slot.reader).unwrap(), ATR);
    assert_eq!(client.transmit(&APDU).unwrap(), [0xCA, 0xFE, 0x90, 0x00]);
    assert_eq!(client.reset().unwrap(), ATR);
    assert_eq!(client.power_cycle().unwrap(), ATR);
    client.disconnect().unwrap();
}

#[test]
fn a_card_pulled_out_leaves_its_reader_empty() {
    let pcscd = Pcscd::start(2);
    let slot = &pcscd.slots()[1];
    let mut client = CardClient::of(&pcscd);
    client.await_empty(&slot.reader).unwrap();
    let card = PlainCard::insert(slot.port, &[0x90, 0x00]);
    client.await_card(&slot.reader).unwrap();
    drop(card);
    client.await_empty(&slot.reader).unwrap();
    assert!(
        client
            .connect(&slot.reader)
            .unwrap_err()
            .contains("NoSmartcard")
    );
}

#[test]
fn two_daemons_side_by_side_know_nothing_of_each_other() {
    let (left, right) = (Pcscd::start(2), Pcscd::start(2));
    let (slot, neighbour) = (&left.slots()[0], &right.slots()[0]);
    let _card = PlainCard::insert(slot.port, &[0x01, 0x90, 0x00]);
    let _other = PlainCard::insert(neighbour.port, &[0x02, 0x90, 0x00]);
    assert_eq!(answer(&left, &slot.reader), [0x01, 0x90, 0x00]);
    assert_eq!(answer(&right, &neighbour.reader), [0x02, 0x90, 0x00]);
    drop(left);
    assert_eq!(answer(&right, &neighbour.reader), [0x02, 0x90, 0x00]);
}

#[test]
fn a_restart_keeps_ports_socket_and_reader_names() {
    let mut pcscd = Pcscd::start(2);
    let (slots, socket) = (pcscd.slots().to_vec(), pcscd.socket());
    let card = PlainCard::insert(slots[0].port, &[0x90, 0x00]);
    CardClient::of(&pcscd).await_card(&slots[0].reader).unwrap();
    pcscd.restart();
    card.await_end();
    assert_eq!((pcscd.slots(), pcscd.socket()), (&slots[..], socket));
    let _again = PlainCard::insert(slots[0].port, &[0x90, 0x00]);
    assert_eq!(answer(&pcscd, &slots[0].reader), [0x90, 0x00]);
}

#[test]
fn while_stopped_a_client_is_told_so_at_once() {
    let mut pcscd = Pcscd::start(1);
    pcscd.stop();
    let refusal = CardClient::of(&pcscd).try_readers().unwrap_err();
    assert!(refusal.contains("NoService"), "{refusal}");
    pcscd.restart();
    assert_eq!(CardClient::of(&pcscd).try_readers().unwrap().len(), 2);
}

#[test]
fn sixteen_slots_serve_sixteen_cards() {
    let pcscd = Pcscd::start(MAX_SLOTS);
    assert_eq!(pcscd.slots().len(), MAX_SLOTS);
    let cards: Vec<_> = pcscd
        .slots()
        .iter()
        .map(|slot| PlainCard::insert(slot.port, &[0x90, 0x00]))
        .collect();
    for slot in pcscd.slots() {
        assert_eq!(answer(&pcscd, &slot.reader), [0x90, 0x00], "{slot:?}");
    }
    drop(cards);
}

#[test]
fn a_user_namespace_serves_a_card_or_the_refusal_says_what_to_change() {
    if let Err(refusal) = Isolation::UserNamespace.try_out() {
        assert!(
            refusal.to_string().contains("user namespaces (sysctl"),
            "{refusal}"
        );
        return;
    }
    let pcscd = Pcscd::try_start_in(Isolation::UserNamespace, 2).unwrap();
    let slot = &pcscd.slots()[0];
    let _card = PlainCard::insert(slot.port, &[0x90, 0x00]);
    assert_eq!(answer(&pcscd, &slot.reader), [0x90, 0x00]);
}

#[test]
fn a_number_of_slots_that_pcscd_cannot_serve_is_refused() {
    assert!(matches!(Pcscd::try_start(0), Err(StartError::Slots(0))));
    assert!(matches!(Pcscd::try_start(17), Err(StartError::Slots(17))));
}

#[test]
fn opensc_tool_lists_the_private_readers() {
    let pcscd = Pcscd::start(2);
    let listed = pcscd
        .client(Program::system("opensc-tool").arg("--list-readers"))
        .run();
    assert!(listed.status.success(), "{listed:?}");
    for slot in pcscd.slots() {
        assert!(
            listed
                .stdout
                .iter()
                .any(|line| line.ends_with(&slot.reader)),
            "{listed:?}"
        );
    }
}

#[test]
fn nothing_is_left_of_a_daemon_that_was_dropped() {
    let mut pcscd = Pcscd::start(2);
    let socket = pcscd.socket();
    let id = pcscd.daemon().unwrap().id();
    drop(pcscd);
    assert!(!socket.parent().unwrap().exists());
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

fn answer(pcscd: &Pcscd, reader: &str) -> Vec<u8> {
    let mut client = CardClient::of(pcscd);
    client.await_card(reader).unwrap();
    client.connect(reader).unwrap();
    client.transmit(&APDU).unwrap()
}
