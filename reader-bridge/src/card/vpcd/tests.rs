//! The virtual reader against virtual cards that behave, and that do not.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::eventfd::EventFd;
use proptest::prelude::*;

use super::*;

const ATR: [u8; 4] = [0x3B, 0x81, 0x80, 0x01];

fn reader() -> VpcdPort {
    VpcdPort::listen(0)
        .unwrap()
        .with_command_timeout(Duration::from_millis(300))
}

fn never() -> OwnedFd {
    EventFd::new().unwrap().into()
}

fn connect(reader: &mut VpcdPort) -> Result<Atr, CardError> {
    let interrupt = never();
    reader.connect(&Wait::new(interrupt.as_fd(), Some(Duration::from_secs(20))))
}

/// A virtual card that answers commands with `answer` until its reader hangs up.
fn card(port: u16, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut controls = Vec::new();
        while let Some(body) = read_frame(&mut stream) {
            match body[..] {
                [4] => write_frame(&mut stream, &ATR),
                [control] => controls.push(control),
                _ => write_frame(&mut stream, &answer(&body)),
            }
        }
        controls
    })
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

fn write_frame(stream: &mut TcpStream, body: &[u8]) {
    let mut frame = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    drop(stream.write_all(&frame));
}

/// A card that writes these bytes when it has been asked for its ATR, and then nothing more.
fn hostile(port: u16, bytes: Vec<u8>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        drop(stream.write_all(&bytes));
        while read_frame(&mut stream).is_some() {}
    })
}

#[test]
fn a_card_gets_power_and_commands() {
    let mut reader = reader();
    let card = card(reader.port().unwrap(), |command| {
        [command, &[0x90, 0x00]].concat()
    });
    assert_eq!(connect(&mut reader).unwrap().as_bytes(), ATR);
    let answer = reader.hold().unwrap().transmit(&[0, 0xA4, 4, 0]).unwrap();
    assert_eq!(answer, [0, 0xA4, 4, 0, 0x90, 0]);
    drop(reader);
    assert_eq!(card.join().unwrap(), [0, 1]);
}

#[test]
fn a_card_that_reconnects_is_taken_again() {
    let mut reader = reader();
    let port = reader.port().unwrap();
    for round in 0..3 {
        let card = card(port, move |_| vec![round, 0x90, 0x00]);
        connect(&mut reader).unwrap();
        assert_eq!(reader.hold().unwrap().transmit(&[0; 4]).unwrap()[0], round);
        reader.release(false);
        card.join().unwrap();
    }
}

#[test]
fn a_card_that_goes_is_noticed_while_nothing_is_asked() {
    let mut reader = reader();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, reader.port().unwrap())).unwrap();
    write_frame(&mut stream, &ATR);
    connect(&mut reader).unwrap();
    reader.check().unwrap();
    drop(stream);
    let interrupt = never();
    let wait = Wait::new(interrupt.as_fd(), Some(Duration::from_secs(20)));
    wait.readable(reader.removal().unwrap(), None, "the card's end")
        .unwrap();
    assert!(matches!(reader.check(), Err(CardError::Gone(_))));
}

#[test]
fn a_mute_card_ends_in_time_and_its_late_answer_is_never_taken_for_another() {
    let mut reader = reader();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, reader.port().unwrap())).unwrap();
    write_frame(&mut stream, &ATR);
    connect(&mut reader).unwrap();
    let error = reader.hold().unwrap().transmit(&[0; 4]).unwrap_err();
    assert!(matches!(error, CardError::Mute(_)), "{error}");
    write_frame(&mut stream, &[0x90, 0x00]);
    assert!(reader.hold().unwrap().transmit(&[0; 4]).is_err());
}

#[test]
fn a_refused_card_stays_and_another_is_awaited() {
    let mut reader = reader();
    let port = reader.port().unwrap();
    let first = card(port, |_| vec![1, 0x90, 0x00]);
    connect(&mut reader).unwrap();
    reader.release(true);
    let second = card(port, |_| vec![2, 0x90, 0x00]);
    connect(&mut reader).unwrap();
    assert_eq!(reader.hold().unwrap().transmit(&[0; 4]).unwrap()[0], 2);
    first.join().unwrap();
    drop(reader);
    second.join().unwrap();
}

#[test]
fn no_card_in_time_says_how_to_insert_one() {
    let mut reader = reader();
    let interrupt = never();
    let wait = Wait::new(interrupt.as_fd(), Some(Duration::ZERO));
    let error = reader.connect(&wait).unwrap_err().to_string();
    assert!(error.contains("secapp insert"), "{error}");
}

#[test]
fn something_else_that_wants_attention_interrupts_the_wait() {
    let mut reader = reader();
    let interrupt = EventFd::new().unwrap();
    interrupt.write(1).unwrap();
    let wait = Wait::new(interrupt.as_fd(), None);
    assert!(matches!(reader.connect(&wait), Err(CardError::Interrupted)));
}

#[test]
fn a_port_in_use_is_refused_with_what_to_try() {
    let reader = reader();
    let error = VpcdPort::listen(reader.port().unwrap()).unwrap_err();
    assert!(error.to_string().contains("choose another port"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn no_bytes_of_a_card_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut reader = VpcdPort::listen(0).unwrap().with_command_timeout(Duration::from_millis(20));
        let card = hostile(reader.port().unwrap(), bytes);
        if connect(&mut reader).is_ok()
            && let Ok(mut held) = reader.hold() {
                drop(held.transmit(&[0; 5]));
            }
        drop(reader);
        card.join().unwrap();
    }
}
