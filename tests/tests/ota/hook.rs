//! The hook program: told of every message, its failures reported, nothing held up by it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use e2e::process::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::parts::terminal::Terminal;
use crate::rig::Rig;

/// A program with this body.
fn program(directory: &Path, body: &str) -> PathBuf {
    let path = directory.join("hook with a space");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

fn start(rig: &Rig, body: &str, options: &[&str]) -> Terminal {
    let hook = program(rig.directory.path(), body);
    let program = rig.image_program().arg("--on-message").arg(hook);
    Terminal::start(program.args(options.iter().copied()))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_message_reaches_the_program_as_json_in_order() {
    let rig = Rig::two_strings("hooked", &json!({}));
    let out = rig.directory.path().join("out");
    let ids = [
        rig.send(&["opaque", "c0ffee"]),
        rig.send(&["update-available", "$(touch /tmp/never)"]),
        rig.send(&["poll-slower", "100"]),
    ];
    let mut terminal = start(
        &rig,
        &format!("cat >> '{}'; echo noise", out.display()),
        &[],
    );
    for id in ids {
        assert_eq!(terminal.expect("hook-done")["message_id"], id);
    }
    let told = lines(&out);
    assert_eq!(
        told.iter()
            .map(|line| line["id"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        ids
    );
    assert_eq!(told[0]["objects"][0]["data"], "c0ffee");
    assert_eq!(told[1]["objects"][0]["reference"], "$(touch /tmp/never)");
    for line in &told {
        assert_eq!(
            (&line["event"], &line["iccid"]),
            (
                &json!("message"),
                &json!(rig.subscriber.iccid().to_string())
            )
        );
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
    assert!(!Path::new("/tmp/never").exists());
}

#[test]
fn a_program_that_fails_is_told_with_its_code_and_what_it_said() {
    let rig = Rig::two_strings("failing", &json!({}));
    rig.send(&["opaque", "00"]);
    let mut terminal = start(&rig, "echo 'no space left' >&2; exit 3", &[]);
    let failed = terminal.expect("hook-failed");
    assert!(
        failed["why"].as_str().unwrap().contains("code 3"),
        "{failed}"
    );
    assert_eq!(failed["stderr"], "no space left");
    terminal.expect_exchange();
    rig.send(&["opaque", "01"]);
    terminal.expect("hook-failed");
}

#[test]
fn a_program_that_hangs_is_killed_with_all_it_has_started_and_polls_go_on() {
    let rig = Rig::two_strings("hanging", &json!({}));
    rig.send(&["opaque", "00"]);
    let mut terminal = start(
        &rig,
        "sleep 1000 & echo $! >&2; wait",
        &["--hook-timeout", "3s"],
    );
    terminal.expect_exchange();
    terminal.expect_exchange();
    let failed = terminal.expect("hook-failed");
    assert!(
        failed["why"].as_str().unwrap().contains("killed"),
        "{failed}"
    );
    let child = failed["stderr"].as_str().unwrap();
    assert!(!runs(child), "{child} still runs");
}

/// Not if it is gone, or waits to be buried.
fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_program_that_cannot_be_started_or_does_not_read_ends_nothing() {
    let rig = Rig::two_strings("broken", &json!({}));
    rig.send(&["opaque", &"5a".repeat(200)]);
    let mut terminal = start(&rig, "exec <&-; exit 0", &[]);
    terminal.expect("hook-done");
    let hook = rig.directory.path().join("hook with a space");
    fs::write(&hook, "#!/nowhere/interpreter\n").unwrap();
    rig.send(&["opaque", "01"]);
    let failed = terminal.expect("hook-failed");
    assert!(
        failed["why"]
            .as_str()
            .unwrap()
            .contains("cannot be started"),
        "{failed}"
    );
    terminal.expect_exchange();
}

#[test]
fn a_program_that_ran_when_the_bridge_was_killed_is_started_again() {
    let rig = Rig::two_strings("again", &json!({}));
    let out = rig.directory.path().join("out");
    let id = rig.send(&["opaque", "c0ffee"]);
    // The first one hangs, and outlives the bridge.
    let first = rig.directory.path().join("first");
    let body = format!(
        "cat >> '{}'; test -e '{1}' || {{ echo $$ > '{1}.new'; mv '{1}.new' '{1}'; sleep 1000; }}",
        out.display(),
        first.display()
    );
    let mut terminal = start(&rig, &body, &[]);
    terminal.expect_message(id);
    terminal.expect("next-poll");
    while !first.exists() {
        terminal.expect("poll-sent");
    }
    terminal.process.kill();
    let mut terminal = start(&rig, &body, &[]);
    assert_eq!(terminal.expect("hook-done")["message_id"], id);
    let told = lines(&out);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], told[1]);
    let group: i32 = fs::read_to_string(first).unwrap().trim().parse().unwrap();
    nix::sys::signal::killpg(Pid::from_raw(group), Signal::SIGKILL).unwrap();
}
