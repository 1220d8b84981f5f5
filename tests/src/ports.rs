//! Port numbers for servers that cannot bind port 0 or must come back on the same port.
//!
//! Owns reserving runs of ports against other tests, in this process and in others. They are below
//! the kernel's ephemeral range (32768 and up by default), so no socket bound to port 0 takes one
//! while its server is down. A reservation is an abstract unix socket named after the port: it
//! excludes across processes, and the kernel forgets it when its owner ends, however it ends.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_000;
const LAST: u16 = 31_999;

/// A run of consecutive ports, free for TCP and UDP on all IPv4 addresses when it was made, and
/// kept from other reservations until dropped.
#[derive(Debug)]
pub struct Reservation {
    first: u16,
    claims: Vec<UnixDatagram>,
}

impl Reservation {
    /// Reserves `count` consecutive ports.
    ///
    /// # Panics
    ///
    /// When no such run is free.
    #[must_use]
    #[track_caller]
    pub fn of(count: u16) -> Self {
        Self::try_of(count)
            .unwrap_or_else(|| panic!("no {count} consecutive ports are free in {FIRST}..={LAST}"))
    }

    /// The first port of the run.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.first
    }

    /// All ports of the run, in order.
    pub fn ports(&self) -> impl Iterator<Item = u16> + use<> {
        (self.first..).take(self.claims.len())
    }

    fn try_of(count: u16) -> Option<Self> {
        let runs = (LAST - FIRST + 1) / count.max(1);
        let start = scatter() % runs;
        (0..runs)
            .map(|step| FIRST + (start + step) % runs * count)
            .find_map(|first| Self::claim(first, count))
    }

    fn claim(first: u16, count: u16) -> Option<Self> {
        let claims = (first..)
            .take(count.into())
            .map(claim)
            .collect::<io::Result<_>>()
            .ok()?;
        Some(Self { first, claims })
    }
}

/// Where this reservation begins to look: scattered over processes and calls, so that neighbours seldom collide.
fn scatter() -> u16 {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let [low, high, ..] = std::process::id().to_le_bytes();
    let process = u16::from_le_bytes([low, high]).wrapping_mul(40_503);
    process.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed))
}

fn claim(port: u16) -> io::Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("e2e-port-{port}"))?;
    let claim = UnixDatagram::bind_addr(&name)?;
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    Ok(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_never_share_a_port() {
        let held: Vec<_> = (0..50).map(|_| Reservation::of(2)).collect();
        let mut ports: Vec<_> = held.iter().flat_map(Reservation::ports).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
    }

    #[test]
    fn a_port_that_a_server_holds_is_not_reserved() {
        let server = Reservation::of(1);
        let port = server.first();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        drop(server);
        assert!(Reservation::claim(port, 1).is_none());
        drop(listener);
    }
}
