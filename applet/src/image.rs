//! A card image as a file: made once with mode 0600, and held by one process at a time.
//!
//! Owns the file, its lock and its durability. Refuses to know what the bytes mean; that is `nvm`'s.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::nvm::{Device, IMAGE_LEN, NvmError};

/// Why an image file cannot be used. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be opened, made or read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has the card.
    #[error("{}: the card is in use{}; a card can be in one place only", path.display(), by(*.pid))]
    InUse {
        /// The file.
        path: PathBuf,
        /// The process that holds it, if the system tells.
        pid: Option<u32>,
    },
    /// A new image would replace a file.
    #[error("{}: the file exists; choose another name, or --force to replace it (its card is lost then)", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Its content is not a card's.
    #[error("{}: {error}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: NvmError,
    },
}

fn by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

/// An image file, locked for as long as this lives.
#[derive(Debug)]
pub struct Image {
    file: File,
}

impl Image {
    /// Opens an image to use its card; refused while another process does.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| at(path, error))?;
        lock(&file, path)?;
        Ok(Self { file })
    }

    /// Opens an image to look at it, in use or not. What is written to it fails.
    pub fn examine(path: &Path) -> Result<Self, ImageError> {
        let file = File::open(path).map_err(|error| at(path, error))?;
        Ok(Self { file })
    }

    /// Makes an image file whose content `fill` writes, whole or not at all. An existing file is replaced
    /// only with `force`, and never while its card is in use.
    pub fn create(
        path: &Path,
        force: bool,
        fill: impl FnOnce(Self) -> Result<(), NvmError>,
    ) -> Result<(), ImageError> {
        let _existing = if force && path.exists() {
            Some(Self::open(path)?)
        } else {
            None
        };
        let draft = Draft::new(path)?;
        let file = draft.file.try_clone().map_err(|error| at(path, error))?;
        file.set_len(IMAGE_LEN as u64)
            .map_err(|error| at(path, error))?;
        fill(Self { file }).map_err(|error| content(path, error))?;
        draft.publish(path, force)
    }
}

fn at(path: &Path, error: io::Error) -> ImageError {
    ImageError::File {
        path: path.to_owned(),
        error,
    }
}

/// An error of a memory that stands in this file.
pub fn content(path: &Path, error: NvmError) -> ImageError {
    ImageError::Content {
        path: path.to_owned(),
        error,
    }
}

fn lock(file: &File, path: &Path) -> Result<(), ImageError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ImageError::InUse {
            path: path.to_owned(),
            pid: holder(file),
        }),
        Err(TryLockError::Error(error)) => Err(at(path, error)),
    }
}

/// Who holds the lock, as far as `/proc/locks` tells (proc_locks(5)): a line such as
/// `1: FLOCK ADVISORY WRITE 4711 fd:01:131073 0 EOF`.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let flock = fields.nth(1)? == "FLOCK";
        let pid = fields.nth(2)?;
        let same = fields.next()?.rsplit(':').next()? == inode;
        (flock && same).then(|| pid.parse().ok()).flatten()
    })
}

/// A file under a name of its own until it is complete.
struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    fn new(target: &Path) -> Result<Self, ImageError> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let path = target.with_file_name(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(|error| at(target, error))?;
        Ok(Self { file, path })
    }

    /// Gives the file its name: `link` fails where a file of that name exists, `rename` replaces it.
    fn publish(mut self, target: &Path, force: bool) -> Result<(), ImageError> {
        self.file
            .flush()
            .and_then(|()| self.file.sync_all())
            .map_err(|error| at(target, error))?;
        let named = if force {
            std::fs::rename(&self.path, target)
        } else {
            std::fs::hard_link(&self.path, target)
        };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ImageError::Exists {
                path: target.to_owned(),
            },
            _ => at(target, error),
        })?;
        sync_folder(target).map_err(|error| at(target, error))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already where it was renamed.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A new name is durable when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Drop for Image {
    fn drop(&mut self) {
        // Closing alone is not enough: a process that is just being started holds a copy of the descriptor, and
        // with it the lock, until it has begun its own program (flock(2)).
        let _ = self.file.unlock();
    }
}

impl Device for Image {
    fn size(&mut self) -> io::Result<u64> {
        self.file.metadata().map(|data| data.len())
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at as u64)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
