//! What expressions are worth: numbers and bytes. And the names that stand for them.

use std::{collections::HashMap, fmt};

/// A number, or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// Bytes, at most a mebibyte.
    Bytes(Vec<u8>),
}

/// Longest value, in bytes: no expression may fill the memory.
pub(super) const MAX_BYTES: usize = 1 << 20;

impl Value {
    /// The bytes; a number from 0 to 255 is one byte.
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Int(number) => u8::try_from(number).map(|byte| vec![byte]).map_err(|_| {
                format!("{number} does not fit into one byte; use u16({number}) or u32({number})")
            }),
        }
    }

    /// The number; bytes, at most 8, count as one, big-endian.
    pub(super) fn to_int(&self) -> Result<i64, String> {
        match self {
            Self::Int(number) => Ok(*number),
            Self::Bytes(bytes) if bytes.len() <= 8 => {
                let number = bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
                i64::try_from(number).map_err(|_| "this number is above 2^63".to_owned())
            }
            Self::Bytes(bytes) => Err(format!(
                "{} bytes are no number; a number has at most 8",
                bytes.len()
            )),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Bytes(bytes) if bytes.is_empty() => f.write_str("(no bytes)"),
            Self::Bytes(bytes) => f.write_str(&hex::encode_upper(bytes)),
        }
    }
}

/// Names and what they stand for.
pub type Variables = HashMap<String, Value>;
