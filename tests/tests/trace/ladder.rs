//! `reader-bridge trace ladder`: figures of captures, as text and as a picture.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::process::{Finished, Program};
use tempfile::TempDir;

use crate::capture::{Capture, RAW, ip};
use crate::vectors::{bytes, cases, text};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A packet's comment.
fn comment(text: &str) -> Vec<u8> {
    let length = text.len() as u16;
    let mut option = [&[1, 0][..], &length.to_le_bytes(), text.as_bytes()].concat();
    option.resize(option.len().next_multiple_of(4), 0);
    option
}

/// An exchange as a bridge traces it: a poll that is lost, one that is answered, the card's outcome.
fn traced() -> Capture {
    let step = &cases()[3]["steps"][0];
    let (here, there) = (address("10.0.0.1:40000"), address("192.0.2.7:4753"));
    let tap = address("127.0.0.1:4729");
    let gsmtap = |apdu: &str| {
        let payload = [&[2, 4, 4][..], &[0; 13], &hex::decode(apdu).unwrap()].concat();
        ip(tap, tap, &payload)
    };
    let poll = bytes(&step["poll"]);
    let again = [&[poll[0], 1], &poll[2..]].concat();
    let response = bytes(&step["response"]);
    let tied = comment("pcsc:Reader A, exchange 7");
    let mut capture = Capture::new(RAW);
    let mut packet = |data: &[u8], options: &[u8]| {
        capture.packet(data, options);
        capture.wait(250_000);
    };
    packet(
        &gsmtap("00a4040008f0475453415050019000"),
        &comment("pcsc:Reader A"),
    );
    packet(
        &gsmtap(&format!(
            "80400000{:02x}{}9000",
            poll.len(),
            hex::encode(&poll)
        )),
        &tied,
    );
    packet(&ip(here, there, &poll), &tied);
    packet(
        &gsmtap(&format!(
            "80400100{:02x}{}9000",
            again.len(),
            hex::encode(&again)
        )),
        &tied,
    );
    packet(&ip(here, there, &again), &tied);
    let notes = [tied.clone(), comment("gts: meter-17: answer <&> to it, \x1b[2J Sent 1: nothing to do; next identity 00112233445566778899")].concat();
    packet(&ip(there, here, &response), &notes);
    let outcome = "e110c4020001c50101c60100e3048000ffff";
    let process = format!(
        "80420000{:02x}{}{}9000",
        response.len(),
        hex::encode(&response),
        outcome
    );
    packet(&gsmtap(&process), &tied);
    packet(
        &gsmtap("8040000000"),
        &comment("pcsc:Reader A, exchange 7, no answer: the card is gone"),
    );
    packet(
        &ip(here, there, &poll),
        &comment("pcsc:Reader B, exchange 1"),
    );
    capture
}

fn ladder(capture: &Capture, more: &[&str]) -> (TempDir, Finished) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("capture");
    capture.write(&file);
    let program = Program::built("reader-bridge")
        .args(["trace", "ladder"])
        .arg(&file);
    let finished = program.args(more.iter().copied()).run();
    assert!(finished.status.success(), "{finished:?}");
    (directory, finished)
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/trace/golden")
        .join(name)
}

#[test]
fn an_exchange_is_drawn_with_its_losses_commands_and_comments() {
    let (_directory, finished) = ladder(&traced(), &["--width", "90"]);
    let drawn = finished.stdout.join("\n") + "\n";
    assert_eq!(
        drawn,
        fs::read_to_string(golden("ladder.txt")).unwrap(),
        "{drawn}"
    );
    assert!(drawn.lines().all(|line| line.chars().count() <= 90));
    assert!(
        !drawn.contains('\x1b'),
        "neither a colour nor somebody else's"
    );
}

#[test]
fn the_picture_is_well_formed_says_the_same_in_words_and_follows_the_readers_colours() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out.svg");
    ladder(
        &traced(),
        &["--svg", file.to_str().unwrap(), "--exchange", "7"],
    );
    let drawn = fs::read_to_string(&file).unwrap();
    assert_eq!(drawn, fs::read_to_string(golden("ladder.svg")).unwrap());
    assert!(drawn.contains("prefers-color-scheme:dark"));
    // Another parser; it prints title and description.
    let parser = "import sys, xml.etree.ElementTree as e\n\
        s = '{http://www.w3.org/2000/svg}'\nr = e.parse(sys.argv[1]).getroot()\n\
        print(r.get('role'), r.find(s + 'title').text, r.find(s + 'desc').text)";
    let parsed = Program::system("/usr/bin/python3")
        .args(["-c", parser])
        .arg(&file)
        .run();
    assert!(parsed.status.success(), "{parsed:?}");
    let words = parsed.stdout.concat();
    assert!(words.starts_with("img Exchanges between"), "{words}");
    assert!(
        words.contains("answer <&> to it") && words.contains("no answer"),
        "{words}"
    );
}

#[test]
fn one_exchange_is_chosen_by_its_number() {
    let (_directory, finished) = ladder(&traced(), &["--exchange", "1"]);
    let drawn = finished.stdout.join("\n");
    assert!(drawn.starts_with("exchange 1, pcsc:Reader B"), "{drawn}");
    assert!(
        drawn.contains("✗ no answer") && !drawn.contains("Reader A"),
        "{drawn}"
    );
    let (_directory, none) = ladder(&traced(), &["--exchange", "99"]);
    assert!(none.stdout.concat().contains("no exchange"));
}

#[test]
fn a_servers_capture_has_an_exchange_for_each_identity() {
    let case = &cases()[3];
    let steps = case["steps"].as_array().unwrap();
    let there = address("192.0.2.7:4753");
    let mut capture = Capture::new(RAW);
    for (number, step) in steps.iter().enumerate() {
        let here = SocketAddr::from(([10, 0, 0, 1], 30_000 + u16::try_from(number).unwrap()));
        capture.datagram(here, there, &bytes(&step["poll"]));
        capture.datagram(there, here, &bytes(&step["response"]));
        capture.datagram(here, there, b"something else");
    }
    let (_directory, finished) = ladder(&capture, &[]);
    let drawn = finished.stdout.join("\n");
    for (number, step) in (1..).zip(steps) {
        let title = format!("exchange {number}, identity {}", text(&step["uid"]));
        assert!(drawn.contains(&title), "{title}: {drawn}");
    }
    assert_eq!(drawn.matches('✗').count(), 0);
}
