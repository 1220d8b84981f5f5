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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scp03::{Keys, check_value};

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).expect("hexadecimal digits")
    }

    fn key(first: u8, len: u8) -> Key {
        let bytes: Vec<u8> = (0..len).map(|at| first + at % 16).collect();
        Key::from_bytes(&bytes).expect("a key")
    }

    fn keys(len: u8) -> Keys {
        Keys {
            enc: key(0x00, len),
            mac: key(0x10, len),
            dek: key(0x20, len),
        }
    }

    /// A session of a card of another make, as the project pySim recorded it in its tests: i = 70, S8.
    struct Recorded {
        key_len: u8,
        sequence: u32,
        host: &'static str,
        challenge_and_cryptogram: &'static str,
        authenticate: &'static str,
        command: &'static str,
        answer: &'static str,
    }

    const RECORDED: [Recorded; 4] = [
        Recorded {
            key_len: 16,
            sequence: 2,
            host: "b13e5f938fc108c4",
            challenge_and_cryptogram: "3eb51047495b249f66c484c1d2ef1948",
            authenticate: "84821100107d5f5826a993ebc89eea24957fa0b3ce",
            command: "84e291000ebf3e035c015a558d036518a28297",
            answer: "bf3e125a1089882119900000000000000000000005971be68992dbbdfa",
        },
        Recorded {
            key_len: 16,
            sequence: 1,
            host: "8e1552d0513c60f3",
            challenge_and_cryptogram: "30760cd2c47c1dd395065fe5ead8a9d7",
            authenticate: "8482030010fd4721a14d9b07003c451d2f8ae6bb21",
            command: "84e2910018ca9c00f6713d79bc8baa642bdff51c3f6a4082d3bd9ad26c",
            answer: "bf3e125a1089882119900000000000000000000005",
        },
        Recorded {
            key_len: 16,
            sequence: 3,
            host: "fdf38259a1e0de44",
            challenge_and_cryptogram: "3b1aca81e821f219081cdc01c26b372d",
            authenticate: "84823300108c36f96bcc00724a4e13ad591d7da3f0",
            command: "84e2910018267a85dfe4a98fca6fb0527e0dfecce4914e40401433c87f",
            answer: "f3ba2b1013aa6224f5e1c138d71805c569e5439b47576260b75fc021b25097cb2e68f8a0144975b9",
        },
        Recorded {
            key_len: 32,
            sequence: 2,
            host: "97b2055fe58599fd",
            challenge_and_cryptogram: "a8439a22cedf045fa9f1903b2834f26e",
            authenticate: "8482330010508a0fd959d2e547c6b33154a6be2057",
            command: "84e29100187a5ef717eaf1e135ae92fe54429d0e465decda65f5fe5aea",
            answer: "ea90dbfa648a67c5eb6abc57f8530b97d0cd5647c5e8732016b55203b078dd2ace7f8bc5d1c1cd99",
        },
    ];

    #[test]
    fn a_session_of_another_make_is_reproduced() {
        let aid = hex("A0000005591010FFFFFFFF8900000100");
        for recorded in RECORDED {
            let set = KeySet {
                keys: keys(recorded.key_len),
                sequence: recorded.sequence,
            };
            let challenge = pseudo_random_challenge(&set, Options::DEFAULT, &aid);
            let (mut session, greeting) =
                Session::begin(&set, Options::DEFAULT, &hex(recorded.host), challenge);
            let greeted = [greeting.challenge, greeting.cryptogram].concat();
            assert_eq!(greeted, hex(recorded.challenge_and_cryptogram));

            let apdu = hex(recorded.authenticate);
            let level = Level::new(apdu[2]).expect("a level");
            assert!(session.authenticate([apdu[0], apdu[1], apdu[2], apdu[3]], &apdu[5..], level));
            let apdu = hex(recorded.command);
            let plain = session.unwrap([apdu[0], apdu[1], apdu[2], apdu[3]], &apdu[5..], false);
            assert_eq!(**plain.as_ref().expect("the host's"), hex("bf3e035c015a"));
            let mut answer = hex("bf3e125a1089882119900000000000000000000005");
            session.wrap(&mut answer, [0x90, 0x00]);
            assert_eq!(answer, hex(recorded.answer));
        }
    }

    #[test]
    fn check_values_are_those_of_the_recorded_keys() {
        let keys = keys(16);
        let found = [&keys.enc, &keys.mac, &keys.dek].map(check_value);
        assert_eq!(
            found,
            [[0xC3, 0x52, 0x80], [0x01, 0x38, 0x08], [0x84, 0x0D, 0xE5]]
        );
    }
}
