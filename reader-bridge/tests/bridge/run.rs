//! `reader-bridge run` as a process: what it does, what it tells, and how it ends.

use std::{fs, path::PathBuf};

use applet::Protocol;
use protocol::{
    identity::Mode,
    msg::{Events, Factor, KeyAlgorithm, Object, PollingRules, TransportUpdate},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    card::{Subscription, inserted},
    process::{Bridge, UdpServer, port_of, virtual_card},
};

/// A card image, its server, and a place for everything.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) server: UdpServer,
    pub(crate) card: String,
    pub(crate) gts: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let subscription = Subscription::new(Mode::DEFAULT);
        let server = UdpServer::new(&subscription);
        let image = directory.path().join("card.img");
        subscription.image(&image);
        Self {
            card: format!("image:{}", image.display()),
            gts: server.address.to_string(),
            directory,
            server,
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn run(&self, more: &[&str]) -> Bridge {
        let mut arguments = vec!["--card", &self.card, "--gts", &self.gts];
        arguments.extend(more);
        Bridge::run(&self.state(), &arguments)
    }

    pub(crate) fn queue(&self, id: u32, objects: &[Object<'_>]) {
        self.server.lock().server.queue(id, objects);
    }
}

pub(crate) fn named<'a>(told: &'a [Value], event: &str) -> Vec<&'a Value> {
    told.iter()
        .filter(|value| value["event"] == event)
        .collect()
}

#[test]
fn once_makes_one_exchange_and_tells_all_of_it() {
    let place = Place::new();
    place.queue(10, &[Object::UpdateAvailable(Some("fw 7"))]);
    let (code, errors, told) = place.run(&["--once"]).end();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let events: Vec<_> = told
        .iter()
        .map(|value| value["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        [
            "card-ready",
            "poll-sent",
            "answer-received",
            "exchange-done",
            "message",
            "next-poll",
            "stopped"
        ]
    );
    assert_eq!(told[1]["resend_counter"], 0);
    assert_eq!(told[1]["to"], place.gts);
    assert_eq!(told[3]["sent"], 1);
    assert_eq!(told[3]["identity_before"], told[1]["identity"]);
    assert_eq!(told[4]["id"], 10);
    assert_eq!(told[4]["objects"][0]["kind"], "update-available");
    assert_eq!(told[4]["objects"][0]["reference"], "fw 7");
    assert_eq!(told[4]["objects"][0]["done"], "reported");
}

#[test]
fn every_message_is_told_with_its_details_and_done_once() {
    let place = Place::new();
    let objects = [
        Object::UpdateAvailable(None),
        Object::Connect(Some(1_800_000_000)),
        Object::OpenHttp(Some("https://ota.example/")),
        Object::Raise(Factor::DEFAULT),
        Object::Lower(Factor::new(400).unwrap()),
        Object::GenerateKey {
            algorithm: KeyAlgorithm::P256,
            slot: 1,
        },
        Object::Opaque(&[1, 2, 3]),
        Object::Unknown {
            tag: 0x9F01,
            value: &[9],
        },
    ];
    place.queue(5, &objects);
    let (code, _, told) = place.run(&["--once"]).end();
    assert_eq!(code, Some(0));
    let message = named(&told, "message")[0];
    let summary: Vec<_> = message["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| json!([object["kind"], object["done"]]))
        .collect();
    assert_eq!(
        summary,
        [
            json!(["update-available", "reported"]),
            json!(["connect", "reported"]),
            json!(["open-http", "reported"]),
            json!(["raise", "acted"]),
            json!(["lower", "acted"]),
            json!(["generate-key", "by-card"]),
            json!(["opaque", "reported"]),
            json!(["unknown", "reported"]),
        ]
    );
    assert_eq!(
        named(&told, "schedule-changed")[0]["interval"],
        3600 / 2 * 4
    );
    let (_, _, told) = place.run(&["--once"]).end();
    assert!(named(&told, "message").is_empty());
    assert_eq!(place.server.lock().server.delivered, [5]);
}

#[test]
fn lost_polls_are_resent_from_the_same_port_and_each_identity_has_its_own() {
    let place = Place::new();
    place.server.lock().ignore = 2;
    let quick = ["--once", "--timeout", "0.05"];
    let (code, _, told) = place.run(&quick).end();
    assert_eq!(code, Some(0));
    let done = named(&told, "exchange-done")[0];
    assert_eq!(
        (&done["polls_lost"], &done["resend_counter"]),
        (&json!(2), &json!(2))
    );
    place.run(&quick).end();
    let ports = place.server.lock().ports.clone();
    assert_eq!(ports[0], ports[1]);
    assert_eq!(ports[1], ports[2]);
    assert_ne!(ports[2], ports[3]);
}

#[test]
fn it_polls_again_when_due_and_a_signal_ends_it_cleanly() {
    let place = Place::new();
    let rules = PollingRules {
        interval: Some(1),
        floor: Some(1),
        jitter: Some(0),
        events: Some(Events(0)),
        ..PollingRules::default()
    };
    place.queue(1, &[Object::PollingRules(rules)]);
    let mut bridge = place.run(&[]);
    for _ in 0..3 {
        bridge.expect("exchange-done");
    }
    bridge.signal("TERM");
    let (code, errors, told) = bridge.end();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(told.last().unwrap()["event"], "stopped");
}

#[test]
fn a_server_that_names_another_one_is_followed_there() {
    let place = Place::new();
    let edge = UdpServer::new(&Subscription::new(Mode::DEFAULT));
    let endpoint = edge.address.to_string();
    let update = TransportUpdate {
        endpoint: Some(&endpoint),
        lifetime: Some(600),
    };
    place.queue(1, &[Object::TransportUpdate(update)]);
    let (code, ..) = place.run(&["--once"]).end();
    assert_eq!(code, Some(0));
    let mut bridge = place.run(&["--once", "--attempts", "1", "--timeout", "0.05"]);
    assert_eq!(bridge.expect("poll-sent")["to"], endpoint);
}

#[test]
fn a_server_that_home_named_is_left_when_it_goes_silent() {
    let place = Place::new();
    let edge = UdpServer::new(&Subscription::new(Mode::DEFAULT));
    edge.lock().ignore = usize::MAX;
    let endpoint = edge.address.to_string();
    let update = TransportUpdate {
        endpoint: Some(&endpoint),
        lifetime: None,
    };
    place.queue(1, &[Object::TransportUpdate(update)]);
    place.run(&["--once"]).end();
    let quick = [
        "--once",
        "--attempts",
        "9",
        "--timeout",
        "0.02",
        "--max-timeout",
        "0.05",
    ];
    let (code, _, told) = place.run(&quick).end();
    assert_eq!(code, Some(0));
    let asked: Vec<_> = named(&told, "poll-sent")
        .iter()
        .map(|poll| poll["via"].clone())
        .collect();
    assert_eq!(asked, ["away", "away", "away", "away", "away", "home"]);
    assert_eq!(named(&told, "server-changed")[0]["because"], "silence");
    assert_eq!(edge.lock().ports.len(), 5);
}

#[test]
fn a_virtual_card_that_comes_and_goes_is_served() {
    let place = Place::new();
    let subscription = Subscription::new(Mode::DEFAULT);
    let mut card = subscription.card(Protocol::T1);
    let state = place.state();
    let mut bridge = Bridge::run(
        &state,
        &["--card", "vpcd:0", "--gts", &place.gts, "--floor", "1"],
    );
    let port = port_of(&bridge.expect("waiting-for-card"));
    for _ in 0..3 {
        let in_reader = inserted(card, port);
        bridge.expect("exchange-done");
        card = in_reader.pull();
        bridge.expect("card-gone");
    }
    bridge.signal("INT");
    assert_eq!(bridge.end().0, Some(0));
}

#[test]
fn no_server_is_exit_code_5_and_the_next_run_counts_the_silence() {
    let place = Place::new();
    place.server.lock().ignore = 2;
    let (code, errors, told) = place
        .run(&["--once", "--attempts", "2", "--timeout", "0.05"])
        .end();
    assert_eq!(code, Some(5));
    assert!(
        errors.contains("no answer from") && errors.contains("--attempts"),
        "{errors}"
    );
    assert_eq!(named(&told, "no-answer")[0]["polls"], 2);
    let (code, _, told) = place.run(&["--once"]).end();
    assert_eq!(code, Some(0));
    assert_eq!(named(&told, "exchange-done")[0]["resend_counter"], 2);
}

#[test]
fn a_port_where_nobody_listens_is_told_and_ends_nothing() {
    let place = Place::new();
    let nobody = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().to_string()
    };
    let arguments = [
        "--card",
        &place.card,
        "--gts",
        &nobody,
        "--once",
        "--attempts",
        "2",
        "--timeout",
        "0.1",
    ];
    let (code, _, told) = Bridge::run(&place.state(), &arguments).end();
    assert_eq!(code, Some(5));
    let failed = named(&told, "link-failed");
    assert!(
        failed[0]["why"]
            .as_str()
            .unwrap()
            .contains("nobody listens"),
        "{failed:?}"
    );
}

#[test]
fn what_is_remembered_survives_a_kill() {
    let place = Place::new();
    place.queue(1, &[Object::Lower(Factor::DEFAULT)]);
    let mut bridge = place.run(&[]);
    bridge.expect("next-poll");
    bridge.signal("KILL");
    drop(bridge);
    let files: Vec<_> = fs::read_dir(place.state())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    let memory: Value = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
    assert_eq!(memory["version"], 1);
    assert_eq!(memory["last_message"], 1);
    assert_eq!(memory["rules"]["interval"], 7200);
}

#[test]
fn no_cards_trouble_is_anothers() {
    let place = Place::new();
    let good = format!("--card={}", place.card);
    let arguments = [
        &good,
        "--card=vpcd:0",
        "--gts",
        &place.gts,
        "--interval",
        "1",
        "--jitter",
        "0",
        "--card-timeout",
        "0.2",
    ];
    let mut bridge = Bridge::run(&place.state(), &arguments);
    let waiting = loop {
        let event = bridge.expect("waiting-for-card");
        if event["card"] != place.card.as_str() {
            break event;
        }
    };
    let foreign = virtual_card(port_of(&waiting), |_| vec![0x6A, 0x82]);
    let refused = bridge.expect("card-refused");
    assert_eq!(refused["card"], waiting["card"]);
    for _ in 0..2 {
        assert_eq!(bridge.expect("exchange-done")["card"], place.card.as_str());
    }
    bridge.signal("TERM");
    let (code, errors, told) = bridge.end();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(named(&told, "stopped").len(), 2);
    foreign.join().unwrap();
}

#[test]
fn with_several_cards_the_exit_code_is_the_first_failures_and_all_are_named() {
    let place = Place::new();
    let good = format!("--card={}", place.card);
    let arguments = [
        &good,
        "--card=vpcd:0",
        "--gts",
        &place.gts,
        "--once",
        "--wait-card",
        "0.1",
    ];
    let (code, errors, told) = Bridge::run(&place.state(), &arguments).end();
    assert_eq!(code, Some(3), "{errors}");
    assert_eq!(named(&told, "exchange-done").len(), 1);
}

#[test]
fn the_same_place_twice_is_refused() {
    let place = Place::new();
    let arguments = ["--card", "pcsc", "--card", "pcsc", "--gts", &place.gts];
    let (code, errors, _) = Bridge::run(&place.state(), &arguments).end();
    assert_eq!(code, Some(2));
    assert!(errors.contains("given twice"), "{errors}");
}
