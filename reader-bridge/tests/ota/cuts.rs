//! Whatever breaks, and wherever: no command is executed twice, nothing that was answered is lost without being told,
//! and the session ends.

use protocol::msg::KeyAlgorithm;
use reader_bridge::ota::Ended;

use crate::{
    server::Delivered,
    world::{Break, URL, World, script, wish},
};

const KEYS: [(KeyAlgorithm, u8); 1] = [(KeyAlgorithm::Ed25519, 2)];

fn world() -> World {
    let mut world = World::with(&[script(&[1, 2, 3]), script(&[4]), script(&[5, 6])]);
    world.options.hook = true;
    world.restart();
    world.message(wish(7, URL, None, &KEYS));
    world
}

fn assert_nothing_twice(world: &World, context: &str) {
    let mut executed = world.executed.clone();
    executed.sort();
    executed.dedup();
    assert_eq!(
        executed.len(),
        world.executed.len(),
        "{context}: executed twice"
    );
}

/// Every command was executed and answered, or the server was told that nobody knows.
fn assert_server_knows(world: &World, context: &str) {
    for (step, sent) in [3, 1, 2].into_iter().enumerate() {
        let Delivered {
            status,
            answer,
            cut,
        } = &world.server.delivered[&step];
        let answer = answer.as_ref().unwrap();
        assert_eq!(status, "ok", "{context}");
        let cut: Option<usize> = cut.as_ref().map(|cut| cut.parse().unwrap());
        match cut {
            None => assert_eq!(answer.answers.len(), sent, "{context}"),
            Some(cut) => assert_eq!(answer.answers.len() + 1, cut, "{context}"),
        }
        assert_eq!(
            usize::try_from(answer.executed).unwrap(),
            answer.answers.len()
        );
        assert!(
            answer
                .answers
                .iter()
                .all(|answer| answer.ends_with(&[0x90, 0x00]))
        );
    }
}

#[test]
fn a_session_goes_from_the_message_to_204() {
    let mut world = world();
    world.run();
    assert_eq!(world.ended(), [(7, Ended::Done)]);
    assert_eq!(world.executed.len(), 6);
    assert_server_knows(&world, "uncut");
    let urls: Vec<_> = world
        .server
        .seen
        .iter()
        .map(|(url, _)| url.as_str())
        .collect();
    assert_eq!(urls, ["/start", "/start", "/1", "/2", "/3"]);
    assert!(world.server.seen.iter().all(|(_, resumed)| !resumed));
    assert_eq!(world.server.proved, 4);
    assert_eq!(world.hooks, [7]);
    assert!(
        world.disk.jobs.is_empty() && world.disk.owed.is_empty() && world.disk.hooks.is_empty()
    );
    world.assert_card_is_as_before();
}

#[test]
fn cut_anywhere_nothing_is_executed_twice_and_the_session_ends() {
    for how in [
        Break::CrashBefore,
        Break::CrashAfter,
        Break::Before,
        Break::After,
    ] {
        for at in 0.. {
            let context = format!("{how:?} at {at}");
            let mut world = world();
            world.cut = Some((at, how));
            world.run();
            if world.done <= at {
                assert!(
                    at > 20,
                    "the session was cut at every thing that is done in it"
                );
                break;
            }
            // A message that was not on disk comes again: the card still has it.
            if world.ended().is_empty() {
                world.message(wish(7, URL, None, &KEYS));
                world.run();
            }
            assert_nothing_twice(&world, &context);
            assert_server_knows(&world, &context);
            assert!(
                world.ended().contains(&(7, Ended::Done)),
                "{context}: {:?}",
                world.deeds
            );
            assert!(world.hooks.contains(&7), "{context}");
            assert!(world.disk.jobs.is_empty(), "{context}");
            // It never comes twice.
            let (posts, told) = (world.server.seen.len(), world.hooks.len());
            world.message(wish(7, URL, None, &KEYS));
            world.run();
            assert_eq!(
                (world.server.seen.len(), world.hooks.len()),
                (posts, told),
                "{context}"
            );
        }
    }
}

#[test]
fn cut_at_every_pair_of_places_too() {
    for first in 0..40 {
        for (how, then) in [
            (Break::After, Break::CrashAfter),
            (Break::CrashBefore, Break::After),
        ] {
            let mut world = world();
            world.cut = Some((first, how));
            let context = format!("{how:?} at {first}, then {then:?}");
            // The second cut comes right after the first has been dealt with.
            world.run_to(first + 3);
            world.cut = Some((first + 3, then));
            world.run();
            if world.ended().is_empty() {
                world.message(wish(7, URL, None, &KEYS));
                world.run();
            }
            assert_nothing_twice(&world, &context);
            assert!(
                world.ended().contains(&(7, Ended::Done)),
                "{context}: {:?}",
                world.deeds
            );
        }
    }
}

#[test]
fn what_was_sent_once_is_sent_again_with_the_mark_and_the_same_answers() {
    let mut world = world();
    // The third POST brings the answers to the first string.
    let mut posts = 0;
    for at in 0.. {
        world = super::cuts::world();
        world.cut = Some((at, Break::After));
        world.run();
        posts = world
            .server
            .seen
            .iter()
            .filter(|(url, _)| url == "/1")
            .count();
        if posts == 2 {
            break;
        }
    }
    assert_eq!(posts, 2);
    let marks: Vec<_> = world
        .server
        .seen
        .iter()
        .filter(|(url, _)| url == "/1")
        .collect();
    assert!(!marks[0].1 && marks[1].1, "{marks:?}");
    assert_nothing_twice(&world, "answers sent twice");
}

#[test]
fn a_card_that_goes_between_two_commands_leaves_the_rest_undone_and_the_server_is_told() {
    let mut world = World::with(&[script(&[1, 2, 3])]);
    world.message(wish(7, URL, None, &[]));
    world.cut = None;
    // Until the second command is to be given to the card.
    while world.executed.is_empty() {
        let next = world.done + 1;
        world.run_to(next);
    }
    world.cut = Some((world.done + 1, Break::After));
    world.run();
    assert!(world.was_cut);
    assert_eq!(world.executed.len(), 2);
    let delivered = &world.server.delivered[&0];
    assert_eq!(delivered.cut.as_deref(), Some("2"));
    assert_eq!(delivered.answer.as_ref().unwrap().executed, 1);
    assert_eq!(world.ended(), [(7, Ended::Done)]);
}
