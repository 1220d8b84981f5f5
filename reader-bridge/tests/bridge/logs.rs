//! The log on standard error: what it says, and that it is something else than events.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::run::Place;

fn lines(errors: &str) -> Vec<Value> {
    errors
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

#[test]
fn json_logs_are_one_object_a_line_within_card_and_exchange() {
    let place = Place::new();
    let arguments = ["--once", "--log", "debug", "--log-format", "json"];
    let (code, errors, told) = place.run(&arguments).end();
    assert_eq!(code, Some(0));
    assert_eq!(told.last().unwrap()["event"], "stopped");
    let lines = lines(&errors);
    let sent = lines.iter().find(|line| line["message"] == "sent").unwrap();
    assert_eq!(sent["level"], "DEBUG");
    assert_eq!(sent["bytes"], 20);
    assert_eq!(sent["to"], place.server.address.to_string());
    assert_eq!(sent["spans"][0]["place"], place.card);
    assert_eq!(sent["spans"][1]["number"], 1);
    assert!(!errors.contains(&"2b".repeat(16)), "no key");
}

#[test]
fn an_ordinary_log_says_nothing_of_what_events_say() {
    let place = Place::new();
    let (code, errors, _) = place.run(&["--once", "--log", "info"]).end();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let arguments = ["--once", "--log", "off,event=debug", "--log-format", "json"];
    let (_, errors, _) = place.run(&arguments).end();
    let lines = lines(&errors);
    assert!(!lines.is_empty() && lines.iter().all(|line| line["target"] == "event"));
    assert!(errors.contains("exchange-done"), "{errors}");
}

#[test]
fn a_filter_that_is_none_is_refused_with_what_to_write() {
    let place = Place::new();
    let (code, errors, _) = place.run(&["--log", "loud=very"]).end();
    assert_eq!(code, Some(2));
    assert!(errors.contains("debug"), "{errors}");
}

#[test]
fn in_the_journal_lines_have_a_priority_and_no_second_time() {
    let place = Place::new();
    let path = place.directory.path().join("journal");
    let journal = File::create(&path).unwrap();
    let stream = journal.metadata().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_reader-bridge"))
        .args(["run", "--once", "--log", "debug", "--card", &place.card])
        .args(["--gts", &place.server.address.to_string(), "--state"])
        .arg(place.state())
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", stream.dev(), stream.ino()),
        )
        .stdout(Stdio::null())
        .stderr(journal)
        .status()
        .unwrap();
    assert!(done.success());
    let text = fs::read_to_string(path).unwrap();
    assert!(!text.is_empty());
    for line in text.lines() {
        assert!(line.starts_with("<7>") && !has_a_time(line), "{line}");
    }
    assert!(has_a_time("<7>2026-01-31T23:59:59.123456Z DEBUG sent"));
}

/// Whether a time of day, `hh:mm:ss`, stands in it.
fn has_a_time(line: &str) -> bool {
    line.as_bytes().windows(8).any(|eight| {
        eight.iter().enumerate().all(|(at, byte)| match at {
            2 | 5 => *byte == b':',
            _ => byte.is_ascii_digit(),
        })
    })
}
