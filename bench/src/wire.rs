//! A device's end of the network: one UDP socket connected to the server, datagrams of one size in batches.
//!
//! Sends with `UDP_SEGMENT` where the kernel takes it (64 datagrams cross the stack of the sender as one and are
//! datagrams again before anybody sees them: udp(7)), with `sendmmsg` otherwise; receives with `recvmmsg`. Never blocks.

use std::{
    array,
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendmsg,
        setsockopt, sockopt,
    },
};

/// Datagrams that one call sends or receives at most.
pub const BATCH: usize = 64;
/// Room for one answer in bytes: the longest has 255, and one that is longer has to be seen.
const ROOM: usize = 300;
/// Asked of the kernel for each direction, in bytes: a whole window of datagrams fits.
const BUFFER: usize = 4 << 20;

/// A socket of the generator.
pub struct Wire {
    socket: UdpSocket,
    segments: bool,
}

/// Room for one batch each way: all wires of a thread share it.
pub struct Batch {
    arriving: MultiHeaders<SockaddrStorage>,
    leaving: MultiHeaders<SockaddrStorage>,
    rooms: Box<[[u8; ROOM]; BATCH]>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            arriving: MultiHeaders::preallocate(BATCH, None),
            leaving: MultiHeaders::preallocate(BATCH, None),
            rooms: Box::new([[0; ROOM]; BATCH]),
        }
    }
}

/// Datagrams that have arrived, in their order.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Inbox {
    /// Each datagram with the number of the wire on which it came.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let spans = self.ends.iter().zip(begins);
        spans.map(|((wire, end), begin)| (*wire, &self.bytes[begin..*end]))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Empties it and keeps its room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Puts a datagram in.
    pub fn push(&mut self, wire: usize, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push((wire, self.bytes.len()));
    }
}

impl Wire {
    /// Binds a port of its own and connects it. `segments`: use `UDP_SEGMENT` while the kernel takes it.
    pub fn connect(server: SocketAddr, segments: bool) -> io::Result<Self> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        // The kernel gives what it allows; less is no error.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
        let _ = setsockopt(&socket, sockopt::SndBuf, &BUFFER);
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, segments })
    }

    /// The port that devices on this wire poll from.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Sends datagrams of `each` bytes that stand one after the other, at most [`BATCH`] of them;
    /// returns how many the kernel took, which is 0 while its buffer is full.
    pub fn send(
        &mut self,
        through: &mut Batch,
        datagrams: &[u8],
        each: usize,
    ) -> io::Result<usize> {
        let batch = &datagrams[..datagrams.len().min(each * BATCH)];
        let sent = if self.segments && batch.len() > each {
            self.send_segments(through, batch, each)
        } else {
            self.send_many(through, batch, each)
        };
        match sent {
            Ok(count) => Ok(count),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn send_segments(
        &mut self,
        through: &mut Batch,
        batch: &[u8],
        each: usize,
    ) -> nix::Result<usize> {
        let size = u16::try_from(each).map_err(|_| Errno::EMSGSIZE)?;
        let sent = sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(batch)],
            &[ControlMessage::UdpGsoSegments(&size)],
            MsgFlags::MSG_DONTWAIT,
            None::<&SockaddrStorage>,
        );
        match sent {
            Ok(bytes) => Ok(bytes / each),
            // An old kernel, or an interface that cannot.
            Err(Errno::EINVAL | Errno::EIO | Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => {
                self.segments = false;
                self.send_many(through, batch, each)
            }
            Err(error) => Err(error),
        }
    }

    fn send_many(&self, through: &mut Batch, batch: &[u8], each: usize) -> nix::Result<usize> {
        let mut parts = batch.chunks_exact(each);
        let count = parts.len();
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSlice::new(parts.next().unwrap_or_default())]);
        let nobody: [Option<SockaddrStorage>; BATCH] = [None; BATCH];
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut through.leaving,
            slices[..count].iter(),
            &nobody[..count],
            [],
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(sent.count())
    }

    /// Hands each datagram that has arrived to `each`, at most [`BATCH`]; returns how many.
    pub fn receive(&self, through: &mut Batch, mut each: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut slices = through.rooms.each_mut().map(|room| [IoSliceMut::new(room)]);
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let arrived = match recvmmsg(fd, &mut through.arriving, slices.iter_mut(), flags, None) {
            Ok(arrived) => arrived,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut count = 0;
        for message in arrived {
            each(message.iovs().next().unwrap_or_default());
            count += 1;
        }
        Ok(count)
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends three datagrams and takes them back from a server that returns them in reverse.
    fn round_trip(segments: bool) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut wire = Wire::connect(server.local_addr().unwrap(), segments).unwrap();
        let mut batch = Batch::default();
        assert_eq!(wire.send(&mut batch, b"aabbcc", 2).unwrap(), 3);
        let mut room = [0; 16];
        let mut came = Vec::new();
        for _ in 0..3 {
            let (len, from) = server.recv_from(&mut room).unwrap();
            assert_eq!(from.port(), wire.port().unwrap());
            came.push((room[..len].to_vec(), from));
        }
        assert_eq!(came[0].0, b"aa");
        for (datagram, from) in came.iter().rev() {
            server.send_to(datagram, from).unwrap();
        }
        let mut back = Vec::new();
        while back.len() < 3 {
            wire.receive(&mut batch, |datagram| back.push(datagram.to_vec()))
                .unwrap();
        }
        assert_eq!(back, [b"cc", b"bb", b"aa"]);
    }

    #[test]
    fn datagrams_cross_whole_and_in_order_with_and_without_segments() {
        round_trip(true);
        round_trip(false);
    }

    #[test]
    fn a_batch_is_64_datagrams_at_most() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut wire = Wire::connect(server.local_addr().unwrap(), true).unwrap();
        let sent = wire.send(&mut Batch::default(), &[7; 100 * 20], 20);
        assert_eq!(sent.unwrap(), BATCH);
    }
}
