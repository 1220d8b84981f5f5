//! Packets for a trace: IP and UDP headers around datagrams (RFC 791, RFC 8200, RFC 768), and GSMTAP
//! around commands.
//!
//! Owns composing them. The headers are made up, since sockets do not show them; addresses, ports and
//! payloads are the real ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const IPV4_HEADER: u8 = 20;
const HOP_LIMIT: u8 = 64;

/// UDP's length field has 16 bits; nothing that is traced comes near.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// An IP packet with this datagram. Both addresses are of one family, as a socket's are.
pub(super) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(UDP_HEADER + payload.len());
    datagram.extend_from_slice(&from.port().to_be_bytes());
    datagram.extend_from_slice(&to.port().to_be_bytes());
    datagram.extend_from_slice(&length(UDP_HEADER + payload.len()));
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    let (from, to) = (octets(from.ip()), octets(to.ip()));
    let pseudo_header = [&from[..], &to, &[0, UDP], &length(datagram.len())].concat();
    // RFC 768: a checksum of zero is sent as all ones.
    let checksum = match checksum(&[&pseudo_header, &datagram]) {
        0 => u16::MAX,
        sum => sum,
    };
    datagram[6..UDP_HEADER].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = if from.len() == 4 {
        ipv4_header(&from, &to, datagram.len())
    } else {
        ipv6_header(&from, &to, datagram.len())
    };
    packet.extend_from_slice(&datagram);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn ipv4_header(from: &[u8], to: &[u8], payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&length(usize::from(IPV4_HEADER) + payload));
    header.extend_from_slice(&[0, 0, 0x40, 0, HOP_LIMIT, UDP, 0, 0]);
    header.extend_from_slice(from);
    header.extend_from_slice(to);
    let checksum = checksum(&[&header]);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn ipv6_header(from: &[u8], to: &[u8], payload: usize) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend_from_slice(&length(payload));
    header.extend_from_slice(&[UDP, HOP_LIMIT]);
    header.extend_from_slice(from);
    header.extend_from_slice(to);
    header
}

/// RFC 1071 over the concatenation of `parts`, each of even length but the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    // At most 16 bits are left.
    !u16::try_from(sum).unwrap_or(0)
}

/// GSMTAP, version 2, header of four 32-bit words, type SIM, sub-type APDU (libosmocore `gsmtap.h`).
const GSMTAP_SIM: [u8; 16] = [2, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Where Wireshark expects GSMTAP.
const GSMTAP_PORT: u16 = 4729;

/// A packet with a command and its answer in the form of T=0, which is what GSMTAP carries: header of five
/// bytes, data, status word.
pub(super) fn gsmtap(command: &[u8], answer: &[u8]) -> Vec<u8> {
    let mut payload = GSMTAP_SIM.to_vec();
    payload.extend_from_slice(&as_t0(command, answer));
    payload.extend_from_slice(answer);
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, GSMTAP_PORT));
    udp(here, here, &payload)
}

const P3: usize = 4;

/// The command as T=0 has it: always a fifth byte, and no Le after data. Where P3 is the length of an
/// answer that came, it is that length.
fn as_t0(command: &[u8], answer: &[u8]) -> Vec<u8> {
    let mut command = command.to_vec();
    match command.len() {
        0..P3 => {}
        P3 => command.push(0),
        length if length == P3 + 1 => {
            let data = answer.len().saturating_sub(2);
            command[P3] = u8::try_from(data).unwrap_or(0);
        }
        _ => command.truncate(P3 + 1 + usize::from(command[P3])),
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        assert_eq!(
            checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
            !0xddf2
        );
        assert_eq!(checksum(&[&[0xFF]]), 0x00FF);
    }

    #[test]
    fn commands_take_the_form_of_t0() {
        for (command, answer, expected) in [
            ("00a40400", "9000", "00a4040000"),
            ("8040000000", "11009000", "8040000002"),
            ("8040000000", "6985", "8040000000"),
            ("80420000028101", "9000", "80420000028101"),
            ("8042000002810100", "e1009000", "80420000028101"),
            ("80", "6700", "80"),
        ] {
            let command = as_t0(
                &hex::decode(command).unwrap(),
                &hex::decode(answer).unwrap(),
            );
            assert_eq!(hex::encode(command), expected);
        }
    }
}
