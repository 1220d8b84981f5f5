//! What the card costs in a real reader: the time of GET-UID (P1 = 00) through pcscd and vpcd against that of an empty
//! virtual card, which answers as many bytes without a thought, in one run and in turns.
//!
//! A pcscd with two free slots must run; `private-pcscd` of the package in `tests/` prints ports and names.
//!
//! ```text
//! PCSCLITE_CSOCK_NAME=… reader-speed PORT_1 READER_1 PORT_2 READER_2 [ROUNDS]
//! ```

use std::{
    ffi::CString,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use applet::{
    Protocol,
    nvm::{RamDevice, Store},
    secapp::{FirstIdentity, Personalisation, personalise},
    vpcd::{self, Socket, Stop},
};
use protocol::{identity::Mode, key::Key};
use socket2::SockRef;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SELECT: &[u8] = &[
    0x00, 0xA4, 0x04, 0x0C, 8, 0xF0, 0x47, 0x54, 0x53, 0x41, 0x50, 0x50, 0x01,
];
const GET_UID: &[u8] = &[0x80, 0x40, 0, 0, 0];
/// Commands timed together.
const BLOCK: u32 = 10;
const ROUNDS: usize = 2000;

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port_1, reader_1, port_2, reader_2, rest @ ..] = &arguments[..] else {
        return Err("usage: reader-speed PORT_1 READER_1 PORT_2 READER_2 [ROUNDS]".into());
    };
    let rounds = rest.first().map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let stop = Arc::new(Stop::default());
    let card = insert_card(port_1, Arc::clone(&stop))?;
    let empty = thread::spawn({
        let address = format!("127.0.0.1:{port_2}");
        move || empty_card(&address)
    });
    let context = pcsc::Context::establish(pcsc::Scope::User)?;
    let [secapp, other] = [connect(&context, reader_1)?, connect(&context, reader_2)?];
    time(&secapp, SELECT, 1)?;
    let (mut times, mut empty_times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        times.push(time(&secapp, GET_UID, BLOCK)?);
        empty_times.push(time(&other, GET_UID, BLOCK)?);
    }
    println!("{rounds} × {BLOCK} GET-UID each, in turns; µs per command");
    println!("           fastest tenth   median");
    let [card_at, empty_at] = [quantiles(&mut times), quantiles(&mut empty_times)];
    for (name, [tenth, median]) in [("card", card_at), ("empty card", empty_at)] {
        println!("{name:<11}{tenth:13.1}{median:9.1}");
    }
    let ratio = [0, 1].map(|at| card_at[at] / empty_at[at]);
    println!("ratio      {:13.3}{:9.3}", ratio[0], ratio[1]);
    // First the reader lets go of the cards, then they are taken out.
    for card in [secapp, other] {
        card.disconnect(pcsc::Disposition::UnpowerCard)
            .map_err(|(_, error)| error)?;
    }
    stop.stop();
    card.join().map_err(|_| "the card panicked")?;
    // It ends with its reader, which the caller ends.
    drop(empty);
    Ok(())
}

/// The time that a tenth of the blocks kept below, which another load on the machine hardly changes, and the median; in
/// microseconds.
fn quantiles(times: &mut [Duration]) -> [f64; 2] {
    times.sort();
    [times.len() / 10, times.len() / 2].map(|at| times[at].as_secs_f64() * 1e6)
}

fn insert_card(port: &str, stop: Arc<Stop>) -> Result<thread::JoinHandle<()>> {
    let mut memory = Store::format(Box::new(RamDevice::blank()), None)?;
    let with = Personalisation {
        iccid: "8988374172470184089".parse()?,
        key: Key::from_bytes(&[0x2B; 16])?,
        mode: Mode::DEFAULT,
        first: FirstIdentity::Iccid,
    };
    personalise(&mut memory, &with)?;
    let mut card = applet::card(memory, Protocol::T1)?;
    let reader = Socket::parse(&format!("127.0.0.1:{port}"))?;
    Ok(thread::spawn(move || {
        vpcd::insert(&mut card, &reader, None, &stop, drop);
    }))
}

/// The least that a virtual card can do: the same socket options, 20 bytes and 9000 to every command.
fn empty_card(address: &str) -> std::io::Result<()> {
    const ATR: [u8; 7] = [0x3B, 0x85, 0x01, b'e', b'm', b'p', b't'];
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answer = [0; 2 + 22];
    answer[1] = 22;
    answer[22..].copy_from_slice(&[0x90, 0x00]);
    let mut atr = vec![0, 9];
    atr.extend_from_slice(&ATR);
    // The fifth historical byte, and TCK.
    atr.push(b'y');
    atr.push(atr[3..].iter().fold(0, |check, byte| check ^ byte));
    let mut bytes = [0; 4096];
    let mut have = 0;
    loop {
        SockRef::from(&stream).set_tcp_quickack(true)?;
        match stream.read(&mut bytes[have..])? {
            0 => return Ok(()),
            len => have += len,
        }
        let mut at = 0;
        while let Some((length, rest)) = bytes[at..have].split_first_chunk() {
            let Some(body) = rest.get(..usize::from(u16::from_be_bytes(*length))) else {
                break;
            };
            at += 2 + body.len();
            match body {
                [4] => stream.write_all(&atr)?,
                [_] => {}
                _ => stream.write_all(&answer)?,
            }
        }
        bytes.copy_within(at..have, 0);
        have -= at;
    }
}

/// Waits for the card to be in the reader.
fn connect(context: &pcsc::Context, reader: &str) -> Result<pcsc::Card> {
    let name = CString::new(reader)?;
    let mut states = [pcsc::ReaderState::new(name.clone(), pcsc::State::UNAWARE)];
    while !states[0].event_state().contains(pcsc::State::PRESENT) {
        context.get_status_change(Duration::from_secs(20), &mut states)?;
        states[0].sync_current_state();
    }
    Ok(context.connect(&name, pcsc::ShareMode::Exclusive, pcsc::Protocols::ANY)?)
}

/// The mean time of a command.
fn time(card: &pcsc::Card, apdu: &[u8], count: u32) -> Result<Duration> {
    let mut buffer = [0; 300];
    let start = Instant::now();
    for _ in 0..count {
        let answer = card.transmit(apdu, &mut buffer)?;
        if !answer.ends_with(&[0x90, 0x00]) {
            return Err(format!("the card answered {answer:02X?}").into());
        }
    }
    Ok(start.elapsed() / count)
}
