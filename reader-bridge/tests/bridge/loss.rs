//! Datagrams that are lost, forged, or come too often.

use std::time::Duration;

use proptest::prelude::*;
use protocol::{
    chain::Link,
    identity::Mode,
    key::Key,
    msg::{Factor, Object},
};
use reader_bridge::session::{End, Event, Input, MAX_REFUSED, Occasion, Reply};

use crate::{
    card::Subscription,
    server::Server,
    world::{World, config},
};

const UPDATE: Object<'static> = Object::UpdateAvailable(Some("fw 7"));

#[test]
fn first_contact_in_all_modes() {
    for mode in 0..4 {
        let mut world = World::with(Mode::from_byte(mode).unwrap(), config());
        world.server.queue(10, &[UPDATE]);
        world.run_exchanges(2);
        let first = world.exchanges().next().unwrap();
        assert_eq!((first.sent, first.resend_counter), (1, 0));
        assert_ne!(first.identity_before, first.identity_after);
        assert_eq!(world.server.delivered, [10]);
        assert_eq!(world.messages().count(), 1);
    }
}

#[test]
fn a_lost_poll_is_sent_again_and_counted_as_lost_on_the_way_up() {
    let mut world = World::new();
    world.lose_up = Box::new(|number| number < 2);
    world.run_exchanges(1);
    let done = world.exchanges().next().unwrap();
    assert_eq!((done.sent, done.resend_counter), (1, 2));
    assert_eq!((done.polls_lost, done.answers_lost), (2, 0));
}

#[test]
fn a_lost_answer_comes_again_and_is_counted_as_lost_on_the_way_down() {
    let mut world = World::new();
    world.server.queue(10, &[UPDATE]);
    world.lose_down = Box::new(|number| number < 3);
    world.run_exchanges(1);
    let done = world.exchanges().next().unwrap();
    assert_eq!((done.sent, done.resend_counter), (4, 3));
    assert_eq!((done.polls_lost, done.answers_lost), (0, 3));
}

#[test]
fn resends_back_off() {
    let mut world = World::new();
    world.lose_up = Box::new(|number| number < 6);
    world.run_exchanges(1);
    let left: Vec<_> = world.polls.iter().map(|(now, _)| now.mono).collect();
    let waits: Vec<_> = left
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    for (wait, expected) in waits.iter().zip([2.0, 4.0, 8.0, 16.0, 32.0, 64.0]) {
        assert!(
            (expected * 0.8..=expected * 1.2 + 0.1).contains(wait),
            "{waits:?}"
        );
    }
}

#[test]
fn a_card_is_given_at_most_eight_foreign_answers_per_poll() {
    let stranger = Subscription::new(Mode::DEFAULT);
    let mut world = World::new();
    // Of the right form, and under a key that is not the card's.
    let key = Key::from_bytes(&[9; 16]).unwrap();
    let link = Link::first(&key, stranger.uid_1(), Mode::DEFAULT);
    let forged = Server::with_key(&stranger, &key)
        .answer(link.poll(0).as_bytes())
        .unwrap();
    world.forged = vec![forged; 20];
    world.run("given up on", |world| {
        world.cues.given() == usize::from(MAX_REFUSED)
    });
    world.forged.clear();
    world.run("asked again", |world| world.polls.len() == 2);
    assert_eq!(
        world.cues.given(),
        usize::from(MAX_REFUSED),
        "the real answer drowned"
    );
    world.run_exchanges(1);
    assert_eq!(world.cues.given(), usize::from(MAX_REFUSED) + 1);
    assert_eq!(world.exchanges().next().unwrap().resend_counter, 1);
}

#[test]
fn what_cannot_be_an_answer_never_reaches_the_card() {
    let mut world = World::new();
    world.forged = vec![
        vec![],
        vec![0x81; 26],
        vec![0x80; 40],
        vec![0x81; 256],
        vec![0x11; 12],
    ];
    world.run_exchanges(1);
    assert_eq!(world.cues.given(), 1);
    assert_eq!(world.exchanges().next().unwrap().resend_counter, 0);
}

#[test]
fn a_flipped_answer_ends_nothing() {
    let mut world = World::new();
    let mut flipped = world.first_answer();
    flipped[20] ^= 1;
    world.forged = vec![flipped];
    world.run_exchanges(1);
    assert_eq!(world.cues.given(), 2);
    let refused = world
        .events
        .iter()
        .any(|event| matches!(event, Event::AnswerRefused { status, .. } if status == "9862"));
    assert!(refused);
}

#[test]
fn a_duplicated_answer_is_executed_once() {
    let mut world = World::new();
    world.server.queue(10, &[Object::Lower(Factor::DEFAULT)]);
    let first = world.first_answer();
    world.forged = vec![first.clone(), first];
    world.run_exchanges(1);
    world.forged.clear();
    world.run_exchanges(3);
    assert_eq!(world.interval(), 1200);
}

#[test]
fn after_a_servers_loss_of_the_chain_the_recovery_identity_leads_back() {
    let mut world = World::new();
    world.run_exchanges(1);
    world.server.forget_chain();
    world.server.queue(77, &[UPDATE]);
    world.run("delivered", |world| world.server.delivered == [77]);
    let recovered = world.exchanges().nth(1).unwrap();
    assert_eq!(recovered.resend_counter, 24);
}

#[test]
fn once_gives_up_after_its_attempts_and_the_next_run_knows_of_the_silence() {
    let mut world = World::with(
        Mode::DEFAULT,
        reader_bridge::session::Config {
            once: Some(3),
            ..config()
        },
    );
    world.lose_up = Box::new(|number| number < 3);
    world.run("the end", |world| world.end.is_some());
    let expected = End::NoAnswer {
        polls: 3,
        to: "home:1".into(),
    };
    assert_eq!(world.end, Some(expected));
    world.restart();
    world.run("the end", |world| world.end.is_some());
    assert_eq!(world.end, Some(End::Done));
    let done = world.exchanges().next().unwrap();
    assert_eq!(
        (done.sent, done.resend_counter),
        (1, 3),
        "P1 = 01 also after a restart"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is lost, each message is executed once, in order, and both counters tell the loss.
    #[test]
    fn every_message_arrives_once_over_any_loss(
        up in proptest::collection::vec(0u8..10, 64),
        down in proptest::collection::vec(0u8..10, 64),
        loss in 0u8..7,
    ) {
        let mut world = World::new();
        for id in 1..=4 {
            world.server.queue(id, &[Object::Lower(Factor::new(150).unwrap()), UPDATE]);
        }
        world.lose_up = Box::new(move |number| up[number % 64] < loss);
        world.lose_down = Box::new(move |number| down[number % 64] < loss);
        world.run("all delivered", |world| world.server.delivered == [1, 2, 3, 4]);
        let ids: Vec<_> = world.messages().map(|message| message.id.unwrap()).collect();
        prop_assert_eq!(ids, [1, 2, 3, 4]);
        prop_assert!(world.messages().all(|message| !message.duplicate));
        prop_assert_eq!(world.interval(), 600 * 3 / 2 * 3 / 2 * 3 / 2 * 3 / 2);
        for done in world.exchanges() {
            prop_assert_eq!(u32::from(done.resend_counter) + 1, done.polls_lost + u32::from(done.sent));
        }
    }

    /// No sequence of inputs, however senseless, ends in a panic or leaves the session asleep with a
    /// card that is there.
    #[test]
    fn no_inputs_in_any_order_panic(
        inputs in proptest::collection::vec((0u8..9, proptest::collection::vec(any::<u8>(), 0..60), 0u64..4000), 1..80),
    ) {
        let mut world = World::new();
        for (kind, bytes, seconds) in inputs {
            world.advance(Duration::from_secs(seconds));
            match kind {
                0 => world.input(Input::CardGone),
                1 => world.input(Input::CardReady { inserted: seconds % 2 == 0 }),
                2 => world.input(Input::Datagram(&bytes)),
                3 => world.input(Input::Card(Reply::Nonsense("?".into()))),
                4 => world.input(Input::Card(Reply::Outcome(None))),
                5 => world.input(Input::Card(Reply::Refused([0x65, 0x81].into()))),
                6 => world.wake(Occasion::HostRequest),
                7 => world.wake(Occasion::NetworkChange),
                _ => world.input(Input::Time),
            }
            for _ in 0..seconds % 7 {
                if let Some(action) = world.session.next_action() { drop(action); }
            }
        }
        while world.session.next_action().is_some() {}
        world.insert(false);
        world.run_exchanges(1);
    }
}
