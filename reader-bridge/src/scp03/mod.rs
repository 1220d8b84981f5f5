//! The off-card side of SCP03: opens a secure channel, protects commands, verifies answers.
//!
//! Owns session keys and where a session stands. Refuses to know how bytes reach the card and what is protected.
//! GlobalPlatform Card Technology, Secure Channel Protocol '03', Card Specification v2.3 Amendment D v1.2. AES-128 and
//! AES-256, S8 and S16, random and pseudo-random challenges.

mod cipher;
mod command;
#[cfg(test)]
mod tests;

use protocol::key::{Key, Prf};
use subtle::ConstantTimeEq as _;

use cipher::{BLOCK, cbc_decrypt, ecb, pad};
pub use cipher::{Block, cbc_encrypt};
use command::Plain;

/// P1 of EXTERNAL AUTHENTICATE (Amendment D, table 7-4): what is protected.
mod level {
    pub(super) const C_MAC: u8 = 0x01;
    pub(super) const C_DEC: u8 = 0x02;
    pub(super) const R_MAC: u8 = 0x10;
    pub(super) const R_ENC: u8 = 0x20;
}

/// What a derived value is for (Amendment D, table 4-1).
mod constant {
    pub(super) const CARD_CRYPTOGRAM: u8 = 0x00;
    pub(super) const HOST_CRYPTOGRAM: u8 = 0x01;
    pub(super) const S_ENC: u8 = 0x04;
    pub(super) const S_MAC: u8 = 0x06;
    pub(super) const S_RMAC: u8 = 0x07;
}

/// Why a secure channel cannot be opened or its answer not be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Scp03Error {
    /// Not 29, 32, 45 or 48 bytes.
    #[error(
        "the answer to INITIALIZE UPDATE has {0} bytes; SCP03's has 29 or 32, with S16 45 or 48"
    )]
    Greeting(usize),
    /// Another protocol.
    #[error("the card speaks SCP{0:02X}, not SCP03")]
    Protocol(u8),
    /// The card does not know the keys.
    #[error("the card's cryptogram is wrong: it has other keys, or is another card")]
    Cryptogram,
    /// Not a command that can be protected.
    #[error("a command of {0} bytes cannot be protected: {1}")]
    Command(usize, &'static str),
    /// The answer was changed on its way, or belongs to another command.
    #[error("the answer's R-MAC is wrong")]
    ResponseMac,
    /// The answer does not end in padding.
    #[error("the answer's encryption has no padding at its end")]
    Padding,
    /// The keys have different lengths.
    #[error("the keys ENC, MAC and DEK must be equally long")]
    Keys,
}

/// Static keys of a security domain.
#[derive(Clone)]
pub struct StaticKeys {
    /// Key-ENC.
    pub enc: Key,
    /// Key-MAC.
    pub mac: Key,
    /// Key-DEK.
    pub dek: Key,
}

/// The off-card end of an open secure channel.
pub struct Session {
    enc: Key,
    mac: Prf,
    rmac: Prf,
    dek: Key,
    chaining: Block,
    counter: u64,
    size: usize,
    level: u8,
}

/// SP 800-108 in counter mode as Amendment D, 4.1.5 has it. At most 32 bytes.
pub fn derive(key: &Key, constant: u8, context: &[u8], out: &mut [u8]) {
    debug_assert!(out.len() <= 32);
    let prf = Prf::new(key);
    let bits = u16::try_from(out.len() * 8)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    for (counter, part) in (1u8..).zip(out.chunks_mut(BLOCK)) {
        let label = [[0; 11].as_slice(), &[constant, 0], &bits, &[counter]].concat();
        let block = zeroize::Zeroizing::new(prf.mac(&[&label, context]));
        part.copy_from_slice(&block[..part.len()]);
    }
}

fn session_key(key: &Key, constant: u8, context: &[u8]) -> Key {
    Key::filled(key.length(), |out| derive(key, constant, context, out))
}

impl Session {
    /// From the answer to INITIALIZE UPDATE (without its status word) to a session, and the command that opens it:
    /// EXTERNAL AUTHENTICATE on channel 0.
    pub fn open(
        keys: &StaticKeys,
        host: &[u8],
        greeting: &[u8],
        level: u8,
    ) -> Result<(Self, Vec<u8>), Scp03Error> {
        if keys.enc.length() != keys.mac.length() || keys.mac.length() != keys.dek.length() {
            return Err(Scp03Error::Keys);
        }
        let (challenge, cryptogram) = parts(greeting, host.len())?;
        let size = challenge.len();
        let context = [host, challenge].concat();
        let mac_key = session_key(&keys.mac, constant::S_MAC, &context);
        let mut expected = vec![0; size];
        derive(&mac_key, constant::CARD_CRYPTOGRAM, &context, &mut expected);
        if !bool::from(expected.ct_eq(cryptogram)) {
            return Err(Scp03Error::Cryptogram);
        }
        let mut session = Self {
            enc: session_key(&keys.enc, constant::S_ENC, &context),
            mac: Prf::new(&mac_key),
            rmac: Prf::new(&session_key(&keys.mac, constant::S_RMAC, &context)),
            dek: keys.dek.clone(),
            chaining: [0; BLOCK],
            counter: 0,
            size,
            level,
        };
        let mut proof = vec![0; size];
        derive(&mac_key, constant::HOST_CRYPTOGRAM, &context, &mut proof);
        let authenticate = session.sign([0x84, 0x82, level, 0], &proof, false);
        Ok((session, authenticate))
    }

    /// Key-DEK: secrets inside of commands are encrypted with it (see [`cbc_encrypt`], zero IV).
    pub const fn dek(&self) -> &Key {
        &self.dek
    }

    /// Signs, and encrypts where the level says so, a command of any case.
    pub fn protect(&mut self, command: &[u8]) -> Result<Vec<u8>, Scp03Error> {
        if self.level & level::C_MAC == 0 {
            return Ok(command.to_vec());
        }
        let plain = Plain::parse(command)?;
        self.counter += 1;
        let mut data = plain.data.to_vec();
        if self.level & level::C_DEC != 0 && !data.is_empty() {
            pad(&mut data);
            // It was padded to whole blocks.
            data = cbc_encrypt(&self.enc, self.icv(false), &data).unwrap_or_default();
        }
        if !plain.extended && data.len() + self.size > 255 {
            return Err(Scp03Error::Command(
                command.len(),
                "with its protection it is longer than a short command",
            ));
        }
        let [cla, ins, p1, p2] = plain.header;
        let mut out = self.sign([cla | 0x04, ins, p1, p2], &data, plain.extended);
        out.extend_from_slice(plain.le);
        Ok(out)
    }

    /// CLA is signed as on channel 0 and without chaining (Amendment D, 6.2.4).
    fn sign(&mut self, header: [u8; 4], data: &[u8], extended: bool) -> Vec<u8> {
        let [cla, ins, p1, p2] = header;
        let len = u16::try_from(data.len() + self.size)
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        let lc: &[u8] = if extended {
            &[0, len[0], len[1]]
        } else {
            &len[1..]
        };
        let signed = [cla & 0xFC, ins, p1, p2];
        self.chaining = self.mac.mac(&[&self.chaining, &signed, lc, data]);
        [&header, lc, data, &self.chaining[..self.size]].concat()
    }

    /// Verifies and decrypts an answer's data (Amendment D, 6.2.5 and 6.2.7). Errors of the card come unprotected.
    pub fn open_answer(&self, data: &[u8], status: [u8; 2]) -> Result<Vec<u8>, Scp03Error> {
        let protected = matches!(status, [0x90, 0] | [0x62 | 0x63, _]);
        if self.level & level::R_MAC == 0 || !protected {
            return Ok(data.to_vec());
        }
        let at = data
            .len()
            .checked_sub(self.size)
            .ok_or(Scp03Error::ResponseMac)?;
        let (text, sent) = data.split_at(at);
        let mac = self.rmac.mac(&[&self.chaining, text, &status]);
        if !bool::from(mac[..self.size].ct_eq(sent)) {
            return Err(Scp03Error::ResponseMac);
        }
        if self.level & level::R_ENC == 0 || text.is_empty() {
            return Ok(text.to_vec());
        }
        let mut plain = cbc_decrypt(&self.enc, self.icv(true), text).ok_or(Scp03Error::Padding)?;
        let end = plain.iter().rposition(|byte| *byte != 0);
        match end {
            Some(end) if plain[end] == 0x80 => plain.truncate(end),
            _ => return Err(Scp03Error::Padding),
        }
        Ok(plain)
    }

    /// The counter, encrypted; for answers its first byte is 80.
    fn icv(&self, answer: bool) -> Block {
        let mut block = [0; BLOCK];
        block[8..].copy_from_slice(&self.counter.to_be_bytes());
        if answer {
            block[0] = 0x80;
        }
        ecb(&self.enc, &mut block, true);
        block
    }
}

/// The card's challenge and cryptogram, each as long as the host's challenge (Amendment D, 7.1.1.6).
fn parts(greeting: &[u8], size: usize) -> Result<(&[u8], &[u8]), Scp03Error> {
    const HEAD: usize = 13;
    const SEQUENCE: usize = 3;
    let wrong = Scp03Error::Greeting(greeting.len());
    match greeting.get(11) {
        Some(0x03) => {}
        Some(other) => return Err(Scp03Error::Protocol(*other)),
        None => return Err(wrong),
    }
    let whole = HEAD + 2 * size;
    if !matches!(size, 8 | 16) || (greeting.len() != whole && greeting.len() != whole + SEQUENCE) {
        return Err(wrong);
    }
    Ok((&greeting[HEAD..HEAD + size], &greeting[HEAD + size..whole]))
}
