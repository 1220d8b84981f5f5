//! HTTP messages in a trace, as they were before TLS.
//!
//! Owns their form: Wireshark's exported PDU (`epan/exported_pdu.h`, LINKTYPE_WIRESHARK_UPPER_PDU), which hands
//! bytes to the dissector that it names, here `http` (RFC 9112), with the real addresses and ports; so
//! Wireshark matches answers to calls without TCP segments that never were. Owns what is left out of them:
//! credentials that could be used again.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

/// A request or an answer.
#[derive(Clone, Copy, Debug)]
pub struct HttpMessage<'a> {
    /// Request line or status line, without its end: `POST /start HTTP/1.1`.
    pub start_line: &'a str,
    /// Names and values in their order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body, without the framing of `Transfer-Encoding`.
    pub body: &'a [u8],
}

/// LINKTYPE_WIRESHARK_UPPER_PDU.
pub(super) const EXPORTED_PDU: u16 = 252;

/// Tags of an exported PDU. Each is followed by a length:2 and a value padded to four bytes.
mod tag {
    pub(super) const END: u16 = 0;
    pub(super) const DISSECTOR: u16 = 12;
    pub(super) const IPV4_SOURCE: u16 = 20;
    pub(super) const IPV4_DESTINATION: u16 = 21;
    pub(super) const IPV6_SOURCE: u16 = 22;
    pub(super) const IPV6_DESTINATION: u16 = 23;
    pub(super) const PORT_TYPE: u16 = 24;
    pub(super) const SOURCE_PORT: u16 = 25;
    pub(super) const DESTINATION_PORT: u16 = 26;
}

/// `EXP_PDU_PT_TCP`.
const TCP: u32 = 2;
/// What stands where a credential was.
const REDACTED: &[u8] = b"[redacted]";

/// The packet for one message.
pub(super) fn exported(from: SocketAddr, to: SocketAddr, message: HttpMessage<'_>) -> Vec<u8> {
    let mut packet = Vec::with_capacity(512 + message.body.len());
    option(&mut packet, tag::DISSECTOR, b"http");
    address(&mut packet, from.ip(), [tag::IPV4_SOURCE, tag::IPV6_SOURCE]);
    address(
        &mut packet,
        to.ip(),
        [tag::IPV4_DESTINATION, tag::IPV6_DESTINATION],
    );
    option(&mut packet, tag::PORT_TYPE, &TCP.to_be_bytes());
    for (tag, port) in [
        (tag::SOURCE_PORT, from.port()),
        (tag::DESTINATION_PORT, to.port()),
    ] {
        option(&mut packet, tag, &u32::from(port).to_be_bytes());
    }
    option(&mut packet, tag::END, &[]);
    put_message(&mut packet, message);
    packet
}

/// Tag, length, value, padding. No value here is longer than an IPv6 address.
fn option(packet: &mut Vec<u8>, tag: u16, value: &[u8]) {
    let padded = value.len().next_multiple_of(4);
    packet.extend_from_slice(&tag.to_be_bytes());
    packet.extend_from_slice(&u16::try_from(padded).unwrap_or(u16::MAX).to_be_bytes());
    packet.extend_from_slice(value);
    packet.resize(packet.len() + padded - value.len(), 0);
}

fn address(packet: &mut Vec<u8>, address: IpAddr, [v4, v6]: [u16; 2]) {
    match address {
        IpAddr::V4(address) => option(packet, v4, &address.octets()),
        IpAddr::V6(address) => option(packet, v6, &address.octets()),
    }
}

/// The message in the form of HTTP/1.1. Its body is whole, so `Content-Length` takes the place of
/// `Transfer-Encoding`.
fn put_message(packet: &mut Vec<u8>, message: HttpMessage<'_>) {
    let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
    packet.extend_from_slice(message.start_line.as_bytes());
    packet.extend_from_slice(b"\r\n");
    let mut has_length = false;
    for (name, value) in message.headers {
        if is(name, "transfer-encoding") {
            continue;
        }
        has_length |= is(name, "content-length");
        put_header(packet, name, &shown(name, value));
    }
    if !has_length && !message.body.is_empty() {
        put_header(
            packet,
            "Content-Length",
            message.body.len().to_string().as_bytes(),
        );
    }
    packet.extend_from_slice(b"\r\n");
    packet.extend_from_slice(message.body);
}

fn put_header(packet: &mut Vec<u8>, name: &str, value: &[u8]) {
    packet.extend_from_slice(name.as_bytes());
    packet.extend_from_slice(b": ");
    packet.extend_from_slice(value);
    packet.extend_from_slice(b"\r\n");
}

/// A header's value as the trace shows it. Whoever has a password, a token or a cookie can use it again; a
/// card's proof answers one challenge (and the card's own answer is in the trace as well).
fn shown<'a>(name: &str, value: &'a [u8]) -> Cow<'a, [u8]> {
    let is = |other| name.eq_ignore_ascii_case(other);
    if is("cookie") || is("set-cookie") {
        return Cow::Borrowed(REDACTED);
    }
    if !is("authorization") && !is("proxy-authorization") {
        return Cow::Borrowed(value);
    }
    let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    let used_again =
        scheme.eq_ignore_ascii_case(b"basic") || scheme.eq_ignore_ascii_case(b"bearer");
    if used_again {
        Cow::Owned([scheme, b" ", REDACTED].concat())
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: HttpMessage<'_>) -> String {
        let mut packet = Vec::new();
        put_message(&mut packet, message);
        String::from_utf8(packet).unwrap()
    }

    #[test]
    fn what_could_be_used_again_is_left_out() {
        let headers: [(&str, &[u8]); 5] = [
            ("Authorization", b"Basic dXNlcjpwYXNz"),
            ("authorization", b"bearer abc"),
            ("Authorization", b"GTS proof=\"5f61\""),
            ("Set-Cookie", b"session=1"),
            ("X-Admin-From", b"card"),
        ];
        let shown = text(HttpMessage {
            start_line: "POST /start HTTP/1.1",
            headers: &headers,
            body: b"",
        });
        assert_eq!(
            shown,
            "POST /start HTTP/1.1\r\nAuthorization: Basic [redacted]\r\nauthorization: bearer [redacted]\r\n\
             Authorization: GTS proof=\"5f61\"\r\nSet-Cookie: [redacted]\r\nX-Admin-From: card\r\n\r\n"
        );
    }

    #[test]
    fn a_body_that_came_in_chunks_is_shown_whole() {
        let shown = text(HttpMessage {
            start_line: "HTTP/1.1 200 OK",
            headers: &[("Transfer-Encoding", b"chunked")],
            body: b"hello",
        });
        assert_eq!(shown, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    }
}
