//! One virtual card that is connected, whichever way it came.
//!
//! Owns its power and its commands. On any error the connection is to be given up: an answer that comes late would
//! pass for that of the next command.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use super::frame::{self, Control};
use crate::card::{Atr, CardError, Held, Power};

/// One connected virtual card.
#[derive(Debug)]
pub(super) struct VpcdCard {
    stream: TcpStream,
    timeout: Duration,
}

impl VpcdCard {
    pub(super) fn new(stream: TcpStream, timeout: Duration) -> Result<Self, CardError> {
        let prepared = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| stream.set_write_timeout(Some(timeout)));
        prepared.map_err(|error| CardError::io("a virtual card's connection", error))?;
        Ok(Self { stream, timeout })
    }

    /// Off, on, and the answer to reset.
    pub(super) fn power_cycle(&mut self) -> Result<Atr, CardError> {
        frame::write(&mut self.stream, &[Control::PowerOff as u8])?;
        frame::write(&mut self.stream, &[Control::PowerOn as u8])?;
        self.atr()
    }

    /// Takes what the card has in RAM.
    pub(super) fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        self.stay_quiet()?;
        match how {
            Power::Cycle => self.power_cycle(),
            Power::Reset => self.reset(),
        }
    }

    /// Readable when it speaks unasked, or ends.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Warm reset, and the answer to it.
    fn reset(&mut self) -> Result<Atr, CardError> {
        frame::write(&mut self.stream, &[Control::Reset as u8])?;
        self.atr()
    }

    fn atr(&mut self) -> Result<Atr, CardError> {
        frame::write(&mut self.stream, &[Control::GetAtr as u8])?;
        Atr::parse(&frame::read(&mut self.stream, self.timeout)?)
    }

    /// A card speaks only when it is asked: anything to be read is its end, or a breach.
    pub(super) fn stay_quiet(&mut self) -> Result<(), CardError> {
        let mut byte = [0];
        let peeked = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut byte));
        self.stream
            .set_nonblocking(false)
            .map_err(|error| CardError::io("a virtual card's connection", error))?;
        match peeked {
            Ok(0) => Err(CardError::Gone(
                "the virtual card has closed its connection".into(),
            )),
            Ok(_) => Err(CardError::Broken("it speaks without being asked".into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(CardError::Gone(error.to_string())),
        }
    }
}

impl Held for &mut VpcdCard {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        // One byte would be a control code.
        debug_assert!(command.len() > 1);
        self.stay_quiet()?;
        let answer = frame::write(&mut self.stream, command)
            .and_then(|()| frame::read(&mut self.stream, self.timeout));
        if answer.is_err() {
            drop(self.stream.shutdown(Shutdown::Both));
        }
        answer
    }
}
