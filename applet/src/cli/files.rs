//! Keys from files or standard input: never from the command line, where every process could read them.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use applet::nvm::WrapKey;
use protocol::key::Key;
use zeroize::Zeroizing;

use super::error::Error;

/// More than 64 digits and the white space around them.
const LONGEST: u64 = 256;

/// Reads 32 or 64 hexadecimal digits; `-` is standard input.
pub(super) fn key(path: &Path) -> Result<Key, Error> {
    let origin = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let text = read(path).map_err(|error| Error::File {
        path: path.to_owned(),
        error,
    })?;
    if text.len() as u64 > LONGEST {
        return Err(Error::KeyTooLong { origin });
    }
    Key::from_hex(&text).map_err(|error| Error::Key { origin, error })
}

/// The key that an image is wrapped under, if one is named.
pub(super) fn wrap_key(path: Option<&Path>) -> Result<Option<WrapKey>, Error> {
    let key = path.map(key).transpose()?;
    Ok(key.as_ref().map(WrapKey::new))
}

/// One byte more than the longest tells that there is more.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    // As large as it will ever be, so that no copy stays behind when it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(LONGEST + 1)
            .read_to_end(&mut bytes)?;
    } else {
        File::open(path)?
            .take(LONGEST + 1)
            .read_to_end(&mut bytes)?;
    }
    let text = str::from_utf8(&bytes)
        .map_err(|_| io::Error::other("a key file is text in hexadecimal digits"))?;
    Ok(Zeroizing::new(text.to_owned()))
}
