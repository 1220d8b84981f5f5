//! What came of a duel, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::{
    contest::{Plan, Round, Slice},
    stats::{Estimate, estimate, median},
};

/// Where the median of echo against echo has to lie for a run to count.
const SOUND: (f64, f64) = (0.98, 1.02);

/// What the polls of a duel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Each is a promotion and answered with "nothing to do"
    Answer,
    /// Identities that nobody has: dropped
    Miss,
    /// A poll whose answer was lost, repeated with a raised count
    Repeat,
    /// Each proves the delivery of a message
    Message,
}

impl Scenario {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answer => "answers with promotion",
            Self::Miss => "unknown identities",
            Self::Repeat => "repeated polls",
            Self::Message => "deliveries",
        }
    }

    /// Whether the figure is the server's cost in answers of the echo; otherwise it is what the echo costs
    /// in answers of the server.
    const fn counts_server_in_echoes(self) -> bool {
        matches!(self, Self::Miss)
    }
}

/// What one target cost: medians over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// CPU time for one answer, in nanoseconds.
    pub nanos: Estimate,
    /// Length of a slice in milliseconds.
    pub slice_ms: f64,
    /// Part of the slice in which it ran.
    pub busy: f64,
    /// How often it went to sleep, for a thousand answers.
    pub sleeps_per_1000: f64,
}

/// What came of a duel.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What the polls were.
    pub scenario: Scenario,
    /// Subscriptions.
    pub devices: u32,
    /// Threads of each target.
    pub workers: usize,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds that lost datagrams and do not count.
    pub void_rounds: usize,
    /// Polls of a slice.
    pub polls: usize,
    /// Polls under way at most.
    pub window: usize,
    /// Answers of the server that were verified: all that it gave.
    pub verified: u64,
    /// The server.
    pub server: Cost,
    /// The echo.
    pub echo: Cost,
    /// The second echo.
    pub control: Cost,
    /// Echo through server; for unknown identities server through echo.
    pub ratio: Estimate,
    /// Echo through echo.
    pub control_ratio: Estimate,
    /// Whether echo against echo says that the run counts.
    pub sound: bool,
}

impl Outcome {
    /// Judges the rounds.
    pub fn new(plan: &Plan, rounds: &[Round], void_rounds: usize, verified: u64) -> Self {
        let of =
            |target: usize| -> Vec<Slice> { rounds.iter().map(|round| round[target]).collect() };
        let cost = |target| cost(&of(target), plan.seed);
        let paired = |over: usize, under: usize| {
            let ratios = rounds
                .iter()
                .map(|round| round[over].nanos / round[under].nanos);
            estimate(&ratios.collect::<Vec<_>>(), plan.seed)
        };
        let ratio = if plan.scenario.counts_server_in_echoes() {
            paired(0, 1)
        } else {
            paired(1, 0)
        };
        let control_ratio = paired(1, 2);
        Self {
            scenario: plan.scenario,
            devices: plan.devices,
            workers: plan.workers,
            rounds: rounds.len(),
            void_rounds,
            polls: plan.polls,
            window: plan.aim.window,
            verified,
            server: cost(0),
            echo: cost(1),
            control: cost(2),
            ratio,
            control_ratio,
            sound: (SOUND.0..=SOUND.1).contains(&control_ratio.median),
        }
    }

    /// The ratio in words.
    const fn ratio_name(&self) -> &'static str {
        if self.scenario.counts_server_in_echoes() {
            "server / echo"
        } else {
            "echo / server"
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} subscriptions, {}, {} worker(s), {} rounds of 3 slices of {} polls, window {}\n\n",
            self.devices,
            self.scenario.name(),
            self.workers,
            self.rounds,
            self.polls,
            self.window
        );
        text.push_str(
            "             CPU ns each   95 % interval    slice    busy   sleeps per 1,000\n",
        );
        for (name, cost) in [
            ("server", self.server),
            ("echo A", self.echo),
            ("echo B", self.control),
        ] {
            row(&mut text, name, &cost);
        }
        let (ratio, control) = (self.ratio, self.control_ratio);
        for (name, ratio) in [(self.ratio_name(), ratio), ("echo A / echo B", control)] {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n{name:<17}{:.3}   {:.3} to {:.3}",
                ratio.median, ratio.low, ratio.high
            );
        }
        let _ = write!(
            text,
            "\n{} answers of the server, all verified",
            self.verified
        );
        if self.void_rounds > 0 {
            let _ = write!(
                text,
                "\n{} rounds lost datagrams and do not count",
                self.void_rounds
            );
        }
        if !self.sound {
            let _ = write!(
                text,
                "\nVOID: echo against echo is {:.3}, not within {} to {}. Something else runs on this machine.",
                control.median, SOUND.0, SOUND.1
            );
        }
        text
    }
}

fn row(text: &mut String, name: &str, cost: &Cost) {
    let Cost {
        nanos,
        slice_ms,
        busy,
        sleeps_per_1000,
    } = cost;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{name:<12}{:>12.0}{:>8.0} to {:<6.0}{slice_ms:>5.1} ms{:>6.0} %{sleeps_per_1000:>19.1}",
        nanos.median,
        nanos.low,
        nanos.high,
        busy * 100.0,
    );
}

fn cost(slices: &[Slice], seed: u64) -> Cost {
    let of = |pick: fn(&Slice) -> f64| slices.iter().map(pick).collect::<Vec<_>>();
    Cost {
        nanos: estimate(&of(|slice| slice.nanos), seed),
        slice_ms: median(&of(|slice| slice.wall.as_secs_f64() * 1000.0)),
        busy: median(&of(|slice| slice.busy)),
        sleeps_per_1000: median(&of(|slice| slice.sleeps)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::duel::volley::Aim;

    fn plan(scenario: Scenario) -> Plan {
        Plan {
            scenario,
            devices: 1000,
            rounds: 40,
            polls: 100,
            aim: Aim {
                wires: 1,
                window: 64,
                segments: true,
            },
            settle: Duration::ZERO,
            seed: 1,
            workers: 1,
        }
    }

    fn slice(nanos: f64) -> Slice {
        Slice {
            nanos,
            wall: Duration::from_millis(20),
            busy: 1.0,
            sleeps: 0.0,
            lost: 0,
        }
    }

    /// Rounds on a machine that is fast and slow by turns: only pairs can be compared.
    fn rounds(server: f64, echo: f64, control: f64) -> Vec<Round> {
        let speeds = [1.0, 2.0, 1.5, 3.0];
        let rounds = speeds.iter().cycle().take(40);
        rounds
            .map(|speed| [server * speed, echo * speed, control * speed].map(slice))
            .collect()
    }

    #[test]
    fn the_ratio_is_that_of_pairs_and_does_not_see_the_machines_speed() {
        let outcome = Outcome::new(&plan(Scenario::Answer), &rounds(1000.0, 800.0, 808.0), 0, 0);
        assert!((outcome.ratio.median - 0.8).abs() < 1e-9);
        assert!(outcome.ratio.high - outcome.ratio.low < 1e-9);
        assert!(outcome.sound && !outcome.table().contains("VOID"));
    }

    #[test]
    fn a_run_is_void_when_two_equal_echoes_differ() {
        for control in [770.0, 830.0] {
            let rounds = rounds(1000.0, 800.0, control);
            let outcome = Outcome::new(&plan(Scenario::Answer), &rounds, 0, 0);
            assert!(!outcome.sound && outcome.table().contains("VOID"));
        }
    }

    #[test]
    fn a_miss_is_told_in_answers_of_the_echo() {
        let outcome = Outcome::new(&plan(Scenario::Miss), &rounds(600.0, 800.0, 800.0), 2, 0);
        assert!((outcome.ratio.median - 0.75).abs() < 1e-9);
        assert!(
            outcome.table().contains("server / echo") && outcome.table().contains("2 rounds lost")
        );
    }
}
