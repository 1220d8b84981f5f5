//! The event stream of a running bridge, and `reader-bridge events`.

use std::fs;

use e2e::process::Program;
use serde_json::{Value, json};

use crate::rig::Rig;

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
