//! Command strings and their answers: as cards and servers of other makes write them, and for any bytes.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    msg::KeyAlgorithm,
    remote::{
        Agent, Answer, AnswerError, BadFormat, Chaining, ChainingTrouble, Challenge, Coding, Item,
        MAX_COMMANDS, Proof, PublicKey, Script, ScriptError, ScriptStatus, Trouble, target,
    },
    tlv::TlvError,
};

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace(' ', "")).unwrap()
}

#[test]
fn strings_and_answers_of_other_makes_are_understood() {
    // GET DATA FF21 and a card's answer to it, as they were on the air between a server and a card of other makes.
    let script = Script::parse(&bytes("AE80 2205 80CAFF2100 0000")).unwrap();
    assert_eq!(script.coding, Coding::Indefinite);
    assert_eq!(script.commands().collect::<Vec<_>>(), [bytes("80CAFF2100")]);
    let answer = Answer::parse(&bytes("AF80 800101 2304 93059000 0000")).unwrap();
    assert_eq!(
        (answer.executed, &answer.answers),
        (1, &vec![bytes("93059000")])
    );
    let refused = Answer::parse(&bytes("AB06 800100 900102")).unwrap();
    let trouble = Trouble::BadFormat(BadFormat::WrongLength);
    assert_eq!(refused, Answer::refusing(Coding::Definite, trouble));
}

#[test]
fn every_object_of_a_string_has_its_place() {
    let whole = bytes("AA15 830101 810181 2205 80CAFF2100 8200 2204 00700000");
    let script = Script::parse(&whole).unwrap();
    let expected = Script {
        coding: Coding::Definite,
        chaining: Some(Chaining::First),
        immediate_action: Some(vec![0x81]),
        items: vec![
            Item::Command(bytes("80CAFF2100")),
            Item::ErrorAction(vec![]),
            Item::Command(bytes("00700000")),
        ],
    };
    assert_eq!(script, expected);
    assert_eq!(script.encode(), whole);
    assert!(Chaining::Last.continues() && Chaining::Next.continues());
    assert!(!Chaining::First.continues() && !Chaining::FirstOverResets.continues());
}

#[test]
fn what_is_no_string_is_named_in_words_and_in_an_answers_byte() {
    use BadFormat::{LengthNotFound, UnknownTag, WrongLength};
    let value = |tag, len| ScriptError::Value { tag, len };
    for (hex, error, byte) in [
        ("", ScriptError::Template, UnknownTag),
        ("AB00", ScriptError::Template, UnknownTag),
        ("AE04 2202 0000", ScriptError::Template, UnknownTag),
        (
            "AA03 2201",
            ScriptError::Tlv(TlvError::Truncated(4)),
            WrongLength,
        ),
        (
            "AA05 2204 0000",
            ScriptError::Tlv(TlvError::Truncated(6)),
            WrongLength,
        ),
        (
            "AA80 22040070 0000 0000",
            ScriptError::Tlv(TlvError::Length(1)),
            LengthNotFound,
        ),
        ("AA06 2204 00700000 00", ScriptError::End, WrongLength),
        ("AE80 2204 00700000", ScriptError::End, WrongLength),
        ("AE80 2204 00700000 00", ScriptError::End, WrongLength),
        ("AE80 2204 00700000 000000", ScriptError::End, WrongLength),
        ("AE80 2204 00700000 0001", ScriptError::End, WrongLength),
        ("AA05 2203 007000", value(0x22, 3), WrongLength),
        ("AA06 A204 00700000", ScriptError::Tag(0xA2), UnknownTag),
        (
            "AA09 2204 00700000 830101",
            ScriptError::Tag(0x83),
            UnknownTag,
        ),
        ("AA06 810181 830101", ScriptError::Tag(0x83), UnknownTag),
        ("AA06 830101 830101", ScriptError::Tag(0x83), UnknownTag),
        ("AA03 830104", value(0x83, 1), WrongLength),
        ("AA04 83020101", value(0x83, 2), WrongLength),
    ] {
        let refused = Script::parse(&bytes(hex)).unwrap_err();
        assert_eq!((refused, refused.bad_format()), (error, byte), "{hex}");
    }
}

#[test]
fn a_string_has_a_limit() {
    let of = |count| Script::of(vec![vec![0; 4]; count]).encode();
    Script::parse(&of(MAX_COMMANDS)).unwrap();
    assert_eq!(
        Script::parse(&of(MAX_COMMANDS + 1)),
        Err(ScriptError::TooMany)
    );
}

#[test]
fn an_answer_counts_as_iso_8825_writes_integers() {
    for (executed, written) in [
        (0, "AB03 800100"),
        (127, "AB03 80017F"),
        (128, "AB04 80020080"),
        (256, "AB04 80020100"),
        (u32::MAX, "AB07 800500FFFFFFFF"),
    ] {
        let answer = Answer {
            executed,
            ..Answer::default()
        };
        assert_eq!(hex::encode_upper(answer.encode()), written.replace(' ', ""));
        assert_eq!(Answer::parse(&answer.encode()), Ok(answer));
    }
    // Without the leading zero, as some cards write it.
    assert_eq!(Answer::parse(&bytes("AB03 8001FF")).unwrap().executed, 255);
    for wrong in ["AB02 8000", "AB08 80060100000000FF", "AB07 80050100000000"] {
        assert!(Answer::parse(&bytes(wrong)).is_err(), "{wrong}");
    }
    assert_eq!(
        Answer::parse(&bytes("AB04 23029000")),
        Err(AnswerError::NoCount)
    );
    assert_eq!(Answer::parse(&bytes("AA00")), Err(AnswerError::Template));
    assert!(Answer::parse(&bytes("AB06 800101 230190")).is_err());
    assert!(Answer::parse(&bytes("AB06 800100 900104")).is_err());
}

#[test]
fn public_keys_are_delivered_with_what_asked_for_them() {
    let keys = [
        PublicKey {
            algorithm: KeyAlgorithm::P256,
            slot: 1,
            point: vec![4; 65],
        },
        PublicKey {
            algorithm: KeyAlgorithm::Ed25519,
            slot: 7,
            point: vec![9; 32],
        },
    ];
    let written = PublicKey::encode_all(&keys);
    assert!(written.starts_with(&bytes("88020101 7F4943 8641 04")));
    assert_eq!(PublicKey::parse_all(&written).unwrap(), keys);
    assert_eq!(PublicKey::parse_all(&[]).unwrap(), []);
    for wrong in [
        "88020101",
        "8801017F4900",
        "880203017F4900",
        "880201017F4900",
        "8602010186 00",
    ] {
        assert!(PublicKey::parse_all(&bytes(wrong)).is_err(), "{wrong}");
    }
}

fn coding() -> impl Strategy<Value = Coding> {
    prop_oneof![Just(Coding::Definite), Just(Coding::Indefinite)]
}

fn script() -> impl Strategy<Value = Script> {
    let chaining = prop_oneof![
        Just(Chaining::First),
        Just(Chaining::FirstOverResets),
        Just(Chaining::Next),
        Just(Chaining::Last)
    ];
    let item = prop_oneof![
        vec(any::<u8>(), 4..300).prop_map(Item::Command),
        vec(any::<u8>(), 0..40).prop_map(Item::ErrorAction),
    ];
    let action = vec(any::<u8>(), 0..40);
    (
        coding(),
        option::of(chaining),
        option::of(action),
        vec(item, 0..8),
    )
        .prop_map(|(coding, chaining, immediate_action, items)| Script {
            coding,
            chaining,
            immediate_action,
            items,
        })
}

fn answer() -> impl Strategy<Value = Answer> {
    let trouble = prop_oneof![
        Just(Trouble::BadFormat(BadFormat::UnknownTag)),
        Just(Trouble::ImmediateAction),
        Just(Trouble::Chaining(ChainingTrouble::NoPreviousScript)),
        Just(Trouble::Chaining(ChainingTrouble::UnableToProcess)),
    ];
    let answers = vec(vec(any::<u8>(), 2..300), 0..8);
    (coding(), answers, option::of(trouble)).prop_map(|(coding, answers, trouble)| Answer {
        coding,
        executed: u32::try_from(answers.len()).unwrap(),
        answers,
        trouble,
    })
}

proptest! {
    #[test]
    fn a_string_gives_back_its_commands(script in script()) {
        prop_assert_eq!(Script::parse(&script.encode()), Ok(script));
    }

    #[test]
    fn an_answer_gives_back_its_answers(answer in answer()) {
        prop_assert_eq!(Answer::parse(&answer.encode()), Ok(answer));
    }

    #[test]
    fn a_string_that_is_cut_or_changed_is_read_or_refused(
        script in script(), cut in any::<prop::sample::Index>(), flip in any::<(prop::sample::Index, u8)>()
    ) {
        let mut written = script.encode();
        let (at, bits) = (flip.0.index(written.len()), flip.1);
        written[at] ^= bits;
        if let Ok(read) = Script::parse(&written) {
            prop_assert_eq!(Script::parse(&read.encode()), Ok(read));
        }
        let cut = cut.index(written.len());
        written[at] ^= bits;
        prop_assert!(Script::parse(&written[..cut]).is_err(), "nothing of a part is executed");
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300), form in 0..5usize) {
        let prefix: [&[u8]; 5] = [&[], &[0xAA], &[0xAE, 0x80], &[0xAB], &[0xAF, 0x80]];
        let bytes = [prefix[form], &bytes].concat();
        drop(Script::parse(&bytes));
        drop(Answer::parse(&bytes));
        drop(PublicKey::parse_all(&bytes));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}", form in 0..4usize) {
        let prefix = ["", "GTS-Session ", "//aid/", "//se-id/ICCID/"];
        let text = format!("{}{text}", prefix[form]);
        let _ = text.parse::<Challenge>();
        drop(text.parse::<Proof>());
        drop(text.parse::<Agent>());
        let _ = text.parse::<ScriptStatus>();
        drop(target(&text));
    }
}
