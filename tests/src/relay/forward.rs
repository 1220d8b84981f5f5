//! The relay's thread: sockets in, sockets out.
//!
//! Owns one socket towards all clients and one per client towards the server. What decides is [`Plan`].

use std::io::{self, PipeReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Direction, Fate, Ledger, Passage, Plan};

/// Most clients at a time. A further one takes the place of the one that came first: a terminal may poll from a new port
/// each time.
const MAX_CLIENTS: usize = 256;

/// The longest UDP payload over IPv4 (RFC 768, RFC 791: 65535 - 20 - 8).
const MAX_DATAGRAM: usize = 65_507;

pub(super) struct Relay<R> {
    front: UdpSocket,
    server: SocketAddr,
    plan: Plan,
    ledger: Arc<Ledger>,
    report: R,
    clients: Vec<Client>,
    sent: [u64; 2],
}

/// One client, and the socket on which the server sees it.
struct Client {
    address: SocketAddr,
    back: UdpSocket,
}

impl<R: FnMut(Passage<'_>)> Relay<R> {
    pub(super) fn new(
        front: UdpSocket,
        server: SocketAddr,
        plan: Plan,
        ledger: Arc<Ledger>,
        report: R,
    ) -> io::Result<Self> {
        front.set_nonblocking(true)?;
        Ok(Self {
            front,
            server,
            plan,
            ledger,
            report,
            clients: Vec::new(),
            sent: [0; 2],
        })
    }

    /// Relays until the other end of `stopped` is closed.
    pub(super) fn run(mut self, stopped: &PipeReader) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while self.await_work(stopped) {
            self.take_up(&mut buffer);
            for index in 0..self.clients.len() {
                self.take_down(index, &mut buffer);
            }
        }
    }

    /// Waits until a socket has something to read; false when it is time to stop.
    fn await_work(&self, stopped: &PipeReader) -> bool {
        let sockets =
            std::iter::once(&self.front).chain(self.clients.iter().map(|client| &client.back));
        let mut ready: Vec<_> = std::iter::once(PollFd::new(stopped.as_fd(), PollFlags::POLLIN))
            .chain(sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)))
            .collect();
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => ready.first().is_some_and(|stop| stop.any() != Some(true)),
            Err(_) => false,
        }
    }

    fn take_up(&mut self, buffer: &mut [u8]) {
        while let Ok((length, from)) = self.front.recv_from(buffer) {
            let datagram = buffer.get(..length).unwrap_or_default();
            let fate = self.decide(Direction::Up, |relay| {
                send_on(relay.back_of(from)?, datagram).ok()
            });
            self.enter(Direction::Up, datagram, fate);
        }
    }

    fn take_down(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let Some(client) = self.clients.get(index) else {
                return;
            };
            let (received, to) = (client.back.recv(buffer), client.address);
            let length = match received {
                Ok(length) => length,
                // An ICMP answer to an earlier datagram: nobody listens there. There may be more behind it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            let fate = self.decide(Direction::Down, |relay| {
                relay.front.send_to(datagram, to).ok()
            });
            self.enter(Direction::Down, datagram, fate);
        }
    }

    fn decide(
        &mut self,
        direction: Direction,
        send: impl FnOnce(&mut Self) -> Option<usize>,
    ) -> Fate {
        let number = self.sent[slot(direction)] + 1;
        self.sent[slot(direction)] = number;
        if self.plan.takes(direction, number) {
            return Fate::Dropped;
        }
        send(self).map_or(Fate::Refused, |_| Fate::Passed)
    }

    fn enter(&mut self, direction: Direction, datagram: &[u8], fate: Fate) {
        let passage = Passage {
            direction,
            number: self.sent[slot(direction)],
            datagram,
            fate,
        };
        (self.report)(passage);
        self.ledger.enter(passage);
    }

    /// The socket on which the server sees this client, made at its first datagram.
    fn back_of(&mut self, address: SocketAddr) -> Option<&UdpSocket> {
        let known = self
            .clients
            .iter()
            .position(|client| client.address == address);
        let index = match known {
            Some(index) => index,
            None => {
                let back = towards(self.server).ok()?;
                if self.clients.len() == MAX_CLIENTS {
                    self.clients.remove(0);
                }
                self.clients.push(Client { address, back });
                self.clients.len() - 1
            }
        };
        self.clients.get(index).map(|client| &client.back)
    }
}

/// Sends to the server. A refusal is ICMP's answer to an earlier datagram, told to the next one, which has not
/// left then (udp(7)): send that again.
fn send_on(back: &UdpSocket, datagram: &[u8]) -> io::Result<usize> {
    match back.send(datagram) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => back.send(datagram),
        result => result,
    }
}

fn slot(direction: Direction) -> usize {
    match direction {
        Direction::Up => 0,
        Direction::Down => 1,
    }
}

fn towards(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
