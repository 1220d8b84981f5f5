//! A card in another virtual reader: what is recorded, and what becomes of it when one end goes away.

use std::fs;
use std::path::Path;

use e2e::card_client::CardClient;
use e2e::pcscd::{Pcscd, Slot};
use e2e::process::{Process, Program};

use crate::cards::{blank, code, free_port, insert, of, passed, script, wrapped, written};

fn relay(card: &str, slot: &Slot, file: &Path) -> Process {
    Program::built("reader-bridge")
        .args([
            "relay",
            "--card",
            card,
            "--vpcd",
            &format!("127.0.0.1:{}", slot.port),
            "--record",
        ])
        .arg(file)
        .start()
}

fn client(pcscd: &Pcscd, slot: &Slot) -> CardClient {
    let mut client = CardClient::of(pcscd);
    client.await_card(&slot.reader).unwrap();
    client.connect(&slot.reader).unwrap();
    client
}

fn transmit(client: &mut CardClient, command: &str) -> String {
    let answer = client.transmit(&hex::decode(command).unwrap()).unwrap();
    hex::encode_upper(answer)
}

#[test]
fn what_a_client_does_through_a_relay_becomes_a_script_that_passes_again() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let copy = directory.path().join("copy.img");
    fs::copy(&image, &copy).unwrap();
    let pcscd = Pcscd::start(1);
    let slot = &pcscd.slots()[0];
    let file = directory.path().join("session.apdu");
    let mut relay = Program::built("reader-bridge")
        .args([
            "relay",
            "--card",
            &of(&image),
            "--vpcd",
            &format!("127.0.0.1:{}", slot.port),
            "--record",
        ])
        .arg(&file)
        .start();
    let mut client = CardClient::of(&pcscd);
    client.await_card(&slot.reader).unwrap();
    client.connect(&slot.reader).unwrap();
    for command in ["00A4040008F04754534150500100", "80CA00E700", "8040000000"] {
        client.transmit(&hex::decode(command).unwrap()).unwrap();
    }
    client.reset().unwrap();
    drop(client);
    relay.terminate();
    let recorded = fs::read_to_string(&file).unwrap();
    for line in [
        "00 A4 04 00 08F04754534150500100 -> 6F",
        "80 40 00 00 00 -> 6985",
        "\nreset",
    ] {
        assert!(recorded.contains(line), "{line}: {recorded}");
    }
    passed(
        &script(std::slice::from_ref(&file))
            .arg("--card")
            .arg(of(&copy))
            .run(),
    );
    // And on a card that answers otherwise it fails.
    let other = recorded.replace("6985", "6982");
    let run = script(&[written(directory.path(), "other.apdu", &other)]);
    assert_eq!(code(&run.arg("--card").arg(of(&copy)).run()), 1);
}

#[test]
fn a_reader_that_goes_away_is_waited_for_and_the_recording_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let copy = directory.path().join("copy.img");
    fs::copy(&image, &copy).unwrap();
    let mut pcscd = Pcscd::start(1);
    let slot = pcscd.slots()[0].clone();
    let file = directory.path().join("session.apdu");
    let mut relay = relay(&of(&image), &slot, &file);
    relay.expect_line("is in the reader at");
    let mut one = client(&pcscd, &slot);
    transmit(&mut one, "80CA006600");
    drop(one);
    pcscd.stop();
    relay.expect_line("waiting for it");
    pcscd.restart();
    relay.expect_line("is in the reader at");
    let mut two = client(&pcscd, &slot);
    transmit(&mut two, "80CA00E000");
    drop(two);
    assert!(relay.terminate().success());
    let recorded = fs::read_to_string(&file).unwrap();
    for line in ["80 CA 00 66 00 -> ", "80 CA 00 E0 00 -> "] {
        assert!(recorded.contains(line), "{line}: {recorded}");
    }
    passed(&script(&[file]).args(["--card", &of(&copy)]).run());
}

#[test]
fn a_card_that_is_pulled_is_gone_for_the_client_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let copy = directory.path().join("copy.img");
    fs::copy(&image, &copy).unwrap();
    let pcscd = Pcscd::start(1);
    let slot = pcscd.slots()[0].clone();
    let file = directory.path().join("session.apdu");
    let port = free_port();
    let mut card = insert(&image, port, &[]);
    let mut relay = relay(&format!("vpcd:{port}"), &slot, &file);
    relay.expect_line("is in the reader at");
    let mut one = client(&pcscd, &slot);
    transmit(&mut one, "00A4040008F04754534150500100");
    card.kill();
    relay.expect_line("the card is gone");
    one.await_empty(&slot.reader).unwrap();
    let _again = insert(&image, port, &[]);
    relay.expect_line("is in the reader at");
    let mut two = client(&pcscd, &slot);
    // Another card of the same image: the selection is lost, and so is it in the recording.
    transmit(&mut two, "80CA006600");
    drop(two);
    assert!(relay.terminate().success());
    let recorded = fs::read_to_string(&file).unwrap();
    assert!(recorded.contains("power-off"), "{recorded}");
    passed(&script(&[file]).args(["--card", &of(&copy)]).run());
}

#[test]
fn the_card_of_a_wrapped_image_goes_into_the_reader_with_its_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (image, key) = wrapped(directory.path());
    let pcscd = Pcscd::start(1);
    let slot = pcscd.slots()[0].clone();
    let file = directory.path().join("session.apdu");
    let command = || {
        Program::built("reader-bridge")
            .args(["relay", "--card", &of(&image), "--vpcd"])
            .arg(format!("127.0.0.1:{}", slot.port))
            .arg("--record")
            .arg(&file)
    };
    let refused = command().run();
    assert_eq!(code(&refused), 3, "{refused:?}");
    assert!(
        refused.stderr.join("\n").contains("--image-key-file"),
        "{refused:?}"
    );
    let mut relay = command().arg("--image-key-file").arg(&key).start();
    let mut one = client(&pcscd, &slot);
    assert!(transmit(&mut one, "80CA006600").ends_with("9000"));
    drop(one);
    assert!(relay.terminate().success());
    let replay = script(&[file]).args(["--card", &of(&image), "--image-key-file"]);
    passed(&replay.arg(&key).run());
}

#[test]
fn without_a_reader_it_says_so_once_and_still_can_be_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let file = directory.path().join("session.apdu");
    let slot = Slot {
        port: free_port(),
        reader: String::new(),
    };
    let mut relay = relay(&of(&image), &slot, &file);
    relay.expect_line("waiting for it");
    assert!(relay.terminate().success());
    assert_eq!(relay.count("waiting for it"), 1);
    // What there is of it is a script without a command.
    let run = script(&[file]).args(["--card", &of(&image)]).run();
    passed(&run);
    let refused = Program::built("reader-bridge")
        .args([
            "relay",
            "--card",
            &of(&image),
            "--vpcd",
            "nowhere",
            "--record",
            "/dev/null",
        ])
        .run();
    assert_eq!(code(&refused), 2, "{refused:?}");
}
