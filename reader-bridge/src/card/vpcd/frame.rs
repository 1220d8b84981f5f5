//! Frames between a virtual reader and a virtual card: length:2 (big-endian) and body, both ways.
//! A body of one byte from the reader is a control code; only [`Control::GetAtr`] is answered.
//!
//! Owns reading and writing them within a time. Source: vsmartcard, `virtualsmartcard/src/vpcd/vpcd.c`.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::card::CardError;

/// Control codes, from reader to card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Control {
    PowerOff = 0,
    PowerOn = 1,
    Reset = 2,
    GetAtr = 4,
}

/// Writes a frame, length and body in one piece: two pieces cost a delayed acknowledgement (40 ms) each.
pub(super) fn write(stream: &mut TcpStream, body: &[u8]) -> Result<(), CardError> {
    let Ok(length) = u16::try_from(body.len()) else {
        return Err(CardError::Broken(format!(
            "a command of {} bytes does not fit into a frame",
            body.len()
        )));
    };
    let mut frame = Vec::with_capacity(LENGTH + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(body);
    stream.write_all(&frame).map_err(|error| gone(&error))
}

const LENGTH: usize = 2;

/// Reads one frame's body, at most 65,535 bytes, all of it within `timeout`.
pub(super) fn read(stream: &mut TcpStream, timeout: Duration) -> Result<Vec<u8>, CardError> {
    let until = Instant::now() + timeout;
    let mut length = [0; LENGTH];
    fill(stream, &mut length, until, timeout)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes(length))];
    fill(stream, &mut body, until, timeout)?;
    Ok(body)
}

/// `read_exact` with one deadline over all its reads, so that dripping bytes gains no time.
fn fill(
    stream: &mut TcpStream,
    mut out: &mut [u8],
    until: Instant,
    timeout: Duration,
) -> Result<(), CardError> {
    while !out.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CardError::Mute(timeout.as_secs()));
        }
        // Virtual cards write length and body apart; acknowledging at once spares 40 ms a frame.
        drop(socket2::SockRef::from(&*stream).set_tcp_quickack(true));
        stream
            .set_read_timeout(Some(left))
            .map_err(|error| CardError::io("a virtual card's connection", error))?;
        match stream.read(out) {
            Ok(0) => return Err(closed()),
            Ok(count) => out = &mut out[count..],
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(gone(&error)),
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    // A read timeout is reported as either (std::net::TcpStream::set_read_timeout).
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn closed() -> CardError {
    CardError::Gone("the virtual card has closed its connection".into())
}

fn gone(error: &io::Error) -> CardError {
    if is_timeout(error) {
        CardError::Gone("the virtual card takes no more bytes".into())
    } else {
        CardError::Gone(format!("the virtual card's connection broke: {error}"))
    }
}
