//! `vpcd:PORT`: the bridge is the virtual reader; a virtual card connects to it over TCP.
//!
//! [`VpcdPort`] takes in one card at a time, [`Slots`] any number. Owns the listening socket, the cards'
//! connections, and their timeouts. Refuses to know what the
//! commands mean. The protocol is that of vsmartcard's vpcd (`src/vpcd/vpcd.c` there): see `frame.rs`.

mod card;
mod frame;
mod slots;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Atr, CardError, CardPort, CardSpec, Held, Power, Wait};
use card::VpcdCard;
pub use slots::{Slots, Taken};

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

impl VpcdPort {
    /// Listens on 127.0.0.1:`port`; port 0 takes any that is free.
    pub fn listen(port: u16) -> Result<Self, CardError> {
        let listener = listen(port)?;
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

/// Listens on 127.0.0.1:`port`, without blocking.
fn listen(port: u16) -> Result<TcpListener, CardError> {
    let failed = |error: io::Error| {
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
    };
    bind(port).map_err(failed)
}

/// As `TcpListener::bind`, with room for many cards that come at once.
fn bind(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    // As the standard library does: a port is free again as soon as its listener is gone.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Cards that have connected and were not taken in yet; Linux allows 4,096 (net.core.somaxconn).
const BACKLOG: i32 = 1024;

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
        self.card.as_ref().map(VpcdCard::fd)
    }

    fn check(&mut self) -> Result<(), CardError> {
        let state = self.card()?.stay_quiet();
        if state.is_err() {
            self.card = None;
        }
        state
    }

    fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        self.card()?.power(how)
    }

    fn release(&mut self, refused: bool) {
        let card = self.card.take();
        self.refused = if refused { card } else { None };
    }
}

#[cfg(test)]
mod tests;
