//! What brings a poll forward in a running bridge: a request of this machine, a network that changes.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use protocol::msg::{Events, Object, PollingRules};

use crate::{process::Bridge, run::Place};

fn poll_now(place: &Place, more: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_reader-bridge"))
        .args(["poll-now", "--json", "--state"])
        .arg(place.state())
        .args(more)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_poll_on_request_leaves_at_once() {
    let place = Place::new();
    let mut bridge = place.run(&[]);
    bridge.expect("next-poll");
    let (code, told) = poll_now(&place, &["--iccid", "8988374172470184089"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("polling"), "{told}");
    assert_eq!(bridge.expect("poll-sent")["exchange"], 2);
    bridge.expect("next-poll");
    let (code, told) = poll_now(&place, &["--iccid", "8988374172470184097"]);
    assert_eq!(code, Some(3), "{told}");
    bridge.signal("TERM");
    assert_eq!(bridge.end().0, Some(0));
    assert_eq!(poll_now(&place, &[]).0, Some(3), "nobody is left");
}

#[test]
fn a_poll_on_request_is_refused_where_the_operator_does_not_allow_it() {
    let place = Place::new();
    let rules = PollingRules {
        events: Some(Events(0)),
        ..PollingRules::default()
    };
    place.queue(1, &[Object::PollingRules(rules)]);
    let mut bridge = place.run(&[]);
    bridge.expect("next-poll");
    assert_eq!(poll_now(&place, &[]).0, Some(9));
    bridge.expect("request-refused");
}

/// In a network namespace of its own, with nothing but the loopback interface.
#[test]
fn a_change_of_the_network_is_an_occasion_for_a_poll() {
    const CHANGE: &str = "ip address add 192.168.7.1/24 dev lo && ip route add default dev lo";
    let place = Place::new();
    // The bridge takes the shell's place, so that it ends with the test.
    let script = "ip link set lo up; exec 3<&0; (read -r _ <&3; CHANGE) & exec \"$0\" \"$@\""
        .replace("CHANGE", CHANGE);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_reader-bridge"))
        .stdin(Stdio::piped());
    let arguments = [
        "--card",
        &place.card,
        "--gts",
        "127.0.0.1:9",
        "--timeout",
        "100s",
    ];
    let mut bridge = Bridge::run_with(command, &place.state(), &arguments);
    assert_eq!(bridge.expect("poll-sent")["resend_counter"], 0);
    let changed = Instant::now();
    bridge.send_line();
    let second = bridge.expect("poll-sent");
    assert_eq!(second["resend_counter"], 1);
    assert!(
        changed.elapsed() < Duration::from_secs(30),
        "that was its timeout"
    );
}
