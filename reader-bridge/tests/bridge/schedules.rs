//! When polls leave: intervals, quiet windows, events, restarts, clocks that are set.

use std::time::Duration;

use protocol::{
    identity::Mode,
    msg::{Events, Object, PollingRules, QuietWindow},
};
use reader_bridge::session::{Config, Event, Occasion, Schedule};

use crate::world::{MIDNIGHT, World, config};

const HOUR: u64 = 3600;

fn with(schedule: Schedule) -> World {
    World::with(
        Mode::DEFAULT,
        Config {
            schedule,
            ..config()
        },
    )
}

fn gaps(world: &World) -> Vec<u64> {
    let left: Vec<_> = world.polls.iter().map(|(now, _)| now.mono).collect();
    left.windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect()
}

#[test]
fn polls_leave_at_the_interval_and_messages_change_it() {
    let mut world = World::new();
    world.run_exchanges(3);
    let rules = PollingRules {
        interval: Some(100),
        ..PollingRules::default()
    };
    world.server.queue(1, &[Object::PollingRules(rules)]);
    world.run_exchanges(6);
    assert_eq!(gaps(&world), [600, 600, 600, 100, 100]);
}

#[test]
fn no_poll_leaves_in_the_quiet_window_not_even_over_midnight() {
    let quiet = QuietWindow {
        start: 22 * 60,
        length: 8 * 60,
    };
    let mut world = with(Schedule {
        quiet: Some(quiet),
        jitter: 20,
        ..config().schedule
    });
    world.run_for(Duration::from_secs(5 * 24 * HOUR));
    assert!(world.polls.len() > 300, "{}", world.polls.len());
    for (now, _) in &world.polls {
        assert_eq!(
            quiet.remaining(now.wall),
            0,
            "a poll at {}",
            now.wall % (24 * HOUR)
        );
    }
}

#[test]
fn resends_respect_the_quiet_window() {
    let quiet = QuietWindow {
        start: 13 * 60,
        length: 60,
    };
    let mut world = with(Schedule {
        quiet: Some(quiet),
        ..config().schedule
    });
    world.down.insert(crate::world::HOME.into());
    world.run_for(Duration::from_secs(3 * HOUR));
    assert!(
        world
            .polls
            .iter()
            .all(|(now, _)| quiet.remaining(now.wall) == 0)
    );
    assert!(
        world
            .polls
            .iter()
            .any(|(now, _)| now.wall > MIDNIGHT + 14 * HOUR)
    );
}

#[test]
fn a_poll_on_request_leaves_at_once_even_in_the_quiet_window() {
    let quiet = QuietWindow {
        start: 12 * 60 + 30,
        length: 600,
    };
    let mut world = with(Schedule {
        quiet: Some(quiet),
        ..config().schedule
    });
    world.run_exchanges(1);
    world.advance(Duration::from_secs(HOUR));
    world.wake(Occasion::HostRequest);
    let asked = world.now;
    world.run_exchanges(2);
    assert_eq!(world.polls[1].0.mono, asked.mono);
}

#[test]
fn the_rules_can_forbid_polls_on_request() {
    let mut world = World::new();
    let rules = PollingRules {
        events: Some(Events(Events::POWER_ON)),
        ..PollingRules::default()
    };
    world.server.queue(1, &[Object::PollingRules(rules)]);
    world.run_exchanges(1);
    world.wake(Occasion::HostRequest);
    world.run_exchanges(2);
    assert_eq!(gaps(&world), [600]);
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::RequestRefused { .. }))
    );
}

#[test]
fn events_ask_for_polls_no_sooner_than_the_floor() {
    let mut world = World::new();
    world.run_exchanges(1);
    world.advance(Duration::from_secs(10));
    world.wake(Occasion::NetworkChange);
    world.run_exchanges(2);
    assert_eq!(gaps(&world), [60]);
    world.advance(Duration::from_secs(30));
    world.insert(true);
    world.run_exchanges(3);
    assert_eq!(gaps(&world), [60, 60], "power-on");
}

#[test]
fn without_events_the_schedule_is_kept_over_restarts() {
    let mut world = with(Schedule {
        events: Events(0),
        ..config().schedule
    });
    world.run_exchanges(1);
    for _ in 0..5 {
        world.advance(Duration::from_secs(100));
        world.restart();
        world.step();
    }
    world.run_exchanges(2);
    let [gap] = gaps(&world)[..] else { panic!() };
    assert!((599..=601).contains(&gap), "{gap}");
}

#[test]
fn a_clock_that_is_set_moves_no_poll() {
    for wall in [0, MIDNIGHT * 2] {
        let mut world = World::new();
        world.run_exchanges(1);
        world.now.wall = wall;
        world.run_exchanges(3);
        assert_eq!(gaps(&world), [600, 600]);
    }
}

#[test]
fn a_clock_set_back_over_a_restart_delays_a_poll_by_no_more_than_the_schedule() {
    let mut world = with(Schedule {
        events: Events(0),
        ..config().schedule
    });
    world.run_exchanges(1);
    world.now.wall -= 100 * 24 * HOUR;
    world.restart();
    world.run_exchanges(2);
    assert!(gaps(&world)[0] <= 1200, "{:?}", gaps(&world));
}

#[test]
fn a_machine_that_slept_polls_when_it_wakes() {
    let mut world = World::new();
    world.run_exchanges(1);
    world.advance(Duration::from_secs(100_000));
    world.run_exchanges(2);
    assert_eq!(gaps(&world), [100_000]);
}
