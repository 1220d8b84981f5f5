//! Cards that are wrong on purpose, one fault at a time: the suite in `tests/conformance` must catch every one.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests: a failure is a panic, and the table of faults is for people"
)]

use std::{fs, path::PathBuf, time::Duration};

use applet::{
    Card, Protocol,
    manager::{Configuration, configure},
    nvm::{RamDevice, Store},
    scp03::{Keys, Options},
    wrong::{FAULTS, Fault},
};
use protocol::key::Key;
use reader_bridge::{
    card::image::ImagePort,
    script::{self, CaseResult, Finish, Outcome, Plan, Runner, Script, Setting, SystemFiles},
};

/// The suite, in the order of its file names.
fn suite() -> Vec<Script> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance");
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "apdu")
        })
        .collect();
    files.sort();
    let scripts = files
        .iter()
        .map(|file| script::load(file, &SystemFiles).unwrap_or_else(|error| panic!("{error}")));
    scripts.collect()
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
    let scripts = suite();
    for protocol in [Protocol::T1, Protocol::T0] {
        let results = run(blank(protocol), protocol, &scripts);
        for result in &results {
            if let Outcome::Failed { place, message } = &result.outcome {
                panic!("{protocol:?}: {}: {place}: {message}", result.name);
            }
        }
        assert!(failures(&results).is_empty());
    }
}

#[test]
fn every_fault_is_caught_by_a_case() {
    let scripts = suite();
    assert!(FAULTS.len() >= 30, "{}", FAULTS.len());
    let caught = |fault: &Fault| {
        let card = blank(Protocol::T1).with_fault(*fault);
        (*fault, failures(&run(card, Protocol::T1, &scripts)))
    };
    let table: Vec<(Fault, Vec<String>)> = FAULTS.iter().map(caught).collect();
    println!("{:<24} {:>5}  caught first by", "fault", "cases");
    for (fault, cases) in &table {
        let first = cases.first().map_or("-", String::as_str);
        println!("{:<24} {:>5}  {first}", fault.name, cases.len());
    }
    let missed: Vec<_> = table
        .iter()
        .filter(|(_, cases)| cases.is_empty())
        .map(|(fault, _)| fault.name)
        .collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn every_case_names_the_clause_that_it_checks() {
    for script in suite() {
        for case in &script.cases {
            assert!(
                !case.clauses.is_empty(),
                "{}: {}",
                script.path.display(),
                case.name
            );
        }
    }
}
