//! Notices that the network has changed: an occasion for a poll (bit 1 of object `94`).
//!
//! Owns a thread on a route netlink socket (rtnetlink(7)). What counts is where traffic would leave
//! from: many messages of the kernel, such as a renewed IPv6 lifetime, change nothing of that.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

use super::{Mail, Posts};
use crate::{card::poll_until, session::Occasion};

/// Addresses and routes of both families (linux/rtnetlink.h: `RTMGRP_*`).
const GROUPS: u32 = IPV4_ADDRESSES | IPV4_ROUTES | IPV6_ADDRESSES | IPV6_ROUTES;
const IPV4_ADDRESSES: u32 = 0x10;
const IPV4_ROUTES: u32 = 0x40;
const IPV6_ADDRESSES: u32 = 0x100;
const IPV6_ROUTES: u32 = 0x400;

/// A network comes up in several steps; they are one change.
const SETTLE: Duration = Duration::from_millis(500);

/// From now on, wakes the terminals behind `posts` when the network changes, until the process ends.
pub fn watch(posts: Posts) -> io::Result<()> {
    let socket = listen()?;
    let mut known = source_addresses();
    thread::Builder::new()
        .name("network".into())
        .spawn(move || {
            while settled(&socket).is_ok() {
                let now = source_addresses();
                if now != known {
                    tracing::info!(from = ?now, "the network has changed");
                    known = now;
                    for post in posts.all() {
                        post.send(Mail::Wake(Occasion::NetworkChange));
                    }
                }
            }
        })
        .map(drop)
}

fn listen() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        SockProtocol::NetlinkRoute,
    )?;
    // The kernel chooses the port.
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(socket)
}

/// Returns when something has happened and then nothing more for a while.
fn settled(socket: &OwnedFd) -> io::Result<()> {
    let mut until = None;
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll_until(&mut fds, until)?;
        if !fds[0].any().unwrap_or(false) {
            return Ok(());
        }
        drain(socket);
        until = Some(Instant::now() + SETTLE);
    }
}

/// What the messages say does not matter, nor that some were lost (ENOBUFS).
fn drain(socket: &OwnedFd) {
    let mut buffer = [0; 8192];
    while recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok() {}
}

/// Where traffic to the outside would leave from. Connecting a UDP socket sends nothing: it asks the
/// routing table. The destinations are documentation addresses (RFC 5737, RFC 3849).
fn source_addresses() -> [Option<IpAddr>; 2] {
    const OUTSIDE: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ];
    OUTSIDE.map(|outside| {
        let any: IpAddr = match outside {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        // Discard (RFC 863), though nothing is sent.
        socket.connect((outside, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    })
}
