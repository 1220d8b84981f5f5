//! The card interface's numbers, from the standards' own tables: ISO/IEC 7816-4:2020 (status words 5.6, names of
//! applications 12.3.4), ETSI TS 102 221 (9862) and GlobalPlatform.

use protocol::card::{AID, CLA, StatusWord, ins, tag};

#[test]
fn status_words_are_those_of_their_standards() {
    let table = [
        (StatusWord::OK, 0x9000, "done"),
        (StatusWord::MEMORY_FAILURE, 0x6581, "memory failure"),
        (StatusWord::WRONG_LENGTH, 0x6700, "wrong length"),
        (
            StatusWord::CHANNEL,
            0x6881,
            "logical channel not supported or not open",
        ),
        (
            StatusWord::SECURE_MESSAGING,
            0x6882,
            "secure messaging not supported",
        ),
        (
            StatusWord::LAST_OF_CHAIN,
            0x6883,
            "last command of the chain expected",
        ),
        (
            StatusWord::CHAINING,
            0x6884,
            "command chaining not supported",
        ),
        (
            StatusWord::SECURITY_STATUS,
            0x6982,
            "security status not satisfied",
        ),
        (
            StatusWord::NOT_ALLOWED,
            0x6986,
            "command not allowed (no application is selected)",
        ),
        (StatusWord::WRONG_DATA, 0x6A80, "wrong data"),
        (StatusWord::FUNCTION, 0x6A81, "function not supported"),
        (StatusWord::NOT_FOUND, 0x6A82, "no such application"),
        (StatusWord::WRONG_P1P2, 0x6A86, "wrong P1 or P2"),
        (StatusWord::NO_SUCH_DATA, 0x6A88, "no such data"),
        (StatusWord::INS, 0x6D00, "instruction not supported"),
        (StatusWord::CLASS, 0x6E00, "class not supported"),
        (
            StatusWord::NOT_AUTHENTIC,
            0x9862,
            "the response is not authentic",
        ),
        (StatusWord::more(0x1B), 0x611B, "more data available"),
        (StatusWord::right_le(0x1B), 0x6C1B, "wrong Le"),
        (StatusWord(0x1234), 0x1234, "unknown status"),
    ];
    for (status, word, meaning) in table {
        assert_eq!((status.0, status.meaning()), (word, meaning));
        assert_eq!(status.to_string(), format!("{word:04X} ({meaning})"));
        assert_eq!(StatusWord::from(status.to_bytes()), status);
    }
}

#[test]
fn the_aid_is_proprietary_and_of_legal_length() {
    assert_eq!(
        AID[0] >> 4,
        0xF,
        "a proprietary AID without a registered provider"
    );
    assert!((5..=16).contains(&AID.len()));
}

#[test]
fn own_instructions_stay_clear_of_those_of_etsi() {
    let own = [ins::GET_UID, ins::PROCESS_RESPONSE, ins::SIGN_SESSION];
    assert!(own.iter().all(|ins| ![0x10, 0x12, 0x14].contains(ins)));
    // ISO/IEC 7816-3:2006, 12.1.2: INS 6X and 9X cannot be.
    assert!(own.iter().all(|ins| !matches!(ins >> 4, 0x6 | 0x9)));
    assert_eq!(CLA & 0x80, 0x80, "a proprietary class");
}

#[test]
fn interindustry_instructions_and_tags_are_those_of_iso() {
    let instructions = [
        (ins::MANAGE_CHANNEL, 0x70),
        (ins::SELECT, 0xA4),
        (ins::GET_RESPONSE, 0xC0),
        (ins::GET_DATA, 0xCA),
        (ins::STORE_DATA, 0xE2),
        (ins::INITIALIZE_UPDATE, 0x50),
        (ins::EXTERNAL_AUTHENTICATE, 0x82),
    ];
    assert!(instructions.iter().all(|(ours, theirs)| ours == theirs));
    let tags = [
        (tag::FCI, 0x6F),
        (tag::DF_NAME, 0x84),
        (tag::PROPRIETARY, 0xA5),
        (tag::ICCID, 0x5A),
        (tag::PUBLIC_KEY, 0x7F49),
        (tag::POINT, 0x86),
    ];
    assert!(tags.iter().all(|(ours, theirs)| ours == theirs));
}
