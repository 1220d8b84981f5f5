//! Messages: in order, each executed once, and what becomes of those that are withdrawn.

use gts_mock::{
    engine::{Durability, QueueRefused},
    store::MessageState,
};
use protocol::msg::Object;

use crate::world::{REFERENCE, World};

const UPDATE: Object<'static> = Object::UpdateAvailable(None);

#[test]
fn messages_arrive_in_order_and_delivery_is_proved_by_the_next_poll() {
    let (mut world, mut device) = World::with_device(3);
    let first = world.queue(UPDATE).unwrap();
    let second = world.queue(UPDATE).unwrap();
    assert_eq!(world.exchange(&mut device).executed, Some(first));
    assert_eq!(
        world.message(first),
        MessageState::Queued,
        "nobody knows yet"
    );

    let answer = world.receive(&device.poll()).unwrap();
    assert_eq!(
        answer.delivered.as_ref().map(|delivery| delivery.id),
        Some(first)
    );
    assert_eq!(
        answer.durability,
        Durability::Synced,
        "before the next message goes with it"
    );
    assert_eq!(world.synced.message(first), MessageState::Delivered);
    assert_eq!(
        device.accept(answer.datagram.as_bytes()).unwrap().executed,
        Some(second)
    );
    world.exchange(&mut device);
    assert_eq!(world.message(second), MessageState::Delivered);
    assert_eq!(device.executed, [first, second]);
}

#[test]
fn a_message_queued_between_poll_and_resend_makes_no_second_child_current() {
    let (mut world, mut device) = World::with_device(3);
    let nothing = world.receive(&device.poll()).unwrap();
    let id = world.queue(UPDATE).unwrap();
    let offered = world.receive(&device.poll()).unwrap();

    let mut took_nothing = device.clone();
    took_nothing.accept(nothing.datagram.as_bytes()).unwrap();
    let mut took_message = device;
    assert_eq!(
        took_message
            .accept(offered.datagram.as_bytes())
            .unwrap()
            .executed,
        Some(id)
    );

    let backup = world.written.clone();
    let answer = world.receive(&took_nothing.poll()).unwrap();
    assert_eq!(answer.delivered, None);
    assert_eq!(
        took_nothing
            .accept(answer.datagram.as_bytes())
            .unwrap()
            .executed,
        Some(id)
    );

    world.written = backup;
    world.kill();
    let answer = world.receive(&took_message.poll()).unwrap();
    assert_eq!(answer.delivered.map(|delivery| delivery.id), Some(id));
}

#[test]
fn a_cancelled_message_that_was_accepted_is_delivered_after_all() {
    let (mut world, mut device) = World::with_device(3);
    let id = world.queue(UPDATE).unwrap();
    world.exchange(&mut device);
    assert_eq!(world.cancel(id), Ok(MessageState::Cancelling));
    let answer = world.receive(&device.poll()).unwrap();
    assert_eq!(answer.delivered.map(|delivery| delivery.id), Some(id));
    assert_eq!(world.message(id), MessageState::Delivered);
}

#[test]
fn a_cancelled_message_that_was_not_accepted_ends_at_the_next_promotion() {
    let (mut world, mut device) = World::with_device(3);
    let id = world.queue(UPDATE).unwrap();
    world.receive(&device.poll()).unwrap();
    world.cancel(id).unwrap();
    world.kill();
    assert_eq!(
        world.exchange(&mut device).executed,
        None,
        "it is offered no more"
    );
    world.exchange(&mut device);
    assert_eq!(world.message(id), MessageState::Cancelled);
    assert!(device.executed.is_empty());
}

#[test]
fn a_message_that_waits_behind_another_is_cancelled_at_once() {
    let (mut world, _) = World::with_device(3);
    world.queue(UPDATE).unwrap();
    let behind = world.queue(UPDATE).unwrap();
    assert_eq!(world.cancel(behind), Ok(MessageState::Cancelled));
    assert_eq!(world.cancel(behind), Err(QueueRefused::NoMessage(behind)));
}

#[test]
fn four_withdrawn_messages_stay_answered_and_a_fifth_has_to_wait() {
    let (mut world, mut device) = World::with_device(3);
    let ids: Vec<u32> = (0..5).map(|_| world.queue(UPDATE).unwrap()).collect();
    world.receive(&device.poll()).unwrap();
    for id in &ids[..4] {
        assert_eq!(world.cancel(*id), Ok(MessageState::Cancelling));
    }
    assert_eq!(world.cancel(ids[4]), Err(QueueRefused::TooManyWithdrawn));
    assert_eq!(world.exchange(&mut device).executed, Some(ids[4]));
    world.exchange(&mut device);
    assert_eq!(world.message(ids[0]), MessageState::Cancelled);
    assert_eq!(world.message(ids[4]), MessageState::Delivered);
}

#[test]
fn after_a_recovery_a_withdrawn_message_was_perhaps_executed() {
    let (mut world, mut device) = World::with_device(3);
    let id = world.queue(UPDATE).unwrap();
    world.receive(&device.poll()).unwrap();
    world.cancel(id).unwrap();
    while device.count < 24 {
        device.poll();
    }
    let recovery = device.recovery.identity().poll(24);
    let answer = world.receive(recovery.as_bytes()).unwrap();
    device.accept(answer.datagram.as_bytes()).unwrap();
    world.exchange(&mut device);
    assert_eq!(world.message(id), MessageState::CancelledPerhapsExecuted);
}

#[test]
fn messages_expire_and_those_on_offer_stay_answered() {
    let (mut world, _) = World::with_device(3);
    let subscription = world.number(REFERENCE);
    let mut queue = |expires_in| {
        let prepared = world
            .engine
            .prepare(subscription, &[UPDATE], expires_in, world.now())
            .unwrap();
        world.engine.offer(prepared.message.clone());
        prepared.message.id
    };
    let (first, second) = (queue(Some(20)), queue(Some(10)));
    world.wait(9);
    assert!(world.engine.expire(world.now(), 100).is_empty());
    world.wait(1);
    let expired = world.engine.expire(world.now(), 100);
    assert_eq!(expired.len(), 1);
    assert_eq!(
        (expired[0].message.id, expired[0].message.state),
        (second, MessageState::Expired)
    );
    world.wait(10);
    let expired = world.engine.expire(world.now(), 100);
    assert_eq!(
        (expired[0].message.id, expired[0].message.state),
        (first, MessageState::Expiring)
    );
}

#[test]
fn ids_grow_even_when_the_clock_does_not() {
    let (mut world, _) = World::with_device(3);
    let first = world.queue(UPDATE).unwrap();
    assert_eq!(u64::from(first), world.posix);
    assert_eq!(world.queue(UPDATE), Ok(first + 1));
    world.posix -= 1000;
    assert_eq!(world.queue(UPDATE), Err(QueueRefused::Wait(1000 + 2 - 60)));
    world.posix += 1000;
    world.wait(100);
    assert_eq!(u64::from(world.queue(UPDATE).unwrap()), world.posix);
}

#[test]
fn ids_run_at_most_a_minute_ahead_of_the_clock() {
    let (mut world, _) = World::with_device(3);
    for _ in 0..=60 {
        world.queue(UPDATE).unwrap();
    }
    assert_eq!(world.queue(UPDATE), Err(QueueRefused::Wait(1)));
    world.wait(1);
    assert!(world.queue(UPDATE).is_ok());
}

#[test]
fn a_message_that_cannot_be_answered_is_refused_when_it_is_queued() {
    for (mode, longest) in [(0, 64), (1, 64), (2, 228), (3, 228)] {
        let (mut world, mut device) = World::with_device(mode);
        // Six bytes of id and, past 127 bytes, three of tag and length.
        let room = longest - 6 - if longest > 127 { 3 } else { 2 };
        let data = vec![0; room + 1];
        let refused = world.queue(Object::Opaque(&data)).unwrap_err();
        assert!(matches!(refused, QueueRefused::TooLong { max, .. } if max == longest));
        let id = world.queue(Object::Opaque(&data[..room])).unwrap();
        assert_eq!(world.exchange(&mut device).executed, Some(id));
    }
}
