//! From a packet to the datagram in it, through whatever link layer a capture was made on.
//!
//! Owns the headers of Ethernet, Linux cooked captures, loopback, IPv4 and IPv6. Fragments are no datagrams: those of
//! the method are far too short to be cut.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A UDP datagram (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::trace) struct Datagram<'a> {
    pub(in crate::trace) from: SocketAddr,
    pub(in crate::trace) to: SocketAddr,
    pub(in crate::trace) payload: &'a [u8],
}

/// LINKTYPE_* (<https://www.tcpdump.org/linktypes.html>).
mod linktype {
    pub(super) const NULL: u16 = 0;
    pub(super) const ETHERNET: u16 = 1;
    pub(super) const RAW_BSD: [u16; 2] = [12, 14];
    pub(super) const RAW: u16 = 101;
    pub(super) const LOOP: u16 = 108;
    pub(super) const SLL: u16 = 113;
    pub(super) const IPV4: u16 = 228;
    pub(super) const IPV6: u16 = 229;
    pub(super) const SLL2: u16 = 276;
}

const VLAN: [u16; 3] = [0x8100, 0x88A8, 0x9100];
const ETHERTYPES: [u16; 2] = [0x0800, 0x86DD];
const UDP: u8 = 17;

/// The datagram in a packet of this link type, if there is a whole one.
pub(in crate::trace) fn datagram(link: u16, packet: &[u8]) -> Option<Datagram<'_>> {
    let ip = match link {
        linktype::NULL | linktype::LOOP => packet.get(4..)?,
        linktype::ETHERNET => behind_ethertype(packet, 12)?,
        linktype::SLL => behind_ethertype(packet, 14)?,
        linktype::SLL2 => ETHERTYPES
            .contains(&half(packet, 0)?)
            .then(|| packet.get(20..))??,
        linktype::RAW | linktype::IPV4 | linktype::IPV6 => packet,
        link if linktype::RAW_BSD.contains(&link) => packet,
        _ => return None,
    };
    match ip.first()? >> 4 {
        4 => ipv4(ip),
        6 => ipv6(ip),
        _ => None,
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// What follows the EtherType at `at`, over VLAN tags (IEEE 802.1Q).
fn behind_ethertype(packet: &[u8], mut at: usize) -> Option<&[u8]> {
    while VLAN.contains(&half(packet, at)?) {
        at += 4;
    }
    ETHERTYPES
        .contains(&half(packet, at)?)
        .then(|| packet.get(at + 2..))?
}

fn ipv4(ip: &[u8]) -> Option<Datagram<'_>> {
    let header = usize::from(ip[0] & 0x0F) * 4;
    let length = usize::from(half(ip, 2)?);
    let (fragment, protocol) = (half(ip, 6)? & 0x3FFF, *ip.get(9)?);
    if header < 20 || fragment != 0 || protocol != UDP {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    udp(address(12)?, address(16)?, ip.get(header..length)?)
}

/// Hop-by-hop, routing and destination options (RFC 8200, 4).
const EXTENSIONS: [u8; 3] = [0, 43, 60];

fn ipv6(ip: &[u8]) -> Option<Datagram<'_>> {
    let end = 40 + usize::from(half(ip, 4)?);
    let (mut next, mut at) = (*ip.get(6)?, 40);
    while EXTENSIONS.contains(&next) {
        next = *ip.get(at)?;
        at += 8 + 8 * usize::from(*ip.get(at + 1)?);
    }
    if next != UDP {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    udp(address(8)?, address(24)?, ip.get(at..end)?)
}

fn udp(from: IpAddr, to: IpAddr, segment: &[u8]) -> Option<Datagram<'_>> {
    Some(Datagram {
        from: SocketAddr::new(from, half(segment, 0)?),
        to: SocketAddr::new(to, half(segment, 2)?),
        payload: segment.get(8..usize::from(half(segment, 4)?))?,
    })
}
