//! The event stream: every event to every subscriber, and none of them holds up the bridge.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use e2e::process::Program;
use serde_json::{Value, json};

use crate::parts::terminal;
use crate::rig::Rig;

fn socket(rig: &Rig) -> PathBuf {
    let mut entries = fs::read_dir(rig.state()).unwrap().flatten();
    let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with("events-"));
    found.expect("a socket").path()
}

#[test]
fn subscribers_read_what_the_bridge_prints_until_it_ends() {
    let rig = Rig::two_strings("stream", &json!({}));
    let mut terminal = rig.terminal();
    terminal.expect("next-poll");
    let mut events = Program::built("reader-bridge")
        .args(["events", "--state"])
        .arg(rig.state())
        .start();
    let id = rig.send(&["opaque", "c0ffee"]);
    let message = events.expect("the message", |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["event"] == "message").then_some(event)
    });
    let printed = terminal.expect_message(id);
    assert_eq!(
        (&message["id"], &message["objects"]),
        (&printed["id"], &printed["objects"])
    );
    assert_eq!(message["card"], printed["card"]);
    terminal.process.terminate();
    assert!(events.expect_exit().success());
    assert!(
        fs::read_dir(rig.state())
            .unwrap()
            .flatten()
            .all(|entry| !entry.file_name().to_string_lossy().ends_with(".sock"))
    );
    let nobody = Program::built("reader-bridge")
        .args(["events", "--state"])
        .arg(rig.state())
        .run();
    assert_eq!(nobody.status.code(), Some(3));
}

#[test]
fn a_subscriber_that_does_not_read_is_dropped_and_the_others_are_not() {
    let rig = Rig::two_strings("slow", &json!({}));
    let place = format!("image:{}", rig.image.display());
    // Thousands of events a minute: nobody answers, and each poll is refused at once.
    let nobody = e2e::ports::Reservation::of(1);
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], nobody.first()));
    let program = terminal::run(&place, nobody, &rig.state()).args([
        "--interval",
        "1s",
        "--floor",
        "1s",
        "--timeout",
        "0.002s",
        "--min-timeout",
        "0.001s",
        "--max-timeout",
        "0.002s",
    ]);
    let mut terminal = terminal::Terminal::start(program);
    terminal.expect("poll-sent");
    let slow = UnixStream::connect(socket(&rig)).unwrap();
    let fast = BufReader::new(UnixStream::connect(socket(&rig)).unwrap());
    let mut read = fast.lines().map_while(Result::ok);
    // More than its socket and its queue hold, each by far.
    let last = (0..6000)
        .map(|_| read.next().expect("the fast one goes on"))
        .last()
        .unwrap();
    assert!(serde_json::from_str::<Value>(&last).is_ok());
    let of_slow: Vec<String> = BufReader::new(slow).lines().map_while(Result::ok).collect();
    let end: Value = serde_json::from_str(of_slow.last().unwrap()).unwrap();
    assert_eq!(end["event"], "stream-ended", "{end}");
    assert!(end["why"].as_str().unwrap().contains("fast enough"));
    assert_eq!(end["events"], of_slow.len() - 1);
    terminal.expect("poll-sent");
}
