//! `private-pcscd` as a script uses it, and what is left when it is killed.

use e2e::process::{Process, Program};

use crate::plain_card::PlainCard;

fn start(directory: &tempfile::TempDir) -> (Process, u16, String) {
    let mut process = Program::built("private-pcscd")
        .env("TMPDIR", directory.path())
        .start();
    let port = process.expect("a slot", |line| {
        line.strip_prefix("slot ")?.split(' ').next()?.parse().ok()
    });
    let socket = process.expect("the socket", |line| {
        line.strip_prefix("socket ").map(str::to_owned)
    });
    process.expect_line("ready");
    (process, port, socket)
}

#[test]
fn sigterm_ends_it_and_removes_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, port, socket) = start(&directory);
    let listed = Program::system("opensc-tool")
        .arg("--list-readers")
        .env("PCSCLITE_CSOCK_NAME", socket)
        .run();
    assert!(
        listed
            .stdout
            .iter()
            .any(|line| line.contains("Virtual PCD A 00 01")),
        "{listed:?}"
    );
    let card = PlainCard::insert(port, &[0x90, 0x00]);
    assert!(process.terminate().success());
    card.await_end();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn its_daemon_does_not_outlive_it_when_killed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, port, _) = start(&directory);
    let card = PlainCard::insert(port, &[0x90, 0x00]);
    process.kill();
    card.await_end();
}

#[test]
fn more_slots_than_pcscd_serves_are_refused_with_the_limit() {
    let finished = Program::built("private-pcscd")
        .args(["--slots", "17"])
        .run();
    assert_eq!(finished.status.code(), Some(1));
    assert_eq!(
        finished.stderr,
        ["private-pcscd: pcscd serves 1 to 16 slots, not 17"]
    );
}
