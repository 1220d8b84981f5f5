//! Traces, as Wireshark's own decoder reads them (Debian's package tshark).

use std::{fs::File, io::Read, net::SocketAddr, path::Path, process::Command, sync::Arc, thread};

use protocol::msg::Object;
use reader_bridge::trace::{CardTrace, HttpMessage, Trace};

use crate::run::Place;

/// The fields of each packet, as tshark prints them, and nothing that it complains of.
fn decoded(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file);
    command.args([
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
    ]);
    command.args(["-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command
        .output()
        .expect("tshark runs: install Debian's package tshark");
    let complaints = String::from_utf8(output.stderr).unwrap();
    let complaints: Vec<_> = complaints
        .lines()
        .filter(|line| !line.starts_with("Running as user"))
        .collect();
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints:?}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split('|').map(str::to_owned).collect())
        .collect()
}

#[test]
fn tshark_decodes_an_exchange_and_its_comments_tie_it_together() {
    let place = Place::new();
    place.queue(1, &[Object::UpdateAvailable(None)]);
    let file = place.directory.path().join("trace.pcapng");
    let (code, ..) = place
        .run(&["--once", "--trace", file.to_str().unwrap()])
        .end();
    assert_eq!(code, Some(0));
    let fields = [
        "gsm_sim.apdu.ins",
        "gsm_sim.apdu.sw",
        "udp.dstport",
        "udp.payload",
        "frame.comment",
        "ip.checksum.status",
        "udp.checksum.status",
        "_ws.malformed",
        "_ws.expert.severity",
    ];
    let packets = decoded(&file, &fields);
    let commands: Vec<_> = packets.iter().map(|packet| packet[0].as_str()).collect();
    assert_eq!(
        commands,
        [
            "0xa4", "0xca", "0xca", "0xca", "0x40", "0x40", "", "", "0x42", "0x40"
        ],
        "SELECT, GET DATA, GET-UID; poll, response; PROCESS-RESPONSE, GET-UID"
    );
    assert_eq!(packets[0][1], "0x9000");
    let (poll, response) = (&packets[6], &packets[7]);
    assert_eq!(poll[2], place.server.address.port().to_string());
    assert!(
        poll[3].starts_with("21") && response[3].starts_with("81"),
        "{poll:?} {response:?}"
    );
    for packet in &packets {
        assert!(packet[4].starts_with(&place.card), "{packet:?}");
        assert_eq!(
            packet[5..8],
            ["1", "1", ""],
            "checksums good, nothing malformed: {packet:?}"
        );
    }
    for packet in &packets[3..] {
        assert!(packet[4].ends_with("exchange 1"), "{packet:?}");
    }
}

#[test]
fn tshark_decodes_ipv6_and_commands_without_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.pcapng");
    let trace = Arc::new(Trace::create(&file).unwrap()).of_card("test".into());
    let (here, there): (SocketAddr, SocketAddr) = (
        "[fe80::1]:1000".parse().unwrap(),
        "[2001:db8::2]:4753".parse().unwrap(),
    );
    trace.datagram(here, there, &[0x11; 12]);
    trace.datagram(there, here, &[0x81; 27]);
    trace.set_exchange(7);
    trace.command(&[0x80, 0x40, 0, 0, 0], Err("the card is gone".into()));
    let packets = decoded(
        &file,
        &[
            "ipv6.dst",
            "udp.length",
            "udp.checksum.status",
            "frame.comment",
        ],
    );
    assert_eq!(packets[0], ["2001:db8::2", "20", "1", "test"]);
    assert_eq!(packets[1], ["fe80::1", "35", "1", "test"]);
    assert_eq!(
        packets[2][3],
        "test, exchange 7, no answer: the card is gone"
    );
}

/// A call of an OTA server and its answer, by way of the address's family that `server` has.
fn call(trace: &CardTrace, server: &str, body: &[u8]) {
    let server: SocketAddr = server.parse().unwrap();
    let here = SocketAddr::new(server.ip(), 40_000);
    let request = HttpMessage {
        start_line: "POST /start HTTP/1.1",
        headers: &[
            ("Host", b"ota.example"),
            ("Authorization", b"Bearer 0123"),
            ("X-Admin-From", b"card-7"),
        ],
        body: &[],
    };
    trace.http(here, server, request);
    let answer = HttpMessage {
        start_line: "HTTP/1.1 200 OK",
        headers: &[("Transfer-Encoding", b"chunked")],
        body,
    };
    trace.http(server, here, answer);
}

#[test]
fn tshark_matches_ota_calls_with_their_answers_in_the_exchange() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.pcapng");
    let trace = Arc::new(Trace::create(&file).unwrap()).of_card("test".into());
    trace.set_exchange(3);
    call(&trace, "192.0.2.7:8080", b"hello");
    call(&trace, "[2001:db8::7]:8080", &[0x2E; 300_000]);
    let fields = [
        "http.request.method",
        "http.authorization",
        "http.response_for.uri",
        "http.file_data",
        "frame.len",
        "frame.comment",
        "_ws.malformed",
    ];
    let packets = decoded(&file, &fields);
    assert_eq!(packets.len(), 4);
    assert_eq!(packets[0][..2], ["POST", "Bearer [redacted]"]);
    assert_eq!(packets[1][2..4], ["http://ota.example/start", "hello"]);
    assert_eq!(packets[2][0], "POST");
    assert_eq!(packets[3][2], "http://ota.example/start");
    assert!(packets[3][4].parse::<usize>().unwrap() > 300_000);
    for packet in &packets {
        assert_eq!(packet[5..], ["test, exchange 3", ""], "{packet:?}");
    }
}

#[test]
fn a_trace_is_whole_up_to_the_moment_that_its_bridge_was_killed() {
    let place = Place::new();
    let file = place.directory.path().join("trace.pcapng");
    let trace = ["--trace", file.to_str().unwrap(), "--interval", "1"];
    let mut bridge = place.run(&trace);
    for _ in 0..2 {
        bridge.expect("exchange-done");
    }
    bridge.signal("KILL");
    bridge.end();
    let packets = decoded(&file, &["frame.comment"]);
    assert!(
        packets
            .iter()
            .any(|packet| packet[0].ends_with("exchange 2"))
    );
}

#[test]
fn a_trace_that_cannot_even_begin_is_refused_by_name() {
    let place = Place::new();
    // Every write to it fails: no space left on the device.
    let (code, errors, told) = place.run(&["--once", "--trace", "/dev/full"]).end();
    assert_eq!(code, Some(1), "{told:?}");
    assert!(errors.contains("/dev/full"), "{errors}");
}

#[test]
fn a_trace_that_breaks_off_is_told_once_and_ends_nothing_else() {
    let place = Place::new();
    let pipe = place.directory.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let reader = {
        let pipe = pipe.clone();
        // Takes the beginning, and hangs up.
        thread::spawn(move || File::open(pipe).unwrap().read_exact(&mut [0; 64]).unwrap())
    };
    let trace = ["--trace", pipe.to_str().unwrap(), "--wait-card", "20s"];
    let mut bridge = place.run(&trace);
    bridge.expect("next-poll");
    bridge.signal("TERM");
    let (code, _, told) = bridge.end();
    reader.join().unwrap();
    assert_eq!(code, Some(0));
    let count = |name| told.iter().filter(|event| event["event"] == name).count();
    assert_eq!(
        (count("trace-failed"), count("exchange-done")),
        (1, 1),
        "{told:#?}"
    );
}
