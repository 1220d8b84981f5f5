//! Each kind of message goes the whole way and is executed exactly once.

use e2e::card_client::CardClient;
use e2e::relay::{Loss, Plan};
use serde_json::{Value, json};

use crate::parts::inserted::SELECT;
use crate::parts::subscriber::Subscriber;
use crate::parts::whole::Whole;
use crate::parts::wire::Wire;

/// What is sent, and how the terminal tells of it: kind and what became of it.
const KINDS: [(&[&str], &str, &str); 10] = [
    (
        &["update-available", "firmware-2.1"],
        "update-available",
        "reported",
    ),
    (&["connect", "--at", "2000000000"], "connect", "reported"),
    (
        &["open-http", "https://ota.example/meter"],
        "open-http",
        "reported",
    ),
    (&["poll-slower", "200"], "lower", "acted"),
    (&["poll-faster", "200"], "raise", "acted"),
    (
        &["polling-rules", "--interval", "1", "--ceiling", "7200"],
        "polling-rules",
        "acted",
    ),
    (&["generate-key", "p256", "1"], "generate-key", "by-card"),
    (&["generate-key", "ed25519", "2"], "generate-key", "by-card"),
    (&["opaque", "c0ffee"], "opaque", "reported"),
    (&["update-available"], "update-available", "reported"),
];

fn start() -> (Whole, Vec<u64>) {
    // One of each: a poll that is lost, and an answer.
    let plan = Plan {
        up: Loss::of_numbers([3]),
        down: Loss::of_numbers([5]),
    };
    let mut ids = Vec::new();
    let whole = Whole::start_with(
        Subscriber::named("all-kinds"),
        plan,
        |server, subscriber| {
            ids = KINDS
                .iter()
                .map(|(ask, ..)| server.send(subscriber, ask))
                .collect();
        },
    );
    (whole, ids)
}

#[test]
fn every_kind_of_message_is_executed_exactly_once_over_a_link_that_loses() {
    let (mut whole, ids) = start();
    for (id, (ask, kind, done)) in ids.iter().zip(KINDS) {
        let message = whole.terminal.expect_message(*id);
        let object = &message["objects"][0];
        assert_eq!(
            (&object["kind"], &object["done"]),
            (&json!(kind), &json!(done)),
            "{ask:?}"
        );
    }
    whole.expect_all_delivered();
    whole.terminal.process.terminate();
    assert_eq!(whole.terminal.acted_on(), ids);
    assert_eq!(
        whole.on_card("last message"),
        ids.last().unwrap().to_string()
    );
    let events = whole.terminal.events();
    let exchanges = events
        .iter()
        .filter(|event| event["event"] == "exchange-done");
    assert_eq!(whole.on_card("accepted"), exchanges.count().to_string());
    assert_keys_were_made(&whole);
    assert_details(&events);
}

/// The public keys that the card was asked to make: a P-256 point uncompressed, an Ed25519 point.
fn assert_keys_were_made(whole: &Whole) {
    let reader = &whole.pcscd.slots()[0].reader;
    let mut client = CardClient::of(&whole.pcscd);
    client.connect(reader).unwrap();
    client.transmit(&SELECT).unwrap();
    let p256 = client.transmit(&[0x80, 0xCA, 0x01, 0x01, 0x00]).unwrap();
    let ed25519 = client.transmit(&[0x80, 0xCA, 0x01, 0x02, 0x00]).unwrap();
    assert!(
        p256.starts_with(&[0x7F, 0x49, 67, 0x86, 65, 0x04]),
        "{p256:02X?}"
    );
    assert!(
        ed25519.starts_with(&[0x7F, 0x49, 34, 0x86, 32]),
        "{ed25519:02X?}"
    );
    let none = client.transmit(&[0x80, 0xCA, 0x01, 0x03, 0x00]).unwrap();
    assert_eq!(none, [0x6A, 0x88]);
}

fn assert_details(events: &[Value]) {
    let objects: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "message")
        .map(|message| &message["objects"][0])
        .collect();
    assert_eq!(objects[0]["reference"], "firmware-2.1");
    assert_eq!(objects[1]["at"], 2_000_000_000);
    assert_eq!(objects[2]["url"], "https://ota.example/meter");
    assert_eq!(objects[8]["data"], "c0ffee");
    let intervals: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "schedule-changed")
        .map(|event| {
            (
                event["interval"].as_u64().unwrap(),
                event["ceiling"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(intervals, [(2, 604_800), (1, 604_800), (1, 7_200)]);
}

#[test]
fn a_transport_update_moves_the_terminal_for_its_lifetime_and_no_longer() {
    let mut whole = Whole::start(Subscriber::named("moving"), Plan::lossless());
    let away = Wire::to(whole.server.address(), Plan::lossless());
    let (here, there) = (whole.wire.address().to_string(), away.address().to_string());
    let update = whole.send(&["transport-update", &there, "--lifetime", "3"]);
    assert_eq!(whole.terminal.expect("server-changed")["to"], there);
    whole.terminal.expect_message(update);
    assert_eq!(whole.terminal.expect("poll-sent")["to"], there);
    // What comes while away is delivered there.
    let next = whole.send(&["update-available"]);
    whole.terminal.expect_message(next);
    let home = whole.terminal.expect("server-changed");
    assert_eq!(
        (&home["to"], &home["because"]),
        (&json!(here), &json!("lifetime-ended"))
    );
    assert_eq!(whole.terminal.expect("poll-sent")["to"], here);
    whole.expect_all_delivered();
    assert_eq!(whole.terminal.acted_on(), [update, next]);
}

#[test]
fn a_server_that_a_transport_update_names_and_that_is_not_there_is_left_after_four_resends() {
    let mut whole = Whole::start(Subscriber::named("misled"), Plan::lossless());
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let there = silent.local_addr().unwrap().to_string();
    whole.send(&["transport-update", &there, "--lifetime", "3600"]);
    assert_eq!(whole.terminal.expect("server-changed")["to"], there);
    let home = whole.terminal.expect("server-changed");
    assert_eq!(home["because"], "silence");
    let exchange = whole.terminal.expect_exchange();
    assert_eq!(exchange["sent"], 1);
    whole.expect_all_delivered();
}
