//! Sessions that go as they should, and those that must not be opened.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use e2e::process::Program;
use serde_json::{Value, json};

use crate::parts::terminal::Terminal;
use crate::rig::{Rig, command};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
fn a_message_opens_a_session_over_tls_and_the_card_executes_what_the_server_sends() {
    let mut rig = Rig::two_strings("ota", &json!({}));
    let id = rig.send(&["open-http"]);
    let mut terminal = rig.terminal();
    let message = terminal.expect_message(id);
    assert_eq!(message["objects"][0]["done"], "queued");
    let script = terminal.expect("ota-script");
    assert_eq!(
        (&script["commands"], &script["executed"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(script["status_words"], json!(["9000", "9000", "9000"]));
    let done = terminal.expect("ota-done");
    assert_eq!(
        (&done["result"], &done["scripts"], &done["commands"]),
        (&json!("done"), &json!(2), &json!(4))
    );
    rig.ota.expect("session");
    let requests = rig.ota.all("request");
    let proofs: Vec<_> = requests
        .iter()
        .map(|request| request["proof"] == true)
        .collect();
    assert_eq!(proofs, [false, true, true, true]);
    let from = format!(
        "//se-id/ICCID/{};//aa-id/aid/F047545341/505001",
        rig.subscriber.iccid()
    );
    for request in &requests {
        assert_eq!(request["from"], from);
        assert_eq!(request["message"], id.to_string());
        assert_eq!(request["resume"], Value::Null);
    }
    let scripts = rig.ota.all("script");
    assert_eq!(scripts.len(), 2);
    assert!(
        scripts[0]["answers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|answer| answer.as_str().unwrap().ends_with("9000"))
    );
    // The polls go on as if nothing had been.
    terminal.expect_exchange();
    assert_eq!(
        rig.gts.message_states(&rig.subscriber),
        [(id, "delivered".to_owned())]
    );
    assert!(rig.ota.all("defect").is_empty());
}

#[test]
fn updates_and_connections_open_sessions_too_and_the_indefinite_form_is_spoken() {
    let plan = json!({ "scripts": [[command(1)]], "indefinite": true });
    let mut rig = Rig::planned("kinds", plan);
    let ids = [
        rig.send(&["update-available", "firmware-2.1"]),
        rig.send(&["connect"]),
    ];
    let mut terminal = rig.terminal();
    for id in ids {
        let done = terminal.expect("ota-done");
        assert_eq!(
            (&done["message_id"], &done["result"]),
            (&json!(id), &json!("done"))
        );
        rig.ota.expect("session");
    }
}

#[test]
fn a_connection_at_a_time_is_kept_over_a_restart_and_not_made_before() {
    let rig = Rig::two_strings("later", &json!({}));
    let at = now() + 4;
    let id = rig.send(&["connect", "--at", &at.to_string()]);
    let mut terminal = rig.terminal();
    terminal.expect_message(id);
    terminal.expect("next-poll");
    terminal.process.kill();
    let mut terminal = rig.terminal();
    terminal.expect("ota-opened");
    assert!(now() >= at, "it was opened {} s too early", at - now());
    terminal.expect("ota-done");
    assert!(
        terminal.acted_on().is_empty(),
        "the message is not acted on again"
    );
}

#[test]
fn a_public_key_is_delivered_as_the_card_has_it() {
    let mut rig = Rig::with("keys", &[&["80ca010200".to_owned()]], &json!({}));
    rig.send(&["generate-key", "ed25519", "2"]);
    let mut terminal = rig.terminal();
    let told = terminal.expect("public-key");
    let delivered = rig.ota.expect("keys");
    assert_eq!(delivered["keys"][0][0], "0202");
    let key = delivered["keys"][0][1].as_str().unwrap();
    assert_eq!(key, format!("7f49228620{}", told["key"].as_str().unwrap()));
    // The same by a command of the server's own.
    let script = rig.ota.expect("script");
    assert_eq!(script["answers"][0], format!("{key}9000"));
    terminal.expect("ota-done");
}

#[test]
fn without_a_server_public_keys_are_told_and_messages_only_reported() {
    let rig = Rig::two_strings("alone", &json!({}));
    let place = format!("image:{}", rig.image.display());
    let program = crate::parts::terminal::every_second(&place, rig.gts.address(), &rig.state());
    rig.send(&["generate-key", "p256", "1"]);
    let id = rig.send(&["open-http", &rig.ota.url]);
    let mut terminal = Terminal::start(program);
    let key = terminal.expect("public-key");
    assert_eq!(key["key"].as_str().unwrap().len(), 130);
    assert_eq!(
        terminal.expect_message(id)["objects"][0]["done"],
        "reported"
    );
    terminal.expect_exchange();
    assert!(rig.ota.all("request").is_empty());
}

#[test]
fn a_server_that_another_ca_vouches_for_learns_nothing() {
    let rig = Rig::planned("forged", json!({ "scripts": [], "other_ca": true }));
    rig.send(&["open-http"]);
    let mut terminal = Terminal::start(rig.image_program().args(["--ota-attempts", "2"]));
    let failed = terminal.expect("ota-failed");
    assert!(
        failed["why"].as_str().unwrap().contains("certificate"),
        "{failed}"
    );
    assert_eq!(terminal.expect("ota-done")["result"], "given-up");
    terminal.expect_exchange();
    assert!(rig.ota.all("request").is_empty());
}

#[test]
fn a_message_sends_the_terminal_nowhere_that_its_owner_has_not_allowed() {
    let mut rig = Rig::two_strings("nowhere", &json!({}));
    let port = rig
        .ota
        .url
        .rsplit(':')
        .next()
        .unwrap()
        .trim_end_matches("/start")
        .to_owned();
    let urls = [
        format!("https://127.0.0.1:{port}/start"),
        "https://169.254.169.254/latest".to_owned(),
        rig.ota.url.replace("https", "http"),
    ];
    let ids = urls.clone().map(|url| rig.send(&["open-http", &url]));
    let last = rig.send(&["open-http", &rig.ota.url.replace("/start", "/elsewhere")]);
    let mut terminal = rig.terminal();
    for id in ids {
        let object = &terminal.expect_message(id)["objects"][0];
        assert_eq!(object["done"], "not-followed", "{object}");
    }
    terminal.expect_message(last);
    assert_eq!(rig.ota.expect("request")["path"], "/elsewhere");
    terminal.expect("ota-done");
}

#[test]
fn one_exchange_includes_what_its_message_wants() {
    let mut rig = Rig::two_strings("once", &json!({}));
    rig.send(&["open-http"]);
    let once = rig.image_program().arg("--once").run();
    assert_eq!(once.status.code(), Some(0), "{once:?}");
    assert!(
        once.stdout.iter().any(|line| line.contains("ota-done")),
        "{once:?}"
    );
    rig.ota.expect("session");
    assert_eq!(rig.ota.all("script").len(), 2);
}

#[test]
fn what_was_still_to_be_done_is_set_aside_where_it_cannot_be_read_and_the_card_goes_on() {
    let rig = Rig::two_strings("damaged", &json!({}));
    let mut terminal = rig.terminal();
    terminal.expect_exchange();
    terminal.process.terminate();
    let agenda = rig
        .state()
        .join(format!("{}.agenda.json", rig.subscriber.iccid()));
    fs::write(&agenda, r#"{"version":1,"last":"#).unwrap();
    let mut terminal = rig.terminal();
    let kept = terminal.expect("agenda-damaged")["kept"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(fs::read_to_string(kept).unwrap(), r#"{"version":1,"last":"#);
    rig.send(&["open-http"]);
    assert_eq!(terminal.expect("ota-done")["result"], "done");
}

#[test]
fn the_trace_has_the_calls_as_they_were_before_tls() {
    let mut rig = Rig::two_strings("traced", &json!({}));
    rig.send(&["open-http"]);
    let file = rig.directory.path().join("trace.pcapng");
    let mut terminal = Terminal::start(rig.image_program().arg("--trace").arg(&file));
    terminal.expect("ota-done");
    terminal.process.terminate();
    rig.ota.expect("session");
    let decoded = Program::system("tshark")
        .arg("-r")
        .arg(&file)
        .args([
            "-Y",
            "http",
            "-T",
            "fields",
            "-e",
            "http.request.uri",
            "-e",
            "http.response.code",
        ])
        .run();
    let calls: Vec<_> = decoded.stdout.iter().map(|line| line.trim()).collect();
    let expected = [
        "/start", "401", "/start", "200", "/s/1", "200", "/s/2", "204",
    ];
    assert_eq!(calls, expected, "{decoded:?}");
    // The OTA server has a column of its own in the figure.
    let ladder = Program::built("reader-bridge").args(["trace", "ladder", "--width", "160"]);
    let drawn = ladder.arg(&file).run().stdout.join("\n");
    for part in ["OTA server", "POST /start", "401", "POST /s/2", "204"] {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }
}

#[test]
fn the_command_line_says_what_does_not_go_together() {
    let rig = Rig::two_strings("line", &json!({}));
    let base = || crate::parts::terminal::run("pcsc", rig.gts.address(), &rig.state());
    let no_ca = rig.directory.path().join("no-ca.pem");
    fs::write(&no_ca, "not a certificate").unwrap();
    let no_ca = no_ca.to_str().unwrap();
    for (arguments, code, says) in [
        (vec!["--ota-url", "https://ota.example/"], 2, "--ota-ca"),
        (vec!["--ota-url", "http://ota.example/"], 2, "TLS"),
        (vec!["--ota-url", "ota.example"], 2, "URL"),
        (
            vec!["--ota-allow", "https://x/", "--ota-system-roots"],
            2,
            "host",
        ),
        (
            vec!["--ota-url", "https://x/", "--ota-ca", no_ca],
            8,
            "certificate",
        ),
        (
            vec!["--ota-url", "https://x/", "--ota-ca", "/nowhere"],
            8,
            "/nowhere",
        ),
        (vec!["--on-message", "/nowhere"], 2, "--on-message"),
        (vec!["--on-message", no_ca], 2, "executable"),
    ] {
        let refused = base().args(arguments.clone()).run();
        assert_eq!(
            refused.status.code(),
            Some(code),
            "{arguments:?}: {refused:?}"
        );
        assert!(
            refused.stderr.concat().contains(says),
            "{arguments:?}: {refused:?}"
        );
    }
}
