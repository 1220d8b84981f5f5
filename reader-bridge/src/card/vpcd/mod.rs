//! `vpcd:PORT`: the bridge is the virtual reader; a virtual card connects to it over TCP.
//!
//! Owns the listening socket, one card's connection, and its timeouts. Refuses to know what the
//! commands mean. The protocol is that of vsmartcard's vpcd (`src/vpcd/vpcd.c` there): see `frame.rs`.

mod frame;

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use super::{Atr, CardError, CardPort, CardSpec, Held, Power, Wait};
use frame::Control;

/// How long a card may take for one command, unless told otherwise.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// A virtual reader on a TCP port of the loopback address.
#[derive(Debug)]
pub struct VpcdPort {
    listener: TcpListener,
    command_timeout: Duration,
    card: Option<VpcdCard>,
    /// A card of no use here. It stays connected, since it would only come again at once, and is
    /// forgotten when it goes or another one comes.
    refused: Option<VpcdCard>,
}

/// One connected virtual card.
#[derive(Debug)]
struct VpcdCard {
    stream: TcpStream,
    timeout: Duration,
}

impl VpcdPort {
    /// Listens on 127.0.0.1:`port`; port 0 takes any that is free.
    pub fn listen(port: u16) -> Result<Self, CardError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another program listens there (pcscd's vpcd driver takes 35963 and 35964): choose another port"
                }
                _ => "",
            };
            CardError::io(
                format!("cannot be a virtual reader on 127.0.0.1:{port}{hint}"),
                error,
            )
        })?;
        listener
            .set_nonblocking(true)
            .map_err(|error| CardError::io("the virtual reader's socket", error))?;
        Ok(Self {
            listener,
            command_timeout: COMMAND_TIMEOUT,
            card: None,
            refused: None,
        })
    }

    /// Another limit for one command.
    #[must_use]
    pub fn with_command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// The TCP port that cards connect to.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    fn accept(&mut self, wait: &Wait<'_>) -> Result<VpcdCard, CardError> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    self.refused = None;
                    return VpcdCard::new(stream, self.command_timeout);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait.readable(self.listener.as_fd(), None, &self.expectation())?;
                }
                // The card went before it was accepted (accept(2), "Error handling").
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(CardError::io("taking a virtual card in", error)),
            }
        }
    }

    fn expectation(&self) -> String {
        let port = self.port().unwrap_or_default();
        let refused = if self.refused.is_some() {
            " other than the one that was refused"
        } else {
            ""
        };
        format!(
            "no virtual card{refused} has connected to 127.0.0.1:{port} (secapp insert FILE --vpcd 127.0.0.1:{port})"
        )
    }

    fn card(&mut self) -> Result<&mut VpcdCard, CardError> {
        self.card
            .as_mut()
            .ok_or_else(|| CardError::Gone("no virtual card is connected".into()))
    }
}

impl CardPort for VpcdPort {
    fn place(&self) -> String {
        CardSpec::Vpcd(self.port().unwrap_or_default()).to_string()
    }

    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError> {
        if let Some(mut card) = self.card.take()
            && card.stay_quiet().is_ok()
            && let Ok(atr) = card.power_cycle()
        {
            self.card = Some(card);
            return Ok(atr);
        }
        let mut card = self.accept(wait)?;
        let atr = card.power_cycle()?;
        self.card = Some(card);
        Ok(atr)
    }

    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError> {
        Ok(Box::new(self.card()?))
    }

    fn removal(&self) -> Option<BorrowedFd<'_>> {
        self.card.as_ref().map(|card| card.stream.as_fd())
    }

    fn check(&mut self) -> Result<(), CardError> {
        let state = self.card()?.stay_quiet();
        if state.is_err() {
            self.card = None;
        }
        state
    }

    fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        let card = self.card()?;
        card.stay_quiet()?;
        match how {
            Power::Cycle => card.power_cycle(),
            Power::Reset => card.reset(),
        }
    }

    fn release(&mut self, refused: bool) {
        let card = self.card.take();
        self.refused = if refused { card } else { None };
    }
}

impl VpcdCard {
    fn new(stream: TcpStream, timeout: Duration) -> Result<Self, CardError> {
        let prepared = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| stream.set_write_timeout(Some(timeout)));
        prepared.map_err(|error| CardError::io("a virtual card's connection", error))?;
        Ok(Self { stream, timeout })
    }

    /// Off, on, and the answer to reset.
    fn power_cycle(&mut self) -> Result<Atr, CardError> {
        frame::write(&mut self.stream, &[Control::PowerOff as u8])?;
        frame::write(&mut self.stream, &[Control::PowerOn as u8])?;
        self.atr()
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
    fn stay_quiet(&mut self) -> Result<(), CardError> {
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

/// On any error the connection is given up by [`CardPort::connect`] or [`CardPort::check`]: an
/// answer that comes late would pass for that of the next command.
impl Held for &mut VpcdCard {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        // One byte would be a control code.
        debug_assert!(command.len() > 1);
        self.stay_quiet()?;
        let answer = frame::write(&mut self.stream, command)
            .and_then(|()| frame::read(&mut self.stream, self.timeout));
        if answer.is_err() {
            drop(self.stream.shutdown(std::net::Shutdown::Both));
        }
        answer
    }
}

#[cfg(test)]
mod tests;
