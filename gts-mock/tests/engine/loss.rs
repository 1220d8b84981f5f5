//! What happens when the server has lost state: kill, power cut, restore of a backup, recovery.

use gts_mock::{
    engine::{QueueRefused, counters::Dropped},
    store::MessageState,
};
use protocol::msg::Object;

use crate::world::{Device, World};

const UPDATE: Object<'static> = Object::UpdateAvailable(None);

/// Polls until an answer is accepted; returns how many polls it took.
fn poll_until_accepted(world: &mut World, device: &mut Device) -> u32 {
    for polls in 1..=40 {
        let poll = device.poll();
        world.wait(1);
        if let Ok(answer) = world.receive(&poll)
            && device.accept(answer.datagram.as_bytes()).is_some()
        {
            return polls;
        }
    }
    panic!("no answer was accepted in 40 polls");
}

fn subscription_e(world: &World) -> u32 {
    world.subscription().e
}

#[test]
fn a_killed_server_loses_nothing() {
    let (mut world, mut device) = World::with_device(3);
    let id = world.queue(UPDATE).unwrap();
    for _ in 0..4 {
        world.exchange(&mut device);
        world.kill();
    }
    assert_eq!(device.executed, [id]);
    assert_eq!(world.message(id), MessageState::Delivered);
}

#[test]
fn a_power_cut_that_takes_a_promotion_is_walked_without_a_lost_poll() {
    let (mut world, mut device) = World::with_device(3);
    world.exchange(&mut device);
    world.sync();
    world.exchange(&mut device);
    world.power_cut();
    assert_eq!(poll_until_accepted(&mut world, &mut device), 1);
    assert_eq!(poll_until_accepted(&mut world, &mut device), 1);
    assert_eq!(
        world.written.generation(),
        world.epoch.generation,
        "certain again"
    );
    assert_eq!(device.recovery.e(), 0);
}

#[test]
fn a_device_that_polls_once_between_two_power_cuts_is_found() {
    let (mut world, mut device) = World::with_device(3);
    world.exchange(&mut device);
    world.sync();
    for _ in 0..6 {
        world.wait(3600);
        world.exchange(&mut device);
        world.wait(3600);
        world.power_cut();
    }
    assert_eq!(poll_until_accepted(&mut world, &mut device), 1);
    assert_eq!(device.recovery.e(), 0);
}

#[test]
fn a_restored_server_finds_a_device_up_to_seven_promotions_ahead() {
    for ahead in 0..=7 {
        for message_at in [None, Some(0), Some(3), Some(6)] {
            let (mut world, mut device) = World::with_device(3);
            world.exchange(&mut device);
            let id = world.queue(UPDATE).unwrap();
            let backup = world.written.clone();
            if message_at != Some(0) {
                world.cancel(id).unwrap();
            }
            for _ in 0..ahead {
                world.exchange(&mut device);
            }
            world.wait(500);
            world.restore(&backup);
            assert_eq!(
                poll_until_accepted(&mut world, &mut device),
                1,
                "{ahead} {message_at:?}"
            );
            assert_eq!(poll_until_accepted(&mut world, &mut device), 1);
            poll_until_accepted(&mut world, &mut device);
            assert_eq!(device.executed, [id], "executed before or after, but once");
            assert_eq!(world.message(id), MessageState::DeliveredOrSuperseded);
        }
    }
}

#[test]
fn a_delivery_found_on_a_walk_is_reported_once() {
    let (mut world, mut device) = World::with_device(3);
    world.exchange(&mut device);
    world.queue(UPDATE).unwrap();
    let backup = world.written.clone();
    let mut recorded = Vec::new();
    for _ in 0..5 {
        let poll = device.poll();
        recorded.push(poll.clone());
        let answer = world.receive(&poll).unwrap();
        device.accept(answer.datagram.as_bytes()).unwrap();
    }
    world.wait(500);
    world.restore(&backup);
    let deliveries = recorded.iter().filter(|poll| {
        let answer = world.receive(poll);
        answer.is_ok_and(|answer| answer.delivered.is_some())
    });
    assert_eq!(deliveries.count(), 1);
    assert_eq!(world.engine.counters.delivered, 1);
}

#[test]
fn a_device_further_ahead_comes_back_by_its_recovery_identity() {
    let (mut world, mut device) = World::with_device(3);
    let backup = world.written.clone();
    for _ in 0..20 {
        world.exchange(&mut device);
    }
    world.wait(500);
    world.restore(&backup);
    assert_eq!(poll_until_accepted(&mut world, &mut device), 25);
    assert_eq!(poll_until_accepted(&mut world, &mut device), 1);
    assert_eq!((device.recovery.e(), subscription_e(&world)), (1, 1));
    for _ in 0..3 {
        assert_eq!(poll_until_accepted(&mut world, &mut device), 1);
    }
    assert_eq!(world.written.generation(), world.epoch.generation);
}

#[test]
fn a_device_that_recovered_after_the_backup_is_found_too() {
    let (mut world, mut device) = World::with_device(3);
    let backup = world.written.clone();
    for _ in 0..3 {
        // An identity that nobody knows: the chain is broken.
        device.link = device.link.child(protocol::identity::UidRand([3; 8]));
        assert_eq!(poll_until_accepted(&mut world, &mut device), 25);
        world.exchange(&mut device);
    }
    assert_eq!(subscription_e(&world), 3);
    world.wait(500);
    world.restore(&backup);
    let polls = poll_until_accepted(&mut world, &mut device);
    assert!(polls <= 25, "{polls}");
    world.exchange(&mut device);
    world.exchange(&mut device);
    assert_eq!(device.recovery.e(), subscription_e(&world));
}

#[test]
fn after_a_restore_nothing_is_queued_for_a_minute_and_ids_do_not_repeat() {
    let (mut world, mut device) = World::with_device(3);
    let backup = world.written.clone();
    for _ in 0..60 {
        world.queue(UPDATE).unwrap();
    }
    for _ in 0..60 {
        world.exchange(&mut device);
    }
    world.restore(&backup);
    assert_eq!(world.queue(UPDATE), Err(QueueRefused::Wait(61)));
    world.wait(61);
    let id = world.queue(UPDATE).unwrap();
    assert!(device.executed.iter().all(|executed| *executed < id));
}

#[test]
fn a_recorded_poll_replayed_after_a_restore_leads_nowhere_the_device_cannot_follow() {
    let (mut world, mut device) = World::with_device(3);
    let backup = world.written.clone();
    let mut recorded = Vec::new();
    for _ in 0..6 {
        let poll = device.poll();
        recorded.push(poll.clone());
        let answer = world.receive(&poll).unwrap();
        device.accept(answer.datagram.as_bytes()).unwrap();
    }
    world.wait(500);
    world.restore(&backup);
    for poll in &recorded {
        // An attacker sends what it has heard; whatever the server makes of it, the device is found.
        let _ = world.receive(poll);
        world.wait(2);
    }
    assert_eq!(poll_until_accepted(&mut world, &mut device), 1);
    world.exchange(&mut device);
    for poll in &recorded {
        assert_eq!(world.receive(poll).unwrap_err(), Dropped::UnknownIdentity);
    }
}

#[test]
fn a_recovery_identity_is_answered_without_any_change_until_its_child_polls() {
    let (mut world, mut device) = World::with_device(3);
    let id = world.queue(UPDATE).unwrap();
    while device.count < 24 {
        device.poll();
    }
    let mut still_there = device.clone();
    let poll = device.recovery.identity().poll(24);
    let answer = world.receive(poll.as_bytes()).unwrap();
    assert_eq!(
        device.accept(answer.datagram.as_bytes()).unwrap().executed,
        None
    );

    let mut lost_the_answer = still_there.clone();
    assert_eq!(
        world.exchange(&mut lost_the_answer).executed,
        Some(id),
        "the old chain goes on"
    );
    // The other card is where the answer to R(e) has led it: its poll ends the old chain.
    assert_eq!(world.exchange(&mut device).executed, Some(id));
    assert_eq!(subscription_e(&world), 1);
    still_there.poll();
    assert!(world.receive(&still_there.poll()).is_err());
}

#[test]
fn the_child_of_a_recovery_identity_is_answered_after_a_power_cut() {
    let (mut world, mut device) = World::with_device(3);
    while device.count < 24 {
        device.poll();
    }
    let answer = world
        .receive(device.recovery.identity().poll(24).as_bytes())
        .unwrap();
    device.accept(answer.datagram.as_bytes()).unwrap();
    world.power_cut();
    assert_eq!(world.exchange(&mut device).sent, 1);
    world.power_cut();
    assert_eq!(
        subscription_e(&world),
        1,
        "a recovery is synced before its answer leaves"
    );
    assert_eq!(poll_until_accepted(&mut world, &mut device), 1);
}
