//! `duel growth`: the duel at several numbers of subscriptions, and a chart of it.

use std::sync::atomic::AtomicBool;

use bench::duel::{
    Failure,
    chart::{self, Point},
    report::Outcome,
};

use crate::{
    Verdict,
    cli::{Growth, Rig},
    rig::print,
    run,
};

/// Runs the duels, prints each as it ends, and writes the chart.
pub(crate) fn run(options: &Growth, stop: &AtomicBool) -> Result<Verdict, Failure> {
    let mut outcomes = Vec::new();
    for devices in &options.sizes {
        let rig = Rig {
            devices: *devices,
            ..options.rig.clone()
        };
        let outcome = run::duel(&rig, &options.rules, stop)?;
        print(options.rig.json, &outcome, || outcome.table() + "\n");
        outcomes.push(outcome);
    }
    if let Some(file) = &options.svg {
        let points: Vec<Point> = outcomes.iter().map(point).collect();
        std::fs::write(file, chart::growth(&points))?;
    }
    let void = outcomes.iter().find(|outcome| !outcome.sound);
    Ok(void.map_or(Verdict::Sound, run::verdict))
}

fn point(outcome: &Outcome) -> Point {
    Point {
        devices: outcome.devices,
        server: outcome.server.nanos,
        echo: outcome.echo.nanos,
    }
}
