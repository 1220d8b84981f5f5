//! Puts a card from one place into another virtual reader, and tells what any client does with it.
//!
//! Owns the connection to that reader (vsmartcard's vpcd, `src/vpcd/vpcd.c` there: frames of length:2 and body, one byte
//! is a control code). Refuses to know what commands mean.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::BorrowedFd,
};

use super::tap::Passed;
use crate::card::{Atr, CardError, CardPort, Power, Wait};

/// Why a relay ended.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The card.
    #[error("the card: {0}")]
    Card(#[from] CardError),
    /// The reader that the card is put into.
    #[error("the virtual reader: {0}")]
    Reader(io::Error),
    /// What is recorded cannot be written.
    #[error("the recording: {0}")]
    Record(io::Error),
}

const POWER_OFF: u8 = 0;
const POWER_ON: u8 = 1;
const RESET: u8 = 2;
const GIVE_ATR: u8 = 4;

/// Relays until the reader closes its connection. `interrupt` becomes readable when a card is not to be waited for any more.
pub fn relay(
    port: &mut dyn CardPort,
    mut reader: TcpStream,
    interrupt: BorrowedFd<'_>,
    each: &mut dyn FnMut(Passed) -> io::Result<()>,
) -> Result<(), RelayError> {
    let mut atr = port.connect(&Wait::new(interrupt, None))?;
    reader.set_nodelay(true).map_err(RelayError::Reader)?;
    while let Some(body) = frame(&mut reader).map_err(RelayError::Reader)? {
        let power =
            |port: &mut dyn CardPort, how: Power| -> Result<Atr, CardError> { port.power(how) };
        match body[..] {
            [POWER_OFF] => {}
            [POWER_ON | RESET] => {
                let how = if body[0] == RESET {
                    Power::Reset
                } else {
                    Power::Cycle
                };
                atr = power(port, how)?;
                each(Passed::Power(how, atr.as_bytes().to_vec())).map_err(RelayError::Record)?;
            }
            [GIVE_ATR] => answer(&mut reader, atr.as_bytes())?,
            _ => {
                let got = port.hold()?.transmit(&body);
                let told = got.as_ref().cloned().map_err(ToString::to_string);
                each(Passed::Command(body, told)).map_err(RelayError::Record)?;
                answer(&mut reader, &got?)?;
            }
        }
    }
    Ok(())
}

/// The next frame's body; `None` at the end of the connection.
fn frame(reader: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    // Length and body come apart; acknowledging at once spares 40 ms a frame.
    drop(socket2::SockRef::from(&*reader).set_tcp_quickack(true));
    match reader.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let mut body = vec![0; usize::from(u16::from_be_bytes(length))];
    drop(socket2::SockRef::from(&*reader).set_tcp_quickack(true));
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

fn answer(reader: &mut TcpStream, body: &[u8]) -> Result<(), RelayError> {
    let length = u16::try_from(body.len()).map_err(|_| {
        RelayError::Reader(io::Error::other(
            "an answer of over 65,535 bytes does not fit into a frame",
        ))
    })?;
    let frame = [&length.to_be_bytes(), body].concat();
    reader.write_all(&frame).map_err(RelayError::Reader)
}
