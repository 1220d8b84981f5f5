//! One session: authenticated once, then each command verified and each answer protected.

use protocol::key::{Key, Prf};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    crypto::{Aes, BLOCK, Constant, derive, pad, unpadded},
    keys::{KeySet, Options},
};

/// What a session protects: P1 of EXTERNAL AUTHENTICATE (Amendment D, table 7-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    /// No session, or one without protection.
    pub const NONE: Self = Self(0x00);
    /// Commands are signed.
    pub const C_MAC: Self = Self(0x01);
    /// Commands are signed and encrypted.
    pub const C_DEC_C_MAC: Self = Self(0x03);
    const R_MAC: u8 = 0x10;
    const R_ENC: u8 = 0x20;

    /// 00, 01, 03, 11, 13 or 33.
    pub const fn new(p1: u8) -> Option<Self> {
        match p1 {
            0x00 | 0x01 | 0x03 | 0x11 | 0x13 | 0x33 => Some(Self(p1)),
            _ => None,
        }
    }

    /// Whether everything that `other` protects is protected.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// What INITIALIZE UPDATE is answered with, besides key information.
pub(crate) struct Greeting {
    pub(crate) challenge: Vec<u8>,
    pub(crate) cryptogram: Vec<u8>,
}

/// Session keys and where the session stands.
pub struct Session {
    enc: Aes,
    mac: Prf,
    rmac: Prf,
    dek: Aes,
    chaining: [u8; BLOCK],
    counter: u64,
    size: usize,
    host_cryptogram: Vec<u8>,
    level: Level,
}

/// The card's challenge where it is pseudo-random (Amendment D, 6.2.2.1).
pub(crate) fn pseudo_random_challenge(set: &KeySet, options: Options, aid: &[u8]) -> Vec<u8> {
    let mut challenge = vec![0; options.size()];
    let [_, sequence @ ..] = set.sequence.to_be_bytes();
    derive(
        &set.keys.enc,
        Constant::CardChallenge,
        &[&sequence, aid],
        &mut challenge,
    );
    challenge
}

impl Session {
    /// Derives the session keys (Amendment D, 6.2.1) and what card and host prove each other (6.2.2).
    pub(crate) fn begin(
        set: &KeySet,
        options: Options,
        host: &[u8],
        challenge: Vec<u8>,
    ) -> (Self, Greeting) {
        let context = [host, &challenge];
        let mac_key = session_key(&set.keys.mac, Constant::SMac, &context);
        let cryptogram = |constant| {
            let mut out = vec![0; options.size()];
            derive(&mac_key, constant, &context, &mut out);
            out
        };
        let session = Self {
            enc: Aes::new(&session_key(&set.keys.enc, Constant::SEnc, &context)),
            mac: Prf::new(&mac_key),
            rmac: Prf::new(&session_key(&set.keys.mac, Constant::SRmac, &context)),
            dek: Aes::new(&set.keys.dek),
            chaining: [0; BLOCK],
            counter: 0,
            size: options.size(),
            host_cryptogram: cryptogram(Constant::HostCryptogram),
            level: Level::NONE,
        };
        let cryptogram = cryptogram(Constant::CardCryptogram);
        (
            session,
            Greeting {
                challenge,
                cryptogram,
            },
        )
    }

    /// Bytes of cryptograms and MACs.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// What the session protects.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// EXTERNAL AUTHENTICATE: whether the host is who it says; from now on the session protects `level`.
    pub(crate) fn authenticate(&mut self, header: [u8; 4], data: &[u8], level: Level) -> bool {
        let signed = self.verify(header, data, false);
        let host = signed.is_some_and(|data| data.ct_eq(&self.host_cryptogram).into());
        if host {
            self.level = level;
        }
        host
    }

    /// Verifies and decrypts a command's data field; `None` if it is not the host's (Amendment D, 6.2.4 and 6.2.6).
    pub(crate) fn unwrap(
        &mut self,
        header: [u8; 4],
        data: &[u8],
        extended: bool,
    ) -> Option<Zeroizing<Vec<u8>>> {
        if self.level == Level::NONE {
            return None;
        }
        let verified = self.verify(header, data, extended)?;
        let mut plain = Zeroizing::new(verified.to_vec());
        // Counted for commands without data, too.
        self.counter += 1;
        if self.level.covers(Level::C_DEC_C_MAC) && !plain.is_empty() {
            if !plain.len().is_multiple_of(BLOCK) {
                return None;
            }
            self.enc.decrypt_cbc(self.icv(false), &mut plain);
            let len = unpadded(&plain)?;
            plain.truncate(len);
        }
        Some(plain)
    }

    /// The data without its C-MAC. The class byte is signed with GlobalPlatform's secure messaging and channel 0.
    fn verify<'a>(&mut self, header: [u8; 4], data: &'a [u8], extended: bool) -> Option<&'a [u8]> {
        let (text, sent) = data.split_at_checked(data.len().checked_sub(self.size)?)?;
        let [cla, ins, p1, p2] = header;
        let length = u16::try_from(data.len()).ok()?.to_be_bytes();
        let lc: &[u8] = match (length, extended) {
            ([0, short], false) => &[short],
            ([high, low], _) => &[0, high, low],
        };
        let header = [cla & 0xF0 | 0x04, ins, p1, p2];
        let mac = self.mac.mac(&[&self.chaining, &header, lc, text]);
        let right: bool = mac[..self.size].ct_eq(sent).into();
        if !right {
            return None;
        }
        self.chaining = mac;
        Some(text)
    }

    /// Protects an answer whose status word is 9000, 62XX or 63XX (Amendment D, 6.2.5 and 6.2.7).
    pub(crate) fn wrap(&self, answer: &mut Vec<u8>, status: [u8; 2]) {
        if !self.level.has(Level::R_MAC) {
            return;
        }
        if self.level.has(Level::R_ENC) && !answer.is_empty() {
            pad(answer);
            self.enc.encrypt_cbc(self.icv(true), answer);
        }
        let mac = self.rmac.mac(&[&self.chaining, answer, &status]);
        answer.extend_from_slice(&mac[..self.size]);
    }

    /// The counter, encrypted; for answers its first byte is 80.
    fn icv(&self, answer: bool) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[8..].copy_from_slice(&self.counter.to_be_bytes());
        if answer {
            block[0] = 0x80;
        }
        self.enc.encrypt(&mut block);
        block
    }

    /// Decrypts a secret that came under the DEK: CBC from a zero block, no padding (Amendment D, 6.2.8).
    pub(crate) fn decrypt_secret(&self, secret: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if secret.is_empty() || !secret.len().is_multiple_of(BLOCK) {
            return None;
        }
        let mut plain = Zeroizing::new(secret.to_vec());
        self.dek.decrypt_cbc([0; BLOCK], &mut plain);
        Some(plain)
    }
}

/// As long as the static key it comes from.
fn session_key(from: &Key, constant: Constant, context: &[&[u8]; 2]) -> Key {
    Key::filled(from.length(), |out| derive(from, constant, context, out))
}
