//! The store on disk: what it gives back, whom it refuses, and that damage never passes for data.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use gts_mock::{
    engine::{Engine, SyncPolicy, walk::Epoch},
    store::{
        ChainRecord, Change, IdentityRecord, Loaded, MessageRecord, MessageState, Opened, Options,
        SqliteStore, Store, StoreError,
    },
};
use protocol::{
    identity::{Iccid, Mode},
    key::Key,
};
use tempfile::TempDir;

const POSIX: u64 = 1_800_000_000;

fn options(directory: &Path) -> Options {
    Options {
        directory: directory.into(),
        key_file: None,
        restored: false,
        posix: POSIX,
    }
}

fn open(directory: &Path) -> Result<(SqliteStore, Loaded, Opened), StoreError> {
    SqliteStore::open(&options(directory))
}

fn identity(id: u32) -> IdentityRecord {
    let iccid: Iccid = format!("89883741724701{id:05}").parse().unwrap();
    IdentityRecord {
        id,
        reference: format!("meter-{id}").into(),
        iccid,
        k: Key::from_bytes(&[0xA5; 16]).unwrap(),
        mode: Mode::DEFAULT,
        uid_1: iccid.into(),
    }
}

fn message(subscription: u32, id: u32, state: MessageState) -> MessageRecord {
    let msg = vec![0x81, 4, 0, 0, 0, 1, 0x82, 0];
    let (queued_at, expires_at, changed_at) = (POSIX, Some(POSIX + 9), POSIX + 1);
    MessageRecord {
        subscription,
        id,
        msg,
        queued_at,
        expires_at,
        state,
        changed_at,
    }
}

/// A store with three subscriptions and messages, stopped in good order.
fn filled() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, loaded, opened) = open(directory.path()).unwrap();
    assert_eq!(opened, Opened::New);
    let engine = Engine::new(loaded, SyncPolicy::Group);
    for id in 0..3 {
        let identity = identity(id);
        let chain = ChainRecord {
            open_messages: 2,
            ..engine.first_chain(&identity)
        };
        let messages = [
            MessageState::Delivered,
            MessageState::Queued,
            MessageState::Expiring,
        ];
        let messages = messages.into_iter().zip(10..);
        let messages = messages.map(|(state, number)| Change::Message(message(id, number, state)));
        let mut changes = vec![Change::Identity(identity), Change::Chain(chain)];
        changes.extend(messages);
        store.commit(&changes).unwrap();
    }
    store.close().unwrap();
    directory
}

/// All that a store gives back, as text that can be compared.
fn content(loaded: &Loaded) -> String {
    let subscriptions: Vec<String> = loaded
        .subscriptions
        .iter()
        .map(|(identity, chain)| {
            let keys = [&identity.k, &chain.key, &chain.recovery_key];
            let keys = keys.map(|key| key.as_bytes().to_vec());
            format!("{identity:?} {chain:?} {keys:?}")
        })
        .collect();
    let secret = loaded.secret.as_bytes();
    format!(
        "{secret:?} {:?} {subscriptions:?} {:?}",
        loaded.epoch, loaded.messages
    )
}

#[test]
fn a_store_gives_back_what_was_committed() {
    let directory = filled();
    let (mut store, loaded, opened) = open(directory.path()).unwrap();
    assert_eq!(opened, Opened::Whole);
    assert_eq!(loaded.epoch, Epoch::default());
    assert_eq!(loaded.subscriptions.len(), 3);
    assert_eq!(loaded.subscriptions[1].0.k.as_bytes(), [0xA5; 16]);
    let open: Vec<_> = loaded
        .messages
        .iter()
        .map(|message| message.state)
        .collect();
    assert_eq!(
        open,
        [MessageState::Queued, MessageState::Expiring].repeat(3)
    );
    let all = store.messages(1).unwrap();
    assert_eq!(all[0], message(1, 10, MessageState::Delivered));
}

#[test]
fn a_killed_server_leaves_a_whole_store() {
    let directory = filled();
    let before = {
        // Dropped without close, as a killed process leaves it.
        let (_store, loaded, _) = open(directory.path()).unwrap();
        content(&loaded)
    };
    let (_, loaded, opened) = open(directory.path()).unwrap();
    assert_eq!(opened, Opened::Whole);
    assert_eq!(content(&loaded), before);
}

#[test]
fn a_restored_store_begins_a_new_generation() {
    let directory = filled();
    let restored = Options {
        restored: true,
        ..options(directory.path())
    };
    let (store, loaded, opened) = SqliteStore::open(&restored).unwrap();
    assert_eq!(opened, Opened::Restored);
    assert_eq!(u64::from(loaded.epoch.generation), POSIX);
    drop(store);
    let (_, again, _) = open(directory.path()).unwrap();
    assert_eq!(again.epoch, loaded.epoch);
}

#[test]
fn a_store_has_one_server_at_a_time() {
    let directory = filled();
    let _first = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()), Err(StoreError::InUse(_))));
}

#[test]
fn a_store_does_not_open_without_its_key() {
    let directory = filled();
    let key_file = directory.path().join("store.key");
    let key = fs::read(&key_file).unwrap();
    assert_eq!(
        fs::metadata(&key_file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let other = directory.path().join("other.key");
    fs::write(&other, "00".repeat(32)).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let wrong = Options {
        key_file: Some(other),
        ..options(directory.path())
    };
    assert!(matches!(
        SqliteStore::open(&wrong),
        Err(StoreError::WrongKey(_))
    ));

    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        matches!(open(directory.path()), Err(StoreError::KeyFile { .. })),
        "others may read it"
    );

    fs::remove_file(&key_file).unwrap();
    let error = open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("give the key file"), "{error}");
    assert!(!key_file.exists(), "no new key for an old store");
    assert!(!error.contains(&String::from_utf8(key).unwrap()));
}

#[test]
fn no_key_is_in_the_files_of_a_store() {
    let directory = filled();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(16).any(|window| window == [0xA5; 16]));
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let directory = filled();
    let database = rusqlite::Connection::open(directory.path().join("gts.db")).unwrap();
    database.pragma_update(None, "user_version", 2).unwrap();
    drop(database);
    let error = open(directory.path()).err().unwrap();
    assert!(
        matches!(
            error,
            StoreError::NewerFormat {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

fn copy(from: &Path) -> (TempDir, PathBuf) {
    let to = tempfile::tempdir().unwrap();
    for name in ["gts.db", "store.key"] {
        fs::copy(from.join(name), to.path().join(name)).unwrap();
    }
    let database = to.path().join("gts.db");
    (to, database)
}

/// Opens a damaged store: it gives back exactly what was there, or refuses.
fn opens_whole_or_not_at_all(directory: &Path, whole: &str, what: &str) -> bool {
    match open(directory) {
        Err(_) => false,
        Ok((_, loaded, _)) => {
            assert_eq!(content(&loaded), whole, "{what}");
            true
        }
    }
}

#[test]
fn a_flipped_byte_is_found_or_harmless() {
    let directory = filled();
    let whole = content(&open(directory.path()).unwrap().1);
    let original = fs::read(directory.path().join("gts.db")).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    // Every byte of the header, every 61st of the rest.
    for at in (0..100).chain((100..original.len()).step_by(61)) {
        let (copied, database) = copy(directory.path());
        let mut bytes = original.clone();
        bytes[at] ^= 0x10;
        fs::write(&database, &bytes).unwrap();
        if opens_whole_or_not_at_all(copied.path(), &whole, &format!("byte {at}")) {
            harmless += 1;
        } else {
            refused += 1;
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 0 && harmless > 0);
}

#[test]
fn a_cut_store_is_refused() {
    let directory = filled();
    let whole = content(&open(directory.path()).unwrap().1);
    let original = fs::read(directory.path().join("gts.db")).unwrap();
    for len in (1..original.len()).step_by(997) {
        let (copied, database) = copy(directory.path());
        fs::write(&database, &original[..len]).unwrap();
        let opened = opens_whole_or_not_at_all(copied.path(), &whole, &format!("{len} bytes"));
        assert!(!opened, "cut to {len} bytes");
    }
}

/// Written by the first version of the store's format; it opens for ever.
#[test]
fn a_store_of_format_1_opens() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/store-v1");
    let (directory, _) = copy(&sample);
    let key = directory.path().join("store.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let (_, loaded, opened) = open(directory.path()).unwrap();
    assert_eq!(opened, Opened::Whole);
    assert_eq!(loaded.subscriptions.len(), 3);
    let (identity, chain) = &loaded.subscriptions[2];
    assert_eq!(identity.k.as_bytes(), [0xA5; 16]);
    assert_eq!(
        (&*identity.reference, chain.uid),
        ("meter-2", identity.uid_1)
    );
    assert_eq!(loaded.messages.len(), 6);
}
