//! What an exchange costs its two ends in cryptography, and what the `cmac` crate takes for as many keys and MACs.
//!
//! `cargo bench -p protocol`
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that cannot go on should stop"
)]

use std::hint::black_box;

use aes::{Aes128, cipher::KeyInit};
use cmac::{Cmac, Mac};
use criterion::{Criterion, criterion_group, criterion_main};
use protocol::{
    chain::Link,
    identity::{Mode, Uid},
    key::Key,
    msg::NOTHING_TO_DO,
    poll::Poll,
    response::{Response, ResponseDatagram},
    secret::{self, ServerSecret},
};

/// Where a server has a device, and what it keeps of it.
struct Kept {
    parent: Link,
    secret: [u8; 16],
}

/// Promotes the child that polls, answers it, and finds the identity that is to be indexed next.
fn serve(kept: &Kept, datagram: &[u8]) -> (ResponseDatagram, Uid) {
    let poll = Poll::parse(datagram).unwrap();
    let secret = secret::DeviceSecret::from_bytes(kept.secret);
    let rand = secret.uid_rand(kept.parent.uid(), secret::NOTHING_TO_DO, 0);
    let child = kept.parent.child(rand);
    let child = child.keyed();
    child.verify(&poll).unwrap();
    let rand = secret.uid_rand(poll.uid, secret::NOTHING_TO_DO, 0);
    let answer = child.seal(&NOTHING_TO_DO, 1, rand).unwrap();
    (answer, child.child_uid(rand))
}

fn exchange(c: &mut Criterion) {
    for (name, k) in [("AES-128", &[7; 16][..]), ("AES-256", &[7; 32][..])] {
        let k = Key::from_bytes(k).unwrap();
        let parent = Link::first(&k, Uid([1; 10]), Mode::DEFAULT);
        let device = ServerSecret::from_bytes([9; 16]).device("meter-17", 0);
        let mut secret = [0; 16];
        secret.copy_from_slice(device.as_bytes());
        let rand = device.uid_rand(parent.uid(), secret::NOTHING_TO_DO, 0);
        let card = parent.child(rand);
        let kept = Kept { parent, secret };
        let poll = card.poll(0);
        c.bench_function(
            &format!("{name}, server: a promotion and its answer"),
            |b| {
                b.iter(|| serve(black_box(&kept), black_box(poll.as_bytes())));
            },
        );
        let (answer, _) = serve(&kept, poll.as_bytes());
        c.bench_function(
            &format!("{name}, card: accept an answer, poll again"),
            |b| {
                b.iter(|| {
                    let response = Response::parse(black_box(answer.as_bytes())).unwrap();
                    let opened = card.open(&response).unwrap();
                    card.child(opened.uid_rand()).poll(0)
                });
            },
        );
    }
}

/// The six keys and eleven MACs of a promotion and its answer, without anything between them.
fn the_crate(c: &mut Criterion) {
    let macs = [1, 3, 1, 1, 4, 1];
    c.bench_function("AES-128, the cmac crate: as many keys and MACs", |b| {
        b.iter(|| {
            for count in macs {
                let cmac = Cmac::<Aes128>::new(black_box(&[7; 16]).into());
                for _ in 0..count {
                    let mut mac = cmac.clone();
                    mac.update(black_box(&[1; 28]));
                    black_box(mac.finalize());
                }
            }
        });
    });
}

criterion_group!(benches, exchange, the_crate);
criterion_main!(benches);
