//! Cryptography: the protocol's, SCP03's, and what verifies the card's signatures.

use aes::{
    Aes128, Aes256,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use ctr::Ctr128BE;
use protocol::{
    identity::Mode,
    kdf::{self, Purpose},
    key::{Key, Prf, Sized},
};

use super::{Answer, bytes, count, key};
use crate::{
    scp03::{self, Block, cbc_encrypt},
    script::value::Value,
};

/// The protocol's derivation of keys and identities.
pub(super) fn derive(values: &[Value]) -> Answer {
    let purpose = purpose(&bytes(&values[1])?)?;
    let [mode] = bytes(&values[2])?[..] else {
        return Err("a mode is one byte, 00 to 03".to_owned());
    };
    let mode = Mode::from_byte(mode).map_err(|error| error.to_string())?;
    let mut out = vec![0; count(&values[4], 255)?];
    let prf = Prf::new(&key(&values[0])?);
    kdf::derive(&prf, purpose, mode, &[&bytes(&values[3])?], &mut out);
    Ok(Value::Bytes(out))
}

fn purpose(letter: &[u8]) -> Result<Purpose, String> {
    use Purpose::{
        Chain, DeviceSecret, Encrypt, Identity, Mac, NextKey, NextUid, OtaSession, Poll, Recovery,
        UidRand,
    };
    let all = [
        Chain,
        Encrypt,
        Mac,
        Poll,
        NextUid,
        NextKey,
        Recovery,
        Identity,
        OtaSession,
        DeviceSecret,
        UidRand,
    ];
    let found = all.into_iter().find(|purpose| [*purpose as u8] == *letter);
    found.ok_or_else(|| "a purpose is one of \"C\", \"E\", \"M\", \"P\", \"U\", \"K\", \"G\", \"I\", \"H\", \"S\", \"R\"".to_owned())
}

pub(super) fn cmac(values: &[Value]) -> Answer {
    let prf = Prf::new(&key(&values[0])?);
    Ok(Value::Bytes(prf.mac(&[&bytes(&values[1])?]).to_vec()))
}

fn block(value: &Value, what: &str) -> Result<Block, String> {
    let bytes = bytes(value)?;
    bytes
        .as_slice()
        .try_into()
        .map_err(|_| format!("{what} has 16 bytes, this one {}", bytes.len()))
}

pub(super) fn aes_ctr(values: &[Value]) -> Answer {
    let (key, counter) = (key(&values[0])?, block(&values[1], "a counter block")?);
    let mut data = bytes(&values[2])?;
    match key.sized() {
        Sized::Aes128(key) => {
            Ctr128BE::<Aes128>::new(key.into(), (&counter).into()).apply_keystream(&mut data)
        }
        Sized::Aes256(key) => {
            Ctr128BE::<Aes256>::new(key.into(), (&counter).into()).apply_keystream(&mut data)
        }
    }
    Ok(Value::Bytes(data))
}

pub(super) fn aes_cbc(values: &[Value]) -> Answer {
    let (key, iv) = (key(&values[0])?, block(&values[1], "an IV")?);
    whole_blocks(cbc_encrypt(&key, iv, &bytes(&values[2])?))
}

fn whole_blocks(encrypted: Option<Vec<u8>>) -> Answer {
    encrypted
        .map(Value::Bytes)
        .ok_or_else(|| "the data is no multiple of 16 bytes".to_owned())
}

/// A secret as the card expects it inside of a command: under the DEK, zero IV.
pub(super) fn under_dek(values: &[Value], dek: Option<&Key>) -> Answer {
    let dek = dek.ok_or("dek(secret) needs a secure channel that is open")?;
    whole_blocks(cbc_encrypt(dek, [0; 16], &bytes(&values[0])?))
}

pub(super) fn scp03_kdf(values: &[Value]) -> Answer {
    let [constant] = bytes(&values[1])?[..] else {
        return Err("a constant is one byte".to_owned());
    };
    let mut out = vec![0; count(&values[3], 32)?];
    scp03::derive(&key(&values[0])?, constant, &bytes(&values[2])?, &mut out);
    Ok(Value::Bytes(out))
}

/// 1 if the signature (r, s of 32 bytes each) is that of the message, 0 if not.
pub(super) fn p256_verify(values: &[Value]) -> Answer {
    use p256::ecdsa::{Signature, VerifyingKey, signature::Verifier as _};
    let point = bytes(&values[0])?;
    let key = VerifyingKey::from_sec1_bytes(&point).map_err(|_| "the point is none of P-256")?;
    let right = Signature::from_slice(&bytes(&values[2])?).is_ok_and(|signature| {
        key.verify(&bytes(&values[1]).unwrap_or_default(), &signature)
            .is_ok()
    });
    Ok(Value::Int(i64::from(right)))
}

pub(super) fn ed25519_verify(values: &[Value]) -> Answer {
    use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
    let (public, message) = (bytes(&values[0])?, bytes(&values[1])?);
    let public = public
        .as_slice()
        .try_into()
        .map_err(|_| "a public key has 32 bytes")?;
    let key = VerifyingKey::from_bytes(public).map_err(|_| "the public key is none of Ed25519")?;
    let right = Signature::from_slice(&bytes(&values[2])?)
        .is_ok_and(|signature| key.verify(&message, &signature).is_ok());
    Ok(Value::Int(i64::from(right)))
}
