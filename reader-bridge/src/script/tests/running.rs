//! What becomes of a case: failures, skips, channels, times.

use super::*;

#[test]
fn a_wrong_answer_is_told_with_its_place_its_meaning_and_the_byte() {
    let run = run("\n8040000000\n   -> 21 00 9000", &["21016985"]);
    let failure = run.failed();
    assert_eq!((failure.place.line, failure.place.column), (3, 7));
    for part in ["8040000000", "21016985", "conditions of use", "byte 1 (01)"] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    assert!(
        failure.place.excerpt().ends_with("      ^"),
        "{}",
        failure.place.excerpt()
    );
}

#[test]
fn commands_go_on_the_channel_that_was_chosen() {
    let text = "80400000\nchannel 2\n80400000\n00A40400\nraw 80400000\nchannel 5\n80400000\n84400000\nchannel 0\n80400000";
    let run = run(text, &["9000"; 8]).passed();
    let classes: Vec<_> = run.sent.iter().map(|sent| &sent[..2]).collect();
    assert_eq!(
        classes,
        ["80", "82", "02", "80", "C1", "E1", "80"],
        "{:?}",
        run.sent
    );
}

#[test]
fn a_time_that_is_exceeded_fails() {
    assert!(
        run("80400000 -> 9000 within 10ms", &["9000"])
            .failed()
            .message
            .contains("within 10ms")
    );
    run("80400000 -> 9000 within 1s\nexpect-within 30ms", &["9000"]).passed();
    run("80400000\nexpect-within 5ms", &["9000"]).failed();
}

#[test]
fn what_the_card_cannot_do_is_skipped_and_says_so() {
    for (text, why) in [
        ("tear 3\n80400000", "no emulator"),
        ("needs emulator\n80400000", "emulator"),
        ("needs t0", "T=0"),
        ("needs variable x", "--set x"),
        ("skip not here", "not here"),
    ] {
        match run(text, &[]).verdict {
            Verdict::Skipped(reason) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_card_that_fails_ends_the_case_without_teardown() {
    let script = script("teardown\n80FF0000\ntest x\n80400000\n80410000");
    let run = run_case(&script.cases[0], &script, &Setting::default(), &["9000"]);
    assert!(run.failed().card);
    assert_eq!(run.sent, ["80400000", "80410000"]);
}
