//! The suite, unchanged, on an emulated card, a virtual reader, and a card in a PC/SC reader.

use e2e::card_client::CardClient;
use e2e::pcscd::Pcscd;

use crate::cards::{blank, code, free_port, insert, of, passed, script, suite, whole_life};

#[test]
fn on_an_image_twice() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    for _ in 0..2 {
        let run = script(&suite()).arg("--card").arg(of(&image)).run();
        passed(&run);
        assert!(
            run.stdout.last().unwrap().ends_with(" 0 failed, 3 skipped"),
            "{run:?}"
        );
    }
}

#[test]
fn on_a_virtual_reader() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let port = free_port();
    let _card = insert(&image, port, &[]);
    passed(
        &script(&suite())
            .args(["--card", &format!("vpcd:{port}")])
            .run(),
    );
}

#[test]
fn on_cards_in_pcsc_readers_under_both_protocols() {
    let directory = tempfile::tempdir().unwrap();
    let pcscd = Pcscd::start(2);
    for (slot, protocol) in pcscd.slots().iter().zip(["t1", "t0"]) {
        let image = blank(directory.path(), protocol);
        let mut card = insert(&image, slot.port, &["--protocol", protocol]);
        CardClient::of(&pcscd).await_card(&slot.reader).unwrap();
        let run = script(&suite()).args(["--card", &format!("pcsc:{}", slot.reader)]);
        passed(&pcscd.client(run).run());
        card.terminate();
        CardClient::of(&pcscd).await_empty(&slot.reader).unwrap();
        let other = blank(directory.path(), &format!("{protocol}-life"));
        let _card = insert(&other, slot.port, &["--protocol", protocol]);
        CardClient::of(&pcscd).await_card(&slot.reader).unwrap();
        let run = script(&whole_life()).args(["--card", &format!("pcsc:{}", slot.reader)]);
        passed(&pcscd.client(run).run());
    }
}

#[test]
fn a_whole_life_on_an_image_and_in_a_virtual_reader() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "one.img");
    passed(&script(&whole_life()).arg("--card").arg(of(&image)).run());
    let port = free_port();
    let other = blank(directory.path(), "two.img");
    let _card = insert(&other, port, &[]);
    passed(
        &script(&whole_life())
            .args(["--card", &format!("vpcd:{port}")])
            .run(),
    );
}

#[test]
fn on_the_first_card_of_any_reader() {
    let directory = tempfile::tempdir().unwrap();
    let pcscd = Pcscd::start(1);
    let image = blank(directory.path(), "card.img");
    let _card = insert(&image, pcscd.slots()[0].port, &[]);
    let run = script(&suite()).args(["--card", "pcsc", "--filter", "select.apdu"]);
    passed(&pcscd.client(run).run());
}

#[test]
fn files_are_shared_between_cards() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = script(&suite()).args(["--jobs", "2", "--report", "json"]);
    for name in ["one", "two"] {
        let image = blank(directory.path(), name);
        run = run.arg("--card").arg(of(&image));
    }
    let run = run.run();
    passed(&run);
    let report: serde_json::Value = serde_json::from_str(&run.stdout.join("\n")).unwrap();
    for name in ["one", "two"] {
        let worked = report["cases"].as_array().unwrap().iter();
        let worked = worked.filter(|case| case["card"].as_str().unwrap().ends_with(name));
        assert!(worked.count() > 0, "{name} had nothing to do");
    }
}

#[test]
fn a_card_of_another_make_of_key_needs_that_key() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let other = "00112233445566778899AABBCCDDEEFF";
    let run = script(&suite()).args([
        "--set",
        &format!("card_key={other}"),
        "--fail-fast",
        "--card",
    ]);
    let run = run.arg(of(&image)).run();
    assert_eq!(code(&run), 1);
    assert!(
        run.stdout
            .join("\n")
            .contains("the card's cryptogram is wrong"),
        "{run:?}"
    );
}
