//! Captures made by hand: pcapng (draft-ietf-opsawg-pcapng) with the packets that a test wants.
//!
//! Written again here, and not taken from the program under test, so that no mistake is on both sides.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// LINKTYPE_RAW: IP without a link layer.
pub(crate) const RAW: u16 = 101;

/// A file that grows.
pub(crate) struct Capture {
    bytes: Vec<u8>,
    /// Microseconds since 1970.
    time: u64,
}

impl Capture {
    /// With one interface of this link type.
    pub(crate) fn new(link: u16) -> Self {
        let mut capture = Self {
            bytes: Vec::new(),
            time: 1_700_000_000_000_000,
        };
        let section = [
            &0x1A2B_3C4Du32.to_le_bytes()[..],
            &[1, 0, 0, 0],
            &(-1i64).to_le_bytes(),
        ];
        capture.block(0x0A0D_0D0A, &section.concat());
        capture.block(1, &[&link.to_le_bytes()[..], &[0; 6]].concat());
        capture
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, microseconds: u64) {
        self.time += microseconds;
    }

    /// A packet, with these options as they are.
    pub(crate) fn packet(&mut self, data: &[u8], options: &[u8]) {
        let time = self.time;
        let words = [
            0,
            (time >> 32) as u32,
            time as u32,
            data.len() as u32,
            data.len() as u32,
        ];
        let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        body.extend_from_slice(data);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend_from_slice(options);
        self.block(6, &body);
    }

    /// A datagram, for [`RAW`].
    pub(crate) fn datagram(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        self.packet(&ip(from, to, payload), &[]);
    }

    /// Any block.
    pub(crate) fn block(&mut self, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let length = (padded as u32 + 12).to_le_bytes();
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(&length);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend_from_slice(&length);
    }

    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, &self.bytes).unwrap();
    }
}

/// An IP packet with a datagram, without checksums: nobody here checks them.
pub(crate) fn ip(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16 + 8;
    let mut packet = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [
            &[0x45, 0][..],
            &(length + 20).to_be_bytes(),
            &[0, 0, 0, 0, 64, 17, 0, 0],
            &from.octets(),
            &to.octets(),
        ]
        .concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [
            &[0x60, 0, 0, 0][..],
            &length.to_be_bytes(),
            &[17, 64],
            &from.octets(),
            &to.octets(),
        ]
        .concat(),
        _ => panic!("{from} and {to} are of two families"),
    };
    packet.extend_from_slice(&from.port().to_be_bytes());
    packet.extend_from_slice(&to.port().to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    packet
}
