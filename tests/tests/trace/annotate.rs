//! `reader-bridge trace annotate`: chains followed through captures, everything else left as it was.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use e2e::process::{Finished, Program};
use serde_json::Value;
use tempfile::TempDir;

use crate::capture::{Capture, RAW, ip};
use crate::tshark::fields;
use crate::vectors::{bytes, cases, exchanges, text};

const SERVER: &str = "192.0.2.7:4753";

fn server() -> SocketAddr {
    SERVER.parse().unwrap()
}

fn device(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 30_000 + u16::try_from(number).unwrap()))
}

fn annotate(directory: &Path, keys: &str) -> Finished {
    fs::write(directory.join("keys.csv"), keys).unwrap();
    Program::built("reader-bridge")
        .args(["trace", "annotate"])
        .arg(directory.join("capture"))
        .arg("--key-file")
        .arg(directory.join("keys.csv"))
        .arg("-o")
        .arg(directory.join("out.pcapng"))
        .run()
}

/// The comments of each packet of the copy.
fn comments(directory: &Path) -> Vec<String> {
    let packets = fields(&directory.join("out.pcapng"), &[], &["frame.comment"]);
    packets.into_iter().map(|packet| packet.concat()).collect()
}

fn annotated(capture: &Capture, keys: &str) -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    capture.write(&directory.path().join("capture"));
    let done = annotate(directory.path(), keys);
    assert!(done.status.success(), "{done:?}");
    let comments = comments(directory.path());
    (directory, comments)
}

/// K and UID_1 of these cases.
fn key_file(cases: &[Value]) -> String {
    let line = |case: &Value| {
        let (name, key, mode) = (text(&case["reference"]), text(&case["key"]), &case["mode"]);
        format!("{name},{key},{mode},uid:{}\n", text(&case["uid1"]))
    };
    let lines: String = cases.iter().map(line).collect();
    format!("reference,key,mode,first_identity\n{lines}")
}

#[test]
fn all_vectors_are_followed_from_k_alone_and_no_secret_is_told() {
    let cases = cases();
    let mut capture = Capture::new(RAW);
    let all: Vec<_> = cases.iter().flat_map(exchanges).collect();
    for (number, exchange) in all.iter().enumerate() {
        capture.datagram(device(number), server(), &bytes(&exchange["poll"]));
        capture.datagram(server(), device(number), &bytes(&exchange["response"]));
    }
    let (_directory, comments) = annotated(&capture, &key_file(&cases));
    assert_eq!(comments.len(), 2 * all.len());
    for (exchange, pair) in all.iter().zip(comments.chunks(2)) {
        assert!(pair[0].starts_with("gts: sub-"), "{pair:?}");
        assert!(!pair[0].contains("NOT AUTHENTIC"), "{pair:?}");
        let sent = format!("Sent {}", exchange["sent"]);
        assert!(pair[1].contains(&sent), "{pair:?}");
        let next = exchange
            .get("next_uid")
            .or(exchange.get("child_uid"))
            .unwrap();
        assert!(pair[1].contains(text(next)), "{pair:?}");
        for secret in ["k", "k_r", "uid_rand", "next_k", "child_k", "k_enc"] {
            if let Some(secret) = exchange.get(secret) {
                assert!(!comments.concat().contains(text(secret)), "{secret}");
            }
        }
    }
    let steps = cases[0]["steps"].as_array().unwrap();
    if steps.len() > 1 {
        assert!(
            comments[2].contains("so the card has accepted"),
            "{}",
            comments[2]
        );
    }
}

#[test]
fn a_chain_that_began_before_is_taken_up_where_the_key_file_says() {
    let case = cases().into_iter().find(|case| case["mode"] == 3).unwrap();
    let steps = case["steps"].as_array().unwrap();
    let mut capture = Capture::new(RAW);
    for (number, step) in steps.iter().enumerate().skip(1) {
        capture.datagram(device(number), server(), &bytes(&step["poll"]));
        capture.datagram(server(), device(number), &bytes(&step["response"]));
    }
    let (_directory, lost) = annotated(&capture, &key_file(std::slice::from_ref(&case)));
    assert!(
        lost[0].contains("its chain began before this capture"),
        "{lost:?}"
    );
    assert!(lost[1].contains("not known"), "{lost:?}");
    let middle = format!(
        "reference,mode,identity,identity_key\nmeter,3,{},{}\n",
        text(&steps[1]["uid"]),
        text(&steps[1]["k"])
    );
    let (_directory, found) = annotated(&capture, &middle);
    assert!(
        found
            .iter()
            .all(|comment| comment.starts_with("gts: meter: ")),
        "{found:?}"
    );
}

#[test]
fn answers_that_are_wrong_are_told_as_such() {
    let case = &cases()[0];
    let mut capture = Capture::new(RAW);
    let step = &case["steps"][0];
    let mut changed = bytes(&step["response"]);
    changed[12] ^= 1;
    capture.datagram(device(1), server(), &bytes(&step["poll"]));
    capture.datagram(server(), device(1), &changed);
    capture.datagram(server(), device(2), &bytes(&step["response"]));
    capture.datagram(device(1), server(), b"nothing of the method");
    let (_directory, comments) = annotated(&capture, &key_file(std::slice::from_ref(case)));
    assert!(comments[1].contains("NOT AUTHENTIC"), "{comments:?}");
    assert!(comments[2].contains("not in this capture"), "{comments:?}");
    assert_eq!(comments[3], "");
}

/// An option of a packet.
fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut option = [
        &code.to_le_bytes()[..],
        &(value.len() as u16).to_le_bytes(),
        value,
    ]
    .concat();
    option.resize(option.len().next_multiple_of(4), 0);
    option
}

#[test]
fn what_is_there_stays_and_every_kind_of_link_is_read() {
    let case = &cases()[3];
    let poll = ip(device(1), server(), &bytes(&case["steps"][0]["poll"]));
    let behind = |head: &[u8]| [head, &poll].concat();
    let [from, to] = ["[2001:db8::1]:30001", "[2001:db8::7]:4753"].map(|end| end.parse().unwrap());
    let poll6 = ip(from, to, &bytes(&case["steps"][0]["poll"]));
    for (link, packet) in [
        (1, behind(&[&[0; 12][..], &[8, 0]].concat())),
        (1, behind(&[&[0; 12][..], &[0x81, 0, 0, 7, 8, 0]].concat())),
        (113, behind(&[&[0; 14][..], &[8, 0]].concat())),
        (276, behind(&[&[8, 0][..], &[0; 18]].concat())),
        (228, poll.clone()),
        (0, behind(&2u32.to_le_bytes())),
        (0, behind(&2u32.to_be_bytes())),
        (108, behind(&2u32.to_be_bytes())),
        (12, poll.clone()),
        (1, [&[0; 12][..], &[0x86, 0xDD], &poll6].concat()),
        (0, [&24u32.to_be_bytes()[..], &poll6].concat()),
        (229, poll6.clone()),
    ] {
        let mut capture = Capture::new(link);
        let kept = [option(1, b"mine"), option(2, &[0; 4]), vec![0; 4]].concat();
        capture.packet(&packet, &kept);
        capture.packet(b"anything", &option(1, b"else"));
        capture.block(0x0BAD, b"a private block");
        capture.packet(&packet, &[]);
        let (directory, comments) = annotated(&capture, &key_file(std::slice::from_ref(case)));
        assert!(
            comments[0].starts_with("mine") && comments[0].contains("gts: sub-"),
            "{link}: {comments:?}"
        );
        assert_eq!(comments[1], "else");
        assert!(comments[3].starts_with("gts: sub-"), "{link}: {comments:?}");
        // tshark shows the private block as a packet, too.
        let out = fs::read(directory.path().join("out.pcapng")).unwrap();
        assert!(out.windows(15).any(|window| window == b"a private block"));
        // A second run adds nothing.
        fs::rename(
            directory.path().join("out.pcapng"),
            directory.path().join("capture"),
        )
        .unwrap();
        let again = annotate(directory.path(), &key_file(std::slice::from_ref(case)));
        assert!(again.status.success(), "{again:?}");
        assert_eq!(fs::read(directory.path().join("out.pcapng")).unwrap(), out);
    }
}

#[test]
fn a_capture_of_a_big_endian_machine_is_read_and_stays_one() {
    let case = &cases()[3];
    let step = &case["steps"][0];
    let mut file = big_endian(
        0x0A0D_0D0A,
        &[&0x1A2B_3C4Du32.to_be_bytes()[..], &[0, 1, 0, 0], &[0xFF; 8]],
    );
    file.extend(big_endian(1, &[&RAW.to_be_bytes(), &[0; 6]]));
    for (from, to, datagram) in [
        (device(1), server(), "poll"),
        (server(), device(1), "response"),
    ] {
        let packet = ip(from, to, &bytes(&step[datagram]));
        let length = (packet.len() as u32).to_be_bytes();
        let time = 1_700_000_000_000_000u64.to_be_bytes();
        file.extend(big_endian(6, &[&[0; 4], &time, &length, &length, &packet]));
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("capture"), &file).unwrap();
    let done = annotate(directory.path(), &key_file(std::slice::from_ref(case)));
    assert!(done.status.success(), "{done:?}");
    let told = comments(directory.path());
    assert!(
        told.iter().all(|one| one.starts_with("gts: sub-")),
        "{told:?}"
    );
    assert!(told[1].contains("next identity"), "{told:?}");
    let copy = fs::read(directory.path().join("out.pcapng")).unwrap();
    assert_eq!(copy[8..12], 0x1A2B_3C4Du32.to_be_bytes());
}

/// A block of pcapng whose machine writes the highest byte first.
fn big_endian(kind: u32, body: &[&[u8]]) -> Vec<u8> {
    let mut body = body.concat();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = (body.len() as u32 + 12).to_be_bytes();
    [&kind.to_be_bytes()[..], &length, &body, &length].concat()
}

/// pcap of either byte order, with microseconds or nanoseconds.
fn pcap(word: impl Fn(u32) -> [u8; 4], magic: u32, packet: &[u8]) -> Vec<u8> {
    let length = packet.len() as u32;
    let versions = word(0x0002_0004);
    let versions = if word(1)[0] == 1 {
        [2, 0, 4, 0]
    } else {
        versions
    };
    let head = [
        word(magic),
        versions,
        word(0),
        word(0),
        word(65_535),
        word(101),
    ]
    .concat();
    let record = [word(1_700_000_000), word(500), word(length), word(length)].concat();
    [&head[..], &record, packet].concat()
}

#[test]
fn tcpdumps_older_form_is_read_and_what_is_cut_off_is_told() {
    let case = &cases()[3];
    let keys = key_file(std::slice::from_ref(case));
    let packet = ip(device(1), server(), &bytes(&case["steps"][0]["poll"]));
    for bytes in [
        pcap(u32::to_le_bytes, 0xA1B2_C3D4, &packet),
        pcap(u32::to_be_bytes, 0xA1B2_C3D4, &packet),
        pcap(u32::to_le_bytes, 0xA1B2_3C4D, &packet),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("capture");
        fs::write(&file, &bytes).unwrap();
        assert!(annotate(directory.path(), &keys).status.success());
        assert!(comments(directory.path())[0].starts_with("gts: sub-"));
        let times = fields(
            &directory.path().join("out.pcapng"),
            &[],
            &["frame.time_epoch"],
        );
        assert!(times[0][0].starts_with("1700000000.000"), "{times:?}");
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        let cut = annotate(directory.path(), &keys);
        assert!(
            cut.status.success() && format!("{cut:?}").contains("left out"),
            "{cut:?}"
        );
    }
}

#[test]
fn what_is_no_capture_or_no_key_file_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("capture"),
        b"\x1f\x8b\x08\x00 and so on",
    )
    .unwrap();
    let refused = annotate(directory.path(), "key,first_identity\n");
    assert_eq!(refused.status.code(), Some(1));
    assert!(format!("{refused:?}").contains("unpacked"), "{refused:?}");
    let secret = "2b7e151628aed2a6abf7158809cf4f3";
    let keys = format!("key,first_identity\n{secret},uid:00112233445566778899\n");
    let refused = annotate(directory.path(), &keys);
    assert_eq!(refused.status.code(), Some(8));
    let told = format!("{refused:?}");
    assert!(told.contains("line 2") && !told.contains(secret), "{told}");
}
