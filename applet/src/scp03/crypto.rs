//! AES-CBC, padding and key derivation as SCP03 uses them.

use aes::{
    Aes128, Aes256, Block,
    cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _},
};
use protocol::key::{Key, Prf, Sized};
use zeroize::Zeroizing;

/// Bytes of an AES block.
pub(super) const BLOCK: usize = 16;

/// A key made ready for single blocks.
pub(crate) enum Aes {
    Short(Aes128),
    Long(Aes256),
}

impl Aes {
    pub(crate) fn new(key: &Key) -> Self {
        match key.sized() {
            Sized::Aes128(key) => Self::Short(Aes128::new(key.into())),
            Sized::Aes256(key) => Self::Long(Aes256::new(key.into())),
        }
    }

    pub(crate) fn encrypt(&self, block: &mut [u8; BLOCK]) {
        let block: &mut Block = block.into();
        match self {
            Self::Short(aes) => aes.encrypt_block(block),
            Self::Long(aes) => aes.encrypt_block(block),
        }
    }

    fn decrypt(&self, block: &mut [u8; BLOCK]) {
        let block: &mut Block = block.into();
        match self {
            Self::Short(aes) => aes.decrypt_block(block),
            Self::Long(aes) => aes.decrypt_block(block),
        }
    }

    /// CBC in place; what is not a whole block at the end is left as it is.
    pub(super) fn encrypt_cbc(&self, mut chain: [u8; BLOCK], data: &mut [u8]) {
        for block in data.as_chunks_mut().0 {
            xor(block, &chain);
            self.encrypt(block);
            chain = *block;
        }
    }

    /// CBC in place; what is not a whole block at the end is left as it is.
    pub(crate) fn decrypt_cbc(&self, mut chain: [u8; BLOCK], data: &mut [u8]) {
        for block in data.as_chunks_mut().0 {
            let cipher = *block;
            self.decrypt(block);
            xor(block, &chain);
            chain = cipher;
        }
    }
}

fn xor(block: &mut [u8; BLOCK], with: &[u8; BLOCK]) {
    block
        .iter_mut()
        .zip(with)
        .for_each(|(byte, with)| *byte ^= with);
}

/// Appends 80 and as many 00 as fill a block (Card Specification 2.3, B.2.3).
pub(super) fn pad(data: &mut Vec<u8>) {
    data.push(0x80);
    data.resize(data.len().next_multiple_of(BLOCK), 0);
}

/// How long the data is without its padding.
pub(super) fn unpadded(data: &[u8]) -> Option<usize> {
    let last = data.iter().rposition(|byte| *byte != 0)?;
    (data[last] == 0x80 && data.len() - last <= BLOCK).then_some(last)
}

/// What a derived value is for (Amendment D, table 4-1).
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Constant {
    CardCryptogram = 0x00,
    HostCryptogram = 0x01,
    CardChallenge = 0x02,
    SEnc = 0x04,
    SMac = 0x06,
    SRmac = 0x07,
}

/// Fills `out` by SP 800-108 in counter mode (Amendment D, 4.1.5): label, separator and length stand before the counter.
pub(super) fn derive(key: &Key, constant: Constant, context: &[&[u8]; 2], out: &mut [u8]) {
    let prf = Prf::new(key);
    let bits = u16::try_from(out.len() * 8)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let mut label = [0; 15];
    label[11] = constant as u8;
    label[13..].copy_from_slice(&bits);
    for (counter, part) in (1u8..).zip(out.chunks_mut(BLOCK)) {
        let block = Zeroizing::new(prf.mac(&[&label, &[counter], context[0], context[1]]));
        part.copy_from_slice(&block[..part.len()]);
    }
}
