//! The method's figures, over the whole loop: first contact, a lost answer, a lost poll, key rotation, a stranger.
//!
//! The terminal tells what the card said; the wire shows the same to somebody who knows K.

use e2e::relay::{Loss, Plan};
use protocol::chain::Link;
use serde_json::Value;

use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal;
use crate::parts::whole::Whole;
use crate::parts::wire::{Wire, open};

/// Sent and Resend_Counter of an exchange.
fn counters(exchange: &Value) -> (u64, u64) {
    let number = |name: &str| exchange[name].as_u64().expect("a number");
    (number("sent"), number("resend_counter"))
}

fn losing(up: &[u64], down: &[u64]) -> Plan {
    Plan {
        up: Loss::of_numbers(up.iter().copied()),
        down: Loss::of_numbers(down.iter().copied()),
    }
}

#[test]
fn first_contact_leads_both_sides_to_the_same_second_identity() {
    let mut whole = Whole::start(Subscriber::named("first"), Plan::lossless());
    let exchange = whole.terminal.expect_exchange();
    assert_eq!(counters(&exchange), (1, 0));
    let first = whole.subscriber.link();
    assert_eq!(exchange["identity_before"], first.uid().short());
    let opened = open(&first, &whole.wire.answers()[0]).unwrap();
    let second = first.child(opened.uid_rand());
    assert_eq!(exchange["identity_after"], second.uid().short());
    let next = whole.terminal.expect_exchange();
    assert_eq!(next["identity_before"], second.uid().short());
    let held = whole.server.subscription(&whole.subscriber);
    assert_eq!(
        held["uid"],
        second.uid().to_string(),
        "the second poll proved the first answer"
    );
}

#[test]
fn a_lost_answer_is_sent_again_with_sent_2_and_the_same_child() {
    let mut whole = Whole::start_with(
        Subscriber::named("lost-answer"),
        losing(&[], &[1]),
        |server, subscriber| {
            server.send(subscriber, &["update-available"]);
        },
    );
    let exchange = whole.terminal.expect_exchange();
    assert_eq!(counters(&exchange), (2, 1));
    assert_eq!(
        (&exchange["answers_lost"], &exchange["polls_lost"]),
        (&1.into(), &0.into())
    );
    let (first, answers) = (whole.subscriber.link(), whole.wire.answers());
    let (lost, arrived) = (
        open(&first, &answers[0]).unwrap(),
        open(&first, &answers[1]).unwrap(),
    );
    assert_eq!((lost.sent(), arrived.sent()), (1, 2));
    assert_eq!(lost.uid_rand(), arrived.uid_rand());
    assert_eq!(lost.msg(), arrived.msg());
    let child = first.child(lost.uid_rand());
    assert_eq!(exchange["identity_after"], child.uid().short());
    whole.expect_all_delivered();
    assert_eq!(whole.terminal.acted_on().len(), 1);
    assert_eq!(whole.on_card("answers lost"), "1");
}

#[test]
fn a_lost_poll_is_counted_by_the_card_and_not_by_the_server() {
    let mut whole = Whole::start(Subscriber::named("lost-poll"), losing(&[1], &[]));
    let exchange = whole.terminal.expect_exchange();
    assert_eq!(counters(&exchange), (1, 1));
    assert_eq!(
        (&exchange["answers_lost"], &exchange["polls_lost"]),
        (&0.into(), &1.into())
    );
    let resent: Vec<_> = whole
        .wire
        .polls()
        .iter()
        .map(|poll| poll.resend_counter)
        .collect();
    assert_eq!(resent, [0, 1]);
    assert_eq!(whole.on_card("polls lost"), "1");
    let held = whole.server.subscription(&whole.subscriber);
    assert_eq!(
        (&held["sent"], &held["resend_counter"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn both_kinds_of_loss_in_a_row_are_told_apart_by_both_ends() {
    // Polls 1, 3 and 4 arrive; of their answers only the third does.
    let plan = losing(&[2], &[1, 2]);
    let mut whole = Whole::start(Subscriber::named("both"), plan);
    let exchange = whole.terminal.expect_exchange();
    assert_eq!(counters(&exchange), (3, 3));
    assert_eq!(
        (&exchange["answers_lost"], &exchange["polls_lost"]),
        (&2.into(), &1.into())
    );
    whole.terminal.expect_exchange();
    let held = whole.server.subscription(&whole.subscriber);
    assert_eq!(
        (&held["answers_lost"], &held["polls_lost"]),
        (&2.into(), &1.into())
    );
}

/// The links of the chain that the answers on the wire led the card along.
fn chain(first: Link, answers: &[Vec<u8>]) -> Vec<Link> {
    answers.iter().fold(vec![first], |mut links, answer| {
        let last = links.last().expect("never empty");
        let opened = open(last, answer)
            .expect("each answer is under the identity that the one before led to");
        links.push(last.child(opened.uid_rand()));
        links
    })
}

fn three_exchanges(mode: u8) -> Vec<Link> {
    let subscriber = Subscriber::named(&format!("mode-{mode}")).mode(mode);
    let mut whole = Whole::start(subscriber, Plan::lossless());
    (0..3).for_each(|_| drop(whole.terminal.expect_exchange()));
    chain(whole.subscriber.link(), &whole.wire.answers())
}

#[test]
fn the_key_rotates_with_every_accepted_answer_and_the_identity_in_any_case() {
    let rotated = three_exchanges(3);
    let kept = three_exchanges(2);
    for links in [&rotated, &kept] {
        assert!(links.len() >= 4);
        assert!(links.windows(2).all(|pair| pair[0].uid() != pair[1].uid()));
    }
    let same_key = |pair: &[Link]| pair[0].key().as_bytes() == pair[1].key().as_bytes();
    assert!(!rotated.windows(2).any(same_key));
    assert!(kept.windows(2).all(same_key));
}

#[test]
fn an_unknown_identity_gets_no_answer_and_is_counted() {
    let (known, stranger) = (Subscriber::named("known"), Subscriber::named("stranger"));
    let (server, directory) = (Server::knowing(&[&known]), tempfile::tempdir().unwrap());
    let wire = Wire::to(server.address(), Plan::lossless());
    let once = |subscriber: &Subscriber| {
        let image = subscriber.make_card(directory.path());
        let card = format!("image:{}", image.display());
        let program = terminal::run(&card, wire.address(), directory.path());
        let program = program.args([
            "--once",
            "--attempts",
            "3",
            "--timeout",
            "0.1",
            "--max-timeout",
            "0.1",
        ]);
        program.run()
    };
    let refused = once(&stranger);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let events = terminal::events(&refused.stdout);
    assert!(
        events
            .iter()
            .any(|event| event["event"] == "no-answer" && event["polls"] == 3)
    );
    assert_eq!(server.dropped("unknown_identity"), 3);
    assert_eq!(wire.answers().len(), 0);
    assert_eq!(once(&known).status.code(), Some(0));
}

#[test]
fn a_poll_that_nobody_answers_yet_is_answered_when_the_server_comes() {
    let mut whole = Whole::start(Subscriber::named("patient"), Plan::lossless());
    whole.terminal.expect_exchange();
    whole.server.stop();
    let silent = whole.terminal.expect("poll-sent");
    whole.server.launch();
    let exchange = whole.terminal.expect_exchange();
    assert_eq!(exchange["exchange"], silent["exchange"]);
    assert_eq!(exchange["sent"], 1);
}
