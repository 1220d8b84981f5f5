//! All readers of one terminal: those that come and go, their cards, their trouble, and none of it a neighbour's.

use std::path::{Path, PathBuf};

use e2e::card_client::CardClient;
use e2e::pcscd::{Pcscd, Slot};
use e2e::process::{Program, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::parts::inserted::inserted;
use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{Terminal, with_cards};

/// Two subscribers, their cards and server, and readers for them.
struct Place {
    pcscd: Pcscd,
    server: Server,
    images: [PathBuf; 2],
    directory: TempDir,
}

impl Place {
    fn new(slots: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [left, right] = ["left", "right"].map(Subscriber::named);
        Self {
            pcscd: Pcscd::start(slots),
            server: Server::knowing(&[&left, &right]),
            images: [left, right].map(|one| one.make_card(directory.path())),
            directory,
        }
    }

    fn slot(&self, number: usize) -> Slot {
        self.pcscd.slots()[number].clone()
    }

    /// A terminal with these options about cards.
    fn terminal(&self, options: &[&str]) -> Terminal {
        let state: &Path = &self.directory.path().join("state");
        let program = with_cards(options, self.server.address(), state);
        Terminal::start(self.pcscd.client(program))
    }

    /// Where the terminal's cards stand, as it says itself.
    fn status(&self) -> String {
        let program = Program::built("reader-bridge").args(["status", "--json", "--state"]);
        let finished = program.arg(self.directory.path().join("state")).run();
        assert!(finished.status.success(), "{finished:?}");
        finished.stdout.concat()
    }
}

fn place(slot: &Slot) -> String {
    format!("pcsc:{}", slot.reader)
}

/// The next event of this name at this slot.
#[track_caller]
fn expect_at(terminal: &mut Terminal, slot: &Slot, name: &str) -> Value {
    loop {
        let event = terminal.expect(name);
        if event["card"] == place(slot) {
            return event;
        }
    }
}

#[test]
fn every_reader_is_served_from_when_it_is_attached_until_it_is_taken_away() {
    let mut place = Place::new(4);
    place.pcscd.restart_with(2);
    let (first, beside) = (place.slot(0), place.slot(1));
    let _left = inserted(&place.images[0], &first);
    let mut terminal = place.terminal(&["--all-readers"]);
    let begun = expect_at(&mut terminal, &first, "exchange-done");

    place.pcscd.restart_with(4);
    let later = place.slot(2);
    let mut right = inserted(&place.images[1], &later);
    let before = expect_at(&mut terminal, &later, "exchange-done");
    let gone_on = expect_at(&mut terminal, &first, "exchange-done");
    assert!(gone_on["exchange"].as_u64() > begun["exchange"].as_u64());

    place.pcscd.restart_with(2);
    let stopped = expect_at(&mut terminal, &later, "stopped");
    assert_eq!(stopped["why"], "its reader is gone");
    // It is forgotten right after it was told of.
    let shown_no_more = |shown: &String| !shown.contains(&later.reader);
    assert!(
        (0..100)
            .map(|_| place.status())
            .any(|shown| shown_no_more(&shown))
    );
    assert!(place.status().contains(&first.reader));
    // Its card goes on in another reader, where it was.
    right.terminate();
    let _right = inserted(&place.images[1], &beside);
    let after = expect_at(&mut terminal, &beside, "exchange-done");
    assert!(after["exchange"].as_u64() > before["exchange"].as_u64());
    expect_at(&mut terminal, &first, "exchange-done");
    assert_eq!(place.server.dropped("unknown_identity"), 0);
}

#[test]
fn readers_are_chosen_by_their_names_and_one_that_is_named_is_served_once() {
    let place = Place::new(4);
    let named = place.slot(1);
    let card = self::place(&named);
    let mut terminal = place.terminal(&[
        "--all-readers",
        "--include-reader",
        "* A *",
        "--include-reader",
        "*? B 00 0?",
        "--exclude-reader",
        "*01",
        "--card",
        &card,
    ]);
    let cards = [0, 1].map(|at| {
        inserted(
            &place.images[at],
            &place.slot(2 * at + usize::from(at == 0)),
        )
    });
    for served in [1, 2] {
        expect_at(&mut terminal, &place.slot(served), "exchange-done");
    }
    drop(cards);
    let mut places: Vec<_> = terminal
        .events()
        .iter()
        .map(|event| event["card"].to_string())
        .collect();
    places.sort();
    places.dedup();
    let expected = [0, 1, 2].map(|slot| Value::from(self::place(&place.slot(slot))).to_string());
    assert_eq!(places, expected);
}

#[test]
fn a_card_that_hangs_in_its_reader_or_is_pulled_delays_no_other() {
    let place = Place::new(4);
    let (hanging, other) = (place.slot(0), place.slot(2));
    let mut left = inserted(&place.images[0], &hanging);
    let _right = inserted(&place.images[1], &other);
    let mut terminal = place.terminal(&["--all-readers"]);
    expect_at(&mut terminal, &hanging, "exchange-done");
    expect_at(&mut terminal, &other, "exchange-done");

    left.signal(Signal::SIGSTOP);
    (0..3).for_each(|_| drop(expect_at(&mut terminal, &other, "exchange-done")));
    // Pulled in mid-command.
    left.kill();
    expect_at(&mut terminal, &hanging, "card-gone");
    (0..2).for_each(|_| drop(expect_at(&mut terminal, &other, "exchange-done")));
    let gone = terminal.events();
    let gone = gone.iter().filter(|event| event["event"] == "card-gone");
    assert!(
        gone.clone()
            .all(|event| event["card"] == self::place(&hanging)),
        "{gone:?}"
    );

    let _left = inserted(&place.images[0], &hanging);
    expect_at(&mut terminal, &hanging, "exchange-done");
    assert_eq!(place.server.dropped("unknown_identity"), 0);
}

#[test]
fn all_cards_go_on_after_pcscd_was_killed() {
    let mut place = Place::new(2);
    let slots = [place.slot(0), place.slot(1)];
    let _cards = [0, 1].map(|at| inserted(&place.images[at], &slots[at]));
    let mut terminal = place.terminal(&["--all-readers"]);
    let before = [0, 1].map(|at| expect_at(&mut terminal, &slots[at], "exchange-done"));
    place.pcscd.daemon().unwrap().kill();
    terminal.process.expect("that pcscd is missing", |line| {
        (line.contains("waiting-for-card") && line.contains("systemctl start pcscd")).then_some(())
    });
    place.pcscd.restart();
    for at in [1, 0] {
        let after = expect_at(&mut terminal, &slots[at], "exchange-done");
        assert!(after["exchange"].as_u64() > before[at]["exchange"].as_u64());
    }
    assert_eq!(place.server.dropped("unknown_identity"), 0);
}

#[test]
fn an_exclusive_card_is_kept_from_others_and_waited_for_while_they_have_it() {
    let place = Place::new(1);
    let slot = place.slot(0);
    let _card = inserted(&place.images[0], &slot);
    let mut other = CardClient::of(&place.pcscd);
    other.await_card(&slot.reader).unwrap();
    other.connect(&slot.reader).unwrap();
    let mut terminal = place.terminal(&["--exclusive", "--card", &self::place(&slot)]);
    let waiting = terminal.expect("waiting-for-card");
    assert!(
        waiting["why"].as_str().unwrap().contains("another program"),
        "{waiting}"
    );
    other.disconnect().unwrap();
    terminal.expect_exchange();
    let refused = other.connect(&slot.reader).unwrap_err();
    assert!(refused.contains("SharingViolation"), "{refused}");
    terminal.expect_exchange();
    terminal.process.terminate();
    other.connect(&slot.reader).unwrap();
}
