//! Home, an edge that home has named, and the way back.

use std::time::Duration;

use protocol::msg::{Object, TransportUpdate};
use reader_bridge::session::{Because, Done, Event, Via};

use crate::world::{EDGE, HOME, World};

fn to(endpoint: &'static str, lifetime: u32) -> Object<'static> {
    Object::TransportUpdate(TransportUpdate {
        endpoint: Some(endpoint),
        lifetime: Some(lifetime),
    })
}

fn at_the_edge(lifetime: u32) -> World {
    let mut world = World::new();
    world.server.queue(1, &[to(EDGE, lifetime)]);
    world.run_exchanges(1);
    world
}

fn asked(world: &World) -> Vec<&str> {
    world.polls.iter().map(|(_, to)| to.as_str()).collect()
}

#[test]
fn a_transport_update_from_home_is_followed() {
    let mut world = at_the_edge(7200);
    world.run_exchanges(3);
    assert_eq!(asked(&world), [HOME, EDGE, EDGE]);
}

#[test]
fn a_silent_edge_is_left_after_four_resends() {
    let mut world = at_the_edge(86_400);
    world.down.insert(EDGE.into());
    world.run_exchanges(2);
    assert_eq!(asked(&world), [HOME, EDGE, EDGE, EDGE, EDGE, EDGE, HOME]);
    let changed = world.events.iter().any(|event| {
        matches!(
            event,
            Event::ServerChanged {
                via: Via::Home,
                because: Because::Silence,
                ..
            }
        )
    });
    assert!(changed);
    assert_eq!(world.memory.transport, None, "and it is not remembered");
}

#[test]
fn when_its_lifetime_ends_the_way_leads_home_though_the_edge_answers() {
    let mut world = at_the_edge(1500);
    world.run_exchanges(5);
    assert_eq!(asked(&world), [HOME, EDGE, EDGE, HOME, HOME]);
}

#[test]
fn an_edge_keeps_no_card_for_more_than_a_day() {
    let mut world = at_the_edge(u32::MAX);
    world.run_for(Duration::from_secs(25 * 3600));
    let (first, last) = (world.polls[1].0, world.now);
    assert!(last.mono - first.mono > Duration::from_secs(24 * 3600));
    let home = world
        .polls
        .iter()
        .skip(1)
        .find(|(_, to)| to == HOME)
        .unwrap();
    assert!(home.0.mono - first.mono <= Duration::from_secs(24 * 3600));
}

#[test]
fn an_edge_cannot_send_a_card_further() {
    let mut world = at_the_edge(86_400);
    world.server.queue(2, &[to("trap:3", 86_400)]);
    world.run_exchanges(3);
    assert_eq!(asked(&world), [HOME, EDGE, EDGE]);
    let refused = world
        .messages()
        .find(|message| message.id == Some(2))
        .unwrap();
    assert_eq!(refused.objects[0].done, Done::NotFollowed);
}

#[test]
fn an_update_found_on_the_card_of_unknown_origin_is_not_followed() {
    let mut world = at_the_edge(86_400);
    world.memory = reader_bridge::session::Memory::default();
    world.restart();
    world.run_exchanges(2);
    assert_eq!(asked(&world), [HOME, HOME]);
}

#[test]
fn an_update_that_a_crash_kept_from_being_acted_on_is_followed_since_home_was_polled() {
    let mut whole = World::new();
    whole.server.queue(1, &[to(EDGE, 86_400)]);
    whole.run_exchanges(1);
    for at in 0..whole.actions {
        let mut world = World::new();
        world.server.queue(1, &[to(EDGE, 86_400)]);
        world.crash_at = Some(at);
        world.run("the edge is asked", |world| {
            world.polls.last().is_some_and(|(_, to)| to == EDGE)
        });
    }
}

#[test]
fn the_edge_outlives_a_restart_and_not_its_lifetime() {
    let mut world = at_the_edge(1000);
    world.restart();
    world.run_exchanges(2);
    assert_eq!(asked(&world), [HOME, EDGE]);
    world.advance(Duration::from_secs(1000));
    world.restart();
    world.run_exchanges(3);
    assert_eq!(asked(&world), [HOME, EDGE, HOME]);
}

#[test]
fn several_servers_are_asked_in_their_order() {
    let mut config = crate::world::config();
    config.homes.push("second:1".into());
    let mut world = World::with(protocol::identity::Mode::DEFAULT, config);
    world.down.insert(HOME.into());
    world.run_exchanges(2);
    assert_eq!(
        asked(&world),
        [HOME, HOME, HOME, HOME, HOME, "second:1", "second:1"]
    );
    world.down.clear();
    world.run_for(Duration::from_secs(4000));
    assert_eq!(asked(&world).last(), Some(&HOME));
}
