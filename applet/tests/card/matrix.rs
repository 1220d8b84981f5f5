//! The whole matrix of commands: every class and instruction, every parameter, every length, on both protocols. What is
//! refused changes nothing.

use applet::{Card, Protocol};

use crate::common::{
    Server, card, card_t0, hex, ok, poll, process_response, status, subscription, transmit,
};

const OK: u16 = 0x9000;

/// Class bytes as ISO/IEC 7816-4:2020, 5.4.1 gives them, written down a second time.
fn class_refusal(cla: u8) -> Option<u16> {
    match cla {
        0x20..=0x3F | 0xA0..=0xBF | 0xFF => Some(0x6E00),
        0x40..=0x7F | 0xC0..=0xFE => Some(0x6881),
        _ if cla & 0x03 != 0 => Some(0x6881),
        _ if cla & 0x0C != 0 => Some(0x6882),
        _ => None,
    }
}

/// What SecApp answers to `CLA INS 00 00` on channel 0 under T=1, with nothing before it.
fn expected_bare(cla: u8, ins: u8) -> u16 {
    if let Some(refusal) = class_refusal(cla) {
        return refusal;
    }
    let chained = cla & 0x10 != 0;
    let no_chain = |status| if chained { 0x6884 } else { status };
    match (cla & 0x80 != 0, ins) {
        (false, 0x70) => no_chain(0x6101),
        (false, 0xA4) => 0x6A86,
        (false, 0xC0) => no_chain(0x6985),
        (false, _) => 0x6E00,
        (true, 0x40) => no_chain(0x6114),
        (true, 0x42 | 0x44 | 0x88 | 0xE2) => 0x6700,
        (true, 0x50 | 0x82) => no_chain(0x6700),
        (true, 0xCA) => no_chain(0x6A88),
        (true, _) => 0x6D00,
    }
}

/// Nothing of the card's memory has changed, and the poll is still the same.
struct Unchanged {
    commits: u64,
    poll: Vec<u8>,
}

impl Unchanged {
    fn of(card: &mut Card) -> Self {
        let commits = card.examination().commits;
        Self {
            commits,
            poll: poll(card, 0),
        }
    }

    #[track_caller]
    fn check(&self, card: &mut Card) {
        assert_eq!(card.examination().commits, self.commits);
        assert_eq!(poll(card, 0), self.poll);
    }
}

#[test]
fn all_65536_pairs_of_class_and_instruction() {
    let mut card = card(&subscription(3));
    let before = Unchanged::of(&mut card);
    for cla in 0..=255 {
        for ins in 0..=255 {
            let answer = status(card.transmit(&[cla, ins, 0, 0]));
            assert_eq!(answer, expected_bare(cla, ins), "{cla:02X} {ins:02X}");
            if answer == 0x6101 {
                transmit(&mut card, "00708001");
            }
        }
        before.check(&mut card);
    }
}

/// A command that is right but for its parameters: class, instruction, data, and which parameters it takes.
struct Row {
    cla: u8,
    ins: u8,
    data: &'static str,
    takes: fn(u8, u8) -> u16,
}

const ROWS: [Row; 9] = [
    Row {
        cla: 0x80,
        ins: 0x40,
        data: "",
        takes: |p1, p2| if p1 < 2 && p2 == 0 { OK } else { 0x6A86 },
    },
    Row {
        cla: 0x80,
        ins: 0x42,
        data: "8100",
        takes: |p1, p2| if (p1, p2) == (0, 0) { 0x6A80 } else { 0x6A86 },
    },
    Row {
        cla: 0x80,
        ins: 0x44,
        data: "00112233445566778899AABBCCDDEEFF",
        takes: |p1, p2| if (p1, p2) == (0, 0) { OK } else { 0x6A86 },
    },
    Row {
        cla: 0x80,
        ins: 0x88,
        data: "00112233445566778899AABBCCDDEEFF",
        takes: |p1, _| if p1 == 0 { 0x6A88 } else { 0x6A86 },
    },
    Row {
        cla: 0x80,
        ins: 0xCA,
        data: "",
        takes: |p1, p2| {
            if matches!((p1, p2), (0, 0x5A | 0xE7)) {
                OK
            } else {
                0x6A88
            }
        },
    },
    Row {
        cla: 0x80,
        ins: 0xE2,
        data: "E800",
        takes: |_, _| 0x6982,
    },
    Row {
        cla: 0x80,
        ins: 0x50,
        data: "0011223344556677",
        takes: |_, p2| if p2 == 0 { 0x6A88 } else { 0x6A86 },
    },
    Row {
        cla: 0x00,
        ins: 0xA4,
        data: "F04754534150500101",
        takes: |p1, p2| {
            if p1 == 4 && matches!(p2, 0 | 2 | 0x0C) {
                0x6A82
            } else {
                0x6A86
            }
        },
    },
    Row {
        cla: 0x00,
        ins: 0xC0,
        data: "",
        takes: |p1, p2| if (p1, p2) == (0, 0) { 0x6985 } else { 0x6A86 },
    },
];

#[test]
fn all_parameters_of_each_instruction() {
    for row in &ROWS {
        let mut card = card(&subscription(3));
        let before = Unchanged::of(&mut card);
        let data = hex(row.data);
        let lc = u8::try_from(data.len()).expect("short");
        for p1 in 0..=255 {
            for p2 in 0..=255 {
                let header = [row.cla, row.ins, p1, p2];
                let body = if data.is_empty() {
                    vec![0]
                } else {
                    [&[lc][..], &data, &[0]].concat()
                };
                let answer = status(card.transmit(&[&header[..], &body].concat()));
                let expected = (row.takes)(p1, p2);
                assert_eq!(answer, expected, "{} {p1:02X} {p2:02X}", row.ins);
                if answer != OK {
                    assert!(row.ins == 0x40 || card.examination().commits == before.commits);
                }
            }
        }
        if row.ins != 0x40 {
            before.check(&mut card);
        }
    }
}

#[test]
fn all_parameters_of_manage_channel() {
    for p1 in 0..=255u8 {
        for p2 in 0..=255u8 {
            let mut card = card(&subscription(0));
            if (p1, p2) == (0x80, 1) {
                transmit(&mut card, "0070000100");
            }
            let expected = match (p1, p2) {
                (0x00, 0..=3) | (0x80, 1) => OK,
                (0x80, 2 | 3) => 0x6881,
                _ => 0x6A86,
            };
            let answer = status(card.transmit(&[0x00, 0x70, p1, p2, 0x01]));
            assert_eq!(answer, expected, "{p1:02X} {p2:02X}");
        }
    }
}

/// An instruction with the data lengths that it takes; at those it answers something else than 6700.
struct Lengths {
    header: [u8; 4],
    min: usize,
    max: usize,
}

const LENGTHS: [Lengths; 7] = [
    Lengths {
        header: [0x80, 0x40, 0, 0],
        min: 0,
        max: 0,
    },
    Lengths {
        header: [0x80, 0x42, 0, 0],
        min: 1,
        max: 65_535,
    },
    Lengths {
        header: [0x80, 0x44, 0, 0],
        min: 16,
        max: 16,
    },
    Lengths {
        header: [0x80, 0x88, 0, 0],
        min: 16,
        max: 64,
    },
    Lengths {
        header: [0x80, 0xCA, 0, 0x5A],
        min: 0,
        max: 0,
    },
    Lengths {
        header: [0x80, 0xE2, 0x80, 0],
        min: 1,
        max: 255,
    },
    Lengths {
        header: [0x00, 0xA4, 4, 0],
        min: 5,
        max: 16,
    },
];

/// Cases 1 (or 3) and 2 (or 4), short where the length allows it and extended.
fn forms(header: [u8; 4], len: usize) -> Vec<Vec<u8>> {
    let data = vec![0xF0; len];
    let extended = u16::try_from(len).expect("a length").to_be_bytes();
    if len == 0 {
        return vec![
            header.to_vec(),
            [&header[..], &[0]].concat(),
            [&header[..], &[0, 0, 0]].concat(),
        ];
    }
    let long = [&header[..], &[0], &extended, &data].concat();
    let mut forms = vec![[&long[..], &[0, 0]].concat(), long];
    if let Ok(lc) = u8::try_from(len) {
        let short = [&header[..], &[lc], &data].concat();
        forms.extend([[&short[..], &[0]].concat(), short]);
    }
    forms
}

#[test]
fn every_length_case_at_its_limits() {
    for row in &LENGTHS {
        let mut card = card(&subscription(3));
        let before = Unchanged::of(&mut card);
        let edges = [
            0,
            1,
            row.min.saturating_sub(1),
            row.min,
            row.max,
            row.max + 1,
            255,
            256,
            65_535,
        ];
        for len in edges.into_iter().filter(|len| *len <= 65_535) {
            for apdu in forms(row.header, len) {
                let answer = status(card.transmit(&apdu));
                // An empty name selects the default application; SecApp is selected again.
                if row.header[1] == 0xA4 && len == 0 {
                    transmit(&mut card, "00A4040C08F047545341505001");
                    continue;
                }
                let fits = (row.min..=row.max).contains(&len);
                assert_eq!(
                    answer != 0x6700,
                    fits,
                    "{:02X} with {len} bytes: {answer:04X}",
                    row.header[1]
                );
            }
        }
        before.check(&mut card);
    }
}

#[test]
fn lengths_that_contradict_the_bytes_are_refused() {
    for row in &LENGTHS {
        let mut card = card(&subscription(3));
        let before = Unchanged::of(&mut card);
        for apdu in forms(row.header, row.max.clamp(16, 32)) {
            for wrong in [
                [&apdu[..], &[0, 0, 0]].concat(),
                apdu[..apdu.len() - 3].to_vec(),
            ] {
                assert_eq!(
                    status(card.transmit(&wrong)),
                    0x6700,
                    "{}",
                    hex::encode(&wrong)
                );
            }
        }
        assert_eq!(
            status(card.transmit(&[&row.header[..], &[0, 0]].concat())),
            0x6700
        );
        assert_eq!(
            status(card.transmit(&[&row.header[..], &[0, 0, 0, 0]].concat())),
            0x6700
        );
        assert_eq!(status(card.transmit(&row.header[..3])), 0x6700);
        before.check(&mut card);
    }
}

#[test]
fn partial_names_and_next_occurrences_find_one_after_the_other() {
    let mut card = card(&subscription(3));
    let name = |answer: &[u8]| hex::encode_upper(&answer[4..12]);
    assert_eq!(
        name(&ok(&transmit(&mut card, "00A4040005F04754534100"))),
        "F047545341505001"
    );
    assert_eq!(
        status(&transmit(&mut card, "00A4040205F04754534100")),
        0x6A82,
        "there is no second"
    );
    poll(&mut card, 0);
    assert_eq!(
        name(&ok(&transmit(&mut card, "00A4040007A000000151000000"))),
        "A000000151000000"
    );
    assert_eq!(
        status(&transmit(&mut card, "00A4040004F047545300")),
        0x6700,
        "under 5 bytes"
    );
    assert_eq!(
        status(&transmit(&mut card, "00A4040009F0475453415050010100")),
        0x6A82,
        "longer than the name"
    );
    assert_eq!(
        name(&ok(&transmit(&mut card, "00A4040000"))),
        "A000000151000000",
        "an empty name"
    );
    assert_eq!(
        transmit(&mut card, "00A4040C08F047545341505001"),
        [0x90, 0x00],
        "no answer"
    );
}

#[test]
fn each_channel_has_its_own_selection() {
    let mut card = card(&subscription(3));
    for channel in 1..=3u8 {
        assert_eq!(ok(&transmit(&mut card, "0070000001")), [channel]);
    }
    assert_eq!(
        status(&transmit(&mut card, "0070000001")),
        0x6A81,
        "all are open"
    );
    assert_eq!(
        status(&transmit(&mut card, "0070000200")),
        0x6A86,
        "this one, too"
    );
    assert_eq!(
        status(&transmit(&mut card, "8240000000")),
        0x6D00,
        "the card manager's"
    );
    assert_eq!(
        status(&transmit(&mut card, "02A4040C08F047545341505001")),
        OK
    );
    assert_eq!(status(&transmit(&mut card, "8240000000")), OK);
    assert_eq!(status(&transmit(&mut card, "00708002")), OK);
    assert_eq!(status(&transmit(&mut card, "8240000000")), 0x6881);
    assert_eq!(
        status(&transmit(&mut card, "00708000")),
        0x6A86,
        "the basic channel stays"
    );
    assert_eq!(
        status(&transmit(&mut card, "01708000")),
        OK,
        "a channel closes itself"
    );
    assert_eq!(
        status(&transmit(&mut card, "03A4040C08F047545341505001")),
        OK
    );
    assert_eq!(status(&transmit(&mut card, "0370000100")), OK);
    assert_eq!(
        status(&transmit(&mut card, "8140000000")),
        OK,
        "opened from channel 3, with what was selected there"
    );
    card.reset();
    assert_eq!(
        status(&transmit(&mut card, "8140000000")),
        0x6881,
        "a reset closes all but one"
    );
}

/// A response in a chain of commands of `len` bytes each, the last one with Le.
fn chain(card: &mut Card, datagram: &[u8], len: usize) -> Vec<u8> {
    let parts: Vec<_> = datagram.chunks(len).collect();
    let (last, before) = parts.split_last().expect("a datagram has bytes");
    for part in before {
        let lc = u8::try_from(part.len()).expect("short");
        assert_eq!(
            card.transmit(&[&[0x90, 0x42, 0, 0, lc], *part].concat()),
            [0x90, 0x00]
        );
    }
    let lc = u8::try_from(last.len()).expect("short");
    card.transmit(&[&[0x80, 0x42, 0, 0, lc], *last, &[0]].concat())
        .to_vec()
}

#[test]
fn a_chain_is_one_command() {
    let with = subscription(3);
    let response = Server::of(&with).answer(&[0x80, 0], 1, 1);
    for len in [1, 7, 28] {
        let mut card = card(&with);
        poll(&mut card, 0);
        assert_eq!(
            status(&chain(&mut card, &response, len)),
            OK,
            "{len} bytes each"
        );
    }
}

#[test]
fn a_chain_that_is_broken_is_over() {
    let mut card = card(&subscription(3));
    let before = Unchanged::of(&mut card);
    for (other, answer) in [
        ("8040000000", 0x6883),
        ("8042000101AA", 0x6883),
        ("00A4040C08F047545341505001", 0x6883),
        ("00C0000000", 0x6883),
        ("9044000001AA", 0x6883),
        ("90420000", 0x6700),
    ] {
        assert_eq!(status(&transmit(&mut card, "904200000181")), OK);
        assert_eq!(status(&transmit(&mut card, other)), answer, "{other}");
        assert_eq!(
            status(&transmit(&mut card, "8042000001AA")),
            0x6A80,
            "what was begun is forgotten"
        );
    }
    assert_eq!(
        status(&transmit(&mut card, "90400000")),
        0x6884,
        "no data, no chain"
    );
    assert_eq!(status(&transmit(&mut card, "10A404000101")), 0x6884);
    before.check(&mut card);
}

#[test]
fn a_chain_has_a_limit() {
    let mut card = card(&subscription(3));
    let link = [&[0x90, 0x42, 0, 0, 0xFF][..], &[0x81; 255]].concat();
    for _ in 0..257 {
        assert_eq!(status(card.transmit(&link)), OK);
    }
    assert_eq!(status(card.transmit(&link)), 0x6700, "over 65,535 bytes");
    let short = [&[0x90, 0x44, 0, 0, 16][..], &[0; 16]].concat();
    assert_eq!(status(card.transmit(&short)), OK);
    assert_eq!(status(card.transmit(&short)), 0x6700, "a challenge has 16");
}

#[test]
fn t1_gives_whole_answers_and_the_rest_on_request() {
    let mut card = card(&subscription(3));
    assert_eq!(card.protocol(), Protocol::T1);
    let whole = ok(&transmit(&mut card, "80CA00E700"));
    assert_eq!(
        ok(&transmit(&mut card, "80CA00E7000000")),
        whole,
        "extended Le"
    );
    let part = transmit(&mut card, "80CA00E70A");
    assert_eq!(
        (part.len(), status(&part)),
        (12, 0x611C),
        "Le 10: the rest waits"
    );
    let rest = transmit(&mut card, "00C0000000");
    assert_eq!([&part[..10], &ok(&rest)].concat(), whole);
    assert_eq!(
        status(&transmit(&mut card, "80CA00E7")),
        0x6126,
        "no Le: all of it waits"
    );
    assert_eq!(transmit(&mut card, "00C0000001").len(), 3);
    poll(&mut card, 0);
    assert_eq!(
        status(&transmit(&mut card, "00C0000000")),
        0x6985,
        "another command lets it go"
    );
}

#[test]
fn t0_asks_for_the_exact_length_and_fetches_answers() {
    let with = subscription(3);
    let mut card = card_t0(&with);
    assert_eq!(card.protocol(), Protocol::T0);
    let before = card.examination().commits;
    for le in ["00", "13", "15", "FF"] {
        assert_eq!(
            transmit(&mut card, &format!("80400100{le}")),
            [0x6C, 0x14],
            "Le {le}"
        );
    }
    assert_eq!(
        card.examination().commits,
        before,
        "a wrong Le counts no poll"
    );
    let datagram = ok(&transmit(&mut card, "8040010014"));
    assert_eq!(datagram[1], 1);
    assert_eq!(transmit(&mut card, "80CA00E700"), [0x6C, 0x26]);
    assert_eq!(
        transmit(&mut card, "00A4040008F047545341505001"),
        [0x61, 0x17]
    );
    assert_eq!(transmit(&mut card, "00C0000000"), [0x6C, 0x17]);
    assert_eq!(ok(&transmit(&mut card, "00C0000017"))[0], 0x6F);
    transmit(&mut card, "8040000014");
    let accepted = process_response(&mut card, &Server::of(&with).answer(&[0x80, 0], 1, 1));
    assert_eq!(accepted, [0x61, 0x10]);
    let part = transmit(&mut card, "00C0000002");
    assert_eq!(status(&part), 0x610E);
    let rest = ok(&transmit(&mut card, "00C000000E"));
    assert_eq!(
        [&part[..2], &rest].concat(),
        ok(&{
            let len = transmit(&mut card, "80CA00E100")[1];
            transmit(&mut card, &format!("80CA00E1{len:02X}"))
        })
    );
    assert_eq!(
        status(&transmit(&mut card, "80CA00E1000000")),
        0x6700,
        "no extended lengths"
    );
}

#[test]
fn held_answers_belong_to_their_channel() {
    let mut card = card(&subscription(3));
    transmit(&mut card, "0070000001");
    assert_eq!(status(&transmit(&mut card, "80CA00E7")), 0x6126);
    assert_eq!(status(&transmit(&mut card, "01C0000000")), 0x6985);
    assert_eq!(status(&transmit(&mut card, "00C0000000")), OK);
}
