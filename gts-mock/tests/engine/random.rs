//! Random lives: loss, duplicates, reordering, kills, power cuts and restores, each from a seed.

use proptest::prelude::*;
use protocol::msg::Object;

use crate::world::{Device, World};

#[derive(Clone, Debug)]
enum Step {
    /// A poll reaches the server or not, its answer the device or not.
    Poll {
        up: bool,
        down: bool,
    },
    /// An answer of earlier comes late.
    LateAnswer(usize),
    /// A poll of earlier is sent again by somebody.
    Replay(usize),
    Queue,
    Cancel(usize),
    GroupCommit,
    Kill,
    PowerCut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (any::<bool>(), any::<bool>()).prop_map(|(up, down)| Step::Poll { up, down }),
        5 => Just(Step::Poll { up: true, down: true }),
        2 => (0..8usize).prop_map(Step::LateAnswer),
        3 => (0..8usize).prop_map(Step::Replay),
        2 => Just(Step::Queue),
        1 => (0..4usize).prop_map(Step::Cancel),
        2 => Just(Step::GroupCommit),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
    ]
}

#[derive(Default)]
struct Ether {
    polls: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

fn live(mode: u8, steps: Vec<Step>) -> (World, Device, Vec<u32>) {
    let (mut world, mut device) = World::with_device(mode);
    let mut ether = Ether::default();
    let mut queued = Vec::new();
    for step in steps {
        world.wait(2);
        match step {
            Step::Poll { up, down } => poll(&mut world, &mut device, &mut ether, up, down),
            Step::LateAnswer(back) => {
                if let Some(answer) = ether.answers.iter().rev().nth(back) {
                    device.accept(answer);
                }
            }
            Step::Replay(back) => {
                if let Some(poll) = ether.polls.iter().rev().nth(back) {
                    let answer = world.receive(poll);
                    ether
                        .answers
                        .extend(answer.map(|answer| answer.datagram.as_bytes().to_vec()));
                }
            }
            Step::Queue => queued.push(world.queue(Object::UpdateAvailable(None)).unwrap()),
            Step::Cancel(back) => {
                if let Some(id) = queued.iter().rev().nth(back) {
                    let _ = world.cancel(*id);
                }
            }
            Step::GroupCommit => world.sync(),
            Step::Kill => world.kill(),
            Step::PowerCut => world.power_cut(),
        }
    }
    (world, device, queued)
}

fn poll(world: &mut World, device: &mut Device, ether: &mut Ether, up: bool, down: bool) {
    let poll = device.poll();
    ether.polls.push(poll.clone());
    if !up {
        return;
    }
    if let Ok(answer) = world.receive(&poll) {
        ether.answers.push(answer.datagram.as_bytes().to_vec());
        if down {
            device.accept(answer.datagram.as_bytes());
        }
    }
}

/// Once faults stop: how many polls until the device is in step.
fn settle(world: &mut World, device: &mut Device) -> u32 {
    let mut polls = 0;
    let mut answered = 0;
    while answered < 2 && polls < 60 {
        world.wait(2);
        polls += 1;
        let poll = device.poll();
        if let Ok(answer) = world.receive(&poll) {
            answered += u32::from(device.accept(answer.datagram.as_bytes()).is_some());
        }
    }
    polls
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_executed_at_most_once_and_the_device_is_found_again(
        mode in 0..=3u8, steps in proptest::collection::vec(step(), 1..80)
    ) {
        let cuts = steps.iter().filter(|step| matches!(step, Step::PowerCut)).count();
        let (mut world, mut device, queued) = live(mode, steps);
        let polls = settle(&mut world, &mut device);
        // Eight generations are remembered; who is further behind comes back by recovery.
        let allowed = if cuts <= 8 { 2 } else { 26 };
        prop_assert!(polls <= allowed, "in step after {} polls, {} are allowed", polls, allowed);
        for _ in 0..queued.len() + 2 {
            world.wait(2);
            world.exchange(&mut device);
        }
        let mut unique = device.executed.clone();
        unique.dedup();
        prop_assert_eq!(&unique, &device.executed);
        for id in queued {
            let state = world.message(id);
            let executed = device.executed.contains(&id);
            prop_assert!(!state.is_open(), "{} is {}", id, state);
            prop_assert_eq!(executed, state == gts_mock::store::MessageState::Delivered, "{}", state);
        }
    }
}
