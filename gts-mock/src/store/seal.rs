//! Sealing of records: AES Key Wrap with Padding (RFC 5649) under the store's key. It hides keys and
//! finds damage: a record with one bit changed does not open.

use std::{
    fs::OpenOptions,
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use aes_kw::{AesKwp, KeyInit, aes::Aes256};
use protocol::key::{Key, KeyLength};
use zeroize::Zeroizing;

use super::StoreError;

/// The key under which all records of a store are sealed, AES-256.
pub struct StoreKey(AesKwp<Aes256>);

impl StoreKey {
    /// Reads the key file (64 hexadecimal digits); makes one of mode 0600 if there is none.
    pub fn open_or_create(path: &Path) -> Result<Self, StoreError> {
        match std::fs::File::open(path) {
            Ok(file) => Self::read(path, file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(path),
            Err(source) => Err(StoreError::File {
                path: path.into(),
                source,
            }),
        }
    }

    fn read(path: &Path, file: std::fs::File) -> Result<Self, StoreError> {
        let refuse = |reason: String| StoreError::KeyFile {
            path: path.into(),
            reason,
        };
        let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(refuse("others may read it: chmod 600".into()));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(1024)
            .read_to_string(&mut text)
            .map_err(|_| refuse("it is not text: 64 hexadecimal digits are expected".into()))?;
        let key = Key::from_hex(&text).map_err(|error| refuse(error.to_string()))?;
        if key.length() != KeyLength::Aes256 {
            return Err(refuse(
                "a store's key has 64 hexadecimal digits (AES-256)".into(),
            ));
        }
        Self::from_key(&key).ok_or_else(|| refuse("not an AES-256 key".into()))
    }

    fn create(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File {
            path: path.into(),
            source,
        };
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut bytes[..]).map_err(|error| failed(error.into()))?;
        let text = Zeroizing::new(format!("{}\n", &*Zeroizing::new(hex::encode(&bytes[..]))));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        super::files::sync_parent(path)?;
        let refuse = || StoreError::KeyFile {
            path: path.into(),
            reason: "not an AES-256 key".into(),
        };
        Key::from_bytes(&bytes[..])
            .ok()
            .and_then(|key| Self::from_key(&key))
            .ok_or_else(refuse)
    }

    fn from_key(key: &Key) -> Option<Self> {
        AesKwp::new_from_slice(key.as_bytes()).ok().map(Self)
    }

    /// Seals a record. `None` only for an empty record or one of 4 GiB.
    pub(super) fn seal(&self, record: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = vec![0; record.len().div_ceil(8) * 8 + 8];
        self.0.wrap_key(record, &mut sealed).ok()?;
        Some(sealed)
    }

    /// Opens a sealed record; `None` if it is damaged or was sealed under another key.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut record = Zeroizing::new(vec![0; sealed.len()]);
        let len = self.0.unwrap_key(sealed, &mut record).ok()?.len();
        record.truncate(len);
        Some(record)
    }
}
