//! How `reader-bridge run` ends when something is missing, wrong or fails: its exit codes and what it says.

use std::fs;

use applet::Protocol;
use protocol::identity::Mode;
use serde_json::Value;

use crate::{
    card::{Subscription, inserted},
    process::{Bridge, port_of, virtual_card},
    run::{Place, named},
};

#[test]
fn no_card_is_exit_code_3() {
    let place = Place::new();
    let state = place.state();
    let gts = ["--gts", "127.0.0.1:1", "--once"];
    let virtual_reader = [&["--card", "vpcd:0", "--wait-card", "0.05"], &gts[..]].concat();
    let (code, errors, _) = Bridge::run(&state, &virtual_reader).end();
    assert_eq!(code, Some(3));
    assert!(errors.contains("secapp insert"), "{errors}");
    let image = [&["--card", "image:/nowhere/card.img"], &gts[..]].concat();
    let (code, errors, _) = Bridge::run(&state, &image).end();
    assert_eq!(code, Some(3));
    assert!(errors.contains("/nowhere/card.img"), "{errors}");
}

#[test]
fn an_image_in_use_is_refused() {
    let place = Place::new();
    let mut first = place.run(&[]);
    first.expect("exchange-done");
    let elsewhere = place.directory.path().join("other-state");
    let arguments = ["--card", &place.card, "--gts", &place.gts, "--once"];
    let (code, errors, _) = Bridge::run(&elsewhere, &arguments).end();
    assert_eq!(code, Some(3));
    assert!(errors.contains("in use"), "{errors}");
}

/// Starts a bridge with `--once` in front of a virtual card that answers like this.
fn with_virtual_card(
    answer: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static,
) -> (Option<i32>, String, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "--card",
        "vpcd:0",
        "--gts",
        "127.0.0.1:1",
        "--once",
        "--card-timeout",
        "0.2",
    ];
    let mut bridge = Bridge::run(directory.path(), &arguments);
    let port = port_of(&bridge.expect("waiting-for-card"));
    let card = virtual_card(port, answer);
    let ended = bridge.end();
    card.join().unwrap();
    ended
}

#[test]
fn a_card_that_stays_mute_is_exit_code_3() {
    let place = Place::new();
    let arguments = [
        "--card",
        "vpcd:0",
        "--gts",
        "127.0.0.1:1",
        "--once",
        "--card-timeout",
        "0.1",
        "--wait-card",
        "0.5",
    ];
    let mut bridge = Bridge::run(&place.state(), &arguments);
    let port = port_of(&bridge.expect("waiting-for-card"));
    let mute = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (code, errors, _) = bridge.end();
    drop(mute);
    assert_eq!(code, Some(3), "{errors}");
}

#[test]
fn a_card_that_falls_silent_again_and_again_ends_the_one_exchange_with_code_3() {
    let place = Place::new();
    let arguments = [
        "--once",
        "--attempts=2",
        "--card-timeout=0.05",
        "--fault=card:mute-after=4",
    ];
    let (code, errors, told) = place.run(&arguments).end();
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("lost more than 2 times"), "{errors}");
    assert_eq!(named(&told, "card-gone").len(), 3);
}

#[test]
fn a_card_that_goes_for_good_in_its_one_exchange_is_exit_code_3() {
    let place = Place::new();
    place.server.lock().ignore = usize::MAX;
    let card = Subscription::new(Mode::DEFAULT).card(Protocol::T1);
    let arguments = [
        "--card",
        "vpcd:0",
        "--gts",
        &place.gts,
        "--once",
        "--wait-card",
        "0.5",
    ];
    let mut bridge = Bridge::run(&place.state(), &arguments);
    let card = inserted(card, port_of(&bridge.expect("waiting-for-card")));
    bridge.expect("poll-sent");
    card.pull();
    assert_eq!(bridge.end().0, Some(3));
}

#[test]
fn a_card_without_the_applet_is_exit_code_4() {
    let (code, errors, told) = with_virtual_card(|_| vec![0x6A, 0x82]);
    assert_eq!(code, Some(4));
    assert!(
        errors.contains("no SecApp") && errors.contains("6A82"),
        "{errors}"
    );
    assert_eq!(named(&told, "card-refused").len(), 1);
}

#[test]
fn a_card_that_fails_is_exit_code_6() {
    let (code, errors, _) = with_virtual_card(|command| match command[1] {
        0xA4 => hex::decode("6f158408f047545341505001a509c10101c20103c301079000").unwrap(),
        0xCA if command[3] == 0x5A => hex::decode("5a0a981234567890123456789000").unwrap(),
        0xCA => vec![0x6A, 0x88],
        _ => vec![0x69, 0x85],
    });
    assert_eq!(code, Some(6));
    assert!(
        errors.contains("GET-UID") && errors.contains("6985"),
        "{errors}"
    );
}

#[test]
fn a_card_of_nonsense_is_refused_clearly() {
    let (code, errors, _) = with_virtual_card(|_| vec![0x6F, 0x90, 0x00]);
    assert_eq!(code, Some(6));
    assert!(errors.contains("SELECT"), "{errors}");
}

#[test]
fn a_state_directory_that_cannot_be_is_exit_code_7() {
    let place = Place::new();
    fs::write(place.state(), b"a file").unwrap();
    let (code, errors, _) = place.run(&["--once"]).end();
    assert_eq!(code, Some(7));
    assert!(errors.contains("--state DIR"), "{errors}");
}

#[test]
fn a_key_file_that_is_none_is_exit_code_8_and_its_content_is_not_repeated() {
    let place = Place::new();
    let file = place.directory.path().join("key");
    fs::write(&file, "00112233445566778899aabbccddeefg").unwrap();
    let (code, errors, _) = place
        .run(&["--image-key-file", file.to_str().unwrap()])
        .end();
    assert_eq!(code, Some(8));
    assert!(
        errors.contains("character 32") && !errors.contains("0011"),
        "{errors}"
    );
}

#[test]
fn wrong_arguments_are_exit_code_2_and_name_what_to_write() {
    let place = Place::new();
    for (arguments, hint) in [
        (&["--card", "usb", "--gts", "a:1"][..], "vpcd:PORT"),
        (&["--card", "pcsc", "--gts", "a:0"], "1 to 65535"),
        (
            &[
                "--card",
                "pcsc",
                "--gts",
                "a:1",
                "--interval",
                "10s",
                "--floor",
                "20s",
            ],
            "--floor 20s",
        ),
        (
            &["--card", "pcsc", "--gts", "a:1", "--timeout", "9m"],
            "--max-timeout",
        ),
        (
            &["--card", "pcsc", "--gts", "a:1", "--timeout", "soon"],
            "500ms",
        ),
    ] {
        let (code, errors, _) = Bridge::run(&place.state(), arguments).end();
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(errors.contains(hint), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_signal_before_the_one_exchange_is_done_shows_in_the_exit_code() {
    let place = Place::new();
    place.server.lock().ignore = usize::MAX;
    let mut bridge = place.run(&["--once", "--timeout", "60s"]);
    bridge.expect("poll-sent");
    bridge.signal("TERM");
    assert_eq!(bridge.end().0, Some(128 + 15));
}
