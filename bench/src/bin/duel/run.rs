//! `duel run`: the duel at one number of subscriptions.

use std::{sync::atomic::AtomicBool, time::Duration};

use bench::{
    duel::{
        Failure,
        contest::{Contest, Plan},
        devices::Devices,
        report::Outcome,
        target::{EchoPlan, Target},
        volley::Aim,
    },
    progress::Progress,
};

use crate::{
    Verdict,
    cli::{Rig, Rules, Run},
    rig::print,
};

/// Runs one duel and prints what came of it.
pub(crate) fn run(options: &Run, stop: &AtomicBool) -> Result<Verdict, Failure> {
    let outcome = duel(&options.rig, &options.rules, stop)?;
    print(options.rig.json, &outcome, || outcome.table());
    Ok(verdict(&outcome))
}

/// Whether it counts.
pub(crate) fn verdict(outcome: &Outcome) -> Verdict {
    if outcome.sound {
        Verdict::Sound
    } else {
        eprintln!(
            "duel: void, echo against echo is {:.3}",
            outcome.control_ratio.median
        );
        Verdict::Void
    }
}

/// Sets everything up, runs one duel and takes everything down.
pub(crate) fn duel(rig: &Rig, rules: &Rules, stop: &AtomicBool) -> Result<Outcome, Failure> {
    let plan = plan(rig, rules);
    let devices = Devices::new(rig.fleet(), rig.devices, Contest::touched(&plan), rig.seed);
    let server = rig.start_with_devices()?;
    let echoes = [echo(rig, rules)?, echo(rig, rules)?];
    let mut progress = Progress::begin("rounds", plan.rounds as u64);
    let contest = Contest::new(plan, &server, &echoes, devices, stop)?;
    contest.run(|round| progress.at(round as u64, ""))
}

fn echo(rig: &Rig, rules: &Rules) -> Result<Target, Failure> {
    let plan = EchoPlan {
        reply: rules.reply,
        workers: rig.workers.into(),
        wait: rules.echo_wait,
    };
    let program = std::env::current_exe()?;
    Ok(Target::echo(&program, plan, &rig.target_cores())?)
}

fn plan(rig: &Rig, rules: &Rules) -> Plan {
    Plan {
        scenario: rules.scenario,
        devices: rig.devices,
        rounds: rules.rounds,
        polls: rules.polls,
        aim: Aim {
            wires: rules.wires,
            window: rules.window,
            segments: !rules.no_segments,
        },
        settle: Duration::from_millis(rules.settle),
        seed: rig.seed,
        workers: rig.workers.into(),
    }
}
