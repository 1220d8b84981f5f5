//! The shell, recording, comparing, importing.

use std::fs;
use std::path::Path;

use e2e::card_client::CardClient;
use e2e::pcscd::Pcscd;
use e2e::process::{Process, Program};

use crate::cards::{blank, code, of, passed, script, suite, wrapped, written};

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

/// The prompt is not shown where nobody types, and answers come line by line.
fn shell(directory: &Path, more: &[&str]) -> Process {
    let image = blank(directory, "card.img");
    Program::built("reader-bridge")
        .args(["shell", "--card", &of(&image)])
        .args(more.iter().copied())
        .env("HOME", directory)
        .talkative()
        .start()
}

#[test]
fn a_channel_and_a_secure_channel_carry_over_until_the_card_loses_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = shell(
        directory.path(),
        &["--set", "k=404142434445464748494A4B4C4D4E4F"],
    );
    for (typed, told) in [
        ("00 70 00 00 01 -> 01 9000", "9000 (done)"),
        ("channel 1", ""),
        ("00 A4 04 0C 08 F047545341505001 -> 9000", "9000 (done)"),
        // On channel 1 SecApp is selected, on channel 0 the card manager.
        ("80 CA 00 E1 00 -> 6A88", "6A88"),
        ("raw 80 CA 00 66 00 -> ** 9000", "9000 (done)"),
        ("secure-channel scp03 level=01 key={k}", "9000 (done)"),
        ("80 CA 00 E1 00 -> 6A88", "6A88"),
        // A wrong guess ends no session: the card still has it.
        ("80 CA 00 E1 00 -> 9000", "another answer was expected"),
        ("80 CA 00 E1 00 -> 6A88", "6A88"),
        ("secure-channel off", ""),
        ("80 CA 00 E1 00 -> 6982", "6982"),
        ("reset", "ATR"),
        // Now all of it is gone, here and there.
        ("80 CA 00 66 00 -> ** 9000", "9000 (done)"),
        ("raw 81 CA 00 E1 00 -> 6881", "6881"),
    ] {
        shell.send_line(typed);
        if !told.is_empty() {
            shell.expect_line(told);
        }
    }
    shell.close_stdin();
    assert!(shell.expect_exit().success());
    let text = shell.said().join("\n");
    assert_eq!(text.matches("was expected").count(), 1, "{text}");
}

#[test]
fn functions_carry_over_and_a_repeat_may_have_several_lines() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = shell(directory.path(), &[]);
    for line in [
        "def get(p2) = '80CA00' | p2 | '00'",
        "repeat p2, status in",
        "66 | 9000",
        "67 | 6A88",
        "do",
        "{get(p2)} -> ** {status}",
        "end",
        "print \"done \", get('66')",
    ] {
        shell.send_line(line);
    }
    shell.expect_line("9000 (done)");
    shell.expect_line("6A88");
    shell.expect_line("done 80CA006600");
    shell.close_stdin();
    assert!(shell.expect_exit().success());
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
fn wrapped_images_are_opened_by_every_command_that_opens_cards() {
    let directory = tempfile::tempdir().unwrap();
    let (image, key) = wrapped(directory.path());
    let file = written(directory.path(), "a.apdu", "80CA006600 -> ** 9000\n");
    let run = || script(std::slice::from_ref(&file)).args(["--card", &of(&image)]);
    passed(&run().arg("--image-key-file").arg(&key).run());
    let refused = run().run();
    assert_eq!(code(&refused), 3, "{refused:?}");
    let differ = Program::built("reader-bridge")
        .args(["diff", &of(&image), &of(&image), "--script"])
        .arg(&file)
        .arg("--image-key-file")
        .arg(&key)
        .run();
    // One card cannot be in two places: the image was read, and is in use.
    assert_eq!(code(&differ), 3, "{differ:?}");
    assert!(differ.stderr.join("\n").contains("in use"), "{differ:?}");
    let mut shell = Program::built("reader-bridge")
        .args(["shell", "--card", &of(&image), "--image-key-file"])
        .arg(&key)
        .env("HOME", directory.path())
        .talkative()
        .start();
    shell.send_line("80CA006600");
    shell.expect_line("9000 (done)");
    shell.close_stdin();
    assert!(shell.expect_exit().success());
}

#[test]
fn files_that_cannot_be_read_or_written_have_codes_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let missing = directory.path().join("none/file");
    let import = Program::built("reader-bridge")
        .arg("import")
        .arg(&missing)
        .run();
    assert_eq!(code(&import), 2, "{import:?}");
    let relay = Program::built("reader-bridge")
        .args(["relay", "--card", &of(&image), "--record"])
        .arg(&missing)
        .run();
    assert_eq!(code(&relay), 1, "{relay:?}");
    assert!(
        relay.stderr.join("\n").contains("cannot be written"),
        "{relay:?}"
    );
    let file = written(directory.path(), "a.apdu", "80CA006600");
    let keys = script(&[file])
        .args(["--card", &of(&image), "--set-file"])
        .arg(format!("k={}", missing.display()))
        .run();
    assert_eq!(code(&keys), 8, "{keys:?}");
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
