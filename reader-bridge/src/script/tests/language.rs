//! What scripts can say.

use super::*;

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
