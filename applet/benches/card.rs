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
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use applet::{
    Card, Protocol,
    image::Image,
    nvm::{Device, NvmError, RamDevice, Store},
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

/// Exchanges with a `secapp insert` of its own, over its socket, as a reader has them. The process ends with the
/// connection's listener: it is killed when the function that is returned is dropped.
fn over_a_socket(path: &Path) -> impl FnMut(u64) -> Duration + use<> {
    Image::create(path, false, |image| {
        let mut memory = Store::format(Box::new(image), None)?;
        personalise(&mut memory, &subscription())
            .map_err(|error| NvmError::Device(std::io::Error::other(error)))
    })
    .expect("an image");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let reader = listener.local_addr().expect("an address").to_string();
    let mut secapp = Command::new(env!("CARGO_BIN_EXE_secapp"));
    let secapp = secapp
        .arg("insert")
        .arg(path)
        .args(["--vpcd", &reader])
        .stdout(Stdio::null());
    let process = Process(secapp.spawn().expect("the program starts"));
    let (mut stream, _) = listener.accept().expect("the card comes");
    stream.set_nodelay(true).expect("a socket");
    stream.write_all(&[0, 1, 1]).expect("it reads");
    assert_eq!(ask(&mut stream, SELECT), [0x90, 0x00]);
    let with = subscription();
    let mut link = Link::first(&with.key, with.uid_1(), with.mode);
    move |count| {
        let _alive = &process;
        let commands = commands(&mut link, count);
        let start = Instant::now();
        for command in &commands {
            black_box(ask(&mut stream, GET_UID));
            assert!(ask(&mut stream, command).ends_with(&[0x90, 0x00]));
        }
        start.elapsed()
    }
}

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(stream: &mut TcpStream, apdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(apdu.len()).expect("a frame").to_be_bytes();
    stream
        .write_all(&[&length, apdu].concat())
        .expect("it reads");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("it answers");
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).expect("it answers");
    answer
}

/// Exchanges one after the other; only the card's part is timed.
fn exchanges(device: Box<dyn Device>) -> impl FnMut(u64) -> Duration + use<> {
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
    let image = folder.path().join("process.img");
    let mut process = over_a_socket(&image);
    group.bench_function("exchange, secapp process, durable on disk", |b| {
        b.iter_custom(&mut process);
    });
    group.finish();
}

criterion_group!(card_speed, benches);
criterion_main!(card_speed);
