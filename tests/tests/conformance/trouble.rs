//! Endless scripts, cards that go mute, cards that are pulled: bounded time, a clear report.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use e2e::pcscd::Pcscd;
use e2e::process::DEADLINE;

use crate::cards::{blank, code, free_port, insert, on_image, script, written};

#[test]
fn an_endless_loop_ends_at_the_cases_limit_and_the_next_case_is_run() {
    let directory = tempfile::tempdir().unwrap();
    let text = "test endless\nrepeat 1000000\nrepeat 1000000\nx = 1\nend\nend\ntest endless with commands\nrepeat 1000000\n00A4040000\nend\ntest good\n00A4040000 -> ** 9000\n";
    let begun = Instant::now();
    let run = on_image(directory.path(), text)
        .args(["--case-limit", "300ms"])
        .run();
    assert!(begun.elapsed() < DEADLINE / 2);
    assert_eq!(
        (code(&run), run.stdout.last().unwrap().as_str()),
        (1, "1 passed, 2 failed")
    );
    assert!(
        run.stdout.join("\n").contains("takes longer than 300ms"),
        "{run:?}"
    );
}

/// A virtual card that answers so many commands and then nothing more.
fn mute_card(port: u16, answers: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(_) => thread::yield_now(),
            }
        };
        let mut left = answers;
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut body = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut body).is_err() {
                return;
            }
            let answer: &[u8] = match body[..] {
                [4] => &[0, 2, 0x3B, 0x00],
                [_] => &[],
                _ if left > 0 => {
                    left -= 1;
                    &[0, 2, 0x90, 0x00]
                }
                _ => &[],
            };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_card_that_goes_mute_fails_its_case_in_time_and_the_rest_is_marked_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let card = mute_card(port, 2);
    let text = "limit 300ms\ntest one\n00A4040000 -> 9000\ntest two\n00A4040000 -> 9000\n00A4040000\ntest three\n00A4040000";
    let begun = Instant::now();
    let run = script(&[written(directory.path(), "a.apdu", text)])
        .args(["--wait-card", "1s", "--card", &format!("vpcd:{port}")])
        .run();
    card.join().unwrap();
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    assert_eq!(
        (code(&run), run.stdout.last().unwrap().as_str()),
        (1, "1 passed, 1 failed, 1 not run")
    );
    let text = run.stdout.join("\n");
    assert!(
        text.contains("a.apdu:6:1: the card is mute: no answer within 300ms"),
        "{text}"
    );
}

/// Its second case works until its card is pulled.
const PULLED: &str = "test one\n80CA006600 -> ** 9000\ntest two\nrepeat 1000000\n80CA006600 -> ** 9000\nend\ntest three\nreset\n80CA006600 -> ** 9000\n";

#[test]
fn a_card_that_is_pulled_fails_its_case_and_with_the_next_one_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let pcscd = Pcscd::start(1);
    let slot = pcscd.slots()[0].clone();
    let image = blank(directory.path(), "card.img");
    let mut card = insert(&image, slot.port, &[]);
    let run = script(&[written(directory.path(), "a.apdu", PULLED)]).args([
        "--wait-card",
        "30s",
        "--card",
        &format!("pcsc:{}", slot.reader),
    ]);
    let mut run = pcscd.client(run).start();
    run.expect_line(": one");
    card.kill();
    let _again = insert(&image, slot.port, &[]);
    run.expect_line("FAILED");
    run.expect_line("ok ");
    run.expect_line("2 passed, 1 failed");
    assert_eq!(run.count("takes longer"), 0, "{run}");
    assert_eq!(run.expect_exit().code(), Some(1));
}

#[test]
fn a_card_that_is_pulled_for_good_leaves_the_rest_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let image = blank(directory.path(), "card.img");
    let mut card = insert(&image, port, &[]);
    let mut run = script(&[written(directory.path(), "a.apdu", PULLED)])
        .args(["--wait-card", "5s", "--card", &format!("vpcd:{port}")])
        .start();
    run.expect_line(": one");
    card.kill();
    run.expect_line("FAILED");
    run.expect_line("not run");
    run.expect_line("1 passed, 1 failed, 1 not run");
    assert_eq!(run.expect_exit().code(), Some(1));
}
