//! The bare echo: what answering costs when there is nothing to decide. It takes datagrams with `recvmmsg`, 64 at a
//! time, and sends each back with `sendmmsg`, cut or padded to the answer's length; it looks at none of them.

use std::{
    array,
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    thread,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg},
};
use socket2::{Domain, Protocol, Socket, Type};

/// Datagrams received and sent at a time.
pub const BATCH: usize = 64;
/// Longest answer in bytes.
pub const MAX_REPLY: usize = 255;
/// Asked of the kernel for what arrives, in bytes: as the server asks.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How the echo waits for datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wait {
    /// `poll`, then `recvmmsg` of what is there: as a server waits that wants to be stopped
    Poll,
    /// A blocking `recvmmsg` (MSG_WAITFORONE): one call less
    Receive,
}

/// An echo that has bound its sockets.
pub struct Echo {
    sockets: Vec<UdpSocket>,
    reply: usize,
    wait: Wait,
}

impl Echo {
    /// Binds one socket for each worker to the same address (SO_REUSEPORT for more than one).
    pub fn bind(address: SocketAddr, workers: usize, reply: usize, wait: Wait) -> io::Result<Self> {
        let shared = workers > 1;
        let first = bind(address, shared)?;
        let address = first.local_addr()?;
        let more = (1..workers).map(|_| bind(address, shared));
        let sockets: io::Result<Vec<_>> = std::iter::once(Ok(first)).chain(more).collect();
        Ok(Self {
            sockets: sockets?,
            reply: reply.min(MAX_REPLY),
            wait,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.sockets[0].local_addr()
    }

    /// Echoes until the process is ended; returns only with an error.
    pub fn run(self) -> io::Result<()> {
        let (reply, wait) = (self.reply, self.wait);
        thread::scope(|scope| {
            let workers: Vec<_> = self
                .sockets
                .iter()
                .map(|socket| scope.spawn(move || work(socket, reply, wait)))
                .collect();
            let mut ended = workers.into_iter().map(thread::ScopedJoinHandle::join);
            ended.try_for_each(|worker| {
                worker.unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
            })
        })
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    // The kernel gives what it allows; less is no error.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn work(socket: &UdpSocket, reply: usize, wait: Wait) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    let mut rooms = Box::new([[0u8; MAX_REPLY]; BATCH]);
    let mut arriving = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut leaving = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut sources = [None; BATCH];
    loop {
        if wait == Wait::Poll {
            ready(socket)?;
        }
        let count = receive(fd, &mut arriving, &mut rooms, wait, &mut sources)?;
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            array::from_fn(|at| [IoSlice::new(&rooms[at][..reply])]);
        let mut sent = 0;
        while sent < count {
            let slices = slices[sent..count].iter();
            let to = &sources[sent..count];
            match sendmmsg(fd, &mut leaving, slices, to, [], MsgFlags::empty()) {
                Ok(some) => sent += some.count(),
                // An ICMP error of a datagram before: whoever asked has gone.
                Err(Errno::ECONNREFUSED | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn ready(socket: &UdpSocket) -> io::Result<()> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn receive(
    fd: i32,
    headers: &mut MultiHeaders<SockaddrStorage>,
    rooms: &mut [[u8; MAX_REPLY]; BATCH],
    wait: Wait,
    sources: &mut [Option<SockaddrStorage>; BATCH],
) -> io::Result<usize> {
    let flags = match wait {
        Wait::Poll => MsgFlags::MSG_DONTWAIT,
        Wait::Receive => MsgFlags::MSG_WAITFORONE,
    };
    let mut slices = rooms.each_mut().map(|room| [IoSliceMut::new(room)]);
    let arrived = match recvmmsg(fd, headers, slices.iter_mut(), flags, None) {
        Ok(arrived) => arrived,
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut count = 0;
    for (message, source) in arrived.zip(sources.iter_mut()) {
        *source = message.address;
        count += 1;
    }
    Ok(count)
}
