//! A real exchange, from its trace to its figure: server, card and terminal are the programs themselves.

use std::fs;
use std::path::Path;

use e2e::ports::Reservation;
use e2e::process::{Finished, Program};

use crate::tshark::fields;

const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3c";

fn done(program: Program) -> Finished {
    let finished = program.run();
    assert!(finished.status.success(), "{finished:?}");
    finished
}

#[test]
fn a_bridges_trace_is_read_with_the_file_that_the_server_was_filled_from() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let port = Reservation::of(1);
    let address = format!("127.0.0.1:{}", port.first());
    fs::write(at("k.hex"), KEY).unwrap();
    let fleet = "reference,iccid,key,mode,first_identity\n";
    let fleet = format!("{fleet}meter-17,8988374172470184089,{KEY},3,concealed\n");
    fs::write(at("fleet.csv"), fleet).unwrap();
    let gts = |arguments: &[&str]| {
        Program::built("gts-mock")
            .env("GTS_MOCK_SOCKET", at("gts.sock"))
            .args(arguments.iter().copied())
    };
    let mut server = gts(&["serve", "--listen", &address, "--store"])
        .arg(at("store"))
        .start();
    server.expect_line("answering polls");
    done(gts(&["subscriptions", "import"]).arg(at("fleet.csv")));
    done(gts(&[
        "message",
        "send",
        "--to",
        "meter-17",
        "update-available",
        "fw 7",
    ]));
    let card = [
        "new",
        "--iccid",
        "8988374172470184089",
        "--concealed",
        "--key-file",
    ];
    done(
        Program::built("secapp")
            .args(card)
            .arg(at("k.hex"))
            .arg("--out")
            .arg(at("card.img")),
    );
    let run = [
        "run",
        "--gts",
        &address,
        "--interval",
        "1",
        "--floor",
        "1",
        "--card",
    ];
    let mut bridge = Program::built("reader-bridge")
        .args(run)
        .arg(format!("image:{}", at("card.img").display()))
        .arg("--state")
        .arg(at("state"))
        .arg("--trace")
        .arg(at("capture"))
        .start();
    for _ in 0..2 {
        bridge.expect("an accepted answer", |line| {
            line.contains(" accepted: Sent").then_some(())
        });
    }
    // Whatever ends it, the trace is whole.
    bridge.kill();
    server.terminate();
    let output = Program::built("reader-bridge")
        .args(["trace", "annotate"])
        .arg(at("capture"));
    done(
        output
            .arg("--key-file")
            .arg(at("fleet.csv"))
            .arg("-o")
            .arg(at("read.pcapng")),
    );
    let told = comments(&at("read.pcapng"));
    assert!(
        told.contains("meter-17: poll under the first identity"),
        "{told}"
    );
    assert!(told.contains("an update is available: \"fw 7\""), "{told}");
    assert!(told.contains("so the card has accepted: message"), "{told}");
    assert!(
        !told.contains("NOT AUTHENTIC") && !told.contains("not known"),
        "{told}"
    );
    let drawn = done(
        Program::built("reader-bridge")
            .args(["trace", "ladder"])
            .arg(at("read.pcapng")),
    );
    let drawn = drawn.stdout.join("\n");
    for part in [
        "exchange 1, image:",
        "exchange 2, image:",
        "PROCESS-RESPONSE",
        "fw 7",
        "lost 0↑ 0↓",
    ] {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }
}

fn comments(file: &Path) -> String {
    // tshark opens it without complaint, comments and all.
    fields(file, &[], &["frame.comment"]).concat().join("\n")
}
