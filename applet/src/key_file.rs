//! Keys from files or standard input: never from the command line, where every process could read them.
//!
//! Owns reading such a file, for every program that opens images or personalises cards. Refuses to know what a key is
//! for, and what a program does when it cannot be read. No error repeats anything of a file's content.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use protocol::key::{Key, KeyTextError};
use zeroize::Zeroizing;

use crate::nvm::WrapKey;

/// More than three keys of 64 digits and the white space around them, in bytes.
const LONGEST: usize = 256;

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("{origin}: {error}")]
    Read {
        /// Its name.
        origin: String,
        /// What the system says.
        error: io::Error,
    },
    /// It is no text, or too long for one of keys.
    #[error("{origin}: {why}")]
    Form {
        /// Its name.
        origin: String,
        /// What is wrong, and what is right.
        why: &'static str,
    },
    /// Its text is no key.
    #[error("{origin}: {error}")]
    Key {
        /// Its name.
        origin: String,
        /// What is wrong with it.
        error: KeyTextError,
    },
}

/// A key of 32 or 64 hexadecimal digits, white space around them; `-` is standard input.
pub fn key(path: &Path) -> Result<Key, KeyFileError> {
    parse(path, &text(path)?)
}

/// The same, as the key that an image is wrapped under.
pub fn wrap_key(path: &Path) -> Result<WrapKey, KeyFileError> {
    key(path).map(|key| WrapKey::new(&key))
}

/// One key for all three purposes, or three with white space between them.
pub fn one_or_three(path: &Path) -> Result<[Key; 3], KeyFileError> {
    let text = text(path)?;
    let words: Vec<_> = text.split_whitespace().collect();
    let [first, second, third] = match words[..] {
        [] | [_] => [text.trim(); 3],
        [first, second, third] => [first, second, third],
        _ => {
            return Err(KeyFileError::Form {
                origin: origin(path),
                why: "a card key file has one key, or three: ENC, MAC, DEK",
            });
        }
    };
    Ok([
        parse(path, first)?,
        parse(path, second)?,
        parse(path, third)?,
    ])
}

fn parse(path: &Path, text: &str) -> Result<Key, KeyFileError> {
    Key::from_hex(text).map_err(|error| KeyFileError::Key {
        origin: origin(path),
        error,
    })
}

fn origin(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn text(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let bytes = read(path).map_err(|error| KeyFileError::Read {
        origin: origin(path),
        error,
    })?;
    let form = |why| KeyFileError::Form {
        origin: origin(path),
        why,
    };
    if bytes.len() > LONGEST {
        return Err(form(
            "longer than a key can be; a key file has 32 or 64 hexadecimal digits",
        ));
    }
    let text =
        str::from_utf8(&bytes).map_err(|_| form("a key file is text in hexadecimal digits"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// One byte more than the longest tells that there is more.
fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // As large as it will ever be, so that no copy stays behind when it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * LONGEST));
    let limit = LONGEST as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
