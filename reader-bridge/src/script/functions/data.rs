//! Numbers, lengths, data objects, bits; bytes from the environment.

use protocol::tlv;

use super::{Answer, bytes, count};
use crate::script::value::{MAX_BYTES, Value};

pub(super) fn fixed(values: &[Value], width: usize) -> Answer {
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
pub(super) fn lv(values: &[Value]) -> Answer {
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

pub(super) fn make_tlv(values: &[Value]) -> Answer {
    let mut out = Vec::new();
    tlv::put(&mut out, tag(&values[0])?, &bytes(&values[1])?);
    Ok(Value::Bytes(out))
}

pub(super) fn value_of(values: &[Value]) -> Answer {
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
pub(super) fn flip(values: &[Value]) -> Answer {
    let mut bytes = bytes(&values[0])?;
    let bits = bytes.len() * 8;
    let bit = count(&values[1], bits.saturating_sub(1))?;
    let byte = bytes.get_mut(bit / 8).ok_or("there are no bits to flip")?;
    *byte ^= 0x80 >> (bit % 8);
    Ok(Value::Bytes(bytes))
}

pub(super) fn fill(values: &[Value]) -> Answer {
    let one = bytes(&values[0])?;
    let times = count(&values[1], MAX_BYTES / one.len().max(1))?;
    Ok(Value::Bytes(one.repeat(times)))
}

/// 80 and as many 00 as fill a block.
pub(super) fn pad80(values: &[Value]) -> Answer {
    let mut bytes = bytes(&values[0])?;
    let block = count(&values[1], 64)?.max(1);
    bytes.push(0x80);
    bytes.resize(bytes.len().next_multiple_of(block), 0);
    Ok(Value::Bytes(bytes))
}

pub(super) fn bitwise(values: &[Value], with: fn(u8, u8) -> u8) -> Answer {
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
pub(super) fn env(values: &[Value]) -> Answer {
    let name = String::from_utf8(bytes(&values[0])?).map_err(|_| "a name is text")?;
    let value = std::env::var(&name).map_err(|_| format!("{name:?} is not in the environment"))?;
    decode_hex(&value).map_err(|why| format!("{name:?} in the environment: {why}"))
}

pub(super) fn from_hex(values: &[Value]) -> Answer {
    let text = String::from_utf8(bytes(&values[0])?).map_err(|_| "digits are text")?;
    decode_hex(&text)
}

/// Hexadecimal digits with or without white space. The text is not repeated: it may be a key.
pub(in crate::script) fn decode_hex(text: &str) -> Answer {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    hex::decode(digits)
        .map(Value::Bytes)
        .map_err(|_| "not an even number of hexadecimal digits".to_owned())
}

pub(super) fn length(bytes: &[u8]) -> Answer {
    i64::try_from(bytes.len())
        .map(Value::Int)
        .map_err(|_| "too long".to_owned())
}
