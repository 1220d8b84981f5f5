//! The dissector: fields against what was sent, what is wrong marked as wrong, and no error on any bytes.

use std::net::SocketAddr;

use e2e::process::Program;
use tempfile::TempDir;

use crate::capture::{Capture, RAW};
use crate::tshark::{fields, tshark};
use crate::vectors::{bytes, cases, exchanges, text};

const SERVER: &str = "192.0.2.7:4753";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The device's end of a flow of its own.
fn device(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 40_000 + u16::try_from(number).unwrap()))
}

fn written(capture: &Capture) -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("capture.pcapng");
    capture.write(&file);
    (directory, file)
}

#[test]
fn fields_of_all_vectors_are_what_was_sent() {
    let (mut capture, mut expected) = (Capture::new(RAW), Vec::new());
    let cases = cases();
    let all = cases.iter().flat_map(exchanges);
    for (number, exchange) in all.enumerate() {
        let (poll, response) = (text(&exchange["poll"]), text(&exchange["response"]));
        capture.datagram(device(number), address(SERVER), &bytes(&exchange["poll"]));
        capture.wait(25_000);
        capture.datagram(
            address(SERVER),
            device(number),
            &bytes(&exchange["response"]),
        );
        let (polled, answered) = ((2 * number + 1).to_string(), (2 * number + 2).to_string());
        let counter = u8::from_str_radix(&poll[2..4], 16).unwrap().to_string();
        expected.push(
            [
                &format!("0x{}", &poll[..2]),
                &counter,
                &poll[4..24],
                &poll[24..],
                "",
                "",
                "",
                &answered,
                "",
                "",
            ]
            .map(str::to_owned),
        );
        let ciphertext = response.len() / 2 - 9;
        expected.push(
            [
                "0x81",
                "",
                "",
                "",
                &response[2..18],
                &response[18..],
                &(ciphertext - 18).to_string(),
                "",
                &polled,
                "0.025000000",
            ]
            .map(str::to_owned),
        );
    }
    assert!(expected.len() > 100);
    let (_directory, file) = written(&capture);
    let names = [
        "gts.form",
        "gts.resend_counter",
        "gts.uid",
        "gts.mac",
        "gts.n",
        "gts.ciphertext",
        "gts.msg.length",
        "gts.response_in",
        "gts.poll_in",
        "gts.response_time",
    ];
    assert_eq!(fields(&file, &[], &names), expected);
}

#[test]
fn what_is_lost_repeated_or_unasked_is_marked() {
    let poll = bytes(&cases()[0]["steps"][0]["poll"]);
    let response = bytes(&cases()[0]["steps"][0]["response"]);
    let again = [&[poll[0], 1], &poll[2..]].concat();
    let long = [&[0x81][..], &[7; 99]].concat();
    let mut capture = Capture::new(RAW);
    let (here, there) = (device(1), address(SERVER));
    capture.datagram(here, there, &poll);
    capture.datagram(here, there, &again);
    capture.datagram(there, here, &response);
    capture.datagram(there, here, &response);
    capture.datagram(there, device(2), &response);
    capture.datagram(there, here, &long);
    let (_directory, file) = written(&capture);
    let names = [
        "gts.first_poll_in",
        "gts.response_in",
        "gts.poll_in",
        "_ws.expert.message",
    ];
    let packets = fields(&file, &[], &names);
    assert_eq!(
        packets[0],
        ["", "", "", ""],
        "the first poll went unanswered"
    );
    assert_eq!(packets[1][..3], ["1", "3", ""]);
    assert!(packets[1][3].contains("Resend_Counter is above 0"));
    assert_eq!(packets[2], ["", "", "2", ""]);
    assert!(packets[3][3].contains("was answered before"));
    assert!(packets[4][3].contains("No poll of this source port"));
    assert!(
        packets[5][3].contains("longer than 64 bytes"),
        "the poll was plain"
    );
}

#[test]
fn what_is_no_datagram_of_the_method_is_marked_as_malformed() {
    let mut capture = Capture::new(RAW);
    let wrong: [(&[u8], &str); 8] = [
        (&[0x11; 11], "length"),
        (&[0x11; 13], "length"),
        (&[0x21; 12], "length"),
        (&[0x21; 21], "length"),
        (&[0x81; 26], "length"),
        (&[0x81; 256], "length"),
        (&[0x12; 12], "first byte"),
        (&[0x00; 1], "first byte"),
    ];
    for (datagram, _) in wrong {
        capture.datagram(device(1), address(SERVER), datagram);
    }
    let (_directory, file) = written(&capture);
    let names = ["_ws.expert.severity", "_ws.expert.message"];
    for (packet, (datagram, what)) in fields(&file, &[], &names).iter().zip(wrong) {
        // PI_ERROR.
        assert_eq!(packet[0], "8388608", "{datagram:02x?}");
        assert!(packet[1].contains(what), "{datagram:02x?}: {packet:?}");
    }
}

#[test]
fn other_ports_are_taken_by_preference_or_by_the_datagrams_form() {
    let exchange = &cases()[3]["steps"][0];
    let mut capture = Capture::new(RAW);
    let (here, there) = (address("[fe80::1]:5000"), address("[2001:db8::1]:9999"));
    // A response that nobody has polled for could be anything.
    capture.datagram(there, here, &bytes(&exchange["response"]));
    capture.datagram(here, there, &bytes(&exchange["poll"]));
    capture.datagram(there, here, &bytes(&exchange["response"]));
    let (_directory, file) = written(&capture);
    let forms = |options: &[&str]| -> Vec<String> {
        let packets = fields(&file, options, &["gts.form"]);
        packets.into_iter().map(|packet| packet.concat()).collect()
    };
    let poll = format!("0x{}", &text(&exchange["poll"])[..2]);
    assert_eq!(forms(&[]), ["", "", ""]);
    assert_eq!(
        forms(&["-o", "gts.udp_ports:4753,9999"]),
        ["0x81", &poll, "0x81"]
    );
    assert_eq!(forms(&["-o", "gts.heuristic:TRUE"]), ["", &poll, "0x81"]);
}

/// GSMTAP, version 2, header of four words, type SIM (libosmocore `gsmtap.h`).
fn gsmtap(apdu: &str) -> Vec<u8> {
    [&[2, 4, 4][..], &[0; 13], &hex::decode(apdu).unwrap()].concat()
}

#[test]
fn secapps_commands_have_names_and_outcomes_are_taken_apart() {
    let mut capture = Capture::new(RAW);
    let tap = address("127.0.0.1:4729");
    let response = "81".repeat(27);
    for apdu in [
        "00a4040008f0475453415050016f15840847545341505001a509c10101c20103c3010f9000",
        "80400000142100381017c401007a78c3d90919fa5a2860d8519000",
        &format!("804200001b{response}e110c4020002c50105c60105e30480020041\u{39}000"),
        &format!("804200001b{response}9862"),
        "80ca00e7006a88",
        // Somebody else's.
        "00b0000002ffff9000",
        "00a4040007a00000000310109000",
    ] {
        capture.datagram(tap, tap, &gsmtap(apdu));
    }
    let (_directory, file) = written(&capture);
    let names = [
        "secapp.command",
        "secapp.sw",
        "secapp.uid",
        "secapp.outcome.sent",
        "secapp.outcome.resend_counter",
        "secapp.outcome.msg",
        "secapp.outcome.polls_lost",
        "secapp.outcome.answers_lost",
        "secapp.outcome.flags.others_polled",
        "secapp.outcome.flags.duplicate",
        "secapp.outcome.flags.not_done",
    ];
    let packets = fields(&file, &[], &names);
    assert_eq!(packets[0][..2], ["SELECT", "0x9000"]);
    assert_eq!(
        packets[1][..3],
        ["GET-UID", "0x9000", "381017c401007a78c3d9"]
    );
    assert_eq!(
        packets[2],
        [
            "PROCESS-RESPONSE",
            "0x9000",
            "",
            "2",
            "5",
            "80020041",
            "4",
            "1",
            "1",
            "0",
            "1"
        ]
    );
    assert_eq!(packets[3][..2], ["PROCESS-RESPONSE", "0x9862"]);
    assert_eq!(packets[4][..2], ["GET DATA", "0x6a88"]);
    assert_eq!(packets[5].concat() + &packets[6].concat(), "");
}

/// Bytes that look random and are the same in every run (xorshift64, Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| u8::try_from(self.next(256)).unwrap())
            .collect()
    }
}

#[test]
fn no_bytes_make_it_fail() {
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let mut capture = Capture::new(RAW);
    let lengths = [
        0, 1, 2, 11, 12, 13, 19, 20, 21, 26, 27, 28, 254, 255, 256, 300,
    ];
    for number in 0..3000 {
        let mut datagram = noise.bytes(lengths[noise.0 as usize % lengths.len()]);
        if let Some(first) = datagram.first_mut() {
            *first = [0x11, 0x21, 0x81, *first][number % 4];
        }
        let (here, there) = (device(number % 5), address(SERVER));
        if number % 2 == 0 {
            capture.datagram(here, there, &datagram);
        } else {
            capture.datagram(there, here, &datagram);
        }
        let length = noise.next(60);
        let mut apdu = [
            &[0x80, [0x40, 0x42, 0xCA, 0xE2, 0xA4][number % 5]][..],
            &noise.bytes(length),
        ]
        .concat();
        apdu.truncate(noise.next(70));
        let tap = address("127.0.0.1:4729");
        capture.datagram(tap, tap, &gsmtap(&hex::encode(apdu)));
    }
    let (_directory, file) = written(&capture);
    let told = tshark(&file, &["-V", "-o", "gts.heuristic:TRUE"]);
    let errors: Vec<_> = told.iter().filter(|line| line.contains("Lua")).collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(told.len() > 30_000);
}

#[test]
fn its_fields_are_known_to_wireshark_under_the_names_in_the_documentation() {
    let script = format!("lua_script:{}", crate::tshark::dissector().display());
    let known = Program::system("tshark")
        .args(["-G", "fields", "-X", &script])
        .run();
    let documentation = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observe.md");
    let documentation = std::fs::read_to_string(documentation).unwrap();
    let names: Vec<_> = known
        .stdout
        .iter()
        .filter_map(|line| line.split('\t').nth(2))
        .filter(|name| name.starts_with("gts.") || name.starts_with("secapp."))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(
            documentation.contains(&format!("`{name}`")),
            "{name} is not documented"
        );
    }
}
