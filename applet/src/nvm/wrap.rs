//! The whole state under a key: AES key wrap with padding (NIST SP 800-38F, KWP; RFC 5649).

use aes_kw::{KeyInit, KwpAes128, KwpAes256};
use protocol::key::{Key, Sized};
use zeroize::Zeroizing;

use super::NvmError;

/// The key that an image is wrapped under.
#[derive(Clone)]
pub struct WrapKey(Cipher);

#[derive(Clone)]
enum Cipher {
    Aes128(KwpAes128),
    Aes256(KwpAes256),
}

impl WrapKey {
    /// Takes an AES-128 or AES-256 key.
    pub fn new(key: &Key) -> Self {
        Self(match key.sized() {
            Sized::Aes128(key) => Cipher::Aes128(KwpAes128::new(key.into())),
            Sized::Aes256(key) => Cipher::Aes256(KwpAes256::new(key.into())),
        })
    }

    /// 8 to 15 bytes longer than `plain`.
    pub(super) fn wrap(&self, plain: &[u8]) -> Result<Vec<u8>, NvmError> {
        let mut out = vec![0; (plain.len().div_ceil(8) + 1) * 8];
        let wrapped = match &self.0 {
            Cipher::Aes128(aes) => aes.wrap_key(plain, &mut out),
            Cipher::Aes256(aes) => aes.wrap_key(plain, &mut out),
        };
        wrapped.map_err(|_| NvmError::Full(plain.len()))?;
        Ok(out)
    }

    /// The checksum over `wrapped` was right, so failure means another key.
    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, NvmError> {
        let mut out = Zeroizing::new(vec![0; wrapped.len()]);
        let plain = match &self.0 {
            Cipher::Aes128(aes) => aes.unwrap_key(wrapped, &mut out),
            Cipher::Aes256(aes) => aes.unwrap_key(wrapped, &mut out),
        };
        let len = plain.map_err(|_| NvmError::WrongKey)?.len();
        out.truncate(len);
        Ok(out)
    }
}
