//! The way to the server: UDP, one socket and so one source port for each identity.
//!
//! Owns sockets, name look-ups, and what ICMP tells. Refuses to know what datagrams mean. A socket is
//! connected, so the kernel drops what does not come from the server that was polled.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    thread,
};

use protocol::identity::Uid;

use super::mail::{Mail, Post};
use crate::{fault::request::Ways, trace::CardTrace};

/// Two identities (the card's own and its recovery identity) at two addresses each: late answers to
/// any of them are still welcome.
const MAX_SOCKETS: usize = 4;
/// A name is looked up anew for each exchange, and after so many polls of one that go unanswered.
const POLLS_PER_LOOKUP: usize = 4;
/// Longer than any response, so that one that is too long is seen to be.
const BUFFER: usize = 2048;

/// The sockets of one card.
pub(super) struct Link {
    post: Post,
    trace: Option<CardTrace>,
    faults: Option<Ways<(Uid, SocketAddr)>>,
    sockets: VecDeque<Socket>,
    server: Option<Server>,
    /// A poll that waits for its server's addresses.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Socket {
    identity: Uid,
    to: SocketAddr,
    socket: UdpSocket,
}

#[derive(Debug)]
struct Server {
    endpoint: String,
    addresses: Vec<SocketAddr>,
    polls: usize,
}

#[derive(Debug)]
struct Waiting {
    identity: Uid,
    endpoint: String,
    datagram: Vec<u8>,
}

impl Link {
    /// No socket yet. Look-ups are delivered through `post`.
    pub(super) fn new(post: Post, trace: Option<CardTrace>) -> Self {
        Self {
            post,
            trace,
            faults: None,
            sockets: VecDeque::new(),
            server: None,
            waiting: None,
        }
    }

    /// With faults on both ways. A trace shows what is on the wire.
    #[must_use]
    pub(super) fn with_faults(mut self, faults: Option<Ways<(Uid, SocketAddr)>>) -> Self {
        self.faults = faults;
        self
    }

    /// Sends a poll, at once if the server's address is known, otherwise when it was looked up; a
    /// later poll takes the place of one that still waits.
    pub(super) fn send(
        &mut self,
        identity: Uid,
        endpoint: &str,
        datagram: Vec<u8>,
    ) -> io::Result<()> {
        if let Ok(address) = endpoint.parse() {
            return self.send_to(identity, address, &datagram);
        }
        if let Some(address) = self.known(endpoint) {
            return self.send_to(identity, address, &datagram);
        }
        let asked = self
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.endpoint == endpoint);
        self.waiting = Some(Waiting {
            identity,
            endpoint: endpoint.to_owned(),
            datagram,
        });
        if asked {
            Ok(())
        } else {
            self.look_up(endpoint)
        }
    }

    /// The server's addresses in turn, since the first may be the one that does not work.
    fn known(&mut self, endpoint: &str) -> Option<SocketAddr> {
        let server = self.server.as_mut()?;
        if server.endpoint != endpoint || server.polls >= POLLS_PER_LOOKUP {
            return None;
        }
        let address = server
            .addresses
            .get(server.polls % server.addresses.len().max(1))?;
        server.polls += 1;
        Some(*address)
    }

    /// In a thread of its own: getaddrinfo(3) takes as long as it likes.
    fn look_up(&self, endpoint: &str) -> io::Result<()> {
        let (post, endpoint) = (self.post.clone(), endpoint.to_owned());
        thread::Builder::new()
            .name("look-up".into())
            .spawn(move || {
                let addresses = addresses(&endpoint);
                post.send(Mail::Resolved {
                    endpoint,
                    addresses,
                });
            })
            .map(drop)
    }

    /// Takes a look-up's result, and sends the poll that waited for it.
    pub(super) fn resolved(
        &mut self,
        endpoint: String,
        addresses: io::Result<Vec<SocketAddr>>,
    ) -> io::Result<()> {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.endpoint == endpoint) else {
            return Ok(());
        };
        tracing::debug!(endpoint, ?addresses, "looked up");
        self.server = Some(Server {
            endpoint,
            addresses: addresses?,
            polls: 0,
        });
        match self.known(&waiting.endpoint) {
            Some(address) => self.send_to(waiting.identity, address, &waiting.datagram),
            None => Ok(()),
        }
    }

    fn send_to(&mut self, identity: Uid, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let Some(faults) = &mut self.faults else {
            return self.put(identity, to, datagram);
        };
        let leaving = faults.leave((identity, to), datagram);
        leaving
            .into_iter()
            .try_for_each(|((identity, to), datagram)| self.put(identity, to, &datagram))
    }

    /// Onto the wire.
    fn put(&mut self, identity: Uid, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let at = self.socket(identity, to)?;
        let socket = &self.sockets[at].socket;
        match socket.send(datagram) {
            // That was told of an earlier datagram; this one has not left yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(datagram),
            sent => sent,
        }?;
        tracing::debug!(%to, from = ?socket.local_addr().ok(), bytes = datagram.len(), "sent");
        if let (Some(trace), Ok(from)) = (&self.trace, socket.local_addr()) {
            trace.datagram(from, to, datagram);
        }
        Ok(())
    }

    /// Where the socket of this identity and server is, made if there is none.
    fn socket(&mut self, identity: Uid, to: SocketAddr) -> io::Result<usize> {
        let known = self
            .sockets
            .iter()
            .position(|socket| socket.identity == identity && socket.to == to);
        if let Some(at) = known {
            return Ok(at);
        }
        self.sockets.truncate(MAX_SOCKETS - 1);
        self.sockets.push_front(Socket {
            identity,
            to,
            socket: connected(to)?,
        });
        Ok(0)
    }

    /// The next datagram that has come, if any. `Err` tells of the way, for instance that nobody
    /// listens there (ICMP); it ends nothing.
    pub(super) fn receive(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            if let Some(datagram) = self.faults.as_mut().and_then(Ways::take) {
                return Some(Ok(datagram));
            }
            match (self.take()?, &mut self.faults) {
                (Ok(datagram), Some(faults)) => faults.arrive(datagram),
                (received, _) => return Some(received),
            }
        }
    }

    /// Whether a datagram waits that the sockets do not know of.
    pub(super) fn is_ready(&self) -> bool {
        self.faults.as_ref().is_some_and(Ways::is_ready)
    }

    /// From the wire.
    fn take(&mut self) -> Option<io::Result<Vec<u8>>> {
        let mut buffer = [0; BUFFER];
        for socket in &self.sockets {
            match socket.socket.recv(&mut buffer) {
                Ok(length) => {
                    tracing::debug!(from = %socket.to, bytes = length, "received");
                    let datagram = buffer[..length].to_vec();
                    if let (Some(trace), Ok(here)) = (&self.trace, socket.socket.local_addr()) {
                        trace.datagram(socket.to, here, &datagram);
                    }
                    return Some(Ok(datagram));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// The exchange is over: its identities, and with them their source ports, are used up.
    pub(super) fn close(&mut self) {
        self.sockets.clear();
        self.server = None;
        self.waiting = None;
        if let Some(faults) = &mut self.faults {
            faults.close();
        }
    }

    /// To be waited for.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.socket.as_fd())
    }
}

fn addresses(endpoint: &str) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = endpoint.to_socket_addrs()?.collect();
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(found)
}

fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
