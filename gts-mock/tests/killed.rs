//! The real server, killed while it works: a store that opens, with all of an import or nothing of it.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use gts_mock::{
    admin::client::AdminClient,
    store::{Opened, Options, SqliteStore},
};

const COUNT: usize = 20_000;
const ROUNDS: u64 = 5;

fn serve(directory: &Path) -> Child {
    let mut server = Command::new(env!("CARGO_BIN_EXE_gts-mock"))
        .arg("--socket")
        .arg(directory.join("admin.sock"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store"])
        .arg(directory.join("store"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("answering polls")));
    // Read to its end, so that the server never waits for it.
    std::thread::spawn(move || log.for_each(drop));
    server
}

fn csv() -> Vec<u8> {
    let mut csv = String::from("reference,iccid,key,mode,first_identity\n");
    for number in 0..COUNT {
        let key = "a5".repeat(16);
        csv += &format!("meter-{number},89883741724701{number:05},{key},3,iccid\n");
    }
    csv.into()
}

/// How many subscriptions there are, all of them read.
fn subscriptions(directory: &Path) -> usize {
    let (_store, loaded, opened) = SqliteStore::open(&Options {
        directory: directory.join("store"),
        key_file: None,
        restored: false,
        posix: 1_800_000_000,
        snapshot_after: None,
    })
    .unwrap();
    assert_eq!(opened, Opened::Whole);
    loaded.chains.map(Result::unwrap).count()
}

#[test]
fn an_import_under_a_killed_server_is_there_or_not() {
    let csv = csv();
    for round in 0..ROUNDS {
        let directory = tempfile::tempdir().unwrap();
        let mut server = serve(directory.path());
        let client = AdminClient::new(&directory.path().join("admin.sock")).unwrap();
        let body = csv.clone();
        let import = std::thread::spawn(move || client.import(body).is_ok());
        let log = directory.path().join("store/gts.db-wal");
        // Each round further into the import, or behind it.
        let far = |length: u64| length > 100_000 + round * 500_000;
        while !import.is_finished() && !fs::metadata(&log).is_ok_and(|log| far(log.len())) {
            std::thread::yield_now();
        }
        server.kill().unwrap();
        server.wait().unwrap();
        let done = import.join().unwrap();
        let count = subscriptions(directory.path());
        assert!(count == COUNT || count == 0 && !done, "{count}, {done}");
    }
}

#[test]
fn a_server_killed_while_it_writes_a_snapshot_loses_nothing() {
    let csv = csv();
    for round in 0..ROUNDS {
        let directory = tempfile::tempdir().unwrap();
        let mut server = serve(directory.path());
        let client = AdminClient::new(&directory.path().join("admin.sock")).unwrap();
        client.import(csv.clone()).unwrap();
        let pid = server.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        // Its stop writes one of about two million bytes.
        let draft = directory.path().join("store/chains/snapshot-2.new");
        let far = |length: u64| length > round * 400_000;
        while server.try_wait().unwrap().is_none()
            && !fs::metadata(&draft).is_ok_and(|draft| far(draft.len()))
        {
            std::thread::yield_now();
        }
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(subscriptions(directory.path()), COUNT);
    }
}
