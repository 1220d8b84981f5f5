//! `duel start`: how soon a server answers that was killed.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use bench::{
    duel::{
        Failure,
        devices::{Devices, Then},
        server::Server,
        volley::{Aim, Generator},
    },
    wire::Inbox,
};
use serde::Serialize;

use crate::{Verdict, cli::Rig, rig::print};

/// Devices that poll before the server is killed, so that there are promotions to be found again.
const MOVED: usize = 100_000;
/// Devices that are asked for at a time while it loads.
const PROBES: usize = 64;
/// Devices that must all be answered at the end.
const ALL: usize = 10_000;
/// How long a probe waits.
const PATIENCE: Duration = Duration::from_millis(10);
/// A server that has not answered anybody by then never will.
const LIMIT: Duration = Duration::from_secs(600);

/// Seconds from the start of the process.
#[derive(Serialize)]
struct Found {
    devices: u32,
    promotions_before: usize,
    ready_seconds: f64,
    first_answer_seconds: f64,
    all_loaded_seconds: f64,
}

/// Imports, lets devices poll, kills, starts again and asks until all are answered.
pub(crate) fn run(rig: &Rig, stop: &AtomicBool) -> Result<Verdict, Failure> {
    let mut server = rig.start_with_devices()?;
    let mut devices = Devices::new(rig.fleet(), rig.devices, rig.devices.into(), rig.seed);
    let moved = MOVED.min(rig.devices as usize);
    let numbers = devices.take(moved);
    for _ in 0..2 {
        ask(&server, &mut devices, &numbers, None, stop)?;
    }
    let began = server.crash_and_start()?;
    let ready = began.elapsed();
    let first = first_answer(&server, &mut devices, began, stop)?;
    server.wait_for_all(rig.devices.into())?;
    let all = began.elapsed();
    check_all(&server, &mut devices, &numbers, stop)?;
    let found = Found {
        devices: rig.devices,
        promotions_before: moved,
        ready_seconds: ready.as_secs_f64(),
        first_answer_seconds: first.as_secs_f64(),
        all_loaded_seconds: all.as_secs_f64(),
    };
    print(rig.json, &found, || table(&found));
    Ok(Verdict::Sound)
}

/// Polls of these devices; how many were answered.
fn ask(
    server: &Server,
    devices: &mut Devices,
    numbers: &[u32],
    patience: Option<Duration>,
    stop: &AtomicBool,
) -> Result<u64, Failure> {
    let aim = Aim {
        wires: 8,
        window: 512,
        segments: true,
    };
    let mut generator = Generator::connect(server.target()?.address, aim)?;
    if let Some(patience) = patience {
        generator.set_patience(patience);
    }
    let polls = devices.polls(numbers);
    let mut replies = Inbox::default();
    generator.fire(&polls.volley, &mut replies, stop)?;
    let verdict = devices.verify(&polls, &replies, generator.wires(), Then::Accept);
    verdict.check(replies.len())?;
    Ok(verdict.right)
}

/// The time of the first answer to anybody.
fn first_answer(
    server: &Server,
    devices: &mut Devices,
    began: Instant,
    stop: &AtomicBool,
) -> Result<Duration, Failure> {
    while began.elapsed() < LIMIT {
        let numbers = devices.take(PROBES);
        if ask(server, devices, &numbers, Some(PATIENCE), stop)? > 0 {
            return Ok(began.elapsed());
        }
    }
    Err(Failure::Server(format!(
        "no answer within {LIMIT:?} of its start"
    )))
}

/// The devices that had moved on are where they were, and others are there as well.
fn check_all(
    server: &Server,
    devices: &mut Devices,
    moved: &[u32],
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let others = devices.take(ALL);
    for numbers in [moved, &others] {
        let mut left = numbers.to_vec();
        left.sort_unstable();
        left.dedup();
        let answered = ask(server, devices, &left, None, stop)?;
        if answered < left.len() as u64 {
            let error = format!(
                "only {answered} of {} devices are answered after the start",
                left.len()
            );
            return Err(Failure::Unmeasured(error));
        }
    }
    Ok(())
}

fn table(found: &Found) -> String {
    format!(
        "{} subscriptions, {} promotions before kill -9\n\
         says where it answers    {:>8.2} s after its start\n\
         first answer             {:>8.2} s\n\
         all loaded               {:>8.2} s",
        found.devices,
        found.promotions_before,
        found.ready_seconds,
        found.first_answer_seconds,
        found.all_loaded_seconds
    )
}
