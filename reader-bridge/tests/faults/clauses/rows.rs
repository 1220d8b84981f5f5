//! Rows of the tables in `docs/card-interface.md`, and cases that check them.
//!
//! Owns the list. A row that is new or changed at its beginning needs an entry here; a case that is renamed or removed
//! is missed.

use std::collections::BTreeSet;

use super::{Suite, text};

/// The beginning of a row; the cases that send what it speaks of and expect what it says.
type Row = (&'static str, &'static [&'static str]);

const ROWS: [Row; 44] = [
    (
        "T=1 | `3B 8C",
        &["the answer to reset tells the card's capabilities"],
    ),
    ("T=0 | `3B 0C", &["the answer to reset under T=0"]),
    (
        "1 | none",
        &["MANAGE CHANNEL opens the one that is asked for, and closes it"],
    ),
    (
        "2 | Le",
        &[
            "under T=1 an answer comes whole, as far as Le allows",
            "extended lengths carry the same commands",
        ],
    ),
    (
        "3 | Lc, data |",
        &[
            "a response may come in a chain",
            "extended lengths carry the same commands",
        ],
    ),
    (
        "4 | Lc, data, Le",
        &[
            "SIGN-SESSION is a CMAC under the OTA session key",
            "extended lengths carry the same commands",
        ],
    ),
    (
        "6E00 | CLA is no class byte",
        &["interindustry instructions other than the card's own are 6E00"],
    ),
    (
        "6881 | the channel",
        &["a channel that is not open answers nothing"],
    ),
    (
        "6700 | fewer than four bytes; lengths",
        &[
            "lengths that contradict the bytes are 6700",
            "extended lengths are 6700 under T=0",
        ],
    ),
    (
        "6883 | a chain was begun",
        &["a chain that is broken is over"],
    ),
    (
        "6882 | ISO secure messaging",
        &["secure messaging without a session is 6882"],
    ),
    (
        "6982 | a secure channel that protects",
        &["a session opens at every level, and protects what it says"],
    ),
    (
        "6E00 | the selected application",
        &["interindustry instructions other than the card's own are 6E00"],
    ),
    ("6D00 | it has no such", &["unknown instructions are 6D00"]),
    (
        "6A86 | P1 or P2",
        &[
            "SELECT takes no other parameters",
            "GET-UID takes no other parameters and no data",
            "PROCESS-RESPONSE takes no other parameters and not nothing",
            "SIGN-SESSION takes 16 bytes and no parameters",
        ],
    ),
    ("6884 | a chained", &["what takes no chain is 6884"]),
    (
        "6982 | a protected command",
        &["a repeated command is 6982 and ends the session"],
    ),
    (
        "6700 | more or less",
        &[
            "GET DATA takes no data",
            "a chain has the command's own limit",
            "INTERNAL AUTHENTICATE takes 16 to 64 bytes, and a slot with a key pair",
        ],
    ),
    (
        "6700 | no data",
        &["PROCESS-RESPONSE takes no other parameters and not nothing"],
    ),
    (
        "6985 | not personalised, or blocked",
        &[
            "SecApp that is not personalised tells so and does nothing",
            "an application that is blocked answers nothing of its own, until it is unblocked",
        ],
    ),
    (
        "6A80 | not of the form",
        &[
            "what has not the form of a response is 6A80, whether a poll is open or not",
            "a response of over 255 bytes is 6A80",
        ],
    ),
    (
        "6985 | no poll is open",
        &["without an open poll a response is 6985"],
    ),
    (
        "9862 | T is wrong",
        &[
            "every bit of a response counts",
            "another identity's response is 9862",
        ],
    ),
    ("9865 | T is right", &["a Sent that cannot be is 9865"]),
    (
        "9000 | accepted",
        &["a response is accepted, and the next poll goes out under its child"],
    ),
    (
        "bit 0 (01)",
        &["without AUTH a Sent that is too high is accepted and flagged"],
    ),
    (
        "bit 1 (02)",
        &[
            "a message id that is not newer is a duplicate",
            "a duplicate makes no key pair",
        ],
    ),
    (
        "bit 2 (04)",
        &[
            "a response whose signature is right is accepted whatever its MSG, and one that is none sets flag bit 2",
        ],
    ),
    (
        "00 E1",
        &[
            "before the first response there is no outcome",
            "the outcome stays until the next response is accepted",
        ],
    ),
    (
        "00 E7",
        &["statistics count what was accepted, refused and lost"],
    ),
    (
        "01 slot",
        &["a P-256 key pair signs", "an Ed25519 key pair signs"],
    ),
    ("00 5A", &["the ICCID"]),
    (
        "GET DATA | 80 or 00",
        &["card data tells the secure channel protocol"],
    ),
    (
        "| `00 E0`",
        &[
            "card data tells the secure channel protocol",
            "PUT KEY adds keys, and the factory's go",
        ],
    ),
    (
        "| `00 C1`",
        &[
            "the sequence counter advances by one with each session, and the challenge is a function of it",
        ],
    ),
    (
        "| `00 42`, `00 45`",
        &["the numbers of issuer and card are stored in a session, and only there"],
    ),
    (
        "STORE DATA | 84 E2",
        &["the numbers of issuer and card are stored in a session, and only there"],
    ),
    (
        "PUT KEY | 84 D8",
        &[
            "PUT KEY adds keys, and the factory's go",
            "PUT KEY replaces keys, with longer ones too, and version 00 is the lowest",
            "keys are put under the DEK, with check values, and wrong ones are refused",
        ],
    ),
    (
        "GET STATUS | 84 F2",
        &["GET STATUS tells both applications in a session"],
    ),
    (
        "SET STATUS | 84 F0 80",
        &[
            "the card's life goes forward step by step",
            "a card that is terminated answers GET DATA of its card manager, and stays so",
        ],
    ),
    (
        "| 84 F0 40",
        &["an application that is blocked answers nothing of its own, until it is unblocked"],
    ),
    // What no script can bring about, as the text says (`Where no script reaches`), and a row that points elsewhere.
    ("6700 | no byte at all", &[]),
    ("6986 | no application", &[]),
    ("6581 | the memory failed", &[]),
];
/// The last row of a table, for everything that comes after it.
const REST: &str = "others | what the command itself says";

/// Rows of tables about commands and answers, without those that head them.
fn rows(text: &str) -> Vec<&str> {
    let text = text.split("## The virtual reader").next().unwrap_or(text);
    let lines: Vec<_> = text.lines().collect();
    let is_rule = |line: &str| line.starts_with("|-");
    let pairs = lines.iter().zip(lines.iter().skip(1));
    let rows =
        pairs.filter(|(line, next)| line.starts_with('|') && !is_rule(line) && !is_rule(next));
    rows.map(|(line, _)| line.trim_start_matches('|').trim_start())
        .collect()
}

#[test]
fn every_row_of_every_table_of_the_card_interface_has_its_case() {
    let text = text();
    let rows: Vec<_> = rows(&text)
        .into_iter()
        .filter(|row| !row.starts_with(REST))
        .collect();
    for row in &rows {
        let entries = ROWS.iter().filter(|(begin, _)| row.starts_with(begin));
        assert_eq!(entries.count(), 1, "entries of the row {row:?}");
    }
    for (begin, _) in ROWS {
        let told = rows.iter().filter(|row| row.starts_with(begin));
        assert_eq!(told.count(), 1, "rows that begin with {begin:?}");
    }
    let suite = Suite::load();
    let cases: BTreeSet<_> = suite.cases().map(|(_, case)| case.name.as_str()).collect();
    for (row, named) in ROWS {
        for name in named {
            assert!(cases.contains(name), "the row {row:?} names {name:?}");
        }
    }
}
