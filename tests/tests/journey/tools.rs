//! Other people's tools talk to the card in the reader: opensc-tool, scriptor, pcsc_scan.

use std::fs::File;

use e2e::pcscd::Pcscd;
use e2e::process::{Finished, Process, Program};
use tempfile::TempDir;

use crate::parts::inserted::inserted;
use crate::parts::subscriber::Subscriber;

const SELECT: &str = "00 A4 04 00 08 F0 47 54 53 41 50 50 01 00";
const GET_UID: &str = "80 40 00 00 00";
const STATISTICS: &str = "80 CA 00 E7 00";

/// A new card in a reader of its own.
struct Inserted {
    _card: Process,
    pcscd: Pcscd,
    directory: TempDir,
    subscriber: Subscriber,
}

impl Inserted {
    fn new(name: &str) -> Self {
        let (directory, subscriber) = (tempfile::tempdir().unwrap(), Subscriber::named(name));
        let pcscd = Pcscd::start(1);
        let card = inserted(&subscriber.make_card(directory.path()), &pcscd.slots()[0]);
        Self {
            _card: card,
            pcscd,
            directory,
            subscriber,
        }
    }

    fn run(&self, program: Program) -> Finished {
        self.pcscd.client(program).run()
    }

    /// The card's first poll, two digits and a space a byte.
    fn poll(&self) -> String {
        spaced(self.subscriber.link().poll(0).as_bytes())
    }
}

fn spaced(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X} ")).collect()
}

/// The lines as one, of each the first `columns`.
fn joined(lines: &[String], columns: usize) -> String {
    let lines = lines
        .iter()
        .map(|line| line.get(..columns).unwrap_or(line).trim());
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn opensc_tool_sends_the_commands_and_shows_the_answers() {
    let card = Inserted::new("opensc");
    let send = [SELECT, GET_UID, STATISTICS].map(|apdu| apdu.replace(' ', ":"));
    let program = Program::system("opensc-tool")
        .args(["-r", "0"])
        .args(send.iter().flat_map(|apdu| ["-s", apdu]));
    let said = card.run(program);
    assert!(said.status.success(), "{said:?}");
    let accepted = said
        .stdout
        .iter()
        .filter(|line| line.contains("SW1=0x90, SW2=0x00"));
    assert_eq!(accepted.count(), 3, "{said:?}");
    // 16 bytes a line, and beside them the same as text.
    let bytes = joined(&said.stdout, 48);
    assert!(
        bytes.contains("6F 15 84 08 F0 47 54 53 41 50 50 01"),
        "{bytes}"
    );
    assert!(bytes.contains(card.poll().trim()), "{bytes}");
    assert!(bytes.contains("E7 24 C8 04 00 00 00 00"), "{bytes}");
}

#[test]
fn scriptor_runs_a_script_of_commands() {
    let card = Inserted::new("scriptor");
    let script = card.directory.path().join("poll.apdu");
    std::fs::write(&script, format!("{SELECT}\n{GET_UID}\n00 B0 00 00 01\n")).unwrap();
    let program = Program::system("scriptor")
        .args(["-r", &card.pcscd.slots()[0].reader])
        .stdin(File::open(&script).unwrap());
    let said = card.run(program);
    assert!(said.status.success(), "{said:?}");
    let bytes = joined(&said.stdout, usize::MAX);
    assert!(bytes.contains(card.poll().trim()), "{bytes}");
    let normal = said
        .stdout
        .iter()
        .filter(|line| line.contains("90 00 : Normal processing"));
    assert_eq!(normal.count(), 2, "{said:?}");
    assert!(
        bytes.contains("< 6E 00"),
        "a class that the applet does not know: {bytes}"
    );
}

#[test]
fn pcsc_scan_sees_the_card_and_its_atr() {
    let card = Inserted::new("scan");
    let said = card.run(Program::system("pcsc_scan").args(["-n", "-t", "1"]));
    let text = said.stdout.join("\n");
    assert!(text.contains("Card inserted"), "{said:?}");
    assert!(
        text.contains("3B 8C 81 31 FE 45 80 73 C0 01 DB 56"),
        "{said:?}"
    );
}
