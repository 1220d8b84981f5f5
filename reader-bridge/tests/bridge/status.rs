//! `reader-bridge status`: what a running bridge says of its cards, in a pipe and in a terminal.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{process::Bridge, run::Place};

fn status(directories: &[&Path], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reader-bridge"));
    command.arg("status");
    for directory in directories {
        command.arg("--state").arg(directory);
    }
    command.args(more).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A bridge that has made an exchange and waits for the next one.
fn settled(place: &Place) -> (Bridge, Value) {
    let mut bridge = place.run(&["--timeout", "0.05"]);
    let done = bridge.expect("exchange-done");
    bridge.expect("next-poll");
    (bridge, done)
}

#[test]
fn a_card_is_shown_with_what_its_events_have_told() {
    let place = Place::new();
    place.server.lock().ignore = 2;
    let (_bridge, done) = settled(&place);
    let shown = json(&status(&[&place.state()], &["--json"]));
    assert_eq!((&shown["bridges"], &shown["all"]), (&1.into(), &1.into()));
    let card = &shown["cards"][0];
    assert_eq!(card["card"], place.card);
    assert_eq!(card["iccid"], "8988374172470184089");
    assert_eq!(card["state"], "idle");
    assert_eq!(card["identity"], done["identity_after"]);
    assert_eq!(card["server"], place.server.address.to_string());
    assert_eq!(card["link"], done["link"]);
    assert_eq!(card["link"]["polls_lost"], 2);
    assert_eq!(card["unanswered"], 0);
    assert!(card["next_poll_in_ms"].as_u64().unwrap() > 3_000_000);
    assert!(card["last_answer"].as_str().unwrap().ends_with('Z'));
    let table = text(&status(&[&place.state()], &[]));
    for part in [
        "1 bridges, 1 cards",
        "idle",
        "2/3 0/1",
        "8988374172470184089",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(!table.contains('\x1b'), "no colours in a pipe: {table:?}");
}

#[test]
fn a_card_without_answers_is_shown_as_what_it_is() {
    let place = Place::new();
    place.server.lock().ignore = usize::MAX;
    let mut bridge = place.run(&["--timeout", "0.05"]);
    bridge.expect("poll-sent");
    bridge.expect("poll-sent");
    bridge.expect("poll-sent");
    let shown = json(&status(&[&place.state()], &["--json"]));
    let card = &shown["cards"][0];
    assert_eq!(card["state"], "resending");
    assert!(card["unanswered"].as_u64().unwrap() >= 2, "{card}");
    assert_eq!(card["last_answer"], Value::Null);
}

#[test]
fn bridges_of_several_directories_are_shown_together_and_chosen_from() {
    let places = [Place::new(), Place::new()];
    let _bridges = places.each_ref().map(settled);
    let directories = places.each_ref().map(Place::state);
    let directories = directories.each_ref().map(|directory| &**directory);
    let shown = json(&status(&directories, &["--json", "--sort", "trouble"]));
    assert_eq!((&shown["bridges"], &shown["all"]), (&2.into(), &2.into()));
    let one = json(&status(
        &directories,
        &["--json", "--filter", &places[1].card],
    ));
    assert_eq!(one["chosen"], 1);
    assert_eq!(one["cards"][0]["card"], places[1].card);
    let paged = text(&status(&directories, &["--limit", "1", "--offset", "1"]));
    assert!(paged.contains("2 cards, 2 to 2 shown"), "{paged}");
    assert_eq!(paged.lines().count(), 3);
}

#[test]
fn without_a_bridge_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let output = status(&[directory.path()], &[]);
    assert_eq!(output.status.code(), Some(3));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("--state"), "{errors}");
    let none = status(&[&directory.path().join("none")], &[]);
    assert_eq!(none.status.code(), Some(7));
}

#[test]
fn in_a_terminal_it_is_live_as_wide_as_that_and_leaves_it_as_it_was() {
    let place = Place::new();
    let (_bridge, _) = settled(&place);
    let live = format!(
        "stty cols 60 rows 12; exec {} status --every 0.1 --state {}",
        env!("CARGO_BIN_EXE_reader-bridge"),
        place.state().display()
    );
    // script(1) makes a terminal, and gives its standard input to that.
    let mut child = Command::new("script")
        .args(["-qec", &live, "/dev/null"])
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut read_until = |end: &str| {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(end) {
            let length = out.read(&mut buffer).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&std::mem::take(&mut seen)).into_owned()
    };
    // Shown, and shown again.
    let first = read_until("\x1b[J");
    assert!(first.starts_with("\x1b[?1049h\x1b[?25l"), "{first:?}");
    assert!(first.contains("\x1b[32midle\x1b[0m"), "{first:?}");
    read_until("\x1b[J");
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    read_until("\x1b[?25h\x1b[?1049l");
    assert!(child.wait().unwrap().success());
    let table = first.rsplit("\x1b[H").next().unwrap();
    for line in table.split("\x1b[K\r\n") {
        let line = line.replace("\x1b[32m", "").replace("\x1b[0m", "");
        assert!(
            line.trim_end_matches("\x1b[J").chars().count() <= 60,
            "{line:?}"
        );
    }
}
