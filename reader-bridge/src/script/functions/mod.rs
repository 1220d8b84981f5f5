//! The functions that every script has: what a server of the method computes, and what testers need.
//!
//! Owns their names, arguments and results. `docs/scripts.md` lists them; a name that is not known is told with all that
//! are.

mod crypto;
mod data;

use protocol::key::Key;

use super::value::Value;
use crypto::{aes_cbc, aes_ctr, cmac, derive, ed25519_verify, p256_verify, scp03_kdf, under_dek};
pub(super) use data::decode_hex;
use data::{bitwise, env, fill, fixed, flip, from_hex, length, lv, make_tlv, pad80, value_of};

type Answer = Result<Value, String>;

/// One function: its name, its parameters for messages, what it does.
struct Function {
    name: &'static str,
    parameters: &'static str,
    count: usize,
    call: fn(&[Value]) -> Answer,
}

const FUNCTIONS: [Function; 24] = [
    function("kdf", "key, \"purpose\", mode, context, length", 5, derive),
    function("cmac", "key, data", 2, cmac),
    function("aes_ctr", "key, first counter block, data", 3, aes_ctr),
    function("aes_cbc", "key, iv, data", 3, aes_cbc),
    function("scp03_kdf", "key, constant, context, length", 4, scp03_kdf),
    function("u8", "number", 1, |v| fixed(v, 1)),
    function("u16", "number", 1, |v| fixed(v, 2)),
    function("u32", "number", 1, |v| fixed(v, 4)),
    function("u64", "number", 1, |v| fixed(v, 8)),
    function("int", "bytes", 1, |v| v[0].to_int().map(Value::Int)),
    function("len", "bytes", 1, |v| length(&bytes(&v[0])?)),
    function("lv", "bytes", 1, lv),
    function("tlv", "tag, value", 2, make_tlv),
    function("value_of", "objects, tag", 2, value_of),
    function("flip", "bytes, bit", 2, flip),
    function("fill", "bytes, count", 2, fill),
    function("pad80", "bytes, block", 2, pad80),
    function("and", "bytes, bytes", 2, |v| bitwise(v, |a, b| a & b)),
    function("or", "bytes, bytes", 2, |v| bitwise(v, |a, b| a | b)),
    function("min", "number, number", 2, |v| {
        Ok(Value::Int(v[0].to_int()?.min(v[1].to_int()?)))
    }),
    function("env", "\"NAME\"", 1, env),
    function("hex", "\"digits\"", 1, from_hex),
    function("p256_verify", "point, message, signature", 3, p256_verify),
    function(
        "ed25519_verify",
        "public key, message, signature",
        3,
        ed25519_verify,
    ),
];

const fn function(
    name: &'static str,
    parameters: &'static str,
    count: usize,
    call: fn(&[Value]) -> Answer,
) -> Function {
    Function {
        name,
        parameters,
        count,
        call,
    }
}

/// What functions are called.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    let names = FUNCTIONS.iter().map(|function| function.name);
    names.chain(["dek"])
}

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
