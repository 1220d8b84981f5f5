//! `secapp insert` in a reader of the test's own: the other side of vpcd's wire.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Stdio},
};

use crate::{common::status, files::Folder};

const SELECT: &[u8] = &[
    0x00, 0xA4, 0x04, 0x0C, 8, 0xF0, 0x47, 0x54, 0x53, 0x41, 0x50, 0x50, 0x01,
];
const POLL: &[u8] = &[0x80, 0x40, 0x01, 0x00, 0x00];

/// A reader with one slot.
struct Slot {
    listener: TcpListener,
    stream: Option<TcpStream>,
}

impl Slot {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self {
            listener,
            stream: None,
        }
    }

    fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    /// Waits for the card and gives it power.
    fn power_on(&mut self) {
        let (stream, _) = self.listener.accept().expect("the card comes");
        stream.set_nodelay(true).expect("a socket");
        self.stream = Some(stream);
        self.send(&[1]);
    }

    fn stream(&mut self) -> &mut TcpStream {
        self.stream.as_mut().expect("a card is in the slot")
    }

    /// Length and body apart, as vpcd does.
    fn send(&mut self, body: &[u8]) {
        let length = u16::try_from(body.len()).expect("a frame").to_be_bytes();
        self.stream().write_all(&length).expect("the card reads");
        self.stream().write_all(body).expect("the card reads");
    }

    fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 2];
        self.stream().read_exact(&mut length)?;
        let mut body = vec![0; u16::from_be_bytes(length).into()];
        self.stream().read_exact(&mut body)?;
        Ok(body)
    }

    fn ask(&mut self, body: &[u8]) -> Vec<u8> {
        self.send(body);
        self.receive().expect("the card answers")
    }
}

/// `secapp insert`, ended with the test.
struct Inserted {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Inserted {
    fn into(slot: &Slot, folder: &Folder, more: &[&str]) -> Self {
        let address = slot.address();
        let arguments = [&["insert", "card.img", "--vpcd", &address][..], more].concat();
        Self::start(folder, &arguments)
    }

    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut child = folder
            .command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    /// Waits for a line that begins so.
    fn expect(&mut self, start: &str) {
        let mut line = String::new();
        while !line.starts_with(start) {
            line.clear();
            let read = self.lines.read_line(&mut line).expect("lines are text");
            assert!(read > 0, "the program ended before it said {start:?}");
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &pid])
            .status();
        assert!(sent.expect("kill").success());
    }
}

impl Drop for Inserted {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_card_stays_in_the_reader_over_power_reset_and_the_readers_restart() {
    let folder = Folder::new();
    folder.new_card(&[]);
    let mut slot = Slot::new();
    let mut card = Inserted::into(&slot, &folder, &[]);
    slot.power_on();
    card.expect("powered on, T=1");
    assert_eq!(slot.ask(&[4])[..2], [0x3B, 0x8C]);
    assert_eq!(status(&slot.ask(SELECT)), 0x9000);
    let first = slot.ask(POLL);
    assert_eq!(first[1], 1, "Resend_Counter");
    slot.send(&[2]);
    card.expect("reset");
    assert_eq!(
        status(&slot.ask(POLL)),
        0x6D00,
        "after a reset the card manager is selected"
    );
    slot.send(&[0]);
    card.expect("powered off");
    slot.stream = None;
    card.expect("no reader at");
    slot.power_on();
    card.expect("powered on");
    assert_eq!(status(&slot.ask(SELECT)), 0x9000);
    assert_eq!(slot.ask(POLL)[1], 2, "the count is in the image");
    card.signal("TERM");
    card.expect("taken out");
    assert!(card.child.wait().expect("it ends").success());
}

#[test]
fn a_card_waits_for_a_reader_that_is_not_there_and_obeys_a_signal_meanwhile() {
    let folder = Folder::new();
    folder.new_card(&[]);
    let mut slot = Slot::new();
    let address = slot.listener.local_addr().expect("an address");
    slot.listener = TcpListener::bind("127.0.0.1:0").expect("another port");
    let waiting = Slot {
        listener: TcpListener::bind(address).expect("the port is free again"),
        stream: None,
    };
    let mut card = Inserted::into(&waiting, &folder, &[]);
    drop(waiting);
    card.expect("no reader at");
    card.signal("INT");
    assert!(card.child.wait().expect("it ends").success());
}

#[test]
fn t0_is_spoken_on_request() {
    let folder = Folder::new();
    folder.new_card(&[]);
    let mut slot = Slot::new();
    let mut card = Inserted::into(&slot, &folder, &["--protocol", "t0"]);
    slot.power_on();
    card.expect("powered on, T=0");
    slot.ask(SELECT);
    assert_eq!(slot.ask(POLL), [0x6C, 20]);
    assert_eq!(
        slot.ask(&[0x80, 0x40, 1, 0, 20])[1],
        1,
        "the refused one has counted nothing"
    );
}

#[test]
fn a_torn_write_takes_the_answer_and_not_the_card() {
    let folder = Folder::new();
    folder.new_card(&[]);
    let mut slot = Slot::new();
    let mut card = Inserted::into(&slot, &folder, &["--tear-after", "1"]);
    slot.power_on();
    slot.ask(SELECT);
    slot.send(POLL);
    assert!(slot.receive().is_err(), "no answer left the card");
    card.expect("power torn");
    slot.power_on();
    slot.ask(SELECT);
    let counter = slot.ask(&[0x80, 0x40, 0, 0, 0])[1];
    assert_eq!(counter, 0, "the torn count was not committed");
    assert_eq!(slot.ask(POLL)[1], 1, "and the card goes on");
}

#[test]
fn a_card_that_gets_no_power_comes_out_until_the_reader_must_have_seen_it_leave() {
    let folder = Folder::new();
    folder.new_card(&[]);
    let mut slot = Slot::new();
    let mut card = Inserted::into(&slot, &folder, &[]);
    let (stream, _) = slot.listener.accept().expect("the card comes");
    slot.stream = Some(stream);
    loop {
        slot.send(&[4]);
        if slot.receive().is_err() {
            break;
        }
    }
    card.expect("no reader at");
    slot.power_on();
    card.expect("powered on");
}

#[test]
fn whatever_comes_from_the_reader_is_survived() {
    let folder = Folder::new();
    folder.new_card(&[]);
    let mut slot = Slot::new();
    let mut card = Inserted::into(&slot, &folder, &[]);
    slot.power_on();
    card.expect("powered on");
    for body in [&[][..], &[9], &[0; 65_535], &[0xFF; 300]] {
        assert_eq!(slot.ask(body).len(), 2, "{} bytes", body.len());
    }
    slot.stream()
        .write_all(&[0xFF, 0xFF, 1])
        .expect("the card reads");
    slot.stream = None;
    slot.power_on();
    assert_eq!(
        status(&slot.ask(SELECT)),
        0x9000,
        "a frame cut short ends with its connection"
    );
}

#[test]
fn a_rack_puts_as_many_cards_into_one_port_as_there_are() {
    const CARDS: usize = 40;
    let folder = Folder::new();
    let image = std::fs::read(folder.new_card(&[])).expect("an image");
    let rack = folder.path("rack");
    std::fs::create_dir(&rack).expect("a folder");
    for card in 0..CARDS {
        std::fs::write(rack.join(format!("{card:04}.img")), &image).expect("a copy");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut cards = Inserted::start(&folder, &["rack", "rack", "--vpcd", &address, "--one-port"]);
    cards.expect(&format!("{CARDS} cards, 0 left out"));
    let mut slots: Vec<Slot> = Vec::new();
    for _ in 0..CARDS {
        let (stream, _) = listener.accept().expect("a card comes");
        let own = TcpListener::bind("127.0.0.1:0").expect("a port");
        slots.push(Slot {
            listener: own,
            stream: Some(stream),
        });
    }
    for (slot, count) in slots.iter_mut().zip(1..) {
        slot.send(&[1]);
        assert_eq!(status(&slot.ask(SELECT)), 0x9000);
        for _ in 0..count % 3 {
            slot.ask(POLL);
        }
    }
    for (slot, count) in slots.iter_mut().zip(1..) {
        assert_eq!(
            slot.ask(&[0x80, 0x40, 0, 0, 0])[1],
            count % 3,
            "each has its own state"
        );
    }
    cards.signal("TERM");
    cards.expect("taken out");
    assert!(cards.child.wait().expect("it ends").success());
}

#[test]
fn a_rack_leaves_out_what_has_no_slot_and_inserts_nothing_beside_a_bad_image() {
    let folder = Folder::new();
    folder.new_card(&[]);
    std::fs::copy(folder.path("card.img"), folder.path("other.img")).expect("a copy");
    let address = Slot::new().address();
    let mut rack = Inserted::start(&folder, &["rack", ".", "--vpcd", &address, "--slots", "1"]);
    rack.expect("1 cards, 1 left out");
    drop(rack);
    std::fs::write(folder.path("bad.img"), "no card").expect("a file");
    let mut rack = Inserted::start(&folder, &["rack", ".", "--vpcd", &address]);
    assert_eq!(rack.child.wait().expect("it ends").code(), Some(3));
}
