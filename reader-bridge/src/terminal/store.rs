//! Where the terminal remembers its cards: one file for each, in a directory of its own.
//!
//! Owns the files' names, form, locks and durability (`docs/terminal.md`). Refuses to know what is
//! remembered. A file is replaced as a whole: written beside, synced, renamed, the directory synced.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ota::Agenda, session::Memory};

/// The version of the file's form.
const VERSION: u32 = 1;
/// No file of a card's memory is longer; a longer one is not read.
const MAX_LEN: u64 = 64 * 1024;
/// No agenda is: it may hold command strings and their answers.
const MAX_AGENDA: u64 = 16 * 1024 * 1024;

/// Why a card cannot be remembered.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}: cannot {what}: {source}; --state DIR names another directory", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process works with this card and this directory.
    #[error("{}: another reader-bridge works with this card; end it, or give this one another --state DIR", .0.display())]
    Locked(PathBuf),
    /// A file of a newer program.
    #[error("{}: written by a newer program (version {version}, this one knows {VERSION}); use that one, or another --state DIR", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// No directory can be found by default.
    #[error(
        "no directory to remember cards in: neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set; give --state DIR"
    )]
    NoDefault,
}

/// Its directory by default: systemd's `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/reader-bridge`, else
/// `~/.local/state/reader-bridge` (XDG Base Directory Specification).
pub fn default_directory() -> Result<PathBuf, StoreError> {
    let from = |name: &str| {
        let path = env::var_os(name).map(PathBuf::from);
        // The specification has relative paths ignored.
        path.filter(|path| path.is_absolute())
    };
    from("STATE_DIRECTORY")
        .or_else(|| from("XDG_STATE_HOME").map(|home| home.join("reader-bridge")))
        .or_else(|| from("HOME").map(|home| home.join(".local/state/reader-bridge")))
        .ok_or(StoreError::NoDefault)
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// One card's file, locked as long as this lives.
#[derive(Debug)]
pub struct CardFile {
    directory: PathBuf,
    path: PathBuf,
    lock: File,
}

/// What a file held.
#[derive(Debug)]
pub enum Loaded<T = Memory> {
    /// A card seen before.
    Known(T),
    /// A card never seen.
    New,
    /// A damaged file, now out of the way.
    Damaged {
        /// Where it is kept.
        kept: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    rest: T,
}

impl Store {
    /// Makes the directory, for its owner only, unless it is there.
    pub fn open(directory: PathBuf) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed(&directory, "make this directory"))?;
        Ok(Self { directory })
    }

    /// Its path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of the card with this name (its ICCID), locked.
    pub fn card(&self, name: &str) -> Result<CardFile, StoreError> {
        let path = self.directory.join(format!("{name}.lock"));
        let lock = private()
            .truncate(false)
            .open(&path)
            .map_err(failed(&path, "make this lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(path)),
            Err(TryLockError::Error(error)) => return Err(failed(&path, "lock this file")(error)),
        }
        Ok(CardFile {
            directory: self.directory.clone(),
            path: self.directory.join(format!("{name}.json")),
            lock,
        })
    }
}

impl Drop for CardFile {
    fn drop(&mut self) {
        // Closing alone is not enough: a process that is just being started holds a copy of the descriptor, and
        // with it the lock, until it has begun its own program (flock(2)).
        let _ = self.lock.unlock();
    }
}

impl CardFile {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is remembered.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        load(&self.path, MAX_LEN)
    }

    /// Remembers: when this returns, it survives a power cut.
    pub fn save(&self, memory: &Memory) -> Result<(), StoreError> {
        save(&self.directory, &self.path, memory)
    }

    /// What is still to be done for the card.
    pub fn load_agenda(&self) -> Result<Loaded<Agenda>, StoreError> {
        load(&self.agenda(), MAX_AGENDA)
    }

    /// Remembers what is still to be done: when this returns, it survives a power cut.
    pub fn save_agenda(&self, agenda: &Agenda) -> Result<(), StoreError> {
        save(&self.directory, &self.agenda(), agenda)
    }

    fn agenda(&self) -> PathBuf {
        self.path.with_extension("agenda.json")
    }
}

fn load<T: DeserializeOwned>(path: &Path, longest: u64) -> Result<Loaded<T>, StoreError> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::New),
        Err(error) => return Err(failed(path, "read")(error)),
    };
    if length > longest {
        return set_aside(
            path,
            format!("{length} bytes are more than any file of this program has"),
        );
    }
    let text = fs::read(path).map_err(failed(path, "read"))?;
    match serde_json::from_slice::<Versioned<serde_json::Value>>(&text) {
        Ok(Versioned { version, .. }) if version > VERSION => Err(StoreError::Version {
            path: path.to_owned(),
            version,
        }),
        Ok(Versioned { rest, .. }) => match serde_json::from_value(rest) {
            Ok(known) => Ok(Loaded::Known(known)),
            Err(error) => set_aside(path, error.to_string()),
        },
        Err(error) => set_aside(path, error.to_string()),
    }
}

fn set_aside<T>(path: &Path, why: String) -> Result<Loaded<T>, StoreError> {
    let kept = path.with_extension("json.damaged");
    fs::rename(path, &kept).map_err(failed(path, "set this damaged file aside"))?;
    Ok(Loaded::Damaged { kept, why })
}

fn save<T: Serialize>(directory: &Path, path: &Path, rest: &T) -> Result<(), StoreError> {
    let versioned = Versioned {
        version: VERSION,
        rest,
    };
    let beside = path.with_extension("json.new");
    write(&versioned, &beside).map_err(failed(&beside, "write"))?;
    fs::rename(&beside, path)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(failed(path, "replace"))
}

fn write<T: Serialize>(versioned: &Versioned<&T>, beside: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(versioned)?;
    text.push(b'\n');
    let mut file = private().truncate(true).open(beside)?;
    file.write_all(&text)?;
    file.sync_all()
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, what, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Outstanding, Rules, Transport, Via};
    use protocol::identity::Uid;
    use std::os::unix::fs::PermissionsExt;

    fn memory() -> Memory {
        Memory {
            last_message: 7,
            outstanding: Some(Outstanding {
                identity: Uid([9; 10]),
                via: Via::Away,
            }),
            rules: Rules {
                interval: Some(60),
                quiet: Some((1, 2)),
                ..Rules::default()
            },
            transport: Some(Transport {
                endpoint: "a:1".into(),
                home: vec!["b:2".into()],
                until: 3,
            }),
            last_poll: Some(4),
            next_poll: Some(5),
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("state")).unwrap();
        (directory, store)
    }

    #[test]
    fn what_is_saved_is_known_after_a_restart() {
        let (_directory, store) = store();
        let card = store.card("8988").unwrap();
        assert!(matches!(card.load().unwrap(), Loaded::New));
        card.save(&memory()).unwrap();
        drop(card);
        let Loaded::Known(known) = store.card("8988").unwrap().load().unwrap() else {
            panic!()
        };
        assert_eq!(known, memory());
    }

    #[test]
    fn only_the_owner_reads_it() {
        let (_directory, store) = store();
        let card = store.card("8988").unwrap();
        card.save(&memory()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(card.path()), mode(&store.directory)), (0o600, 0o700));
    }

    #[test]
    fn two_terminals_never_share_a_card() {
        let (_directory, store) = store();
        let first = store.card("8988").unwrap();
        assert!(matches!(store.card("8988"), Err(StoreError::Locked(_))));
        store.card("8989").unwrap();
        drop(first);
        store.card("8988").unwrap();
    }

    #[test]
    fn a_damaged_file_is_kept_aside_whatever_it_holds() {
        let (_directory, store) = store();
        let card = store.card("8988").unwrap();
        card.save(&memory()).unwrap();
        let whole = fs::read(card.path()).unwrap();
        for length in 0..whole.len() - 2 {
            fs::write(card.path(), &whole[..length]).unwrap();
            let Loaded::Damaged { kept, .. } = card.load().unwrap() else {
                panic!("{length}")
            };
            assert_eq!(fs::read(kept).unwrap(), whole[..length]);
            assert!(matches!(card.load().unwrap(), Loaded::New));
        }
    }

    #[test]
    fn a_newer_programs_file_is_left_alone() {
        let (_directory, store) = store();
        let card = store.card("8988").unwrap();
        fs::write(card.path(), r#"{"version":2,"unheard_of":true}"#).unwrap();
        assert!(matches!(
            card.load(),
            Err(StoreError::Version { version: 2, .. })
        ));
        assert!(card.path().exists());
    }
}
