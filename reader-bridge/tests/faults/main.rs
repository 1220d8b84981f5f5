//! Cards that are wrong on purpose, one fault at a time: the suite in `tests/conformance` must catch every one.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: a failure is a panic"
)]

mod clauses;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use applet::{
    Card, Protocol,
    manager::{Configuration, configure},
    nvm::{RamDevice, Store},
    scp03::{Keys, Options},
    wrong::{FAULTS, Fault},
};
use e2e::suite;
use protocol::key::Key;
use reader_bridge::{
    card::image::ImagePort,
    script::{self, Case, CaseResult, Finish, Outcome, Plan, Runner, Script, Setting, SystemFiles},
};

fn loaded(files: &[PathBuf]) -> Vec<Script> {
    let load =
        |file: &PathBuf| script::load(file, &SystemFiles).unwrap_or_else(|error| panic!("{error}"));
    files.iter().map(load).collect()
}

/// The suite: scripts that share a card, and those that need a new one.
struct Suite {
    shared: Vec<Script>,
    whole_life: Vec<Script>,
}

impl Suite {
    fn load() -> Self {
        Self {
            shared: loaded(&suite::scripts()),
            whole_life: loaded(&suite::whole_life()),
        }
    }

    /// All of it, on as many cards as it takes.
    fn run(&self, protocol: Protocol, card: impl Fn() -> Card) -> Vec<CaseResult> {
        let mut results = run(card(), protocol, &self.shared);
        for script in &self.whole_life {
            results.extend(run(card(), protocol, std::slice::from_ref(script)));
        }
        results
    }

    fn cases(&self) -> impl Iterator<Item = (&Script, &Case)> {
        let scripts = self.shared.iter().chain(&self.whole_life);
        scripts.flat_map(|script| script.cases.iter().map(move |case| (script, case)))
    }
}

/// A blank card as `secapp new` makes it, in memory.
fn blank(protocol: Protocol) -> Card {
    let mut memory = Store::format(Box::new(RamDevice::blank()), None).unwrap();
    let key: Vec<u8> = (0x40..0x50).collect();
    let keys = Keys::same(&Key::from_bytes(&key).unwrap());
    let with = Configuration {
        options: Options::DEFAULT,
        keys: Some((0xFF, keys)),
        diversification: [0; 10],
    };
    configure(&mut memory, &with).unwrap();
    applet::card(memory, protocol).unwrap()
}

fn run(card: Card, protocol: Protocol, scripts: &[Script]) -> Vec<CaseResult> {
    let plan = Plan {
        setting: Setting {
            emulator: true,
            seed: 1,
            ..Setting::default()
        },
        card_wait: Duration::from_secs(1),
        case_limit: Duration::from_secs(60),
        ..Plan::default()
    };
    let port = ImagePort::new(card, protocol, "image:test".to_owned());
    let mut runner = Runner::new(Box::new(port), plan).unwrap();
    assert_eq!(runner.connect(), Finish::Done);
    let mut results = Vec::new();
    for script in scripts {
        runner.run(script, &|_, _| true, &mut |result| results.push(result));
    }
    results
}

fn failures(results: &[CaseResult]) -> Vec<String> {
    let bad = results.iter().filter(|result| result.is_bad());
    let name = |result: &CaseResult| {
        let file = result
            .file
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        format!("{file}: {}", result.name)
    };
    bad.map(name).collect()
}

#[test]
fn a_right_card_passes_under_both_protocols() {
    let suite = Suite::load();
    for protocol in [Protocol::T1, Protocol::T0] {
        let results = suite.run(protocol, || blank(protocol));
        for result in &results {
            if let Outcome::Failed { place, message } = &result.outcome {
                panic!("{protocol:?}: {}: {place}: {message}", result.name);
            }
        }
        assert!(failures(&results).is_empty());
    }
}

/// Also where the tests pass: what `println!` prints is held back then.
fn print(table: &[(Fault, Vec<String>)]) {
    let mut text = format!("\n{:<24} {:>5}  caught first by\n", "fault", "cases");
    for (fault, cases) in table {
        let first = cases.first().map_or("-", String::as_str);
        writeln!(text, "{:<24} {:>5}  {first}", fault.name, cases.len()).unwrap();
    }
    io::stdout().write_all(text.as_bytes()).unwrap();
}

#[test]
fn every_fault_is_caught_by_a_case() {
    let suite = Suite::load();
    assert!(FAULTS.len() >= 30, "{}", FAULTS.len());
    let caught = |fault: &Fault| {
        let card = || blank(Protocol::T1).with_fault(*fault);
        (*fault, failures(&suite.run(Protocol::T1, card)))
    };
    let table: Vec<(Fault, Vec<String>)> = FAULTS.iter().map(caught).collect();
    print(&table);
    let missed: Vec<_> = table
        .iter()
        .filter(|(_, cases)| cases.is_empty())
        .map(|(fault, _)| fault.name)
        .collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn every_case_names_the_clause_that_it_checks() {
    for (script, case) in Suite::load().cases() {
        let place = script.path.display();
        assert!(!case.clauses.is_empty(), "{place}: {}", case.name);
    }
}
