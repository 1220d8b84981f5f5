//! The shell and the progress of scripts on a terminal, as people see them.

use std::fs;
use std::path::Path;

use crate::cards::{blank, of, on_image, written};
use crate::terminal::{END, END_OF_FILE, ENTER, LEFT, TAB, Terminal, UP};

fn shell(directory: &Path) -> Terminal {
    let image = blank(directory, "card.img");
    let mut shell = Terminal::start(|command| {
        command.args(["shell", "--card", &of(&image)]);
        command.env("HOME", directory);
    });
    shell.ready();
    shell
}

#[test]
fn the_tab_key_completes_statements_commands_functions_and_values() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = shell(directory.path());
    shell.press(&["pow", TAB, ENTER]);
    shell.expect("power-off");
    shell.expect("ATR 3B8C");
    shell.ready();
    shell.press(&["00 A4 04", TAB, ENTER]);
    shell.expect("00 A4 04 00 08 F047545341505001 00");
    shell.expect("9000 (done)");
    shell.ready();
    shell.press(&["number = '0102'", ENTER]);
    shell.ready();
    shell.press(&["print scp03_", TAB, "('", "00", "')"]);
    shell.expect("scp03_kdf");
    shell.press(&["\x03"]);
    shell.ready();
    shell.press(&["print num", TAB, ENTER]);
    shell.expect("number");
    shell.expect("0102");
    shell.ready();
    // Two words fit: the second press lists them.
    shell.press(&["re", TAB, TAB]);
    shell.expect("repeat");
    shell.press(&["\x03"]);
    shell.ready();
    shell.press(&[END_OF_FILE]);
    assert_eq!(shell.end().1, 0);
}

#[test]
fn lines_are_edited_and_found_again_in_this_shell_and_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = shell(directory.path());
    // The digit that is missing is put in where it belongs.
    first.press(&["80 CA 00 6 00", LEFT, LEFT, LEFT, "6", END, ENTER]);
    first.expect("9000 (done)");
    first.ready();
    first.press(&[UP]);
    first.expect("80 CA 00 66 00");
    first.press(&[ENTER]);
    first.expect("9000 (done)");
    first.ready();
    let secret = "404142434445464748494A4B4C4D4E4F";
    first.press(&[
        &format!("secure-channel scp03 level=01 key={secret}"),
        ENTER,
    ]);
    first.expect("9000 (done)");
    first.ready();
    first.press(&["print \"here\"", ENTER]);
    first.expect("here\r\n");
    first.ready();
    first.press(&[END_OF_FILE]);
    assert_eq!(first.end().1, 0);
    let history = fs::read_to_string(directory.path().join(".reader-bridge_history")).unwrap();
    assert!(
        history.contains("80 CA 00 66 00") && !history.contains(secret),
        "{history}"
    );
    let image = of(&directory.path().join("card.img"));
    let mut second = Terminal::start(|command| {
        command.args(["shell", "--card", &image]);
        command.env("HOME", directory.path());
    });
    second.ready();
    second.press(&[UP, UP]);
    second.expect("80 CA 00 66 00");
    second.press(&[ENTER]);
    second.expect("9000 (done)");
    second.ready();
    second.press(&[END_OF_FILE]);
    assert_eq!(second.end().1, 0);
}

/// More passes than fit on a screen, and one failure.
const CASES: &str = "test first\n80CA006600 -> ** 9000\ntest second\n80CA006600 -> 6A88\ntest third\n80CA006600 -> ** 9000\n";

#[test]
fn on_a_terminal_progress_is_shown_and_what_passed_leaves_no_line() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let file = written(directory.path(), "a.apdu", CASES);
    let run = Terminal::start(|command| {
        command
            .arg("script")
            .arg(&file)
            .args(["--card", &of(&image)]);
    });
    let (shown, code) = run.end();
    assert_eq!(code, 1);
    for part in [
        "1/3 first",
        "2/3 second",
        "3/3 third",
        "FAILED",
        "2 passed, 1 failed",
    ] {
        assert!(shown.contains(part), "{part}: {shown:?}");
    }
    // What stays when every line that is cleared is gone.
    let lines: Vec<_> = shown
        .split(['\n', '\r'])
        .map(|line| line.rsplit("\x1b[K").next().unwrap_or_default())
        .collect();
    assert!(
        !lines.iter().any(|line| line.starts_with("ok ")),
        "{lines:?}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("FAILED "))
            .count(),
        1
    );
}

#[test]
fn without_a_terminal_there_are_plain_lines() {
    let directory = tempfile::tempdir().unwrap();
    let run = on_image(directory.path(), CASES).run();
    let text = run.stdout.join("\n");
    assert!(!text.contains(['\r', '\x1b']), "{text:?}");
    assert_eq!(
        run.stdout
            .iter()
            .filter(|line| line.starts_with("ok "))
            .count(),
        2,
        "{text}"
    );
    // Neither are there others in reports for programs, wherever they go.
    let image = of(&directory.path().join("card.img"));
    let tap = Terminal::start(|command| {
        command.arg("script").arg(directory.path().join("a.apdu"));
        command.args(["--report", "tap", "--card", &image]);
    });
    assert!(!tap.end().0.contains('\x1b'));
}
