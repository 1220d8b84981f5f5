//! The binary over a real pcscd with vsmartcard's virtual readers: each test has its own.

use applet::{Card, Protocol};
use e2e::{
    card_client::CardClient,
    pcscd::{Pcscd, Slot},
    process::Program,
};
use protocol::{
    identity::Mode,
    msg::{Events, Factor, Object, PollingRules},
};
use tempfile::TempDir;

use crate::{
    card::{Inserted, Subscription, inserted},
    process::{Bridge, UdpServer},
};

/// A pcscd, a card for it, and the card's server.
struct Place {
    directory: TempDir,
    pcscd: Pcscd,
    server: UdpServer,
    gts: String,
}

impl Place {
    fn new(slots: usize) -> Self {
        let server = UdpServer::new(&Subscription::new(Mode::DEFAULT));
        Self {
            directory: tempfile::tempdir().unwrap(),
            pcscd: Pcscd::start(slots),
            gts: server.address.to_string(),
            server,
        }
    }

    fn slot(&self) -> &Slot {
        &self.pcscd.slots()[0]
    }

    fn insert(&self, card: Card) -> Inserted {
        inserted(card, self.slot().port)
    }

    fn run(&self, card: &str, more: &[&str]) -> Bridge {
        let mut arguments = vec!["--card", card, "--gts", &self.gts];
        arguments.extend(more);
        let state = self.directory.path().join("state");
        Bridge::run_with_pcscd(&self.pcscd.socket(), &state, &arguments)
    }

    fn named(&self) -> String {
        format!("pcsc:{}", self.slot().reader)
    }
}

fn new_card(protocol: Protocol) -> Card {
    Subscription::new(Mode::DEFAULT).card(protocol)
}

/// Polls every second, whatever else happens.
fn every_second() -> Object<'static> {
    Object::PollingRules(PollingRules {
        interval: Some(1),
        floor: Some(1),
        jitter: Some(0),
        events: Some(Events(0)),
        ..PollingRules::default()
    })
}

#[test]
fn the_first_card_found_in_any_reader_is_served_over_t0_and_t1() {
    for protocol in [Protocol::T0, Protocol::T1] {
        let place = Place::new(2);
        place
            .server
            .lock()
            .server
            .queue(1, &[Object::Lower(Factor::DEFAULT)]);
        let card = inserted(new_card(protocol), place.pcscd.slots()[1].port);
        let (code, errors, _) = place.run("pcsc", &["--once"]).end();
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{protocol:?}");
        let (code, ..) = place.run("pcsc", &["--once"]).end();
        assert_eq!(code, Some(0));
        assert_eq!(place.server.lock().server.delivered, [1]);
        card.pull();
    }
}

#[test]
fn a_named_reader_is_waited_for_until_its_card_comes() {
    let place = Place::new(1);
    let mut bridge = place.run(&place.named(), &["--once", "--wait-card", "60s"]);
    let waiting = bridge.expect("waiting-for-card");
    assert!(
        waiting["why"]
            .as_str()
            .unwrap()
            .contains(&place.slot().reader)
    );
    let card = place.insert(new_card(Protocol::T1));
    bridge.expect("exchange-done");
    assert_eq!(bridge.end().0, Some(0));
    card.pull();
}

#[test]
fn a_card_pulled_while_its_answer_is_awaited_goes_on_with_the_same_exchange() {
    let place = Place::new(1);
    place.server.lock().ignore = 1;
    let card = place.insert(new_card(Protocol::T1));
    let mut bridge = place.run(&place.named(), &["--timeout", "2s"]);
    let first = bridge.expect("poll-sent");
    let card = card.pull();
    bridge.expect("card-gone");
    let card = place.insert(card);
    let second = bridge.expect("poll-sent");
    assert_eq!(second["resend_counter"], 1);
    assert_eq!(second["identity"], first["identity"]);
    let done = bridge.expect("exchange-done");
    assert_eq!(
        (&done["exchange"], &done["polls_lost"]),
        (&first["exchange"], &1.into())
    );
    bridge.signal("TERM");
    assert_eq!(bridge.end().0, Some(0));
    card.pull();
}

#[test]
fn a_restart_of_pcscd_interrupts_nothing_for_good() {
    let mut place = Place::new(1);
    place.server.lock().server.queue(1, &[every_second()]);
    let card = place.insert(new_card(Protocol::T1));
    let mut bridge = place.run(&place.named(), &[]);
    bridge.expect("exchange-done");
    place.pcscd.stop();
    bridge.expect("card-gone");
    let waiting = bridge.expect("waiting-for-card");
    assert!(
        waiting["why"].as_str().unwrap().contains("pcscd"),
        "{waiting}"
    );
    place.pcscd.restart();
    for _ in 0..2 {
        bridge.expect("exchange-done");
    }
    bridge.signal("TERM");
    assert_eq!(bridge.end().0, Some(0));
    card.pull();
}

#[test]
fn another_program_may_share_the_card_select_elsewhere_and_reset_it() {
    const SELECT_NOTHING: [u8; 10] = [0x00, 0xA4, 0x04, 0x00, 0x05, 0xA0, 0, 0, 0, 0x99];
    let place = Place::new(1);
    place.server.lock().server.queue(1, &[every_second()]);
    let card = place.insert(new_card(Protocol::T1));
    let mut bridge = place.run(&place.named(), &[]);
    bridge.expect("exchange-done");
    let mut other = CardClient::of(&place.pcscd);
    other.connect(&place.slot().reader).unwrap();
    other.transmit(&SELECT_NOTHING).unwrap();
    bridge.expect("exchange-done");
    other.reset().unwrap();
    for _ in 0..2 {
        bridge.expect("exchange-done");
    }
    bridge.signal("TERM");
    assert_eq!(bridge.end().0, Some(0));
    card.pull();
}

/// Holds the card in the reader named by its argument until standard input ends (python3-pyscard).
const HOLD: &str = "\
import sys
from smartcard.System import readers
from smartcard.scard import SCARD_SHARE_EXCLUSIVE
card = next(r for r in readers() if str(r) == sys.argv[1]).createConnection()
card.connect(mode=SCARD_SHARE_EXCLUSIVE)
print('held', flush=True)
sys.stdin.read()
";

#[test]
fn a_card_that_another_program_holds_for_itself_is_waited_for() {
    let place = Place::new(1);
    let card = place.insert(new_card(Protocol::T1));
    CardClient::of(&place.pcscd)
        .await_card(&place.slot().reader)
        .unwrap();
    let python = Program::system("/usr/bin/python3").args(["-c", HOLD, &place.slot().reader]);
    let mut holder = place.pcscd.client(python.talkative()).start();
    holder.expect_line("held");
    let mut bridge = place.run(&place.named(), &["--once", "--wait-card", "60s"]);
    let waiting = bridge.expect("waiting-for-card");
    assert!(
        waiting["why"].as_str().unwrap().contains("another program"),
        "{waiting}"
    );
    holder.end_by_eof();
    bridge.expect("exchange-done");
    assert_eq!(bridge.end().0, Some(0));
    card.pull();
}

#[test]
fn a_reader_that_is_not_there_is_exit_code_3_with_the_list_of_those_that_are() {
    let place = Place::new(2);
    let (code, errors, _) = place
        .run("pcsc:No Such Reader", &["--once", "--wait-card", "0.1"])
        .end();
    assert_eq!(code, Some(3));
    for slot in place.pcscd.slots() {
        assert!(errors.contains(&slot.reader), "{errors}");
    }
}

#[test]
fn without_pcscd_it_is_exit_code_3_with_how_to_start_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nobody");
    let arguments = [
        "--card",
        "pcsc",
        "--gts",
        "127.0.0.1:1",
        "--once",
        "--wait-card",
        "0.1",
    ];
    let state = directory.path().join("state");
    let (code, errors, _) = Bridge::run_with_pcscd(&socket, &state, &arguments).end();
    assert_eq!(code, Some(3));
    assert!(errors.contains("systemctl start pcscd.socket"), "{errors}");
}
