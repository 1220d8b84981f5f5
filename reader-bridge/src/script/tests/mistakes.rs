//! What is wrong with a script is told with its place; nothing that it says harms whoever runs it.

use super::*;

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
    let mut request = machine.resume(Reply::Powered(POWERED));
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
