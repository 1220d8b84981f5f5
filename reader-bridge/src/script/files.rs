//! Where scripts come from.
//!
//! Owns reading files, and how large they may be. Refuses to know what is in them.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::place::ScriptError;

/// Where scripts are read from.
pub trait Files {
    /// The whole text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// Files of the system, of at most 4 MiB each; `-` is standard input.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

const MAX_FILE: u64 = 4 << 20;

impl Files for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        use io::Read as _;
        let mut bytes = Vec::new();
        let limit = MAX_FILE + 1;
        let input: Box<dyn io::Read> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(std::fs::File::open(path)?)
        };
        input.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::other("longer than 4 MiB: this is no script"));
        }
        String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            io::Error::other(format!("line {} is not UTF-8", line + 1))
        })
    }
}

/// Why a file does not become a script.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Script(#[from] ScriptError),
}
