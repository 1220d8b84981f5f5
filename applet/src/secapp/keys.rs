//! Key pairs made on the card for message `88`. The private key never leaves.
//!
//! Object `01ss`: algorithm:1 private key:32 public key (P-256: uncompressed point, SEC 1, 2.3.3, 65 bytes;
//! Ed25519: RFC 8032, 5.1.5, 32 bytes).

use ed25519_dalek::Signer as _;
use p256::elliptic_curve::sec1::ToSec1Point;
use protocol::{card::StatusWord, msg::KeyAlgorithm};
use zeroize::Zeroizing;

use crate::runtime::Env;

/// How many key pairs a card keeps: slots 00 to 07.
pub(super) const SLOTS: usize = 8;
const PRIVATE: usize = 32;
/// Bytes of a signature, whichever the algorithm.
pub(super) const SIGNATURE: usize = 64;
/// A random number that is not a P-256 private key comes once in 2^32; so many in a row, from a broken source only.
const TRIES: usize = 8;

const fn object(slot: u8) -> u16 {
    0x0100 | slot as u16
}

/// Makes a key pair in the open transaction, so that the one that stood there is good until its commit. `false` if
/// there is no randomness; an error if the memory failed.
pub(super) fn generate(
    env: &mut Env<'_>,
    algorithm: KeyAlgorithm,
    slot: u8,
) -> Result<bool, StatusWord> {
    let pair = match algorithm {
        KeyAlgorithm::P256 => p256_pair(env),
        KeyAlgorithm::Ed25519 => ed25519_pair(env),
    };
    let Some((private, public)) = pair else {
        return Ok(false);
    };
    let mut value = Zeroizing::new(Vec::with_capacity(1 + PRIVATE + public.len()));
    value.push(algorithm.byte());
    value.extend_from_slice(&private[..]);
    value.extend_from_slice(&public);
    env.put(object(slot), &value)?;
    Ok(true)
}

type Private = Zeroizing<[u8; PRIVATE]>;

fn random(env: &mut Env<'_>) -> Option<Private> {
    let mut bytes = Zeroizing::new([0; PRIVATE]);
    env.random(&mut bytes[..]).ok()?;
    Some(bytes)
}

fn p256_pair(env: &mut Env<'_>) -> Option<(Private, Vec<u8>)> {
    for _ in 0..TRIES {
        let private = random(env)?;
        if let Ok(key) = p256::SecretKey::from_slice(&private[..]) {
            let point = key.public_key().to_sec1_point(false);
            return Some((private, point.as_bytes().to_vec()));
        }
    }
    None
}

fn ed25519_pair(env: &mut Env<'_>) -> Option<(Private, Vec<u8>)> {
    let private = random(env)?;
    let key = ed25519_dalek::SigningKey::from_bytes(&private);
    Some((private, key.verifying_key().to_bytes().to_vec()))
}

/// The public key in a slot.
pub(super) fn public<'a>(env: &'a Env<'_>, slot: u8) -> Option<&'a [u8]> {
    env.get(object(slot))?.get(1 + PRIVATE..)
}

/// Forgets all key pairs, in the open transaction.
pub(super) fn remove_all(env: &mut Env<'_>) -> Result<(), StatusWord> {
    (0..)
        .take(SLOTS)
        .try_for_each(|slot| env.remove(object(slot)))
}

/// Signs a challenge: ECDSA with SHA-256, r and s of 32 bytes each (FIPS 186-5, deterministic after RFC 6979), or Ed25519
/// (RFC 8032). 6A88 if the slot is empty.
pub(super) fn sign(
    env: &Env<'_>,
    slot: u8,
    challenge: &[u8],
) -> Result<[u8; SIGNATURE], StatusWord> {
    let value = env.get(object(slot)).ok_or(StatusWord::NO_SUCH_DATA)?;
    let (algorithm, private) = value.split_first().ok_or(StatusWord::MEMORY_FAILURE)?;
    let private = private
        .first_chunk::<PRIVATE>()
        .ok_or(StatusWord::MEMORY_FAILURE)?;
    match KeyAlgorithm::from_byte(*algorithm) {
        Some(KeyAlgorithm::P256) => sign_p256(private, challenge),
        Some(KeyAlgorithm::Ed25519) => Ok(ed25519_dalek::SigningKey::from_bytes(private)
            .sign(challenge)
            .to_bytes()),
        None => Err(StatusWord::MEMORY_FAILURE),
    }
}

fn sign_p256(private: &[u8; PRIVATE], challenge: &[u8]) -> Result<[u8; SIGNATURE], StatusWord> {
    let key =
        p256::ecdsa::SigningKey::from_slice(private).map_err(|_| StatusWord::MEMORY_FAILURE)?;
    let signature: p256::ecdsa::Signature = key.sign(challenge);
    Ok(signature.to_bytes().into())
}
