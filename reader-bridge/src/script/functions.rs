//! The functions that every script has: what a server of the method computes, and what testers need.
//!
//! Owns their names, arguments and results. `docs/scripts.md` lists them; a name that is not known is told with all that
//! are.

use aes::{
    Aes128, Aes256,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use ctr::Ctr128BE;
use protocol::{
    identity::Mode,
    kdf::{self, Purpose},
    key::{Key, Prf, Sized},
    tlv,
};

use super::value::Value;
use crate::scp03::{self, Block, cbc_encrypt};

type Answer = Result<Value, String>;

/// One function: its name, its parameters for messages, what it does.
struct Function {
    name: &'static str,
    parameters: &'static str,
    count: usize,
    call: fn(&[Value]) -> Answer,
}

const FUNCTIONS: [Function; 24] = [
    Function {
        name: "kdf",
        parameters: "key, \"purpose\", mode, context, length",
        count: 5,
        call: derive,
    },
    Function {
        name: "cmac",
        parameters: "key, data",
        count: 2,
        call: cmac,
    },
    Function {
        name: "aes_ctr",
        parameters: "key, first counter block, data",
        count: 3,
        call: aes_ctr,
    },
    Function {
        name: "aes_cbc",
        parameters: "key, iv, data",
        count: 3,
        call: aes_cbc,
    },
    Function {
        name: "scp03_kdf",
        parameters: "key, constant, context, length",
        count: 4,
        call: scp03_kdf,
    },
    Function {
        name: "u8",
        parameters: "number",
        count: 1,
        call: |v| fixed(v, 1),
    },
    Function {
        name: "u16",
        parameters: "number",
        count: 1,
        call: |v| fixed(v, 2),
    },
    Function {
        name: "u32",
        parameters: "number",
        count: 1,
        call: |v| fixed(v, 4),
    },
    Function {
        name: "u64",
        parameters: "number",
        count: 1,
        call: |v| fixed(v, 8),
    },
    Function {
        name: "int",
        parameters: "bytes",
        count: 1,
        call: |v| v[0].to_int().map(Value::Int),
    },
    Function {
        name: "len",
        parameters: "bytes",
        count: 1,
        call: |v| length(&bytes(&v[0])?),
    },
    Function {
        name: "lv",
        parameters: "bytes",
        count: 1,
        call: lv,
    },
    Function {
        name: "tlv",
        parameters: "tag, value",
        count: 2,
        call: make_tlv,
    },
    Function {
        name: "value_of",
        parameters: "objects, tag",
        count: 2,
        call: value_of,
    },
    Function {
        name: "flip",
        parameters: "bytes, bit",
        count: 2,
        call: flip,
    },
    Function {
        name: "fill",
        parameters: "bytes, count",
        count: 2,
        call: fill,
    },
    Function {
        name: "pad80",
        parameters: "bytes, block",
        count: 2,
        call: pad80,
    },
    Function {
        name: "and",
        parameters: "bytes, bytes",
        count: 2,
        call: |v| bitwise(v, |a, b| a & b),
    },
    Function {
        name: "or",
        parameters: "bytes, bytes",
        count: 2,
        call: |v| bitwise(v, |a, b| a | b),
    },
    Function {
        name: "min",
        parameters: "number, number",
        count: 2,
        call: |v| Ok(Value::Int(v[0].to_int()?.min(v[1].to_int()?))),
    },
    Function {
        name: "env",
        parameters: "\"NAME\"",
        count: 1,
        call: env,
    },
    Function {
        name: "hex",
        parameters: "\"digits\"",
        count: 1,
        call: from_hex,
    },
    Function {
        name: "p256_verify",
        parameters: "point, message, signature",
        count: 3,
        call: p256_verify,
    },
    Function {
        name: "ed25519_verify",
        parameters: "public key, message, signature",
        count: 3,
        call: ed25519_verify,
    },
];

/// The function that is called `name` and takes so many values.
fn find(name: &str, count: usize) -> Result<&'static Function, String> {
    let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
        let names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
        return Err(format!(
            "no function is called {name:?}; there are {}, dek, and those made with def",
            names.join(", ")
        ));
    };
    if count != function.count {
        return Err(format!(
            "{name}({}) takes {} values, not {count}",
            function.parameters, function.count
        ));
    }
    Ok(function)
}

/// Whether a function can be called like this.
pub(super) fn check(name: &str, count: usize) -> Result<(), String> {
    match (name, count) {
        ("dek", 1) => Ok(()),
        ("dek", _) => Err(format!("dek(secret) takes 1 value, not {count}")),
        _ => find(name, count).map(drop),
    }
}

/// Calls the function `name`. `dek` is that of the secure channel that is open.
pub(super) fn call(name: &str, values: &[Value], dek: Option<&Key>) -> Answer {
    check(name, values.len())?;
    if name == "dek" {
        return under_dek(values, dek);
    }
    let function = find(name, values.len())?;
    (function.call)(values).map_err(|why| format!("{name}: {why}"))
}

fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    value.clone().into_bytes()
}

fn key(value: &Value) -> Result<Key, String> {
    Key::from_bytes(&bytes(value)?).map_err(|error| error.to_string())
}

fn count(value: &Value, max: usize) -> Result<usize, String> {
    let number = value.to_int()?;
    usize::try_from(number)
        .ok()
        .filter(|number| *number <= max)
        .ok_or_else(|| format!("{number} is not between 0 and {max}"))
}

fn length(bytes: &[u8]) -> Answer {
    i64::try_from(bytes.len())
        .map(Value::Int)
        .map_err(|_| "too long".to_owned())
}

/// The protocol's derivation of keys and identities.
fn derive(values: &[Value]) -> Answer {
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

fn cmac(values: &[Value]) -> Answer {
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

fn aes_ctr(values: &[Value]) -> Answer {
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

fn aes_cbc(values: &[Value]) -> Answer {
    let (key, iv) = (key(&values[0])?, block(&values[1], "an IV")?);
    whole_blocks(cbc_encrypt(&key, iv, &bytes(&values[2])?))
}

fn whole_blocks(encrypted: Option<Vec<u8>>) -> Answer {
    encrypted
        .map(Value::Bytes)
        .ok_or_else(|| "the data is no multiple of 16 bytes".to_owned())
}

/// A secret as the card expects it inside of a command: under the DEK, zero IV.
fn under_dek(values: &[Value], dek: Option<&Key>) -> Answer {
    let dek = dek.ok_or("dek(secret) needs a secure channel that is open")?;
    whole_blocks(cbc_encrypt(dek, [0; 16], &bytes(&values[0])?))
}

fn scp03_kdf(values: &[Value]) -> Answer {
    let [constant] = bytes(&values[1])?[..] else {
        return Err("a constant is one byte".to_owned());
    };
    let mut out = vec![0; count(&values[3], 32)?];
    scp03::derive(&key(&values[0])?, constant, &bytes(&values[2])?, &mut out);
    Ok(Value::Bytes(out))
}

fn fixed(values: &[Value], width: usize) -> Answer {
    let number = values[0].to_int()?;
    let bytes = u64::try_from(number)
        .map_err(|_| format!("{number} is below 0"))?
        .to_be_bytes();
    let (over, kept) = bytes.split_at(bytes.len() - width);
    if over.iter().any(|byte| *byte != 0) {
        return Err(format!("{number} does not fit into {width} bytes"));
    }
    Ok(Value::Bytes(kept.to_vec()))
}

/// Lc and data: one length byte, or 00 and two.
fn lv(values: &[Value]) -> Answer {
    let data = bytes(&values[0])?;
    let mut out = match (u8::try_from(data.len()), u16::try_from(data.len())) {
        (Ok(short), _) => vec![short],
        (_, Ok(long)) => [&[0][..], &long.to_be_bytes()].concat(),
        _ => return Err(format!("{} bytes do not fit into a command", data.len())),
    };
    out.extend(data);
    Ok(Value::Bytes(out))
}

fn tag(value: &Value) -> Result<u32, String> {
    let bytes = bytes(value)?;
    if bytes.is_empty() || bytes.len() > 3 {
        return Err(format!("a tag has 1 to 3 bytes, this one {}", bytes.len()));
    }
    Ok(bytes
        .iter()
        .fold(0, |tag, byte| tag << 8 | u32::from(*byte)))
}

fn make_tlv(values: &[Value]) -> Answer {
    let mut out = Vec::new();
    tlv::put(&mut out, tag(&values[0])?, &bytes(&values[1])?);
    Ok(Value::Bytes(out))
}

fn value_of(values: &[Value]) -> Answer {
    let (objects, tag) = (bytes(&values[0])?, tag(&values[1])?);
    match tlv::find(&objects, tag) {
        Ok(Some(value)) => Ok(Value::Bytes(value.to_vec())),
        Ok(None) => Err(format!(
            "no object {tag:X} in {}",
            hex::encode_upper(&objects)
        )),
        Err(error) => Err(format!(
            "{} is not BER-TLV: {error}",
            hex::encode_upper(&objects)
        )),
    }
}

/// Bit 0 is the highest of the first byte.
fn flip(values: &[Value]) -> Answer {
    let mut bytes = bytes(&values[0])?;
    let bits = bytes.len() * 8;
    let bit = count(&values[1], bits.saturating_sub(1))?;
    let byte = bytes.get_mut(bit / 8).ok_or("there are no bits to flip")?;
    *byte ^= 0x80 >> (bit % 8);
    Ok(Value::Bytes(bytes))
}

fn fill(values: &[Value]) -> Answer {
    let one = bytes(&values[0])?;
    let times = count(&values[1], super::value::MAX_BYTES / one.len().max(1))?;
    Ok(Value::Bytes(one.repeat(times)))
}

/// 80 and as many 00 as fill a block.
fn pad80(values: &[Value]) -> Answer {
    let mut bytes = bytes(&values[0])?;
    let block = count(&values[1], 64)?.max(1);
    bytes.push(0x80);
    bytes.resize(bytes.len().next_multiple_of(block), 0);
    Ok(Value::Bytes(bytes))
}

fn bitwise(values: &[Value], with: fn(u8, u8) -> u8) -> Answer {
    let (left, right) = (bytes(&values[0])?, bytes(&values[1])?);
    if left.len() != right.len() {
        return Err(format!(
            "{} and {} bytes: both must be equally long",
            left.len(),
            right.len()
        ));
    }
    Ok(Value::Bytes(
        left.iter().zip(&right).map(|(a, b)| with(*a, *b)).collect(),
    ))
}

/// A variable of the environment: hexadecimal digits.
fn env(values: &[Value]) -> Answer {
    let name = String::from_utf8(bytes(&values[0])?).map_err(|_| "a name is text")?;
    let value = std::env::var(&name).map_err(|_| format!("{name:?} is not in the environment"))?;
    decode_hex(&value).map_err(|why| format!("{name:?} in the environment: {why}"))
}

fn from_hex(values: &[Value]) -> Answer {
    let text = String::from_utf8(bytes(&values[0])?).map_err(|_| "digits are text")?;
    decode_hex(&text)
}

/// Hexadecimal digits with or without white space. The text is not repeated: it may be a key.
pub(super) fn decode_hex(text: &str) -> Answer {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    hex::decode(digits)
        .map(Value::Bytes)
        .map_err(|_| "not an even number of hexadecimal digits".to_owned())
}

/// 1 if the signature (r, s of 32 bytes each) is that of the message, 0 if not.
fn p256_verify(values: &[Value]) -> Answer {
    use p256::ecdsa::{Signature, VerifyingKey, signature::Verifier as _};
    let point = bytes(&values[0])?;
    let key = VerifyingKey::from_sec1_bytes(&point).map_err(|_| "the point is none of P-256")?;
    let right = Signature::from_slice(&bytes(&values[2])?).is_ok_and(|signature| {
        key.verify(&bytes(&values[1]).unwrap_or_default(), &signature)
            .is_ok()
    });
    Ok(Value::Int(i64::from(right)))
}

fn ed25519_verify(values: &[Value]) -> Answer {
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
