//! PUT KEY: three AES keys under the session's DEK (Card Specification 2.3, 11.8; Amendment D, 7.2).
//!
//! ```text
//! P1  version to be replaced, 00 none      P2  81: the first of three keys
//! data  new version:1  3 × { 88 length [key length] key under the DEK  03 check value:3 }
//! ```

use protocol::{card::StatusWord, key::Key};
use subtle::ConstantTimeEq as _;

use super::objects;
use crate::{
    apdu::Command,
    runtime::Env,
    scp03::{Keys, check_value},
};

/// Version of keys from the factory, which give way to the first others.
pub const FACTORY: u8 = 0xFF;
/// The highest version that PUT KEY gives.
const HIGHEST: u8 = 0x7F;
const AES: u8 = 0x88;
const CHECK_LENGTH: u8 = 3;
/// More than one key in the command.
const SEVERAL: u8 = 0x81;

pub(super) fn put(env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord> {
    if command.p2 != SEVERAL {
        return Err(StatusWord::WRONG_P1P2);
    }
    let replaced = command.p1;
    if replaced != 0 && objects::key_set(env, replaced).is_none() {
        return Err(StatusWord::NO_SUCH_DATA);
    }
    let (version, mut rest) = command.data.split_first().ok_or(StatusWord::WRONG_DATA)?;
    let version = *version;
    let taken = version != replaced && objects::key_set(env, version).is_some();
    if !(1..=HIGHEST).contains(&version) || taken {
        return Err(StatusWord::WRONG_DATA);
    }
    let mut checks = vec![version];
    let mut key = || take_key(env, &mut rest, &mut checks);
    let keys = Keys {
        enc: key()?,
        mac: key()?,
        dek: key()?,
    };
    let lengths = [&keys.mac, &keys.dek].map(Key::length);
    if !rest.is_empty() || lengths != [keys.enc.length(); 2] {
        return Err(StatusWord::WRONG_DATA);
    }
    env.begin()?;
    for old in [replaced, FACTORY].into_iter().filter(|old| *old != 0) {
        objects::remove_key_set(env, old)?;
    }
    objects::put_key_set(env, version, keys)?;
    env.commit()?;
    env.answer().extend_from_slice(&checks);
    Ok(())
}

/// One key; its check value is verified and repeated in the answer.
fn take_key(env: &Env<'_>, rest: &mut &[u8], checks: &mut Vec<u8>) -> Result<Key, StatusWord> {
    let [AES, length, after @ ..] = *rest else {
        return Err(StatusWord::WRONG_DATA);
    };
    let (field, after) = after
        .split_at_checked(usize::from(*length))
        .ok_or(StatusWord::WRONG_DATA)?;
    let [CHECK_LENGTH, after @ ..] = after else {
        return Err(StatusWord::WRONG_DATA);
    };
    let (check, after) = after
        .split_first_chunk::<3>()
        .ok_or(StatusWord::WRONG_DATA)?;
    let key = decrypt(env, field)?;
    let expected = check_value(&key);
    if !bool::from(expected.ct_eq(check)) {
        return Err(StatusWord::WRONG_DATA);
    }
    checks.extend_from_slice(&expected);
    *rest = after;
    Ok(key)
}

/// With the key's own length before it, as the specification has it, or without, as some hosts send it.
fn decrypt(env: &Env<'_>, field: &[u8]) -> Result<Key, StatusWord> {
    let secret = match field {
        [16, secret @ ..] if secret.len() == 16 => secret,
        [32, secret @ ..] if secret.len() == 32 => secret,
        secret => secret,
    };
    let plain = env.decrypt_secret(secret)?;
    Key::from_bytes(&plain).map_err(|_| StatusWord::WRONG_DATA)
}
