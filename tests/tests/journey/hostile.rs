//! A hostile link and a hostile card: the terminal counts it, goes on, and the card's identity is not lost.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

use e2e::ports::Reservation;
use e2e::process::DEADLINE;
use serde_json::Value;

use crate::parts::inserted::insert;
use crate::parts::noise::noise;
use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

/// Somebody on the way: takes a poll from the terminal, fetches the server's answer.
struct Middle {
    front: UdpSocket,
    back: UdpSocket,
    server: SocketAddr,
}

impl Middle {
    fn before(server: SocketAddr) -> Self {
        let (front, back) = (socket(), socket());
        Self {
            front,
            back,
            server,
        }
    }

    fn fetch(&self) -> (Vec<u8>, SocketAddr) {
        let (poll, terminal) = receive(&self.front);
        self.back.send_to(&poll, self.server).unwrap();
        (receive(&self.back).0, terminal)
    }

    fn hand(&self, datagram: &[u8], terminal: SocketAddr) {
        self.front.send_to(datagram, terminal).unwrap();
    }
}

/// What could be an answer, and is not: of every form, and the true one with a bit flipped at either end.
fn forgeries(answer: &[u8]) -> Vec<Vec<u8>> {
    let mut forged = vec![noise(1, 27), noise(2, 60), noise(3, 255)];
    forged.iter_mut().for_each(|datagram| datagram[0] = 0x81);
    for at in [1, answer.len() - 1] {
        let mut flipped = answer.to_vec();
        flipped[at] ^= 0x80;
        forged.push(flipped);
    }
    forged
}

fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|event| event["event"] == name).count()
}

#[test]
fn forged_and_replayed_answers_are_refused_and_the_true_one_is_taken_once() {
    let (one, directory) = (Subscriber::named("beset"), tempfile::tempdir().unwrap());
    let server = Server::knowing(&[&one]);
    let id = server.send(&one, &["update-available"]);
    let middle = Middle::before(server.address());
    let card = format!("image:{}", one.make_card(directory.path()).display());
    let address = middle.front.local_addr().unwrap();
    let mut terminal = Terminal::start(terminal::every_second(&card, address, directory.path()));

    let (answer, from) = middle.fetch();
    for datagram in [vec![], noise(4, 26), noise(5, 1_000), vec![0x11; 12]] {
        middle.hand(&datagram, from);
    }
    let forged = forgeries(&answer);
    forged
        .iter()
        .for_each(|datagram| middle.hand(datagram, from));
    (0..3).for_each(|_| middle.hand(&answer, from));
    let first = terminal.expect_exchange();
    assert_eq!(first["sent"], 1);
    terminal.expect_message(id);

    // The old answer again, before the new one.
    let (next, from) = middle.fetch();
    middle.hand(&answer, from);
    middle.hand(&next, from);
    assert_eq!(
        terminal.expect_exchange()["identity_before"],
        first["identity_after"]
    );

    let events = terminal.events();
    assert_eq!(
        count(&events, "answer-refused"),
        forged.len() + 1,
        "{:?}",
        terminal.process
    );
    assert_eq!(count(&events, "answer-dropped"), 4);
    assert_eq!(terminal.acted_on(), [id]);
}

/// What a card of noise does with one connection: answers so many frames, then goes.
fn misbehave(port: u16, frames: usize, answer: impl Fn(usize) -> Vec<u8>) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    for number in 0..frames {
        let mut length = [0; 2];
        // The terminal may have had enough, and hung up.
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut body = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let silent = matches!(body[..], [0..=2]);
        if !silent && stream.write_all(&answer(number)).is_err() {
            return;
        }
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [&length.to_be_bytes(), body].concat()
}

#[test]
fn a_card_that_answers_noise_is_survived_and_the_next_one_is_served() {
    let (one, directory) = (
        Subscriber::named("after-noise"),
        tempfile::tempdir().unwrap(),
    );
    let (server, port) = (Server::knowing(&[&one]), Reservation::of(1));
    let id = server.send(&one, &["update-available"]);
    let card = format!("vpcd:{}", port.first());
    let mut terminal = Terminal::start(terminal::every_second(
        &card,
        server.address(),
        directory.path(),
    ));
    terminal.expect("waiting-for-card");
    let atr = frame(&[0x3B, 0x80, 0x01, 0x81]);
    misbehave(port.first(), 3, |_| frame(&[]));
    misbehave(port.first(), 3, |_| vec![0xFF; 7]);
    misbehave(port.first(), 3, |number| frame(&noise(number, 65_535)));
    misbehave(port.first(), 6, |number| match number {
        0..=1 => atr.clone(),
        _ => frame(&[&noise(number, 40)[..], &[0x90, 0x00]].concat()),
    });
    misbehave(port.first(), 4, |number| {
        if number < 2 {
            atr.clone()
        } else {
            frame(&[0x90])
        }
    });
    let image = one.make_card(directory.path());
    let _card = insert(&image, port.first()).start();
    terminal.expect_message(id);
    terminal.expect_exchange();
    assert_eq!(server.message_states(&one), [(id, "delivered".to_owned())]);
}
