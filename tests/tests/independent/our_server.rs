//! `gts-mock` polled by a card and terminal in Python.

use e2e::process::Process;
use e2e::relay::{LossyRelay, Plan};
use serde_json::{Value, json};

use crate::parts::{Gts, Profile, examples, exchange, same_members, script, with};

/// A card and terminal in Python, ready for `exchange`.
fn card(profile: &Profile, server: &str, timeout: &str) -> Process {
    let directory = tempfile::tempdir().unwrap();
    let card = script("card.py")
        .args(["--server", server, "--timeout", timeout, "--profile"])
        .arg(profile.file(directory.path()));
    let mut card = card.talkative().start();
    with(&mut card, "ready");
    card
}

fn card_of(gts: &Gts, profile: &Profile) -> Process {
    card(profile, &gts.address.to_string(), "10")
}

#[track_caller]
fn assert_has(told: &Value, expected: &Value) {
    assert_eq!(&same_members(told, expected), expected, "{told}");
}

#[test]
fn the_examples_of_the_document_come_out_as_printed() {
    let run = examples().run();
    assert!(run.status.success(), "{run:?}");
}

#[test]
fn every_mode_and_key_length_counts_losses_and_delivers_once() {
    let profiles = Profile::all();
    let gts = Gts::start(&profiles);
    for profile in &profiles {
        let first = gts.send(&profile.reference, &["update-available", "v2"]);
        let second = gts.send(&profile.reference, &["generate-key", "p256", "3"]);
        let mut card = card_of(&gts, profile);
        assert_has(
            &exchange(&mut card, ""),
            &json!({"sent": 1, "resend_counter": 0, "flags": 0, "message_id": first,
                "acted": [{"update-available": "v2"}]}),
        );
        assert_has(
            &exchange(&mut card, "poll answer 2*poll answer"),
            &json!({"sent": 3, "resend_counter": 5, "polls_lost": 3, "answers_lost": 2, "flags": 0,
                "message_id": second, "acted": [{"generate-key": 1, "slot": 3}]}),
        );
        assert_has(
            &exchange(&mut card, "2*answer"),
            &json!({"sent": 3, "resend_counter": 2, "msg": "8000", "message_id": null}),
        );
        let delivered = |id| (id, "delivered".to_owned());
        assert_eq!(
            gts.fates(&profile.reference),
            [delivered(first), delivered(second)]
        );
    }
    assert_eq!(gts.ask(&["status"])["dropped"], json!([]));
}

#[test]
fn a_chain_of_many_exchanges_holds_in_every_mode() {
    let profiles = Profile::all();
    let gts = Gts::start(&profiles);
    for profile in &profiles {
        let mut card = card_of(&gts, profile);
        for _ in 0..25 {
            assert_has(
                &exchange(&mut card, ""),
                &json!({"sent": 1, "msg": "8000", "flags": 0}),
            );
        }
        let shown = gts.ask(&["subscriptions", "show", &profile.reference]);
        assert_has(&shown, &json!({"e": 0, "exchanges": 24}));
    }
}

#[test]
fn every_kind_of_message_is_read_as_it_was_sent() {
    let profile = Profile::number(3);
    let gts = Gts::start(std::slice::from_ref(&profile));
    let rules = "polling-rules --interval 3600 --jitter 10 --floor 60 --ceiling 86400 \
        --events power-on,host-request --quiet 22:00-06:30";
    let kinds = [
        ("update-available", json!({"update-available": ""})),
        ("connect", json!({"connect": "now"})),
        ("connect --at 1784364064", json!({"connect": 1_784_364_064})),
        (
            "open-http https://ota.example/x",
            json!({"open-http": "https://ota.example/x"}),
        ),
        ("poll-faster", json!({"poll-faster": 200})),
        ("poll-slower 150", json!({"poll-slower": 150})),
        (
            rules,
            json!({"polling-rules": {"interval": 3600, "jitter": 10, "floor": 60,
            "ceiling": 86400, "events": 5, "quiet": [1320, 510]}}),
        ),
        (
            "generate-key ed25519 7",
            json!({"generate-key": 2, "slot": 7}),
        ),
        (
            "transport-update [2001:db8::1]:4753 --lifetime 60",
            json!({"transport-update": {"endpoint": "[2001:db8::1]:4753", "lifetime": 60}}),
        ),
        ("transport-update", json!({"transport-update": {}})),
        ("opaque deadbeef", json!({"opaque": "deadbeef"})),
    ];
    for (message, _) in &kinds {
        gts.send(
            &profile.reference,
            &message.split_whitespace().collect::<Vec<_>>(),
        );
    }
    let mut card = card_of(&gts, &profile);
    for (_, read) in kinds {
        assert_has(
            &exchange(&mut card, ""),
            &json!({"flags": 0, "acted": [read]}),
        );
    }
}

#[test]
fn recovery_works_in_every_mode_and_again() {
    let profiles = Profile::all();
    let gts = Gts::start(&profiles);
    for profile in &profiles {
        let mut card = card_of(&gts, profile);
        exchange(&mut card, "");
        let recovered = exchange(&mut card, "24*poll answer 7*poll");
        assert_has(
            &recovered,
            &json!({"sent": 2, "resend_counter": 32, "msg": "8000", "flags": 0}),
        );
        assert_has(
            &exchange(&mut card, ""),
            &json!({"sent": 1, "resend_counter": 0}),
        );
        assert_has(
            &exchange(&mut card, "24*poll"),
            &json!({"sent": 1, "resend_counter": 24}),
        );
        assert_has(
            &exchange(&mut card, ""),
            &json!({"sent": 1, "resend_counter": 0}),
        );
        assert_eq!(
            gts.ask(&["subscriptions", "show", &profile.reference])["e"],
            2
        );
    }
}

#[test]
fn a_message_executed_before_a_recovery_comes_again_and_is_not_acted_on_again() {
    let profile = Profile::number(2);
    let gts = Gts::start(std::slice::from_ref(&profile));
    let id = gts.send(&profile.reference, &["opaque", "01"]);
    let mut card = card_of(&gts, &profile);
    assert_eq!(exchange(&mut card, "")["acted"], json!([{"opaque": "01"}]));
    assert_eq!(exchange(&mut card, "24*poll")["msg"], "8000");
    assert_has(
        &exchange(&mut card, ""),
        &json!({"message_id": id, "flags": 2, "acted": []}),
    );
    exchange(&mut card, "");
    assert_eq!(
        gts.fates(&profile.reference),
        [(id, "delivered".to_owned())]
    );
}

#[test]
fn a_withdrawn_message_that_was_accepted_is_delivered_after_all() {
    let profile = Profile::number(3);
    let gts = Gts::start(std::slice::from_ref(&profile));
    let id = gts.send(&profile.reference, &["opaque", "01"]);
    let mut card = card_of(&gts, &profile);
    assert_eq!(exchange(&mut card, "")["message_id"], id);
    gts.ask(&[
        "message",
        "cancel",
        "--to",
        &profile.reference,
        &id.to_string(),
    ]);
    assert_has(&exchange(&mut card, ""), &json!({"sent": 1, "msg": "8000"}));
    assert_eq!(
        gts.fates(&profile.reference),
        [(id, "delivered".to_owned())]
    );
}

#[test]
fn a_card_ahead_of_a_restored_server_is_found_by_the_walk() {
    let profile = Profile::number(3);
    let mut gts = Gts::start(std::slice::from_ref(&profile));
    let mut card = card_of(&gts, &profile);
    exchange(&mut card, "");
    gts.back_up();
    for _ in 0..5 {
        exchange(&mut card, "");
    }
    gts.restore(&["--restored"]);
    for _ in 0..3 {
        assert_has(
            &exchange(&mut card, ""),
            &json!({"sent": 1, "resend_counter": 0}),
        );
    }
}

#[test]
fn a_card_that_a_restored_server_does_not_know_comes_back_by_recovery() {
    let profile = Profile::number(1);
    let mut gts = Gts::start(std::slice::from_ref(&profile));
    let mut card = card(&profile, &gts.address.to_string(), "0.1");
    exchange(&mut card, "");
    gts.back_up();
    for _ in 0..5 {
        exchange(&mut card, "");
    }
    gts.restore(&[]);
    let recovered = exchange(&mut card, "");
    assert!(
        recovered["resend_counter"].as_u64() >= Some(24),
        "{recovered}"
    );
    assert_has(&exchange(&mut card, ""), &json!({"msg": "8000"}));
    assert_eq!(
        gts.ask(&["subscriptions", "show", &profile.reference])["e"],
        1
    );
}

#[test]
fn a_repeated_poll_is_answered_at_most_once_a_second() {
    let profile = Profile::number(0);
    let gts = Gts::start(std::slice::from_ref(&profile));
    let mut card = card_of(&gts, &profile);
    exchange(&mut card, "");
    exchange(&mut card, "answer");
    card.send_line("again 50");
    exchange(&mut card, "");
    // The 50 repeat an identity that the last exchange has left, so they come before it. Should this machine stop for
    // seconds, one a second may have been answered.
    let dropped = gts.ask(&["status"])["dropped"].clone();
    assert_eq!(dropped[0]["name"], "repeated_too_soon", "{dropped}");
    assert!(dropped[0]["count"].as_u64() >= Some(45), "{dropped}");
}

#[test]
fn a_link_that_loses_a_third_loses_no_message_and_doubles_none() {
    let profiles: Vec<_> = (0..4).map(Profile::number).collect();
    let gts = Gts::start(&profiles);
    for profile in &profiles {
        let ids: Vec<_> = (0..5)
            .map(|number| gts.send(&profile.reference, &["opaque", &format!("{number:02x}")]))
            .collect();
        let relay = LossyRelay::start(gts.address, Plan::share(profile.mode.into(), 33).unwrap());
        let mut card = card(profile, &relay.address().to_string(), "0.2");
        let told: Vec<_> = (0..7).map(|_| exchange(&mut card, "")).collect();
        let acted: Vec<_> = told
            .iter()
            .flat_map(|one| one["acted"].as_array().unwrap())
            .collect();
        let sent: Vec<_> = (0..5)
            .map(|number| json!({"opaque": format!("{number:02x}")}))
            .collect();
        assert_eq!(acted, sent.iter().collect::<Vec<_>>(), "{told:?}");
        let delivered: Vec<_> = ids.iter().map(|&id| (id, "delivered".to_owned())).collect();
        assert_eq!(gts.fates(&profile.reference), delivered);
    }
}
