//! The off-card side of SCP03: opens a secure channel, protects commands, verifies answers.
//!
//! Owns session keys and where a session stands. Refuses to know how bytes reach the card and what is protected.
//! GlobalPlatform Card Technology, Secure Channel Protocol '03', Card Specification v2.3 Amendment D v1.2. AES-128 and
//! AES-256, S8 and S16, random and pseudo-random challenges.

use aes::{
    Aes128, Aes256,
    cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _},
};
use protocol::key::{Key, Prf, Sized};
use subtle::ConstantTimeEq as _;

/// One block of AES.
pub type Block = [u8; BLOCK];
const BLOCK: usize = 16;

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

/// A command taken apart (ISO/IEC 7816-3:2006, 12.1.3).
struct Plain<'a> {
    header: [u8; 4],
    data: &'a [u8],
    le: &'a [u8],
    extended: bool,
}

impl<'a> Plain<'a> {
    fn parse(command: &'a [u8]) -> Result<Self, Scp03Error> {
        let wrong =
            || Scp03Error::Command(command.len(), "its length field contradicts its length");
        let (header, body) = command.split_first_chunk().ok_or_else(wrong)?;
        let extended = body.len() > 1 && body[0] == 0;
        let (lc, width) = match body {
            [] | [_] => {
                return Ok(Self {
                    header: *header,
                    data: &[],
                    le: body,
                    extended: false,
                });
            }
            [0, _, _] => {
                return Ok(Self {
                    header: *header,
                    data: &[],
                    le: &body[1..],
                    extended: true,
                });
            }
            [0, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 3),
            [lc, ..] => (usize::from(*lc), 1),
        };
        let (data, le) = body[width..].split_at_checked(lc).ok_or_else(wrong)?;
        if le.len() > if extended { 2 } else { 1 } {
            return Err(wrong());
        }
        Ok(Self {
            header: *header,
            data,
            le,
            extended,
        })
    }
}

fn pad(data: &mut Vec<u8>) {
    data.push(0x80);
    data.resize(data.len().next_multiple_of(BLOCK), 0);
}

/// One block under one key.
fn ecb(key: &Key, block: &mut Block, encrypt: bool) {
    let block: &mut aes::Block = block.into();
    match (key.sized(), encrypt) {
        (Sized::Aes128(key), true) => Aes128::new(key.into()).encrypt_block(block),
        (Sized::Aes128(key), false) => Aes128::new(key.into()).decrypt_block(block),
        (Sized::Aes256(key), true) => Aes256::new(key.into()).encrypt_block(block),
        (Sized::Aes256(key), false) => Aes256::new(key.into()).decrypt_block(block),
    }
}

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

fn cbc_decrypt(key: &Key, iv: Block, data: &[u8]) -> Option<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    fn key(first: u8, len: u8) -> Key {
        let bytes: Vec<u8> = (0..len).map(|at| first + at % 16).collect();
        Key::from_bytes(&bytes).unwrap()
    }

    fn keys(len: u8) -> StaticKeys {
        StaticKeys {
            enc: key(0x00, len),
            mac: key(0x10, len),
            dek: key(0x20, len),
        }
    }

    /// A card and a host of other makes, as the project pySim recorded them in its tests: key length, host challenge,
    /// challenge and cryptogram, EXTERNAL AUTHENTICATE, a command, its answer.
    const RECORDED: [(u8, &str, &str, &str, &str, &str); 3] = [
        (
            16,
            "b13e5f938fc108c4",
            "3eb51047495b249f66c484c1d2ef1948",
            "84821100107d5f5826a993ebc89eea24957fa0b3ce",
            "84e291000ebf3e035c015a558d036518a28297",
            "bf3e125a1089882119900000000000000000000005971be68992dbbdfa",
        ),
        (
            16,
            "fdf38259a1e0de44",
            "3b1aca81e821f219081cdc01c26b372d",
            "84823300108c36f96bcc00724a4e13ad591d7da3f0",
            "84e2910018267a85dfe4a98fca6fb0527e0dfecce4914e40401433c87f",
            "f3ba2b1013aa6224f5e1c138d71805c569e5439b47576260b75fc021b25097cb2e68f8a0144975b9",
        ),
        (
            32,
            "97b2055fe58599fd",
            "a8439a22cedf045fa9f1903b2834f26e",
            "8482330010508a0fd959d2e547c6b33154a6be2057",
            "84e29100187a5ef717eaf1e135ae92fe54429d0e465decda65f5fe5aea",
            "ea90dbfa648a67c5eb6abc57f8530b97d0cd5647c5e8732016b55203b078dd2ace7f8bc5d1c1cd99",
        ),
    ];

    #[test]
    fn a_host_of_another_make_is_reproduced() {
        for (len, host, card, authenticate, command, answer) in RECORDED {
            let greeting = [&[0; 11][..], &[3, 0x70], &hex(card), &[0, 0, 1]].concat();
            let greeting = {
                let mut greeting = greeting;
                greeting[11] = 3;
                greeting
            };
            let level = hex(authenticate)[2];
            let (mut session, sent) =
                Session::open(&keys(len), &hex(host), &greeting, level).unwrap();
            assert_eq!(hex::encode(sent), authenticate);
            let sent = session.protect(&hex("80e2910006bf3e035c015a")).unwrap();
            assert_eq!(hex::encode(sent), command);
            let plain = session.open_answer(&hex(answer), [0x90, 0]).unwrap();
            assert_eq!(
                hex::encode(plain),
                "bf3e125a1089882119900000000000000000000005"
            );
            let mut spoilt = hex(answer);
            spoilt[0] ^= 1;
            assert_eq!(
                session.open_answer(&spoilt, [0x90, 0]),
                Err(Scp03Error::ResponseMac)
            );
        }
    }

    #[test]
    fn a_card_with_other_keys_is_not_believed() {
        let (len, host, card, ..) = RECORDED[0];
        let greeting = [&[0; 11][..], &[3, 0x70], &hex(card)].concat();
        let mut other = keys(len);
        other.mac = key(0x30, len);
        let refused = Session::open(&other, &hex(host), &greeting, 0x33).map(|_| ());
        assert_eq!(refused, Err(Scp03Error::Cryptogram));
        for cut in 0..greeting.len() {
            assert!(Session::open(&keys(len), &hex(host), &greeting[..cut], 0x33).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_command_or_answer_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let (len, host, card, ..) = RECORDED[0];
            let greeting = [&[0; 11][..], &[3, 0x70], &hex(card)].concat();
            let (mut session, _) = Session::open(&keys(len), &hex(host), &greeting, 0x33).unwrap();
            drop(session.protect(&bytes));
            drop(session.open_answer(&bytes, [0x90, 0]));
            drop(Session::open(&keys(len), &hex(host), &bytes, 0x33));
        }
    }
}
