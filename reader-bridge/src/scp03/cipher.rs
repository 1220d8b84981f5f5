//! AES in the modes that SCP03 needs, one block and CBC, for both lengths of keys.

use aes::{
    Aes128, Aes256,
    cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _},
};
use protocol::key::{Key, Sized};

/// One block of AES.
pub type Block = [u8; BLOCK];
pub(super) const BLOCK: usize = 16;

/// AES-CBC without padding; `None` if the data is not of whole blocks.
pub fn cbc_encrypt(key: &Key, iv: Block, data: &[u8]) -> Option<Vec<u8>> {
    let (blocks, []) = data.as_chunks::<BLOCK>() else {
        return None;
    };
    let mut chain = iv;
    let mut out = Vec::with_capacity(data.len());
    for block in blocks {
        chain
            .iter_mut()
            .zip(block)
            .for_each(|(chain, byte)| *chain ^= byte);
        ecb(key, &mut chain, true);
        out.extend_from_slice(&chain);
    }
    Some(out)
}

pub(super) fn cbc_decrypt(key: &Key, iv: Block, data: &[u8]) -> Option<Vec<u8>> {
    let (blocks, []) = data.as_chunks::<BLOCK>() else {
        return None;
    };
    let mut chain = iv;
    let mut out = Vec::with_capacity(data.len());
    for block in blocks {
        let mut plain = *block;
        ecb(key, &mut plain, false);
        out.extend(plain.iter().zip(&chain).map(|(byte, chain)| byte ^ chain));
        chain = *block;
    }
    Some(out)
}

/// One block under one key.
pub(super) fn ecb(key: &Key, block: &mut Block, encrypt: bool) {
    let block: &mut aes::Block = block.into();
    match (key.sized(), encrypt) {
        (Sized::Aes128(key), true) => Aes128::new(key.into()).encrypt_block(block),
        (Sized::Aes128(key), false) => Aes128::new(key.into()).decrypt_block(block),
        (Sized::Aes256(key), true) => Aes256::new(key.into()).encrypt_block(block),
        (Sized::Aes256(key), false) => Aes256::new(key.into()).decrypt_block(block),
    }
}

/// 80 and as many 00 as fill a block.
pub(super) fn pad(data: &mut Vec<u8>) {
    data.push(0x80);
    data.resize(data.len().next_multiple_of(BLOCK), 0);
}
