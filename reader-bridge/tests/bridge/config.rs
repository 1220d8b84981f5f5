//! The configuration file of `run`, and `check-config`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::{process::Bridge, run::Place};

fn bridge(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reader-bridge"));
    command.args(arguments).output().unwrap()
}

fn written(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("bridge.toml");
    fs::write(&path, text).unwrap();
    path
}

fn check(text: &str) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), text);
    let output = bridge(&["check-config", path.to_str().unwrap()]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Everything that a bridge needs, as a file; `more` comes first.
fn whole(place: &Place, more: &str) -> PathBuf {
    let text = format!("{more}\ncard = {:?}\ngts = {:?}\n", place.card, place.gts);
    written(place.directory.path(), &text)
}

fn run(place: &Place, file: &Path, more: &[&str]) -> (Option<i32>, String, Vec<Value>) {
    let mut arguments = vec!["--config", file.to_str().unwrap()];
    arguments.extend(more);
    Bridge::run(&place.directory.path().join("state"), &arguments).end()
}

#[test]
fn a_run_needs_nothing_but_its_configuration() {
    let place = Place::new();
    let file = whole(&place, "once = true\nattempts = 3\ninterval = \"2h\"");
    let (code, errors, told) = run(&place, &file, &[]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let next = told.iter().find(|event| event["event"] == "next-poll");
    let hours = next.unwrap()["in_ms"].as_u64().unwrap() / 3_600_000;
    assert!((1..=2).contains(&hours), "{next:?}");
}

#[test]
fn what_the_command_line_says_wins_over_the_file() {
    let place = Place::new();
    let more = "once = false\nseed = 7\nquiet = \"00:00-23:59\"\ninterval = \"2h\"";
    let file = whole(&place, more);
    let (code, _, told) = run(&place, &file, &["--once", "--interval=5h"]);
    assert_eq!(code, Some(0));
    let next = told.iter().find(|event| event["event"] == "next-poll");
    assert!(next.unwrap()["in_ms"].as_u64().unwrap() > 4 * 3_600_000);
    // A list of the file is replaced, not added to; a switch of the file can be turned off.
    let file = whole(&place, "once = true\nattempts = 0");
    let (code, errors, _) = run(&place, &file, &["--once=false"]);
    assert_eq!(code, Some(2), "{errors}");
    let file = whole(&place, "once = true");
    let missing = ["--card", "pcsc:none", "--wait-card", "0"];
    let (code, _, told) = run(&place, &file, &missing);
    assert_eq!(code, Some(3));
    assert!(told.iter().all(|event| event["card"] == "pcsc:none"));
}

#[test]
fn every_mistake_is_told_with_its_place_and_the_key_that_was_meant() {
    let (code, printed, errors) = check(
        "# a comment\nintervall = 5\njitter = 200\n  json = \"yes\"\nattempts = [1, 2]\n\
         config = \"x\"\nquiet = \"25:00-1\"\ncard = [\"pcsc\", \"usb\"]\n[table]\n",
    );
    assert_eq!((code, printed.as_str()), (Some(2), ""));
    for mistake in [
        ":2:1: unknown key \"intervall\"; did you mean \"interval\"?",
        ":3:10: jitter: 200 is not in 0..=100",
        ":4:10: json is true or false",
        ":5:12: attempts takes one value",
        ":6:1: a configuration names no other",
        ":7:9: quiet: \"25:00-1\" is no window",
        ":8:17: card: \"usb\" is not a kind of card",
        ":9:2: unknown key \"table\"",
    ] {
        assert!(errors.contains(mistake), "{mistake} in {errors}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_place_and_never_repeated() {
    let (code, _, errors) = check("gts = 00112233445566778899aabbccddeeff\n");
    assert_eq!(code, Some(2));
    assert!(errors.contains("bridge.toml:1:"), "{errors}");
    assert!(!errors.contains("aabbcc"), "{errors}");
    let (code, _, errors) = check("image_key = \"00112233445566778899aabbccddeeff\"\n");
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("did you mean \"image-key-file\""),
        "{errors}"
    );
    assert!(!errors.contains("aabbcc"), "{errors}");
}

#[test]
fn settings_that_do_not_go_together_are_a_mistake_too() {
    for (text, why) in [
        ("gts = \"a\"", "no card is named"),
        ("card = \"pcsc\"", "no server is named"),
        ("card = [\"pcsc\", \"pcsc\"]\ngts = \"a\"", "given twice"),
        (
            "card = \"pcsc\"\ngts = \"a\"\ninterval = 5\nfloor = 50",
            "not between",
        ),
    ] {
        let (code, _, errors) = check(text);
        assert_eq!(code, Some(2), "{text}");
        assert!(errors.contains(why), "{errors}");
    }
}

#[test]
fn the_effective_settings_are_a_configuration_that_comes_to_the_same() {
    let (code, first, _) =
        check("card = [\"pcsc:A \\\"b\\\"\", \"vpcd:1\"]\ngts = \"[::1]\"\njson = true");
    assert_eq!(code, Some(0));
    for line in [
        "card = [\"pcsc:A \\\"b\\\"\", \"vpcd:1\"]\n",
        "json = true\n",
        "once = false  # by default\n",
        "# trace is not set\n",
    ] {
        assert!(first.contains(line), "{line} in {first}");
    }
    let (code, second, _) = check(&first);
    assert_eq!(code, Some(0));
    assert_eq!(first.replace("  # by default", ""), second);
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    for arguments in [
        &["check-config", "/nowhere/bridge.toml"][..],
        &["run", "--config", "/nowhere/bridge.toml"],
    ] {
        let output = bridge(arguments);
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            errors.contains("/nowhere/bridge.toml: No such file"),
            "{errors}"
        );
    }
}
