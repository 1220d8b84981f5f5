//! Many virtual cards on one `vpcd:PORT` of one terminal: each goes its own way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use e2e::process::{DEADLINE, Process, Program, Signal};
use protocol::poll::Poll;
use serde_json::Value;

use crate::parts::inserted::insert;
use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};

/// Subscribers with their cards in `directory`.
fn cards_in(directory: &Path, count: usize) -> Vec<Subscriber> {
    let named = |number| Subscriber::named(&format!("card-{number}"));
    let subscribers: Vec<_> = (0..count).map(named).collect();
    for subscriber in &subscribers {
        subscriber.make_card(directory);
    }
    subscribers
}

/// A terminal that is its own reader for any number of cards, and the port that they connect to.
fn bridge(gts: SocketAddr, state: &Path, more: &[&str]) -> (Terminal, u16) {
    let program = terminal::every_second("vpcd:0", gts, state).args(more.iter().copied());
    let mut terminal = Terminal::start(program);
    let waiting = terminal.expect("waiting-for-card");
    let port = place_of(&waiting).strip_prefix("vpcd:").expect("its place");
    let port = port.parse().expect("a port");
    (terminal, port)
}

fn rack(cards: &Path, port: u16) -> Process {
    let rack = Program::built("secapp").arg("rack").arg(cards);
    rack.args(["--one-port", "--vpcd", &format!("127.0.0.1:{port}")])
        .start()
}

fn place_of(event: &Value) -> &str {
    event["card"].as_str().expect("every event has its card")
}

/// Waits until as many cards as that have made an exchange from now on; by their places.
fn exchanges(terminal: &mut Terminal, cards: usize) -> BTreeMap<String, Value> {
    let mut done = BTreeMap::new();
    while done.len() < cards {
        let exchange = terminal.expect_exchange();
        done.insert(place_of(&exchange).to_owned(), exchange);
    }
    done
}

#[test]
fn cards_on_one_port_have_a_slot_each_and_go_on_where_they_were() {
    const CARDS: usize = 12;
    let (directory, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let subscribers = cards_in(directory.path(), CARDS);
    let server = Server::knowing(&subscribers.iter().collect::<Vec<_>>());
    let (mut terminal, port) = bridge(server.address(), state.path(), &[]);
    let mut first_rack = rack(directory.path(), port);
    let places = exchanges(&mut terminal, CARDS);
    let first = format!("vpcd:{port}");
    let others = (1..CARDS).map(|slot| format!("{first}/{slot}"));
    let expected: BTreeSet<_> = others.chain([first.clone()]).collect();
    assert_eq!(places.into_keys().collect::<BTreeSet<_>>(), expected);

    first_rack.kill();
    (0..CARDS).for_each(|_| drop(terminal.expect("card-gone")));
    let _second_rack = rack(directory.path(), port);
    exchanges(&mut terminal, CARDS);

    // Whichever slot a card came to, its chain of identities has no gap, and its exchanges are counted on.
    let mut cards = BTreeMap::<_, Vec<Value>>::new();
    let mut at = BTreeMap::new();
    for event in terminal.events() {
        match event["event"].as_str() {
            Some("card-ready") => {
                drop(at.insert(place_of(&event).to_owned(), event["iccid"].to_string()))
            }
            Some("exchange-done") => cards
                .entry(at[place_of(&event)].clone())
                .or_default()
                .push(event),
            _ => {}
        }
    }
    assert_eq!(cards.len(), CARDS);
    for (iccid, exchanges) in cards {
        for pair in exchanges.windows(2) {
            assert_eq!(
                pair[0]["identity_after"], pair[1]["identity_before"],
                "{iccid}"
            );
            assert!(pair[0]["exchange"].as_u64() < pair[1]["exchange"].as_u64());
        }
    }
    assert_eq!(server.dropped("unknown_identity"), 0);
}

#[test]
fn a_card_that_falls_silent_delays_no_other() {
    let (directory, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let subscribers = cards_in(directory.path(), 2);
    let server = Server::knowing(&subscribers.iter().collect::<Vec<_>>());
    let (mut terminal, port) = bridge(server.address(), state.path(), &["--card-timeout", "1h"]);
    let image = |subscriber: &Subscriber| {
        directory
            .path()
            .join(format!("{}.img", subscriber.reference))
    };
    let silent = insert(&image(&subscribers[0]), port).start();
    let its_place = place_of(&terminal.expect_exchange()).to_owned();
    let _other = insert(&image(&subscribers[1]), port).start();
    exchanges(&mut terminal, 2);

    silent.signal(Signal::SIGSTOP);
    let mut others = 0;
    while others < 3 {
        others += usize::from(place_of(&terminal.expect_exchange()) != its_place);
    }
    silent.signal(Signal::SIGCONT);
    exchanges(&mut terminal, 2);
    let gone = terminal.events();
    let gone = gone.iter().filter(|event| event["event"] == "card-gone");
    assert_eq!(gone.count(), 0);
}

#[test]
fn a_card_beyond_the_limit_is_sent_away_which_is_told_until_there_is_room() {
    let (directory, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let subscribers = cards_in(directory.path(), 3);
    let server = Server::knowing(&subscribers.iter().collect::<Vec<_>>());
    let (mut terminal, port) = bridge(server.address(), state.path(), &["--max-cards", "2"]);
    let mut cards: Vec<_> = Vec::new();
    for subscriber in &subscribers[..2] {
        let image = directory
            .path()
            .join(format!("{}.img", subscriber.reference));
        cards.push(insert(&image, port).start());
    }
    exchanges(&mut terminal, 2);
    let image = directory.path().join("card-2.img");
    cards.push(insert(&image, port).start());
    let refused = terminal.expect("card-refused");
    let why = refused["why"].as_str().unwrap();
    assert!(
        why.contains("2 cards are connected") && why.contains("--max-cards"),
        "{why}"
    );
    cards[0].terminate();
    let ready = terminal.expect("card-ready");
    assert_eq!(ready["iccid"], subscribers[2].iccid().to_string());
    exchanges(&mut terminal, 2);
}

#[test]
fn no_two_identities_of_many_cards_share_a_source_port() {
    const CARDS: usize = 8;
    let (directory, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    cards_in(directory.path(), CARDS);
    // A server that never answers: every identity is sent again, from its own port.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let (_terminal, port) = bridge(silent.local_addr().unwrap(), state.path(), &[]);
    let _rack = rack(directory.path(), port);
    let mut ports = BTreeMap::<_, Vec<u16>>::new();
    while ports.len() < CARDS || ports.values().any(|of_one| of_one.len() < 3) {
        let mut datagram = [0; 64];
        let (length, from) = silent.recv_from(&mut datagram).unwrap();
        let poll = Poll::parse(&datagram[..length]).unwrap();
        ports.entry(poll.uid.0).or_default().push(from.port());
    }
    for of_one in ports.values_mut() {
        of_one.dedup();
        assert_eq!(of_one.len(), 1, "an identity keeps its port");
    }
    let different: BTreeSet<_> = ports.values().map(|of_one| of_one[0]).collect();
    assert_eq!(different.len(), CARDS);
}
