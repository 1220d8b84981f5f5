//! How fast the card is in process: single commands, and whole exchanges with its memory in RAM and durable on disk.
//!
//! `cargo bench -p applet`. The server's side of an exchange is prepared before the clock runs.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a benchmark that cannot be set up ends with the reason"
)]

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use applet::{
    Card, Protocol,
    image::Image,
    nvm::{Device, RamDevice, Store},
    secapp::{FirstIdentity, Personalisation, personalise},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::{
    chain::Link,
    identity::{Mode, UidRand},
    key::Key,
    msg::NOTHING_TO_DO,
};

const SELECT: &[u8] = &[
    0x00, 0xA4, 0x04, 0x0C, 8, 0xF0, 0x47, 0x54, 0x53, 0x41, 0x50, 0x50, 0x01,
];
const GET_UID: &[u8] = &[0x80, 0x40, 0, 0, 0];
const STATISTICS: &[u8] = &[0x80, 0xCA, 0, 0xE7, 0];

fn subscription() -> Personalisation {
    Personalisation {
        iccid: "8988374172470184089".parse().expect("an ICCID"),
        key: Key::from_bytes(&[0x2B; 16]).expect("a key"),
        mode: Mode::DEFAULT,
        first: FirstIdentity::Iccid,
    }
}

fn card(device: Box<dyn Device>) -> Card {
    let mut memory = Store::format(device, None).expect("a memory");
    personalise(&mut memory, &subscription()).expect("it takes it");
    let mut card = applet::card(memory, Protocol::T1).expect("a card");
    card.power_on();
    assert_eq!(card.transmit(SELECT), [0x90, 0x00]);
    card
}

/// PROCESS-RESPONSE commands that follow one another, and the link that they lead to.
fn commands(link: &mut Link, count: u64) -> Vec<Vec<u8>> {
    let commands = (0..count).map(|number| {
        let rand = UidRand(number.to_be_bytes());
        let sealed = link.seal(&NOTHING_TO_DO, 1, rand).expect("it fits");
        *link = link.child(rand);
        let lc = u8::try_from(sealed.as_bytes().len()).expect("a short command");
        [&[0x80, 0x42, 0, 0, lc], sealed.as_bytes(), &[0]].concat()
    });
    commands.collect()
}

/// Exchanges one after the other; only the card's part is timed.
fn exchanges(device: Box<dyn Device>) -> impl FnMut(u64) -> Duration {
    let with = subscription();
    let mut link = Link::first(&with.key, with.uid_1(), with.mode);
    let mut card = card(device);
    move |count| {
        let commands = commands(&mut link, count);
        let start = Instant::now();
        for command in &commands {
            black_box(card.transmit(GET_UID));
            let answer = card.transmit(command);
            assert!(answer.ends_with(&[0x90, 0x00]), "{answer:02X?}");
        }
        start.elapsed()
    }
}

fn on_disk(path: &Path) -> Box<dyn Device> {
    Image::create(path, false, |image| {
        Store::format(Box::new(image), None).map(drop)
    })
    .expect("an image");
    Box::new(Image::open(path).expect("the image"))
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("card");
    group.throughput(Throughput::Elements(1));
    let mut single = card(Box::new(RamDevice::blank()));
    group.bench_function("GET-UID", |b| {
        b.iter(|| black_box(single.transmit(GET_UID)).len())
    });
    group.bench_function("GET DATA statistics", |b| {
        b.iter(|| black_box(single.transmit(STATISTICS)).len())
    });
    let mut in_ram = exchanges(Box::new(RamDevice::blank()));
    group.bench_function("exchange, memory in RAM", |b| b.iter_custom(&mut in_ram));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on disk");
    let mut durable = exchanges(on_disk(&folder.path().join("card.img")));
    group.bench_function("exchange, durable on disk", |b| b.iter_custom(&mut durable));
    group.finish();
}

criterion_group!(card_speed, benches);
criterion_main!(card_speed);
