//! Reports and exit codes.

use e2e::process::Finished;
use serde_json::Value;

use crate::cards::{blank, code, of, on_image, script, written};

const MIXED: &str = "test good\nclause X <1>\n00A4040000 -> ** 9000\nprint \"a & b\"\ntest bad\n00A4040000 -> 6A82\ntest not here\nneeds t0\n00A4040000\n";

#[test]
fn text_tells_every_case_and_what_was_wrong_with_a_caret() {
    let directory = tempfile::tempdir().unwrap();
    let run = on_image(directory.path(), MIXED).run();
    assert_eq!(code(&run), 1);
    let text = run.stdout.join("\n");
    for part in [
        "ok      ",
        "FAILED  ",
        "skipped ",
        "a & b",
        "a.apdu:6:15: another answer",
        "00A4040000",
        "^",
        "1 passed, 1 failed, 1 skipped",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn tap_has_a_plan_and_a_line_for_each_case() {
    let directory = tempfile::tempdir().unwrap();
    let run = on_image(directory.path(), MIXED)
        .args(["--report", "tap"])
        .run();
    assert_eq!(code(&run), 1);
    assert_eq!(run.stdout[..2], ["TAP version 13", "1..3"]);
    let points: Vec<_> = run
        .stdout
        .iter()
        .filter(|line| line.starts_with("ok") || line.starts_with("not ok"))
        .collect();
    assert!(
        points[0].starts_with("ok 1 - ") && points[0].ends_with(": good"),
        "{points:?}"
    );
    assert!(points[1].starts_with("not ok 2 - "), "{points:?}");
    assert!(run.stdout.contains(&"# a & b".to_owned()), "{run:?}");
    assert!(
        points[2].contains("# SKIP needs a card that speaks T=0"),
        "{points:?}"
    );
}

#[test]
fn perls_harness_counts_the_cases_of_a_tap_report() {
    let directory = tempfile::tempdir().unwrap();
    let prove = |run: Finished| {
        let tap = run.stdout.join("\n") + "\n";
        let tap = written(directory.path(), "report.tap", &tap);
        let mut prove = std::process::Command::new("prove");
        let proved = prove.args(["-e", "cat"]).arg(tap).output().unwrap();
        String::from_utf8(proved.stdout).unwrap()
    };
    let told = prove(
        on_image(directory.path(), MIXED)
            .args(["--report", "tap"])
            .run(),
    );
    assert!(told.contains("Failed test:  2\n"), "{told}");
    assert!(!told.contains("Parse errors"), "{told}");
    let image = of(&directory.path().join("card.img"));
    let good = script(&[directory.path().join("a.apdu")]).args(["--filter", ": good"]);
    let told = prove(good.args(["--report", "tap", "--card", &image]).run());
    assert!(told.contains("Result: PASS"), "{told}");
}

#[test]
fn json_and_junit_hold_everything() {
    let directory = tempfile::tempdir().unwrap();
    let run = on_image(directory.path(), MIXED)
        .args(["--report", "json"])
        .run();
    let report: Value = serde_json::from_str(&run.stdout.join("\n")).unwrap();
    assert_eq!(
        (&report["passed"], &report["failed"], &report["skipped"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(report["cases"][0]["clauses"][0], "X <1>");
    assert_eq!(report["cases"][1]["place"]["line"], 6);
    let image = of(&directory.path().join("card.img"));
    let run = script(&[directory.path().join("a.apdu")])
        .args(["--report", "junit", "--card", &image])
        .run();
    let xml = run.stdout.join("\n");
    for part in [
        "tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\"",
        "value=\"X &lt;1&gt;\"",
        "<system-out>a &amp; b</system-out>",
        "<failure message=\"another answer was expected\">",
        "</testsuites>",
    ] {
        assert!(xml.contains(part), "{part}: {xml}");
    }
    // Another reader of XML understands it.
    let parsed = std::process::Command::new("python3")
        .args(["-c", "import sys, xml.etree.ElementTree as e; print(len(e.fromstring(sys.argv[1]).findall('.//testcase')))", &xml])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&parsed.stdout).trim(),
        "3",
        "{parsed:?}"
    );
}

#[test]
fn a_filter_picks_cases_and_fail_fast_ends_with_the_first_failure() {
    let directory = tempfile::tempdir().unwrap();
    let run = on_image(directory.path(), MIXED)
        .args(["--filter", ": good"])
        .run();
    assert_eq!(
        (code(&run), run.stdout.last().unwrap().as_str()),
        (0, "1 passed, 0 failed")
    );
    let image = of(&directory.path().join("card.img"));
    let more = format!("test bad\n00A4040000 -> 6A82\n{MIXED}");
    let run = script(&[written(directory.path(), "b.apdu", &more)])
        .args(["--fail-fast", "--card", &image])
        .run();
    assert_eq!(
        (code(&run), run.stdout.last().unwrap().as_str()),
        (1, "0 passed, 1 failed, 3 not run")
    );
}

#[test]
fn a_filter_that_picks_nothing_is_a_mistake_and_not_a_success() {
    let directory = tempfile::tempdir().unwrap();
    let run = on_image(directory.path(), MIXED)
        .args(["--filter", "god", "--filter", "bed"])
        .run();
    assert_eq!((code(&run), run.stdout.len()), (2, 0));
    assert!(
        run.stderr.join("\n").contains("no case has god or bed"),
        "{run:?}"
    );
}

#[test]
fn a_wrong_script_is_2_and_all_its_errors_are_told_before_a_card_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let one = written(directory.path(), "one.apdu", "80 4\n");
    let two = written(directory.path(), "two.apdu", "00A4040000\ntset x\n");
    let run = script(&[one, two, directory.path().join("three.apdu")])
        .args(["--card", "image:/does/not/exist"])
        .run();
    assert_eq!(code(&run), 2);
    let told = run.stderr.join("\n");
    for part in ["two.apdu:2:1", "did you mean \"test\"", "three.apdu", "^"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn without_a_card_the_code_is_3() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), "a.apdu", "00A4040000");
    for card in ["image:/does/not/exist", "vpcd:0"] {
        let run = script(std::slice::from_ref(&file))
            .args(["--wait-card", "100ms", "--card", card])
            .run();
        assert_eq!(code(&run), 3, "{card}: {run:?}");
        assert!(!run.stderr.is_empty());
    }
}

#[test]
fn values_are_given_by_option_file_and_environment() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let secret = written(directory.path(), "key.hex", "00 a4 04\n");
    let text = "param head\nparam tail = '00'\ntest x\n{head} 00 {tail} -> ** 9000\ncheck tail == env(\"TAIL\")";
    let file = written(directory.path(), "a.apdu", text);
    let run =
        script(&[file])
            .arg("--card")
            .arg(of(&image))
            .args(["--set", "tail=00", "--set-file"]);
    let run = run
        .arg(format!("head={}", secret.display()))
        .env("TAIL", "00")
        .run();
    assert_eq!(code(&run), 0, "{run:?}");
    // Without a value that has no default nothing is run.
    let run = script(&[directory.path().join("a.apdu")]).args(["--card", "image:/does/not/exist"]);
    let run = run.run();
    assert_eq!(code(&run), 2, "{run:?}");
    for part in ["a.apdu:1:1: this script needs a value: --set head=HEX", "^"] {
        assert!(run.stderr.join("\n").contains(part), "{part}: {run:?}");
    }
}

#[test]
fn scripts_of_scriptor_run_from_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), "card.img");
    let mut run = script(&["-".into()])
        .arg("--card")
        .arg(of(&image))
        .talkative()
        .start();
    for line in [
        "# as scriptor takes it",
        "reset",
        "00 A4 04 00 \\",
        "00",
        "80CA006600",
        "exit",
    ] {
        run.send_line(line);
    }
    run.close_stdin();
    run.expect_line("1 passed, 0 failed");
    assert!(run.expect_exit().success());
}
