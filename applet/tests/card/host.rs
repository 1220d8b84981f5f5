//! The off-card side of SCP03, written from Amendment D for the tests: every option, level and key length.

use aes::{
    Aes128, Aes256, Block,
    cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _},
};
use applet::Card;
use protocol::key::{Key, Prf};

use crate::common::{ok, status};

/// The host's end of a session on one channel.
pub(crate) struct Host {
    pub(crate) channel: u8,
    level: u8,
    size: usize,
    enc: Vec<u8>,
    mac: Vec<u8>,
    rmac: Vec<u8>,
    dek: Vec<u8>,
    chaining: Vec<u8>,
    counter: u8,
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    Prf::new(&Key::from_bytes(key).expect("a key"))
        .mac(parts)
        .to_vec()
}

/// Amendment D, 4.1.5.
pub(crate) fn derive(key: &[u8], constant: u8, context: &[u8], len: usize) -> Vec<u8> {
    let bits = u16::try_from(len * 8).expect("short").to_be_bytes();
    let block = |counter: u8| {
        let label = [&[0; 11][..], &[constant, 0], &bits, &[counter]].concat();
        mac(key, &[&label, context])
    };
    let mut out = [block(1), block(2)].concat();
    out.truncate(len);
    out
}

fn ecb(key: &[u8], block: &mut [u8], encrypt: bool) {
    let block: &mut Block = block.try_into().expect("a block");
    match (key.len(), encrypt) {
        (16, true) => Aes128::new_from_slice(key)
            .expect("a key")
            .encrypt_block(block),
        (16, false) => Aes128::new_from_slice(key)
            .expect("a key")
            .decrypt_block(block),
        (_, true) => Aes256::new_from_slice(key)
            .expect("a key")
            .encrypt_block(block),
        (_, false) => Aes256::new_from_slice(key)
            .expect("a key")
            .decrypt_block(block),
    }
}

fn xor(block: &mut [u8], with: &[u8]) {
    block
        .iter_mut()
        .zip(with)
        .for_each(|(byte, with)| *byte ^= with);
}

pub(crate) fn cbc_encrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Vec<u8> {
    let mut chain = iv.to_vec();
    for block in data.chunks(16) {
        let at = chain.len() - 16;
        let mut next = block.to_vec();
        xor(&mut next, &chain[at..]);
        ecb(key, &mut next, true);
        chain.extend_from_slice(&next);
    }
    chain.split_off(16)
}

fn cbc_decrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Vec<u8> {
    let all = [iv, data].concat();
    let blocks = (0..data.len() / 16).map(|at| {
        let mut block = all[16 * (at + 1)..16 * (at + 2)].to_vec();
        ecb(key, &mut block, false);
        xor(&mut block, &all[16 * at..16 * (at + 1)]);
        block
    });
    blocks.collect::<Vec<_>>().concat()
}

/// INITIALIZE UPDATE under this key version; host challenge, and the card's answer without its status word.
pub(crate) fn greet(card: &mut Card, channel: u8, version: u8, size: usize) -> (Vec<u8>, Vec<u8>) {
    let host: Vec<u8> = (0xA0..).take(size).collect();
    let lc = u8::try_from(size).expect("short");
    let apdu = [&[0x80 | channel, 0x50, version, 0, lc][..], &host, &[0]].concat();
    let greeting = ok(card.transmit(&apdu));
    (host, greeting)
}

impl Host {
    /// Opens a session at this level; the status word of EXTERNAL AUTHENTICATE.
    pub(crate) fn open(
        card: &mut Card,
        channel: u8,
        version: u8,
        keys: &[&[u8]; 3],
        level: u8,
        i: u8,
    ) -> (Self, u16) {
        let (mut session, apdu) = Self::begin(card, channel, version, keys, level, i);
        let answered = status(card.transmit(&apdu));
        session.level = level;
        (session, answered)
    }

    /// A session whose EXTERNAL AUTHENTICATE, which is returned too, has still to be sent.
    pub(crate) fn begin(
        card: &mut Card,
        channel: u8,
        version: u8,
        keys: &[&[u8]; 3],
        level: u8,
        i: u8,
    ) -> (Self, Vec<u8>) {
        let size = if i & 1 == 0 { 8 } else { 16 };
        let (host, greeting) = greet(card, channel, version, size);
        assert_eq!(greeting[11..13], [0x03, i]);
        let challenge = &greeting[13..13 + size];
        let context = [&host, challenge].concat();
        let len = keys[0].len();
        let mut session = Self {
            channel,
            level: 0x01,
            size,
            enc: derive(keys[0], 4, &context, len),
            mac: derive(keys[1], 6, &context, len),
            rmac: derive(keys[1], 7, &context, len),
            dek: keys[2].to_vec(),
            chaining: vec![0; 16],
            counter: 0,
        };
        assert_eq!(
            greeting[13 + size..13 + 2 * size],
            derive(&session.mac, 0, &context, size),
            "the card's proof"
        );
        let proof = derive(&session.mac, 1, &context, size);
        let apdu = session.sign(0x82, level, 0, &proof, false);
        (session, apdu)
    }

    /// A signed command without Le.
    fn sign(&mut self, ins: u8, p1: u8, p2: u8, data: &[u8], extended: bool) -> Vec<u8> {
        let len = u16::try_from(data.len() + self.size)
            .expect("short")
            .to_be_bytes();
        let lc = if extended {
            vec![0, len[0], len[1]]
        } else {
            vec![len[1]]
        };
        let header = [0x84, ins, p1, p2];
        self.chaining = mac(&self.mac, &[&self.chaining, &header, &lc, data]);
        [
            &[0x84 | self.channel, ins, p1, p2][..],
            &lc,
            data,
            &self.chaining[..self.size],
        ]
        .concat()
    }

    fn icv(&self, first: u8) -> Vec<u8> {
        let mut block = vec![0; 16];
        (block[0], block[15]) = (first, self.counter);
        ecb(&self.enc, &mut block, true);
        block
    }

    /// A protected command, with Le.
    pub(crate) fn protect(
        &mut self,
        ins: u8,
        p1: u8,
        p2: u8,
        data: &[u8],
        extended: bool,
    ) -> Vec<u8> {
        self.counter += 1;
        let mut data = data.to_vec();
        if self.level & 0x02 != 0 && !data.is_empty() {
            data.push(0x80);
            data.resize(data.len().next_multiple_of(16), 0);
            data = cbc_encrypt(&self.enc, &self.icv(0), &data);
        }
        let mut apdu = self.sign(ins, p1, p2, &data, extended);
        apdu.extend_from_slice(if extended { &[0, 0] } else { &[0] });
        apdu
    }

    /// Sends a command; its status word and its answer, verified and decrypted.
    pub(crate) fn send(
        &mut self,
        card: &mut Card,
        ins: u8,
        p1: u8,
        p2: u8,
        data: &[u8],
    ) -> (u16, Vec<u8>) {
        let apdu = self.protect(ins, p1, p2, data, false);
        let answer = card.transmit(&apdu).to_vec();
        self.receive(&answer)
    }

    pub(crate) fn receive(&self, answer: &[u8]) -> (u16, Vec<u8>) {
        let (data, sw) = answer.split_at(answer.len() - 2);
        if self.level & 0x10 == 0 || sw != [0x90, 0x00] {
            return (status(answer), data.to_vec());
        }
        let (text, sent) = data.split_at(data.len() - self.size);
        assert_eq!(
            mac(&self.rmac, &[&self.chaining, text, sw])[..self.size],
            *sent,
            "R-MAC"
        );
        if self.level & 0x20 == 0 || text.is_empty() {
            return (status(answer), text.to_vec());
        }
        let mut plain = cbc_decrypt(&self.enc, &self.icv(0x80), text);
        let end = plain.iter().rposition(|byte| *byte != 0).expect("padding");
        assert_eq!(plain[end], 0x80, "padding");
        plain.truncate(end);
        (status(answer), plain)
    }

    /// A secret under the DEK.
    pub(crate) fn hide(&self, secret: &[u8]) -> Vec<u8> {
        cbc_encrypt(&self.dek, &[0; 16], secret)
    }
}
