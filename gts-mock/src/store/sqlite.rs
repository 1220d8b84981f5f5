//! The embedded store: one SQLite database in write-ahead mode, every record sealed.
//!
//! A commit is written to the write-ahead log by the kernel when it returns, so a killed process loses
//! nothing. A sync flushes that file from a handle of our own, so that nobody who commits has to wait
//! for the disk; SQLite itself syncs the log before it moves its content into the database
//! (`synchronous = NORMAL`).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use protocol::secret::ServerSecret;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use zeroize::Zeroizing;

use super::{
    ChainRecord, Change, IdentityRecord, Loaded, MessageRecord, Store, StoreError, StoreKey, SubId,
    Sync,
    files::{LogSync, StoreLock, boot_id, lock, make_directory, sync_parent},
};
use crate::engine::walk::{Epoch, Loss};

/// Format of the database, in `PRAGMA user_version`.
const FORMAT: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE identity (id INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE, sealed BLOB NOT NULL) STRICT;
    CREATE TABLE chain (id INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
    CREATE TABLE message (
        subscription INTEGER NOT NULL, id INTEGER NOT NULL, open INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (subscription, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX message_open ON message (subscription, id) WHERE open = 1;
";
const SECRET: &str = "secret";
const EPOCH: &str = "epoch";
/// The boot in which the running server was started, or [`STOPPED`].
const RUNNING: &str = "running";
const STOPPED: &[u8] = b"stopped";
/// How many subscriptions there are: tells a damaged store that has lost one.
const COUNT: &str = "count";

/// A store in a directory of its own.
pub struct SqliteStore {
    connection: Connection,
    key: StoreKey,
    log: PathBuf,
    /// Held as long as the store is open; the lock ends with the process.
    _lock: StoreLock,
}

/// What opening a store brought to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Made just now.
    New,
    /// The last server stopped in good order, or was killed: nothing is lost.
    Whole,
    /// The machine went down under the last server: unsynced promotions may be lost.
    PowerCut,
    /// The operator says that it comes from a backup.
    Restored,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; made if there is none.
    pub directory: PathBuf,
    /// The key file; made if there is none. By default `store.key` in the directory.
    pub key_file: Option<PathBuf>,
    /// It comes from a backup: its cards may be further along.
    pub restored: bool,
    /// POSIX time in seconds.
    pub posix: u64,
}

impl SqliteStore {
    /// Opens or makes a store, and loads what the engine needs.
    pub fn open(options: &Options) -> Result<(Self, Loaded, Opened), StoreError> {
        let directory = &options.directory;
        make_directory(directory)?;
        let lock = lock(directory)?;
        let key_file = options
            .key_file
            .clone()
            .unwrap_or_else(|| directory.join("store.key"));
        let database = directory.join("gts.db");
        let existed = database.exists();
        if existed && !key_file.exists() {
            let reason =
                "there is none, and the store exists: give the key file with which it was made";
            return Err(StoreError::KeyFile {
                path: key_file,
                reason: reason.into(),
            });
        }
        let key = StoreKey::open_or_create(&key_file)?;
        let connection = connect(&database)?;
        let log = directory.join("gts.db-wal");
        let mut store = Self {
            connection,
            key,
            log,
            _lock: lock,
        };
        store.prepare_schema(&database, existed)?;
        let (loaded, opened) = store.load(options, &key_file)?;
        Ok((store, loaded, opened))
    }

    fn prepare_schema(&mut self, database: &Path, existed: bool) -> Result<(), StoreError> {
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 if existed => Err(StoreError::Empty(database.into())),
            0 => {
                let transaction = self.connection.transaction()?;
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", FORMAT)?;
                transaction.commit()?;
                Ok(())
            }
            FORMAT => Ok(()),
            found => Err(StoreError::NewerFormat {
                path: database.into(),
                found,
                known: FORMAT,
            }),
        }
    }

    fn load(&mut self, options: &Options, key_file: &Path) -> Result<(Loaded, Opened), StoreError> {
        let (secret, new) = self.secret(key_file)?;
        let boot = boot_id();
        let (opened, mut epoch) = if new {
            (Opened::New, Epoch::default())
        } else {
            (self.how_it_ended(options, boot.as_bytes())?, self.epoch()?)
        };
        match opened {
            Opened::PowerCut => epoch = epoch.after(Loss::PowerCut, options.posix),
            Opened::Restored => epoch = epoch.after(Loss::Restore, options.posix),
            Opened::New | Opened::Whole => {}
        }
        let sealed_epoch = self.sealed(&epoch.encode())?;
        let sealed_boot = self.sealed(boot.as_bytes())?;
        let sealed_count = self.sealed(&0i64.to_be_bytes())?;
        let transaction = self.connection.transaction()?;
        put_meta(&transaction, EPOCH, &sealed_epoch)?;
        put_meta(&transaction, RUNNING, &sealed_boot)?;
        if new {
            put_meta(&transaction, COUNT, &sealed_count)?;
        }
        transaction.commit()?;
        self.flush()?;
        let subscriptions = self.subscriptions()?;
        let messages = self.open_messages()?;
        let loaded = Loaded {
            secret,
            epoch,
            subscriptions,
            messages,
        };
        self.check_counts(&loaded)?;
        Ok((loaded, opened))
    }

    /// S; made at the first start.
    fn secret(&mut self, key_file: &Path) -> Result<(ServerSecret, bool), StoreError> {
        let held: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT sealed FROM meta WHERE name = ?1", [SECRET], |row| {
                row.get(0)
            })
            .optional()?;
        if let Some(sealed) = held {
            // The first record that is opened: if its seal does not hold, it is the wrong key.
            let opened = self
                .key
                .open(&sealed)
                .and_then(|bytes| <[u8; 16]>::try_from(&bytes[..]).ok());
            let secret = opened.ok_or_else(|| StoreError::WrongKey(key_file.into()))?;
            return Ok((ServerSecret::from_bytes(secret), false));
        }
        let mut bytes = Zeroizing::new([0; 16]);
        getrandom::fill(&mut bytes[..]).map_err(|error| StoreError::File {
            path: self.log.clone(),
            source: error.into(),
        })?;
        let sealed = self.sealed(&bytes[..])?;
        let transaction = self.connection.transaction()?;
        put_meta(&transaction, SECRET, &sealed)?;
        transaction.commit()?;
        Ok((ServerSecret::from_bytes(*bytes), true))
    }

    fn how_it_ended(&mut self, options: &Options, boot: &[u8]) -> Result<Opened, StoreError> {
        let before = self.meta(RUNNING)?;
        Ok(match &before[..] {
            _ if options.restored => Opened::Restored,
            STOPPED => Opened::Whole,
            before if before == boot => Opened::Whole,
            _ => Opened::PowerCut,
        })
    }

    fn epoch(&mut self) -> Result<Epoch, StoreError> {
        Epoch::decode(&self.meta(EPOCH)?).ok_or_else(|| damaged(EPOCH))
    }

    fn meta(&mut self, name: &str) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let sealed: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT sealed FROM meta WHERE name = ?1", [name], |row| {
                row.get(0)
            })
            .optional()?;
        sealed
            .and_then(|sealed| self.key.open(&sealed))
            .ok_or_else(|| damaged(name))
    }

    /// Seals find records that are damaged; counts, which are sealed too, find those that are gone.
    fn check_counts(&mut self, loaded: &Loaded) -> Result<(), StoreError> {
        let count = self.meta(COUNT)?;
        let expected = i64::from_be_bytes(count[..].try_into().map_err(|_| damaged(COUNT))?);
        if i64::try_from(loaded.subscriptions.len()) != Ok(expected) {
            return Err(damaged(&format!("the list of {expected} subscriptions")));
        }
        let mut open: HashMap<SubId, u32> = HashMap::new();
        for message in &loaded.messages {
            *open.entry(message.subscription).or_default() += 1;
        }
        let wrong = loaded.subscriptions.iter().find(|(_, chain)| {
            open.get(&chain.id).copied().unwrap_or_default() != chain.open_messages
        });
        match wrong {
            Some((identity, _)) => Err(damaged(&format!("the queue of {:?}", identity.reference))),
            None => Ok(()),
        }
    }

    fn subscriptions(&mut self) -> Result<Vec<(IdentityRecord, ChainRecord)>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT identity.id, identity.reference, identity.sealed, chain.sealed
             FROM identity LEFT JOIN chain ON chain.id = identity.id ORDER BY identity.id",
        )?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let id: SubId = row.get(0)?;
            let reference: String = row.get(1)?;
            let (identity, chain): (Vec<u8>, Option<Vec<u8>>) = (row.get(2)?, row.get(3)?);
            let identity = self
                .key
                .open(&identity)
                .and_then(|bytes| IdentityRecord::decode(&bytes, id));
            let chain = chain.and_then(|sealed| self.key.open(&sealed));
            let chain = chain.and_then(|bytes| ChainRecord::decode(&bytes, id));
            let whole = identity
                .zip(chain)
                .filter(|(identity, _)| *identity.reference == *reference);
            all.push(whole.ok_or_else(|| damaged(&format!("subscription {id} ({reference:?})")))?);
        }
        Ok(all)
    }

    fn open_messages(&mut self) -> Result<Vec<MessageRecord>, StoreError> {
        self.read_messages(
            "SELECT subscription, id, sealed FROM message WHERE open = 1",
            [],
        )
    }

    fn read_messages(
        &self,
        sql: &str,
        arguments: impl rusqlite::Params,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(arguments)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let (subscription, id): (SubId, u32) = (row.get(0)?, row.get(1)?);
            let sealed: Vec<u8> = row.get(2)?;
            let opened = self.key.open(&sealed);
            let record = opened.and_then(|bytes| MessageRecord::decode(&bytes, subscription, id));
            all.push(
                record.ok_or_else(|| {
                    damaged(&format!("message {id} of subscription {subscription}"))
                })?,
            );
        }
        Ok(all)
    }

    fn sealed(&self, record: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.key
            .seal(record)
            .ok_or_else(|| damaged("a record too long to be sealed"))
    }

    fn flush(&self) -> Result<(), StoreError> {
        LogSync::new(self.log.clone()).sync()
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for change in changes {
            write(&transaction, &self.key, change)?;
        }
        if changes
            .iter()
            .any(|change| matches!(change, Change::Identity(_)))
        {
            let sql = "SELECT count(*) FROM identity";
            let count: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
            let sealed = self
                .key
                .seal(&count.to_be_bytes())
                .ok_or_else(|| damaged(COUNT))?;
            put_meta(&transaction, COUNT, &sealed)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn syncer(&self) -> Result<Box<dyn Sync>, StoreError> {
        Ok(Box::new(LogSync::new(self.log.clone())))
    }

    fn messages(&mut self, subscription: SubId) -> Result<Vec<MessageRecord>, StoreError> {
        let sql =
            "SELECT subscription, id, sealed FROM message WHERE subscription = ?1 ORDER BY id";
        self.read_messages(sql, [subscription])
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let sealed = self.sealed(STOPPED)?;
        let transaction = self.connection.transaction()?;
        put_meta(&transaction, RUNNING, &sealed)?;
        transaction.commit()?;
        self.flush()
    }
}

fn write(transaction: &Transaction<'_>, key: &StoreKey, change: &Change) -> Result<(), StoreError> {
    let seal = |bytes: &[u8]| {
        key.seal(bytes)
            .ok_or_else(|| damaged("a record too long to be sealed"))
    };
    match change {
        Change::Identity(record) => {
            let sql = "INSERT INTO identity (id, reference, sealed) VALUES (?1, ?2, ?3)";
            let sealed = seal(&record.encode())?;
            transaction.prepare_cached(sql)?.execute(params![
                record.id,
                record.reference,
                sealed
            ])?;
        }
        Change::Chain(record) => {
            let sql = "INSERT INTO chain (id, sealed) VALUES (?1, ?2)
                       ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed";
            let sealed = seal(&record.encode())?;
            transaction
                .prepare_cached(sql)?
                .execute(params![record.id, sealed])?;
        }
        Change::Message(record) => {
            let sql = "INSERT INTO message (subscription, id, open, sealed) VALUES (?1, ?2, ?3, ?4)
                       ON CONFLICT (subscription, id)
                       DO UPDATE SET open = excluded.open, sealed = excluded.sealed";
            let sealed = seal(&record.encode())?;
            let open = record.state.is_open();
            let row = params![record.subscription, record.id, open, sealed];
            transaction.prepare_cached(sql)?.execute(row)?;
        }
    }
    Ok(())
}

fn put_meta(transaction: &Transaction<'_>, name: &str, sealed: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO meta (name, sealed) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed";
    transaction.execute(sql, params![name, sealed])?;
    Ok(())
}

fn connect(database: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(database)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // The log file stays while the store is open, so that syncing it is always syncing the right one.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    sync_parent(database)?;
    Ok(connection)
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { what: what.into() }
}
