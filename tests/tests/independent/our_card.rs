//! `secapp` with a server in Python, with a terminal in Python, and beside a card in Python.

use std::path::Path;

use e2e::card_client::CardClient;
use e2e::pcscd::{Pcscd, Slot};
use e2e::process::{Process, Program};
use e2e::relay::{Loss, LossyRelay, Plan};
use serde_json::{Value, json};

use crate::parts::{
    Gts, OtherServer, Profile, bridge_anywhere, each, event, exchange, next, same_members, script,
    with,
};

fn insert(profile: &Profile, directory: &Path, port: u16) -> Program {
    Program::built("secapp")
        .arg("insert")
        .arg(profile.image(directory))
        .args(["--vpcd", &format!("127.0.0.1:{port}")])
}

/// The next event of the server in Python that has the members of `expected`.
#[track_caller]
fn told(server: &mut OtherServer, expected: &Value) -> Value {
    next(&mut server.process, &expected.to_string(), |line| {
        (same_members(line, expected) == *expected).then(|| line.clone())
    })
}

#[test]
fn every_kind_of_card_polls_the_other_server_through_losses() {
    let directory = tempfile::tempdir().unwrap();
    let profiles = Profile::all();
    each(&profiles, |profile| {
        let mut server = OtherServer::start(profile, directory.path());
        let reference = profile.reference.as_str();
        let update = server.send(reference, "82026869");
        let key = server.send(reference, "88020100");
        let plan = Plan {
            up: Loss::of_numbers([1, 2]),
            down: Loss::of_numbers([1]),
        };
        let relay = LossyRelay::start(server.address, plan);
        let state = directory.path().join(reference);
        let (mut bridge, port) = bridge_anywhere(relay.address(), &state, "1s");
        let _card = insert(profile, directory.path(), port).start();
        let lossy = event(&mut bridge, "exchange-done");
        let expected = json!({"sent": 2, "resend_counter": 3, "polls_lost": 2, "answers_lost": 1,
            "message_id": update});
        assert_eq!(same_members(&lossy, &expected), expected, "{lossy}");
        let message = event(&mut bridge, "message");
        assert_eq!(message["objects"][0]["reference"], "hi", "{message}");
        told(
            &mut server,
            &json!({"reference": reference, "message": update, "became": "delivered"}),
        );
        told(
            &mut server,
            &json!({"reference": reference, "message": key, "became": "delivered"}),
        );
        assert!(bridge.terminate().success());
    });
}

#[test]
fn the_card_comes_back_to_the_other_server_by_recovery() {
    let directory = tempfile::tempdir().unwrap();
    let profiles: Vec<_> = (0..4).map(Profile::number).collect();
    each(&profiles, |profile| {
        let mut server = OtherServer::start(profile, directory.path());
        let plan = Plan {
            // Counts 0 to 23 and 25 to 31. The answer to 24 is lost; 32 is the next of R(0).
            up: Loss::of_numbers((1..=24).chain(26..=32)),
            down: Loss::of_numbers([1]),
        };
        let relay = LossyRelay::start(server.address, plan);
        let state = directory.path().join(&profile.reference);
        let (mut bridge, port) = bridge_anywhere(relay.address(), &state, "100ms");
        let _card = insert(profile, directory.path(), port).start();
        let reference = &profile.reference;
        told(
            &mut server,
            &json!({"reference": reference, "sent": 2, "resend_counter": 32}),
        );
        told(
            &mut server,
            &json!({"reference": reference, "by_recovery": true}),
        );
        told(
            &mut server,
            &json!({"reference": reference, "sent": 1, "resend_counter": 0}),
        );
        event(&mut bridge, "exchange-done");
        assert!(bridge.terminate().success());
    });
}

#[test]
fn what_the_card_cannot_do_or_read_is_accepted_and_flagged() {
    let directory = tempfile::tempdir().unwrap();
    let profile = Profile::number(3);
    let mut server = OtherServer::start(&profile, directory.path());
    let reference = profile.reference.as_str();
    let cut_off = server.send(reference, "8205");
    let no_such_slot = server.send(reference, "88020108");
    let fine = server.send(reference, "8f0101");
    let state = directory.path().join("state");
    let (mut bridge, port) = bridge_anywhere(server.address, &state, "1s");
    let _card = insert(&profile, directory.path(), port).start();
    for (id, not_done) in [(cut_off, true), (no_such_slot, true), (fine, false)] {
        assert_eq!(event(&mut bridge, "exchange-done")["not_done"], not_done);
        told(&mut server, &json!({"message": id, "became": "delivered"}));
    }
}

/// A terminal in Python at the card in this slot.
fn client(pcscd: &Pcscd, slot: &Slot, gts: &Gts) -> Process {
    let client = script("pcsc_client.py")
        .args(["--reader", &slot.reader, "--timeout", "10", "--server"])
        .arg(gts.address.to_string());
    let mut client = pcscd.client(client).talkative().start();
    with(&mut client, "ready");
    client
}

fn command(client: &mut Process, apdu: &str) -> String {
    client.send_line(&format!("apdu {apdu}"));
    with(client, "answer")["answer"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_terminal_in_python_drives_the_card_in_a_real_reader() {
    let directory = tempfile::tempdir().unwrap();
    let profiles = Profile::all();
    let gts = Gts::start(&profiles);
    let pcscd = Pcscd::start(profiles.len());
    for (profile, slot) in profiles.iter().zip(pcscd.slots()) {
        let protocol = if profile.mode & 1 == 0 { "t0" } else { "t1" };
        let card = insert(profile, directory.path(), slot.port).args(["--protocol", protocol]);
        let _card = card.start();
        let id = gts.send(&profile.reference, &["generate-key", "p256", "5"]);
        let mut client = client(&pcscd, slot, &gts);
        let first = exchange(&mut client, "poll answer");
        let expected = json!({"sent": 2, "resend_counter": 2, "flags": 0, "message_id": id});
        assert_eq!(same_members(&first, &expected), expected, "{first}");
        let public = command(&mut client, "80CA010500");
        assert!(
            public.starts_with("7f4943864104") && public.ends_with("9000"),
            "{public}"
        );
        let signed = command(&mut client, "8088000510000102030405060708090a0b0c0d0e0f00");
        assert_eq!(signed.len(), 2 * (64 + 2), "{signed}");
        let recovered = exchange(&mut client, "24*poll");
        assert_eq!(recovered["resend_counter"], 24, "{recovered}");
        assert_eq!(exchange(&mut client, "")["sent"], 1);
        let shown = gts.ask(&["subscriptions", "show", &profile.reference]);
        assert_eq!(shown["e"], 1, "{shown}");
    }
}

/// Both makes of card of one profile, side by side in real readers.
struct Pair {
    readers: [CardClient; 2],
    _cards: [Process; 2],
    _pcscd: Pcscd,
}

impl Pair {
    fn of(profile: &Profile) -> Self {
        let (pcscd, directory) = (Pcscd::start(2), tempfile::tempdir().unwrap());
        let [ours, other] = pcscd.slots() else {
            panic!("two slots were asked for")
        };
        let cards = [
            insert(profile, directory.path(), ours.port).start(),
            script("virtual_card.py")
                .args(["--vpcd", &format!("127.0.0.1:{}", other.port), "--profile"])
                .arg(profile.file(directory.path()))
                .start(),
        ];
        let readers = [ours, other].map(|slot| {
            let mut client = CardClient::of(&pcscd);
            client.await_card(&slot.reader).unwrap();
            client.connect(&slot.reader).unwrap();
            client
        });
        Self {
            readers,
            _cards: cards,
            _pcscd: pcscd,
        }
    }

    /// Gives each line, a command APDU or `reset`, to both.
    #[track_caller]
    fn agree_on<'a>(&mut self, lines: impl Iterator<Item = &'a str>) {
        for (number, line) in (1..).zip(lines) {
            let [ours, other] = self.readers.each_mut().map(|client| match line {
                "reset" => hex::encode(client.reset().unwrap()),
                apdu => hex::encode(client.transmit(&hex::decode(apdu).unwrap()).unwrap()),
            });
            assert_eq!(
                ours, other,
                "ours and the other, to command {number}: {line}"
            );
        }
    }
}

#[test]
fn both_cards_answer_the_same_commands_the_same() {
    let commands = include_str!("commands.txt").lines();
    Pair::of(&Profile::number(3)).agree_on(commands.filter(|line| !line.starts_with('#')));
}

#[test]
fn both_cards_judge_the_same_responses_the_same() {
    let directory = tempfile::tempdir().unwrap();
    for profile in [0, 3, 5, 6].map(Profile::number) {
        let commands = script("responses.py")
            .arg("--profile")
            .arg(profile.file(directory.path()))
            .run();
        assert!(commands.stdout.len() > 400, "{commands:?}");
        Pair::of(&profile).agree_on(commands.stdout.iter().map(String::as_str));
    }
}
