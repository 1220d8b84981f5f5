//! Sockets on the loopback address.

use super::*;
use crate::terminal::{mail::Mailbox, wait::wait};
use std::time::Duration;

fn server(address: &str) -> UdpSocket {
    let server = UdpSocket::bind(address).unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    server
}

fn await_datagram(link: &mut Link) -> io::Result<Vec<u8>> {
    loop {
        if let Some(received) = link.receive() {
            return received;
        }
        wait(link.fds()).unwrap();
    }
}

const A: Uid = Uid([1; 10]);
const B: Uid = Uid([2; 10]);

#[test]
fn each_identity_has_a_source_port_of_its_own_and_keeps_it_over_resends() {
    let server = server("127.0.0.1:0");
    let to = server.local_addr().unwrap().to_string();
    let mut link = Link::new(Mailbox::new().unwrap().post(), None);
    let from = |link: &mut Link, identity| {
        link.send(identity, &to, vec![0]).unwrap();
        server.recv_from(&mut [0; 8]).unwrap().1
    };
    let first = from(&mut link, A);
    assert_eq!(from(&mut link, A), first);
    assert_ne!(from(&mut link, B), first);
    assert_eq!(from(&mut link, A), first);
}

#[test]
fn only_the_polled_server_is_heard() {
    let real = server("127.0.0.1:0");
    let stranger = server("127.0.0.1:0");
    let mut link = Link::new(Mailbox::new().unwrap().post(), None);
    link.send(A, &real.local_addr().unwrap().to_string(), vec![0])
        .unwrap();
    let (_, device) = real.recv_from(&mut [0; 8]).unwrap();
    stranger.send_to(b"forged", device).unwrap();
    real.send_to(b"real", device).unwrap();
    assert_eq!(await_datagram(&mut link).unwrap(), b"real");
    assert!(link.receive().is_none());
}

#[test]
fn a_server_that_is_down_ends_nothing() {
    let down = server("127.0.0.1:0");
    let address = down.local_addr().unwrap();
    drop(down);
    let mut link = Link::new(Mailbox::new().unwrap().post(), None);
    link.send(A, &address.to_string(), vec![1]).unwrap();
    let error = await_datagram(&mut link).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let up = server(&address.to_string());
    link.send(A, &address.to_string(), vec![2]).unwrap();
    let mut byte = [0; 8];
    up.recv_from(&mut byte).unwrap();
    assert_eq!(byte[0], 2);
}

#[test]
fn ipv6_servers_are_reached() {
    let server = server("[::1]:0");
    let mut link = Link::new(Mailbox::new().unwrap().post(), None);
    link.send(A, &server.local_addr().unwrap().to_string(), vec![7])
        .unwrap();
    server.recv_from(&mut [0; 8]).unwrap();
}

#[test]
fn a_name_is_looked_up_and_the_last_poll_leaves_then() {
    let server = server("127.0.0.1:0");
    let mailbox = Mailbox::new().unwrap();
    let mut link = Link::new(mailbox.post(), None);
    let endpoint = format!("localhost:{}", server.local_addr().unwrap().port());
    link.send(A, &endpoint, vec![1]).unwrap();
    link.send(A, &endpoint, vec![2]).unwrap();
    wait([mailbox.bell()]).unwrap();
    for mail in mailbox.take() {
        let Mail::Resolved {
            endpoint,
            addresses,
        } = mail
        else {
            panic!("{mail:?}")
        };
        let mut addresses = addresses.unwrap();
        // "localhost" may have an IPv6 address too, where this server does not listen.
        addresses.retain(SocketAddr::is_ipv4);
        link.resolved(endpoint, Ok(addresses)).unwrap();
    }
    let mut datagram = [0; 8];
    server.recv_from(&mut datagram).unwrap();
    assert_eq!(datagram[0], 2, "the poll that took the first one's place");
}

#[test]
fn a_name_without_an_address_is_told_of() {
    let mailbox = Mailbox::new().unwrap();
    let mut link = Link::new(mailbox.post(), None);
    link.send(A, "no-such-host.invalid:1", vec![1]).unwrap();
    wait([mailbox.bell()]).unwrap();
    for mail in mailbox.take() {
        let Mail::Resolved {
            endpoint,
            addresses,
        } = mail
        else {
            panic!("{mail:?}")
        };
        assert!(link.resolved(endpoint, addresses).is_err());
    }
}

#[test]
fn a_names_addresses_take_turns_and_are_looked_up_again() {
    let servers = [server("127.0.0.1:0"), server("[::1]:0")];
    let addresses = servers
        .each_ref()
        .map(|server| server.local_addr().unwrap());
    let mailbox = Mailbox::new().unwrap();
    let mut link = Link::new(mailbox.post(), None);
    link.send(A, "localhost:1", vec![0]).unwrap();
    wait([mailbox.bell()]).unwrap();
    mailbox.take();
    link.resolved("localhost:1".into(), Ok(addresses.to_vec()))
        .unwrap();
    for number in 1..4 {
        link.send(A, "localhost:1", vec![number]).unwrap();
    }
    let mut datagram = [0; 8];
    for number in 0..4 {
        servers[number % 2].recv_from(&mut datagram).unwrap();
        assert_eq!(usize::from(datagram[0]), number);
    }
    link.send(A, "localhost:1", vec![4]).unwrap();
    wait([mailbox.bell()]).unwrap();
    let asked = mailbox.take().into_iter().next().unwrap();
    assert!(matches!(asked, Mail::Resolved { .. }), "{asked:?}");
}
