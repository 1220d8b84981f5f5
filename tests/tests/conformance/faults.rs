//! Faults that were asked for: told, the same under the same seed, and no end of anything.

use e2e::process::Program;

use crate::cards::{blank, code, of, passed, script, written};

/// So many commands that every fault has its chance.
const MANY: &str = "repeat 60\n80 CA 00 66 00\nend\n";

fn faulty(directory: &std::path::Path, text: &str, more: &[&str]) -> Program {
    let image = directory.join("card.img");
    if !image.exists() {
        blank(directory, "card.img");
    }
    script(&[written(directory, "a.apdu", text)])
        .args(["--card", &of(&image)])
        .args(more.iter().copied())
}

#[test]
fn faults_are_told_and_the_same_seed_repeats_them() {
    let directory = tempfile::tempdir().unwrap();
    let run = |seed: &str| {
        let faults = ["--fault", "card:delay=1us-900us,6Cxx=20%", "--seed", seed];
        let run = faulty(directory.path(), MANY, &faults).run();
        passed(&run);
        run.stderr
    };
    let first = run("7");
    assert!(
        first.iter().all(|line| line.contains("fault: the card")),
        "{first:?}"
    );
    for part in ["takes", "answers 6C00 to 80CA0066"] {
        assert!(
            first.iter().any(|line| line.contains(part)),
            "{part}: {first:?}"
        );
    }
    assert_eq!(first, run("7"));
    assert_ne!(first, run("8"));
}

#[test]
fn a_length_that_is_asked_for_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let text =
        "80 CA 00 66 00 -> 6C00\nfetch on\n80 CA 00 66 00 -> ** 9000\n80 CA 00 E0 00 -> ** 9000\n";
    // The first command leaves the second one its turn: it is the repetition that was asked for.
    let run = faulty(directory.path(), text, &["--fault", "card:6Cxx"]).run();
    passed(&run);
    assert_eq!(run.stderr.len(), 2, "{run:?}");
}

#[test]
fn a_card_that_is_pulled_on_request_fails_one_case_and_is_back_for_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let text = "test one\n80CA006600\n80CA006600\ntest two\n80CA006600 -> ** 9000\n";
    let run = faulty(directory.path(), text, &["--fault", "card:pull-after=1"]).run();
    assert_eq!(
        (code(&run), run.stdout.last().unwrap().as_str()),
        (1, "1 passed, 1 failed")
    );
    assert!(
        run.stdout.join("\n").contains("pulled, as --fault asks"),
        "{run:?}"
    );
}

#[test]
fn wishes_that_cannot_be_are_refused_with_what_to_write() {
    let directory = tempfile::tempdir().unwrap();
    for (wish, told) in [
        ("card:slow", "delay=TIME"),
        ("net:loss=10%", "no network"),
        ("loss", "card:FAULT"),
        ("card:mute,mute=5%", "given twice"),
    ] {
        let run = faulty(directory.path(), MANY, &["--fault", wish]).run();
        assert_eq!(code(&run), 2, "{wish}: {run:?}");
        assert!(run.stderr.join("\n").contains(told), "{wish}: {run:?}");
    }
}
