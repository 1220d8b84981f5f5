//! The key that an image is wrapped under: from a file, never from the command line, where every
//! process could read it.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use applet::nvm::WrapKey;
use protocol::key::Key;
use reader_bridge::scp03::StaticKeys;
use zeroize::Zeroizing;

use super::exit::Failure;

/// More than three keys of 64 digits and the white space around them.
const LONGEST: usize = 256;

/// Reads 32 or 64 hexadecimal digits; `-` is standard input.
pub(super) fn key(path: &Path) -> Result<Key, Failure> {
    parse(path, &text(path)?)
}

/// A card manager's keys: one for all, or ENC, MAC and DEK with white space between them.
pub(super) fn card_keys(path: &Path) -> Result<StaticKeys, Failure> {
    let text = text(path)?;
    let words: Vec<_> = text.split_whitespace().collect();
    let [enc, mac, dek] = match words[..] {
        [] | [_] => [text.trim(); 3],
        [enc, mac, dek] => [enc, mac, dek],
        _ => {
            return Err(Failure::KeyFile {
                path: path.to_owned(),
                error: io::Error::other("a card key file has one key, or three: ENC, MAC, DEK"),
            });
        }
    };
    Ok(StaticKeys {
        enc: parse(path, enc)?,
        mac: parse(path, mac)?,
        dek: parse(path, dek)?,
    })
}

fn text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = read(path).map_err(|error| Failure::KeyFile {
        path: path.to_owned(),
        error,
    })?;
    Ok(Zeroizing::new(
        str::from_utf8(&bytes).unwrap_or("?").to_owned(),
    ))
}

fn parse(path: &Path, text: &str) -> Result<Key, Failure> {
    Key::from_hex(text).map_err(|error| Failure::Key {
        path: path.to_owned(),
        error,
    })
}

/// The same, as the key that a card image is wrapped under.
pub(super) fn wrap_key(path: &Path) -> Result<WrapKey, Failure> {
    key(path).map(|key| WrapKey::new(&key))
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // As large as it will ever be, so that no copy stays behind when it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * LONGEST));
    let limit = LONGEST as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    if bytes.len() > LONGEST {
        return Err(io::Error::other(
            "longer than a key can be; a key file has 32 or 64 hexadecimal digits",
        ));
    }
    Ok(bytes)
}
