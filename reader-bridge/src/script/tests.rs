//! Scripts against a card that is a list of commands and answers.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::*;
use crate::card::{Power, Transport};

/// Files by name.
struct Texts(HashMap<PathBuf, String>);

impl Files for Texts {
    fn read(&self, path: &Path) -> io::Result<String> {
        let text = self.0.get(path).cloned();
        text.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn texts(files: &[(&str, &str)]) -> Texts {
    let files = files
        .iter()
        .map(|(name, text)| (name.into(), (*text).to_owned()));
    Texts(files.collect())
}

fn script(text: &str) -> Script {
    load(Path::new("a.apdu"), &texts(&[("a.apdu", text)])).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn wrong(text: &str) -> String {
    match load(Path::new("a.apdu"), &texts(&[("a.apdu", text)])) {
        Ok(_) => panic!("this is no script: {text}"),
        Err(error) => error.to_string(),
    }
}

/// What a script did with a card that gives these answers, in order.
struct Run {
    sent: Vec<String>,
    printed: Vec<String>,
    verdict: Verdict,
}

impl Run {
    #[track_caller]
    fn passed(self) -> Self {
        assert_eq!(self.verdict, Verdict::Passed, "{:?}", self.sent);
        self
    }

    #[track_caller]
    fn failed(&self) -> &Failure {
        match &self.verdict {
            Verdict::Failed(failure) => failure,
            other => panic!("{other:?} after {:?}", self.sent),
        }
    }
}

fn run_case(case: &Case, script: &Script, setting: &Setting, answers: &[&str]) -> Run {
    let mut machine = Machine::new(case, script, setting);
    let (mut sent, mut printed) = (Vec::new(), Vec::new());
    let mut answers = answers.iter();
    let powered = || Reply::Powered {
        atr: vec![0x3B, 0x00],
        transport: Transport::Apdu,
    };
    let mut request = machine.start();
    loop {
        let reply = match request {
            Request::Connect => powered(),
            Request::Power(how) => {
                sent.push(
                    if how == Power::Reset {
                        "reset"
                    } else {
                        "power-off"
                    }
                    .to_owned(),
                );
                powered()
            }
            Request::Tear(_) => Reply::Unsupported("no emulator".to_owned()),
            Request::Print(text) => {
                printed.push(text);
                Reply::Done
            }
            Request::Continue => Reply::Done,
            Request::Transmit { command, .. } => {
                sent.push(hex::encode_upper(command));
                match answers.next() {
                    Some(answer) => Reply::Answer {
                        bytes: hex::decode(answer).unwrap(),
                        elapsed: Duration::from_millis(20),
                    },
                    None => Reply::Failed("the card is mute".to_owned()),
                }
            }
            Request::Done(verdict) => {
                return Run {
                    sent,
                    printed,
                    verdict,
                };
            }
        };
        request = machine.resume(reply);
    }
}

fn run(text: &str, answers: &[&str]) -> Run {
    let script = script(text);
    run_case(&script.cases[0], &script, &Setting::default(), answers)
}

#[test]
fn what_users_of_scriptor_and_opensc_tool_type_runs_as_it_is() {
    let text = "# a comment\nreset\n00A4040000\n80 40 00 00 00\n00:c0:00:00:05\nRESET\n80 CA 0 E1 \\\n  00\n\nexit\n80 FF 00 00";
    let run = run(text, &["9000", "6D00", "6700", "6A88"]).passed();
    assert_eq!(
        run.sent,
        [
            "reset",
            "00A4040000",
            "8040000000",
            "00C0000005",
            "reset",
            "80CA00E100"
        ]
    );
}

#[test]
fn an_answer_is_expected_whole() {
    for (expected, answer, fits) in [
        ("9000", "9000", true),
        ("9000", "AA9000", false),
        ("** 9000", "9000", true),
        ("** 9000", "90009000", true),
        ("61XX", "6117", true),
        ("61XX", "6217", false),
        ("6[CF]xx", "6C12", true),
        ("6[CF]xx", "6D12", false),
        ("6[A-C]?0", "6B10", true),
        ("AA *2 BB9000", "AA0102BB9000", true),
        ("AA *2 BB9000", "AA01BB9000", false),
        ("80/F0 9000", "8F9000", true),
        ("80/F0 9000", "7F9000", false),
        ("** E1 ** 9000", "00E1E1019000", true),
        ("6A82 | 6A88", "6A88", true),
        ("{u16(0x9000)}", "9000", true),
        ("{'AA' | 'BB'} 9000", "AABB9000", true),
    ] {
        let run = run(&format!("8040000000 -> {expected}"), &[answer]);
        assert_eq!(run.verdict == Verdict::Passed, fits, "{expected} {answer}");
    }
}

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
fn answers_are_captured_and_used() {
    let text = "80400000 00 -> ** 9000\nuid = answer[2..12]\ncheck uid[0] == '98'\ncheck len(uid) == 10\n\
        80 42 00 00 {lv(uid[-2..])} 00 -> 6A80\ncheck sw == '6A80'\nprint \"uid \", uid, \" took \", elapsed";
    let run = run(
        text,
        &["2100988873142774104880F900000000000000009000", "6A80"],
    )
    .passed();
    assert_eq!(run.sent[1], "804200000280F900");
    assert_eq!(run.printed, ["uid 988873142774104880F9 took 20"]);
}

#[test]
fn the_script_can_be_the_server() {
    let text = r#"
        k = '000102030405060708090a0b0c0d0e0f'
        uid = '988873142774104880F9'
        def response(k, uid, msg, sent, rand) = seal(cmac(kdf(k, "M", '03', '', len(k)), '81' | msg | u16(sent) | uid | rand), kdf(k, "E", '03', '', len(k)), msg | u16(sent), rand)
        def seal(t, enc, head, rand) = '81' | t[8..16] | aes_ctr(enc, t[8..16] | '0000000000000000', head | t[0..8] | rand)
        r = response(k, uid, '8000', 1, '0101010101010101')
        80420000 {lv(r)} 00
        80420000 {lv(flip(r, 80))} 00
    "#;
    let run = run(text, &["9000", "9862"]).passed();
    use protocol::{
        chain::Link,
        identity::{Mode, Uid, UidRand},
        key::Key,
    };
    let k = Key::from_hex("000102030405060708090a0b0c0d0e0f").unwrap();
    let uid = Uid::from_hex("988873142774104880F9").unwrap();
    let link = Link::restore(uid, k, Mode::DEFAULT);
    let sealed = link.seal(&[0x80, 0], 1, UidRand([1; 8])).unwrap();
    let expected = format!("804200001D{}00", hex::encode_upper(sealed.as_bytes()));
    assert_eq!(run.sent[0], expected);
    let differ = run.sent[0]
        .bytes()
        .zip(run.sent[1].bytes())
        .filter(|(a, b)| a != b)
        .count();
    assert_eq!(differ, 1, "one bit");
}

#[test]
fn cases_have_names_clauses_and_their_own_setup() {
    let text = "a = '01'\nsetup\nreset\n00 A4 {a} 00\nteardown\n00 70 80 01\ntest one\nclause X, 5.1\nclause Y\n80 01 00 00 -> 9000\nb = '05'\n\
        test two\n80 02 00 00 -> 6A88";
    let script = script(text);
    assert_eq!(
        script
            .cases
            .iter()
            .map(|case| case.name.as_str())
            .collect::<Vec<_>>(),
        ["one", "two"]
    );
    assert_eq!(script.cases[0].clauses, ["X, 5.1", "Y"]);
    let setting = Setting::default();
    let one = run_case(
        &script.cases[0],
        &script,
        &setting,
        &["9000", "9000", "9000"],
    )
    .passed();
    assert_eq!(one.sent, ["reset", "00A40100", "80010000", "00708001"]);
    let two = run_case(
        &script.cases[1],
        &script,
        &setting,
        &["9000", "9000", "9000"],
    );
    assert_eq!(two.failed().place.line, 13);
    assert_eq!(
        two.sent.last().unwrap(),
        "00708001",
        "what was set up is torn down after a failure, too"
    );
}

#[test]
fn blocks_are_repeated_by_count_and_over_a_table() {
    let text = "repeat 2 as i\nrepeat p1, status in\n| 00 | 9000 |\n 01 02 | 6A86\ndo\n80 {i} {p1} {fill('00', 2 - len(p1))} 00 -> {status}\nend\nend";
    let run = run(text, &["9000", "6A86", "9000", "6A86"]).passed();
    assert_eq!(
        run.sent,
        ["8000000000", "8000010200", "8001000000", "8001010200"]
    );
    let run = self::run(text, &["9000", "9000"]);
    for part in [
        "round 1 of 2, i = 0",
        "round 2 of 2 (a.apdu:4:2), p1 = 0102, status = 6A86",
    ] {
        assert!(
            run.failed().message.contains(part),
            "{}",
            run.failed().message
        );
    }
}

#[test]
fn values_come_from_the_command_line_and_have_defaults() {
    let script = script("param k = '00'\nparam other\ntest x\n80 {k} {other} 00");
    let mut setting = Setting::default();
    setting
        .variables
        .insert("k".into(), parse_value("AB").unwrap());
    let run = run_case(&script.cases[0], &script, &setting, &["9000"]);
    assert!(
        run.failed().message.contains("--set other=HEX"),
        "{}",
        run.failed().message
    );
    setting
        .variables
        .insert("other".into(), parse_value("cd").unwrap());
    assert_eq!(
        run_case(&script.cases[0], &script, &setting, &["9000"])
            .passed()
            .sent,
        ["80ABCD00"]
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

#[test]
fn files_include_each_other_relative_to_themselves_and_not_for_ever() {
    let files = texts(&[
        ("t/a.apdu", "include sub/b.apdu\n80 {x} 00 00"),
        ("t/sub/b.apdu", "include \"c.apdu\"\nexit\nnonsense"),
        ("t/sub/c.apdu", "x = '07'"),
    ]);
    let script = load(Path::new("t/a.apdu"), &files).unwrap_or_else(|error| panic!("{error}"));
    let run = run_case(&script.cases[0], &script, &Setting::default(), &["9000"]).passed();
    assert_eq!(run.sent, ["80070000"]);
    let endless = texts(&[("a.apdu", "include a.apdu")]);
    let error = load(Path::new("a.apdu"), &endless).unwrap_err().to_string();
    assert!(error.contains("deep"), "{error}");
}

#[test]
fn mistakes_are_shown_with_a_caret_and_what_was_expected() {
    for (text, column, expected) in [
        ("80 40 0z 00", 8, "second hexadecimal digit"),
        ("80 40 00 -> 9", 14, "second digit of this byte"),
        ("80 40 00 ->", 12, "status word such as 9000"),
        ("80 40 {lv(x} 00", 12, "\",\" or \")\""),
        ("80 40 {x 00", 10, "closing \"}\""),
        ("uid = answer[2..", 17, "a value"),
        ("uid = answer[]", 14, "inside the brackets"),
        ("uid = \"text", 12, "closing \""),
        ("tset one", 1, "did you mean \"test\""),
        ("limit 5", 7, "a time with its unit"),
        ("limit 0s", 7, "above 0"),
        ("fetch maybe", 7, "\"on\" or \"off\""),
        ("check 1", 8, "comparison"),
        ("80400000 -> 6[]00", 15, "of the set"),
        ("80400000 -> 6[5-2]00", 18, "empty"),
        ("80400000 -> 8X/F0", 16, "without X"),
        ("secure-channel scp02", 16, "\"scp03\""),
        ("secure-channel scp03 key=00", 28, "level="),
        ("secure-channel scp03 level=33 colour=1", 31, "version="),
        ("repeat 2\n80400000", 1, "no end"),
        ("end", 1, "no repeat"),
        (
            "repeat a, b in\n00 | 01 | 02\ndo\nend",
            1,
            "expected 2 cells (a | b), found 3",
        ),
        ("test", 5, "the test's name"),
        ("test a", 1, "does nothing"),
        ("80400000\ntest a\n80400000", 1, "put it into setup"),
        ("clause x", 1, "in the test"),
        ("include b.apdu", 9, "cannot read"),
        ("x = 'AB", 8, "\"'\""),
        ("x = 12ab", 5, "'12ab'"),
        ("x = cmac('00')", 5, "cmac(key, data) takes 2 values, not 1"),
        ("80 40 {nothing()} 00", 8, "there are kdf, cmac"),
        ("80 40 00 00 -> {dek()}", 17, "1 value, not 0"),
        (
            "def f(a) = a\nx = '{f(1, 2)}'",
            7,
            "f(a) takes 1 values, not 2",
        ),
        ("repeat a in\n{g(1)}\ndo\nend", 2, "no function is called"),
        ("sw = '9000'", 1, "the last answer's"),
        ("repeat 3 as elapsed", 13, "the last answer's"),
    ] {
        let message = wrong(text);
        assert!(message.contains(expected), "{text}: {message}");
        let place = message.split(": ").next().unwrap_or_default();
        assert!(place.ends_with(&format!(":{column}")), "{text}: {message}");
        let caret = message.lines().last().unwrap_or_default();
        let margin = caret.find('|').unwrap() + 2;
        assert_eq!(caret.chars().count(), margin + column, "{message}");
    }
}

#[test]
fn mistakes_in_values_are_told_where_they_stand() {
    for (text, part) in [
        ("x = ab", "bytes are written in quotes: 'ab'"),
        ("x = '00' - 1", "takes numbers"),
        ("x = '0011'[3]", "no bytes 3 to 4: the value has 2"),
        ("x = cmac('00', '')", "16 or 32 bytes"),
        ("x = 9223372036854775807 + 1", "too large"),
        ("80 40 {256} 00", "u16(256)"),
        ("80 40 00", "at least 4 bytes"),
        ("def f(a) = f(a)\nx = f(1)", "16 deep"),
        (
            "def f(a) = g(a) | g(a)\ndef g(a) = f(a) | f(a)\nx = f(1)",
            "deep",
        ),
        (
            "x = fill('00', 1000000) | fill('00', 1000000)",
            "longer than 1048576",
        ),
        ("repeat 1000001\nend", "1000000"),
        ("x = dek('00')", "secure channel"),
    ] {
        let run = run(text, &[]);
        assert!(
            run.failed().message.contains(part),
            "{text}: {}",
            run.failed().message
        );
    }
}

#[test]
fn long_and_deep_expressions_are_refused_before_they_exhaust_the_stack() {
    for text in [
        "1+".repeat(200_000) + "1",
        "(".repeat(200_000),
        format!("x{}", "[0..]".repeat(200_000)),
        "'{".repeat(200_000),
    ] {
        let message = wrong(&format!("y = {text}"));
        let message = message.lines().next().unwrap();
        assert!(
            message.contains("levels") || message.contains("deep"),
            "{}",
            &message[message.len().saturating_sub(80)..]
        );
    }
    // As deep as is allowed, in functions that call each other as deep as is allowed.
    let sum = "1+".repeat(90);
    run(&format!("def f(a) = {sum}f(a)\nx = f(1)"), &[]).failed();
}

#[test]
fn a_loop_without_commands_gives_way_again_and_again() {
    let script = script("repeat 1000000\nrepeat 1000000\nx = 1\nend\nend");
    let mut machine = Machine::new(&script.cases[0], &script, &Setting::default());
    machine.start();
    let mut request = machine.resume(Reply::Powered {
        atr: vec![],
        transport: Transport::Apdu,
    });
    for _ in 0..10 {
        assert_eq!(request, Request::Continue);
        request = machine.resume(Reply::Done);
    }
    match machine.abort("too long".to_owned(), false) {
        Request::Done(Verdict::Failed(failure)) => assert!(failure.message.starts_with("too long")),
        other => panic!("{other:?}"),
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "([-0-9A-Fa-fxX {}()\\[\\]|*'\"=>.,:\n\\\\/#]|repeat |test |setup\n|-> |end\n|def |secure-channel scp03 ){0,60}") {
        if let Ok(script) = load(Path::new("a.apdu"), &texts(&[("a.apdu", &text)])) {
            for case in &script.cases {
                let mut machine = Machine::new(case, &script, &Setting::default());
                let mut request = machine.start();
                for _ in 0..30 {
                    if matches!(request, Request::Done(_)) {
                        break;
                    }
                    request = machine.resume(Reply::Answer { bytes: vec![1, 2, 0x90, 0], elapsed: Duration::ZERO });
                }
            }
        }
    }
}
