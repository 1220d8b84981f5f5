//! The relay passes what it should and loses what it is told to, both ways.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use e2e::process::{DEADLINE, Program};
use e2e::relay::{Count, Loss, LossyRelay, Plan};

/// A socket on the loopback address whose reads end at the deadline.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

#[test]
fn the_second_datagram_up_and_the_first_down_are_lost() {
    let (server, client) = (socket(), socket());
    let plan = Plan {
        up: Loss::of_numbers([2]),
        down: Loss::of_numbers([1]),
    };
    let relay = LossyRelay::start(server.local_addr().unwrap(), plan);
    for number in 1..=3 {
        client.send_to(&[number], relay.address()).unwrap();
    }
    let ((first, seen_as), (third, _)) = (receive(&server), receive(&server));
    assert_eq!((first, third), (vec![1], vec![3]));
    server.send_to(b"lost", seen_as).unwrap();
    server.send_to(b"arrives", seen_as).unwrap();
    assert_eq!(receive(&client), (b"arrives".to_vec(), relay.address()));
    let counts = relay.await_counts("five datagrams", |counts| counts.down.passed == 1);
    assert_eq!(
        counts.up,
        Count {
            passed: 2,
            dropped: 1,
            refused: 0
        }
    );
    assert_eq!(
        counts.down,
        Count {
            passed: 1,
            dropped: 1,
            refused: 0
        }
    );
}

#[test]
fn each_client_gets_its_own_answers() {
    let (server, left, right) = (socket(), socket(), socket());
    let relay = LossyRelay::start(server.local_addr().unwrap(), Plan::lossless());
    left.send_to(b"left", relay.address()).unwrap();
    right.send_to(b"right", relay.address()).unwrap();
    for _ in 0..2 {
        let (datagram, from) = receive(&server);
        server.send_to(&datagram, from).unwrap();
    }
    assert_eq!(receive(&left).0, b"left");
    assert_eq!(receive(&right).0, b"right");
}

#[test]
fn a_server_that_comes_back_on_its_port_is_reached_again() {
    let (server, client) = (socket(), socket());
    let address = server.local_addr().unwrap();
    let relay = LossyRelay::start(address, Plan::lossless());
    client.send_to(b"before", relay.address()).unwrap();
    receive(&server);
    drop(server);
    client.send_to(b"meanwhile", relay.address()).unwrap();
    relay.await_counts("the datagram to nobody", |counts| {
        counts.up.passed + counts.up.refused == 2
    });
    let server = UdpSocket::bind(address).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send_to(b"after", relay.address()).unwrap();
    assert_eq!(receive(&server).0, b"after");
}

#[test]
fn the_longest_datagram_passes_whole() {
    let (server, client) = (socket(), socket());
    let relay = LossyRelay::start(server.local_addr().unwrap(), Plan::lossless());
    client.send_to(&[0xA5; 65_507], relay.address()).unwrap();
    let mut buffer = vec![0; 65_536];
    assert_eq!(server.recv(&mut buffer).unwrap(), 65_507);
}

#[test]
fn the_program_says_where_it_listens_what_it_does_and_the_totals() {
    let (server, client) = (socket(), socket());
    let to = server.local_addr().unwrap().to_string();
    let mut relay = Program::built("lossy-relay")
        .args(["--to", &to, "--drop-up", "1"])
        .start();
    let address: SocketAddr = relay.expect("its address", |line| {
        line.strip_prefix("listening on ")?.parse().ok()
    });
    client.send_to(&[0; 12], address).unwrap();
    client.send_to(&[0; 20], address).unwrap();
    assert_eq!(receive(&server).0.len(), 20);
    relay.expect_line("up 1 dropped 12 bytes");
    relay.expect_line("up 2 passed 20 bytes");
    assert!(relay.terminate().success());
    relay.expect_line("up 1 passed, 1 dropped, 0 refused; down 0 passed, 0 dropped, 0 refused");
}
