//! The server's own secret S, from which every `UID_Rand` comes.
//!
//! Since a seed is a function of the server's state, every node, restart and recovery derives the
//! same children, and the identity a card comes back with proves which message it accepted.

use crate::{
    identity::{Mode, UID_RAND_LEN, Uid, UidRand},
    kdf::{Purpose, derive},
    key::{Key, KeyLength, Prf},
};

/// S: 16 bytes, made once for a server and kept like a key.
pub struct ServerSecret(Key);

impl ServerSecret {
    /// Takes the 16 bytes of S.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let bytes = zeroize::Zeroizing::new(bytes);
        Self(Key::filled(KeyLength::Aes128, |out| {
            out.copy_from_slice(&bytes[..])
        }))
    }

    /// S itself, to be stored.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// `S_dev = KDF(S, 'S', reference | generation:4, 16)` of one subscription in one generation.
    pub fn device(&self, reference: &str, generation: u32) -> DeviceSecret {
        let prf = Prf::new(&self.0);
        let context: [&[u8]; 2] = [reference.as_bytes(), &generation.to_be_bytes()];
        DeviceSecret(Key::filled(KeyLength::Aes128, |out| {
            derive(&prf, Purpose::DeviceSecret, Mode::BARE, &context, out);
        }))
    }
}

/// `S_dev`: the secret of one subscription in one generation; all that an edge is lent of S.
#[derive(Clone)]
pub struct DeviceSecret(Key);

/// The message id in the seed of "nothing to do".
pub const NOTHING_TO_DO: u32 = 0;

impl DeviceSecret {
    /// `UID_Rand = KDF(S_dev, 'R', UID_n | message id:4 | attempt:1, 8)`.
    ///
    /// `message_id` is [`NOTHING_TO_DO`] for that message. For a recovery identity the attempt is
    /// 0 and the secret that of generation 0.
    pub fn uid_rand(&self, uid: Uid, message_id: u32, attempt: u8) -> UidRand {
        let context: [&[u8]; 3] = [&uid.0, &message_id.to_be_bytes(), &[attempt]];
        let mut rand = UidRand([0; UID_RAND_LEN]);
        derive(
            &Prf::new(&self.0),
            Purpose::UidRand,
            Mode::BARE,
            &context,
            &mut rand.0,
        );
        rand
    }

    /// The 16 bytes, to be lent to an edge or compared with a vector.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
