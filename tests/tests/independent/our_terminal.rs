//! `reader-bridge` with a virtual card in Python, at `gts-mock`.

use std::path::Path;

use e2e::ports::Reservation;
use e2e::process::Process;
use e2e::relay::{Loss, LossyRelay, Plan};
use serde_json::json;

use crate::parts::{
    Gts, Profile, bridge, bridge_anywhere, each, event, next, same_members, script,
};

/// A virtual card that connects to our terminal on `port`.
fn card(profile: &Profile, directory: &Path, port: u16) -> Process {
    script("virtual_card.py")
        .args([
            "--stay",
            "--vpcd",
            &format!("127.0.0.1:{port}"),
            "--profile",
        ])
        .arg(profile.file(directory))
        .start()
}

#[test]
fn every_kind_of_card_is_driven_through_losses() {
    let profiles = Profile::all();
    let gts = Gts::start(&profiles);
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        up: Loss::of_numbers([1, 2]),
        down: Loss::of_numbers([1]),
    };
    each(&profiles, |profile| {
        let id = gts.send(&profile.reference, &["generate-key", "ed25519", "1"]);
        let relay = LossyRelay::start(gts.address, plan.clone());
        let state = directory.path().join(&profile.reference);
        let (mut bridge, port) = bridge_anywhere(relay.address(), &state, "1s");
        let _card = card(profile, directory.path(), port);
        assert_eq!(event(&mut bridge, "card-ready")["mode"], profile.mode);
        let lossy = event(&mut bridge, "exchange-done");
        let expected = json!({"sent": 2, "resend_counter": 3, "polls_lost": 2, "answers_lost": 1,
            "others_polled": false, "duplicate": false, "not_done": false});
        assert_eq!(same_members(&lossy, &expected), expected, "{lossy}");
        let told = event(&mut bridge, "message");
        assert_eq!(
            (&told["id"], &told["objects"][0]["done"]),
            (&id.into(), &"by-card".into())
        );
        event(&mut bridge, "exchange-done");
        assert_eq!(
            gts.fates(&profile.reference),
            [(id, "delivered".to_owned())]
        );
        assert!(bridge.terminate().success());
    });
}

#[test]
fn a_killed_terminal_goes_on_with_the_same_card() {
    let profile = Profile::number(3);
    let gts = Gts::start(std::slice::from_ref(&profile));
    let (directory, port) = (tempfile::tempdir().unwrap(), Reservation::of(1));
    let state = directory.path().join("state");
    let mut card = card(&profile, directory.path(), port.first());
    for number in 1..=3 {
        let id = gts.send(&profile.reference, &["opaque", &format!("{number:02x}")]);
        let mut bridge = bridge(port.first(), gts.address, &state, "1s").start();
        let told = next(&mut bridge, "the message", |line| {
            (line["event"] == "message" && line["id"] == id).then(|| line.clone())
        });
        assert_eq!(
            told["objects"][0]["data"],
            format!("{number:02x}"),
            "{told}"
        );
        bridge.kill();
    }
    let mut bridge = bridge(port.first(), gts.address, &state, "1s").start();
    event(&mut bridge, "exchange-done");
    event(&mut bridge, "exchange-done");
    let fates = gts.fates(&profile.reference);
    assert!(
        fates.iter().all(|(_, fate)| fate == "delivered"),
        "{fates:?}"
    );
    assert!(bridge.terminate().success());
    card.terminate();
}

#[test]
fn our_terminal_brings_the_card_back_by_recovery() {
    let profile = Profile::number(1);
    let gts = Gts::start(std::slice::from_ref(&profile));
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        up: Loss::of_numbers(1..=24),
        down: Loss::Nothing,
    };
    let relay = LossyRelay::start(gts.address, plan);
    let state = directory.path().join("state");
    let (mut bridge, port) = bridge_anywhere(relay.address(), &state, "100ms");
    let _card = card(&profile, directory.path(), port);
    let recovered = event(&mut bridge, "exchange-done");
    assert!(
        recovered["resend_counter"].as_u64() >= Some(24),
        "{recovered}"
    );
    event(&mut bridge, "exchange-done");
    assert_eq!(
        gts.ask(&["subscriptions", "show", &profile.reference])["e"],
        1
    );
}
