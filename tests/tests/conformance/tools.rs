//! The shell, recording, comparing, importing.

use std::fs;

use e2e::card_client::CardClient;
use e2e::pcscd::Pcscd;
use e2e::process::Program;

use crate::cards::{blank, code, of, passed, script, suite, written};

#[test]
fn the_shell_decodes_answers_keeps_values_and_survives_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let mut shell = Program::built("reader-bridge")
        .args(["shell", "--card", &of(&image)])
        .env("HOME", directory.path())
        .talkative()
        .start();
    for (typed, told) in [
        ("00A4040008F04754534150500100", "    84 F047545341505001"),
        ("reset", "ATR 3B8C"),
        ("80CA00FF00", "6A88 (no such data)"),
        ("80 4z", "expected the second hexadecimal digit"),
        ("x = '6A88'", ""),
        ("80CA00FF00 -> {x}", "6A88 (no such data)"),
        ("80CA00FF00 -> 9000", "another answer was expected"),
    ] {
        shell.send_line(typed);
        if !told.is_empty() {
            shell.expect_line(told);
        }
    }
    assert!(shell.expect_exit().success());
    let history = fs::read_to_string(directory.path().join(".reader-bridge_history")).unwrap();
    assert!(history.contains("80CA00FF00 -> {x}"), "{history}");
}

#[test]
fn what_a_client_does_through_a_relay_becomes_a_script_that_passes_again() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let copy = directory.path().join("copy.img");
    fs::copy(&image, &copy).unwrap();
    let pcscd = Pcscd::start(1);
    let slot = &pcscd.slots()[0];
    let file = directory.path().join("session.apdu");
    let mut relay = Program::built("reader-bridge")
        .args([
            "relay",
            "--card",
            &of(&image),
            "--vpcd",
            &format!("127.0.0.1:{}", slot.port),
            "--record",
        ])
        .arg(&file)
        .start();
    let mut client = CardClient::of(&pcscd);
    client.await_card(&slot.reader).unwrap();
    client.connect(&slot.reader).unwrap();
    for command in ["00A4040008F04754534150500100", "80CA00E700", "8040000000"] {
        client.transmit(&hex::decode(command).unwrap()).unwrap();
    }
    client.reset().unwrap();
    drop(client);
    relay.terminate();
    let recorded = fs::read_to_string(&file).unwrap();
    for line in [
        "00 A4 04 00 08F04754534150500100 -> 6F",
        "80 40 00 00 00 -> 6985",
        "\nreset",
    ] {
        assert!(recorded.contains(line), "{line}: {recorded}");
    }
    passed(
        &script(std::slice::from_ref(&file))
            .arg("--card")
            .arg(of(&copy))
            .run(),
    );
    // And on a card that answers otherwise it fails.
    let other = recorded.replace("6985", "6982");
    let run = script(&[written(directory.path(), "other.apdu", &other)]);
    assert_eq!(code(&run.arg("--card").arg(of(&copy)).run()), 1);
}

fn diff(a: &str, b: &str) -> Program {
    let suite = suite()
        .into_iter()
        .find(|file| file.ends_with("select.apdu"))
        .unwrap();
    Program::built("reader-bridge")
        .args(["diff", a, b, "--script"])
        .arg(suite)
}

#[test]
fn two_cards_are_compared_case_by_case() {
    let directory = tempfile::tempdir().unwrap();
    let image = |name: &str, more: &[&str]| {
        let image = directory.path().join(name);
        let made = Program::built("secapp")
            .args(["new", "--out"])
            .arg(&image)
            .args(more.iter().copied())
            .run();
        assert!(made.status.success(), "{made:?}");
        of(&image)
    };
    // Random challenges never are alike, pseudo-random ones of equal cards are.
    let (one, two, other) = (
        image("1", &[]),
        image("2", &[]),
        image("3", &["--scp", "60"]),
    );
    let alike = diff(&one, &two).run();
    assert_eq!(
        (code(&alike), alike.stdout.last().unwrap().as_str()),
        (0, "0 cases differ"),
        "{alike:?}"
    );
    let differ = diff(&one, &other).run();
    assert_eq!(code(&differ), 1, "{differ:?}");
    let told = differ.stdout.join("\n");
    assert!(
        told.contains("  A  80 50 00 00") && told.contains("  B  80 50 00 00"),
        "{told}"
    );
}

#[test]
fn what_scriptor_prints_is_imported_and_passes() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let pcscd = Pcscd::start(1);
    let slot = &pcscd.slots()[0];
    let mut card = crate::cards::insert(&image, slot.port, &[]);
    CardClient::of(&pcscd).await_card(&slot.reader).unwrap();
    let commands = written(
        directory.path(),
        "commands.txt",
        "reset\n00A4040008F04754534150500100\n80 40 00 00 00\n",
    );
    let log = pcscd
        .client(
            Program::system("scriptor")
                .args(["-r", &slot.reader])
                .arg(&commands),
        )
        .run();
    assert!(log.status.success(), "{log:?}");
    card.terminate();
    let log = written(directory.path(), "log.txt", &(log.stdout.join("\n") + "\n"));
    let imported = Program::built("reader-bridge")
        .arg("import")
        .arg(&log)
        .run();
    passed(&imported);
    let imported = imported.stdout.join("\n");
    assert!(imported.contains("80 40 00 00 00 -> 6985"), "{imported}");
    for file in [
        written(directory.path(), "imported.apdu", &imported),
        commands,
    ] {
        passed(&script(&[file]).arg("--card").arg(of(&image)).run());
    }
}
