//! Servers that do wrong: the session fails and is tried again, and polls go on meanwhile.

use serde_json::json;

use crate::parts::terminal::Terminal;
use crate::rig::Rig;

/// The server does this once; what the terminal says of it.
const ONCE: [(&str, &str); 9] = [
    ("endless", "more than"),
    ("huge-headers", ""),
    ("garbage", ""),
    ("short", "cut"),
    ("redirect", "redirects are not followed"),
    ("bad-challenge", "401"),
    ("long-challenge", "401"),
    ("unavailable", "503"),
    ("reset", ""),
];

#[test]
fn whatever_a_server_does_wrong_is_told_and_the_session_goes_on_later() {
    for (fault, says) in ONCE {
        let mut rig = Rig::two_strings("wrong", &json!({ "1": fault }));
        rig.send(&["open-http"]);
        let mut terminal = rig.terminal();
        let failed = terminal.expect("ota-failed");
        assert!(
            failed["why"].as_str().unwrap().contains(says),
            "{fault}: {failed}"
        );
        assert_eq!(terminal.expect("ota-done")["result"], "done", "{fault}");
        rig.ota.expect("session");
        assert!(
            rig.ota
                .all("request")
                .iter()
                .all(|request| request["path"] != "/elsewhere")
        );
        terminal.expect_exchange();
    }
}

#[test]
fn a_server_that_answers_a_byte_at_a_time_holds_up_nobody() {
    let rig = Rig::two_strings("loris", &json!({ "0": "slow-loris" }));
    rig.send(&["open-http"]);
    let mut terminal = Terminal::start(rig.image_program().args(["--ota-timeout", "4s"]));
    terminal.expect("ota-opened");
    // Polls, every second, while the request is under way.
    terminal.expect_exchange();
    terminal.expect_exchange();
    let failed = terminal.expect("ota-failed");
    assert!(failed["why"].as_str().unwrap().contains("4 s"), "{failed}");
    assert_eq!(terminal.expect("ota-done")["result"], "done");
}

#[test]
fn a_command_string_that_is_none_is_answered_as_such() {
    let mut rig = Rig::with("no-tlv", &[&[]], &json!({ "1": "no-tlv" }));
    rig.send(&["open-http"]);
    let mut terminal = rig.terminal();
    let script = terminal.expect("ota-script");
    assert!(
        script["why"].as_str().unwrap().contains("cannot be read"),
        "{script}"
    );
    let answered = rig.ota.expect("script");
    assert_eq!(
        (&answered["executed"], &answered["others"]),
        (&json!(0), &json!(["900102"]))
    );
    terminal.expect("ota-done");
}

#[test]
fn a_server_that_never_answers_is_given_up_and_told_of() {
    let rig = Rig::two_strings(
        "never",
        &json!({ "0": "reset", "1": "reset", "2": "reset" }),
    );
    rig.send(&["open-http"]);
    let mut terminal = Terminal::start(rig.image_program().args(["--ota-attempts", "3"]));
    let done = terminal.expect("ota-done");
    assert_eq!(done["result"], "given-up");
    let events = terminal.events();
    let failures: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "ota-failed")
        .collect();
    assert_eq!(failures.len(), 3);
    assert!(failures[2]["retry_in_ms"].is_null());
    terminal.expect_exchange();
}
