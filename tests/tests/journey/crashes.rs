//! The server killed in the middle of its work, and started again: nothing that anybody was promised is lost.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::parts::server::Server;
use crate::parts::soft_card::SoftCard;
use crate::parts::subscriber::Subscriber;

const CARDS: u8 = 6;
const KILLS: usize = 4;

#[test]
fn killed_again_and_again_under_polls_it_loses_no_identity_and_repeats_no_message() {
    let subscribers: Vec<_> = (0..CARDS)
        .map(|number| Subscriber::named(&format!("card-{number}")).mode(number % 4))
        .collect();
    let mut server = Server::knowing(&subscribers.iter().collect::<Vec<_>>());
    let address = server.address();
    let over = AtomicBool::new(false);
    let queued = std::thread::scope(|scope| {
        let polling = subscribers.iter().map(|subscriber| {
            let over = &over;
            scope.spawn(move || poll_until(over, SoftCard::of(subscriber, address)))
        });
        let polling: Vec<_> = polling.collect();
        let queued = kill_and_queue(&mut server, &subscribers);
        over.store(true, Ordering::Release);
        let executed = polling
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        executed.zip(queued).collect::<Vec<_>>()
    });
    for (subscriber, (executed, queued)) in subscribers.iter().zip(queued) {
        assert_eq!(executed, queued, "{}", subscriber.reference);
        let states = server.message_states(subscriber);
        assert!(
            states.iter().all(|(_, state)| state == "delivered"),
            "{states:?}"
        );
    }
}

/// Kills the server, and after each start queues a message for each; returns the ids that it acknowledged.
fn kill_and_queue(server: &mut Server, subscribers: &[Subscriber]) -> Vec<Vec<u64>> {
    let mut queued = vec![Vec::new(); subscribers.len()];
    for _ in 0..KILLS {
        for (subscriber, ids) in subscribers.iter().zip(&mut queued) {
            ids.push(server.send(subscriber, &["update-available"]));
        }
        server.process().expect_line("message delivered");
        server.kill();
        server.launch();
    }
    queued
}

/// Exchanges until told that it is over, and then until there is nothing to do; returns what was executed.
fn poll_until(over: &AtomicBool, mut card: SoftCard) -> Vec<u64> {
    loop {
        let last = over.load(Ordering::Acquire);
        let before = card.executed.len();
        card.insist();
        if last && card.executed.len() == before {
            // One more poll tells the server that the last answer was accepted.
            card.insist();
            return card.executed;
        }
    }
}

#[test]
fn killed_between_answer_and_next_poll_it_still_knows_the_child() {
    let one = Subscriber::named("one");
    let mut server = Server::knowing(&[&one]);
    let mut card = SoftCard::of(&one, server.address());
    for _ in 0..3 {
        let id = server.send(&one, &["connect"]);
        card.exchange();
        assert_eq!(card.executed.last(), Some(&id));
        server.kill();
        server.launch();
        card.exchange();
        assert_eq!(
            server.message_states(&one).last(),
            Some(&(id, "delivered".to_owned()))
        );
    }
}

#[test]
fn the_answer_after_a_kill_leads_to_the_same_child_as_the_one_before() {
    let one = Subscriber::named("one");
    let mut server = Server::knowing(&[&one]);
    let mut card = SoftCard::of(&one, server.address());
    server.send(&one, &["connect"]);
    card.poll();
    let before = card.receive();
    server.kill();
    server.launch();
    card.give_up();
    card.poll();
    let after = card.receive();
    assert_eq!(card.open(&before).uid_rand(), card.open(&after).uid_rand());
    assert_eq!(card.open(&before).msg(), card.open(&after).msg());
    card.accept(&before);
    card.exchange();
    assert_eq!(card.executed.len(), 1);
}
