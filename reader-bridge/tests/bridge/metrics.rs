//! Metrics and health over HTTP, as an independent parser reads them (Debian's python3-prometheus-client).

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Command, Stdio},
};

use e2e::ports::Reservation;
use serde_json::Value;

use crate::run::Place;

/// Status line and body.
fn ask(port: u16, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn get(port: u16, path: &str) -> (String, String) {
    ask(port, "GET", path)
}

/// Each sample as [name, labels, value], and each family as [name, type, help].
const PARSER: &str = r#"
import json, sys
from prometheus_client.parser import text_string_to_metric_families as parse
families = list(parse(sys.stdin.read()))
names = [f.name for f in families]
assert len(names) == len(set(names)), "a family twice"
print(json.dumps({
    "families": [[f.name, f.type, f.documentation] for f in families],
    "samples": [[s.name, s.labels, s.value] for f in families for s in f.samples],
}))
"#;

fn parsed(text: &str) -> Value {
    let mut parser = Command::new("/usr/bin/python3")
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    parser
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "install Debian's python3-prometheus-client: {text}"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The value of the one sample with this name and, if there are any, these labels.
fn value(metrics: &Value, name: &str, labels: &Value) -> f64 {
    let found: Vec<_> = metrics["samples"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|sample| sample[0] == name && &sample[1] == labels)
        .collect();
    assert_eq!(found.len(), 1, "{name} {labels}: {metrics:#}");
    found[0][2].as_f64().unwrap()
}

#[test]
fn what_events_tell_is_counted_and_another_parser_reads_it() {
    let place = Place::new();
    place.server.lock().ignore = 2;
    let port = Reservation::of(1);
    let address = port.first().to_string();
    let mut bridge = place.run(&["--timeout", "0.05", "--metrics", &address]);
    bridge.expect("next-poll");
    let (head, text) = get(port.first(), "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let metrics = parsed(&text);
    let none = serde_json::json!({});
    for (name, expected) in [
        ("reader_bridge_polls_total", 3.0),
        ("reader_bridge_resends_total", 2.0),
        ("reader_bridge_answers_total", 1.0),
        ("reader_bridge_polls_lost_total", 2.0),
        ("reader_bridge_answers_lost_total", 0.0),
        ("reader_bridge_round_trip_seconds_count", 1.0),
        ("reader_bridge_link_failures_total", 0.0),
    ] {
        assert!(
            (value(&metrics, name, &none) - expected).abs() < 0.5,
            "{name}: {text}"
        );
    }
    let idle = serde_json::json!({"state": "idle"});
    assert!(value(&metrics, "reader_bridge_cards", &idle) > 0.5);
    assert!(value(&metrics, "process_resident_memory_bytes", &none) > 1e6);
    for family in metrics["families"].as_array().unwrap() {
        assert_ne!(family[1], "unknown", "{family}");
        assert_ne!(family[2], "", "{family}");
    }
    assert!(
        !text.contains("8988374172470184089"),
        "no ICCID unless wanted"
    );
}

#[test]
fn cards_are_shown_one_by_one_only_if_that_is_wanted() {
    let place = Place::new();
    let port = Reservation::of(1);
    let address = format!("127.0.0.1:{}", port.first());
    let mut bridge = place.run(&["--metrics", &address, "--metrics-cards"]);
    bridge.expect("next-poll");
    let metrics = parsed(&get(port.first(), "/metrics").1);
    let card = serde_json::json!({"card": place.card, "iccid": "8988374172470184089"});
    assert!(value(&metrics, "reader_bridge_card_working", &card) > 0.5);
    assert!(
        value(
            &metrics,
            "reader_bridge_card_next_poll_timestamp_seconds",
            &card
        ) > 1.7e9
    );
}

#[test]
fn a_bridge_is_alive_at_once_and_ready_when_a_card_works() {
    let port = Reservation::of(1);
    let address = port.first().to_string();
    let place = Place::new();
    let state = place.directory.path().join("other");
    let arguments = [
        "--card",
        "vpcd:0",
        "--gts",
        "127.0.0.1",
        "--metrics",
        &address,
    ];
    let mut bridge = crate::process::Bridge::run(&state, &arguments);
    bridge.expect("waiting-for-card");
    assert_eq!(get(port.first(), "/healthz").1, "ok\n");
    let (head, body) = get(port.first(), "/readyz");
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(body, "0 of 1 cards work\n");
    assert!(get(port.first(), "/").0.starts_with("HTTP/1.1 404"));
    assert!(
        ask(port.first(), "POST", "/metrics")
            .0
            .starts_with("HTTP/1.1 405")
    );
    drop(bridge);
    let mut bridge = place.run(&["--metrics", &address]);
    bridge.expect("next-poll");
    assert!(get(port.first(), "/readyz").0.starts_with("HTTP/1.1 200"));
}

#[test]
fn other_machines_are_served_only_if_that_is_said() {
    let place = Place::new();
    let (code, errors, told) = place.run(&["--metrics", "0.0.0.0:0"]).end();
    assert_eq!((code, told.len()), (Some(2), 0));
    assert!(errors.contains("--metrics-public"), "{errors}");
    let (code, errors, _) = place.run(&["--metrics-cards"]).end();
    assert_eq!(code, Some(2));
    assert!(errors.contains("--metrics"), "{errors}");
    let public = ["--once", "--metrics", "0.0.0.0:0", "--metrics-public"];
    assert_eq!(place.run(&public).end().0, Some(0));
}

#[test]
fn an_address_that_is_taken_is_refused_by_name() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, errors, _) = Place::new().run(&["--metrics", &address]).end();
    assert_eq!(code, Some(1));
    assert!(errors.contains(&address), "{errors}");
}
