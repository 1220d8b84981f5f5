//! Crashes of the terminal and breaks of the way to the card, at every step of an exchange.

use protocol::msg::{Factor, Object};
use reader_bridge::session::{Done, Event};

use crate::{card::Break, world::World};

/// Two messages: one that must not be done twice, one that must be told at least once.
fn busy_world() -> World {
    let mut world = World::new();
    world.server.queue(1, &[Object::Lower(Factor::DEFAULT)]);
    world
        .server
        .queue(2, &[Object::OpenHttp(Some("https://ota.example/"))]);
    world.lose_up = Box::new(|number| number == 1);
    world.lose_down = Box::new(|number| number == 1);
    world
}

fn run(world: &mut World) {
    world.run("both delivered", |world| world.server.delivered == [1, 2]);
}

/// What must hold whatever has failed.
fn check(world: &World, what: &str) {
    assert_eq!(
        world.interval(),
        1200,
        "{what}: the interval was doubled once"
    );
    let told = world
        .messages()
        .filter(|message| message.id == Some(2) && !message.duplicate);
    assert!(
        told.count() >= 1,
        "{what}: what others act on is told at least once"
    );
    assert_eq!(world.memory.last_message, 2, "{what}");
    let acted = world
        .messages()
        .filter(|message| message.id == Some(1))
        .flat_map(|message| &message.objects)
        .filter(|object| object.done == Done::Acted);
    assert!(acted.count() >= 1, "{what}");
}

#[test]
fn a_terminal_that_dies_before_any_action_loses_nothing_and_does_nothing_twice() {
    let mut whole = busy_world();
    run(&mut whole);
    let actions = whole.actions;
    assert!(actions > 30, "{actions} actions");
    for at in 0..actions {
        let mut world = busy_world();
        world.crash_at = Some(at);
        run(&mut world);
        check(&world, &format!("crash before action {at}"));
    }
}

#[test]
fn a_way_to_the_card_that_breaks_at_any_command_loses_nothing_and_does_nothing_twice() {
    let mut whole = busy_world();
    run(&mut whole);
    let commands = whole.cues.commands();
    assert!(commands > 10, "{commands} commands");
    for how in [Break::Before, Break::After] {
        for at in 0..commands {
            let mut world = busy_world();
            world.cues.break_at(at, how);
            run(&mut world);
            check(&world, &format!("{how:?} command {at}"));
        }
    }
}

#[test]
fn an_answer_that_broke_on_its_way_to_the_card_is_given_again_only_if_it_was_not_executed() {
    for how in [Break::Before, Break::After] {
        let mut world = World::new();
        world.server.queue(1, &[Object::Lower(Factor::DEFAULT)]);
        // SELECT and GET DATA 5A; GET DATA E1 and GET-UID; GET-UID; then PROCESS-RESPONSE.
        let process = world.cues.commands() + 3;
        world.cues.break_at(process, how);
        world.run_exchanges(1);
        assert_eq!(world.cues.given(), 1, "{how:?}");
        assert_eq!(
            world.polls.len(),
            1,
            "{how:?}: nothing had to be sent again"
        );
        assert_eq!(world.interval(), 1200);
    }
}

#[test]
fn a_card_that_is_reset_under_the_session_still_takes_the_answer() {
    let mut world = World::new();
    world.server.queue(1, &[Object::Lower(Factor::DEFAULT)]);
    world.run("the poll has left", |world| world.polls.len() == 1);
    // Somebody else's reset closes the poll; this session is told only by the status word 6985.
    world.reset_quietly();
    world.run_exchanges(1);
    assert_eq!(world.polls.len(), 1);
    assert_eq!(world.interval(), 1200);
}

#[test]
fn a_count_that_was_raised_before_the_way_broke_is_not_raised_again() {
    for how in [Break::Before, Break::After] {
        let mut world = World::new();
        world.lose_up = Box::new(|number| number == 0);
        world.run("the poll has left", |world| world.polls.len() == 1);
        // GET-UID with P1 = 01 comes next.
        world.cues.break_at(world.cues.commands(), how);
        world.run_exchanges(1);
        let done = world.exchanges().next().unwrap();
        assert_eq!((done.resend_counter, done.polls_lost), (1, 1), "{how:?}");
    }
}

#[test]
fn the_recovery_identity_is_never_taken_for_an_answer() {
    let silent = |crash_at| {
        let mut world = World::new();
        world.server.queue(1, &[Object::Lower(Factor::DEFAULT)]);
        world.run_exchanges(1);
        world.lose_up = Box::new(|number| number < 28);
        world.crash_at = crash_at;
        world.run_exchanges(2);
        world
    };
    let actions = silent(None).actions;
    for at in actions - 60..actions {
        let world = silent(Some(at));
        let counts: Vec<_> = world.exchanges().map(|done| done.resend_counter).collect();
        // The last one is told again if the crash came between telling and remembering.
        let right = counts[0] == 0 && counts[1..].iter().all(|count| (27..=29).contains(count));
        assert!(right, "crash before action {at}: {counts:?}");
    }
}

#[test]
fn an_outcome_that_was_never_acted_on_is_read_before_the_first_poll() {
    let mut world = World::new();
    world.server.queue(1, &[Object::Lower(Factor::DEFAULT)]);
    world.run_exchanges(1);
    // Another terminal's memory: this one has never seen the card.
    world.memory = reader_bridge::session::Memory::default();
    world.events.clear();
    let polls = world.polls.len();
    world.restart();
    world.run("the pending message", |world| world.messages().count() == 1);
    assert_eq!(world.polls.len(), polls);
    let message = world.messages().next().unwrap();
    assert!(message.pending && message.id == Some(1));
}

#[test]
fn a_message_that_is_not_newer_is_told_and_not_acted_on() {
    let mut world = World::new();
    world.server.queue(5, &[Object::Lower(Factor::DEFAULT)]);
    world.server.queue(5, &[Object::Lower(Factor::DEFAULT)]);
    world.server.queue(4, &[Object::Lower(Factor::DEFAULT)]);
    world.run_exchanges(4);
    assert_eq!(world.interval(), 1200);
    assert_eq!(
        world.messages().filter(|message| message.duplicate).count(),
        2
    );
}

#[test]
fn a_message_that_cannot_be_read_is_told_and_the_chain_goes_on() {
    let mut world = World::new();
    world.server.queue_raw(1, &[]);
    world.server.queue_raw(2, &[0xFF, 0xFF]);
    world.server.queue_raw(3, &[0x82, 0x00]);
    world.server.queue(4, &[Object::Lower(Factor::DEFAULT)]);
    world.run("all delivered", |world| {
        world.server.delivered == [1, 2, 3, 4]
    });
    assert_eq!(
        world
            .messages()
            .filter(|message| message.error.is_some())
            .count(),
        3
    );
    assert_eq!(world.interval(), 1200);
    assert!(world.exchanges().take(2).all(|done| done.not_done));
}

#[test]
fn one_bad_object_does_not_hide_the_others() {
    let mut world = World::new();
    // Id 1, a factor of 0 %, a factor of 200 %.
    world
        .server
        .queue_raw(1, &[0x81, 4, 0, 0, 0, 1, 0x86, 2, 0, 0, 0x86, 0]);
    world.run_exchanges(1);
    let message = world.messages().next().unwrap();
    let done: Vec<_> = message.objects.iter().map(|object| object.done).collect();
    assert_eq!(done, [Done::NotFollowed, Done::Acted]);
    assert_eq!(world.interval(), 1200);
}

#[test]
fn identities_are_told_by_four_bytes_only() {
    let mut world = busy_world();
    run(&mut world);
    let told = format!("{:?}", world.events);
    assert!(!told.contains(&world.server.current().to_string()));
    for event in &world.events {
        if let Event::PollSent { identity, .. } = event {
            assert_eq!(identity.len(), 8);
        }
    }
}
