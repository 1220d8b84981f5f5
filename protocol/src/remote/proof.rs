//! The proof that a session is with a card, and with which.
//!
//! Our own authentication scheme in the frame of RFC 9110, 11: a server answers 401 with a random challenge, the
//! terminal has the card sign it (SIGN-SESSION) and sends the request again. What is signed under `K_H` binds
//! challenge and ICCID; `K_H` never leaves the card and the server.
//!
//! ```text
//! WWW-Authenticate: GTS-Session challenge="<32 hex>"
//! Authorization:    GTS-Session iccid="<digits>", response="<32 hex>"     response = CMAC(K_H, challenge | ICCID)
//! ```

use core::{fmt, str::FromStr};

use alloc::string::String;
use subtle::ConstantTimeEq;

use crate::{
    chain::SessionKey,
    identity::{Iccid, IccidError},
    key::MAC_LEN,
};

/// The scheme's name; case does not matter (RFC 9110, 11.1).
pub const SCHEME: &str = "GTS-Session";
/// The longest field that is looked at, in bytes.
const MAX_FIELD: usize = 1024;

/// A server's challenge: random, and good once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge(pub [u8; 16]);

/// The card's answer to a challenge.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// Whose answer it is.
    pub iccid: Iccid,
    /// `CMAC(K_H, challenge | ICCID)`.
    pub response: [u8; MAC_LEN],
}

/// Why a header field is neither challenge nor proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Another scheme.
    #[error("the scheme is not {SCHEME}")]
    Scheme,
    /// Longer than any.
    #[error("it has {0} bytes, more than any")]
    TooLong(usize),
    /// Not a list of name=value.
    #[error("not of the form name=\"value\", name=\"value\"")]
    Form,
    /// A parameter that must be there once.
    #[error("parameter {0} is missing or there twice")]
    Parameter(&'static str),
    /// Not 32 hexadecimal digits.
    #[error("{0} is not 32 hexadecimal digits")]
    Digits(&'static str),
    /// The ICCID.
    #[error("{0}")]
    Iccid(#[from] IccidError),
}

impl Proof {
    /// Whether this card has answered this challenge. Takes the same time whatever the answer is.
    #[must_use]
    pub fn verify(&self, key: &SessionKey, challenge: &Challenge) -> bool {
        let right = key.sign(&challenge.0, &self.iccid);
        right.ct_eq(&self.response).into()
    }
}

/// The value of `WWW-Authenticate`.
impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME} challenge=\"{}\"", hex::encode(self.0))
    }
}

impl FromStr for Challenge {
    type Err = ProofError;

    fn from_str(value: &str) -> Result<Self, ProofError> {
        Ok(Self(digits(value, "challenge")?))
    }
}

/// The value of `Authorization`.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let response = hex::encode(self.response);
        write!(
            f,
            "{SCHEME} iccid=\"{}\", response=\"{response}\"",
            self.iccid
        )
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({}, redacted)", self.iccid)
    }
}

impl FromStr for Proof {
    type Err = ProofError;

    fn from_str(value: &str) -> Result<Self, ProofError> {
        Ok(Self {
            iccid: parameter(value, "iccid")?.parse()?,
            response: digits(value, "response")?,
        })
    }
}

fn digits(value: &str, name: &'static str) -> Result<[u8; 16], ProofError> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(parameter(value, name)?, &mut bytes)
        .map_err(|_| ProofError::Digits(name))?;
    Ok(bytes)
}

/// A parameter's value (RFC 9110, 11.2). Parameters that are not known are skipped.
fn parameter(value: &str, name: &'static str) -> Result<String, ProofError> {
    if value.len() > MAX_FIELD {
        return Err(ProofError::TooLong(value.len()));
    }
    let (scheme, mut rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(ProofError::Scheme);
    }
    let mut found = None;
    while !rest.trim_start().is_empty() {
        let (parameter, value, after) = next(rest)?;
        if parameter.eq_ignore_ascii_case(name) && found.replace(value).is_some() {
            return Err(ProofError::Parameter(name));
        }
        rest = after;
    }
    found.ok_or(ProofError::Parameter(name))
}

/// `name = token` or `name = "quoted \" string"`, then a comma or the end.
fn next(rest: &str) -> Result<(&str, String, &str), ProofError> {
    let (name, rest) = rest.split_once('=').ok_or(ProofError::Form)?;
    let rest = rest.trim_start();
    let (value, rest) = match rest.strip_prefix('"') {
        Some(rest) => quoted(rest)?,
        None => {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim().into(), &rest[end..])
        }
    };
    let rest = rest.trim_start();
    match rest.strip_prefix(',') {
        Some(rest) => Ok((name.trim(), value, rest)),
        None if rest.is_empty() => Ok((name.trim(), value, rest)),
        None => Err(ProofError::Form),
    }
}

/// A quoted string without its first quote, and what follows it (RFC 9110, 5.6.4).
fn quoted(rest: &str) -> Result<(String, &str), ProofError> {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Ok((value, &rest[at + 1..])),
            _ => value.push(c),
        }
    }
    Err(ProofError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::Mode, key::Key};
    use alloc::{format, string::ToString};

    const HEX: &str = "000102030405060708090a0b0c0d0e0f";

    fn challenge(parameters: &str) -> Result<Challenge, ProofError> {
        format!("{SCHEME} {parameters}").parse()
    }

    #[test]
    fn a_challenge_is_read_as_http_has_parameters() {
        let expected = Challenge(core::array::from_fn(|i| i.to_le_bytes()[0]));
        assert_eq!(expected.to_string().parse(), Ok(expected));
        for same in [
            format!("challenge={HEX}"),
            format!("  Challenge = \"{HEX}\" , realm=\"a, \\\"b\\\"\""),
            format!("realm=ota, challenge=\"{}\"", HEX.to_uppercase()),
        ] {
            assert_eq!(challenge(&same), Ok(expected), "{same}");
        }
        assert_eq!(format!("gts-session challenge={HEX}").parse(), Ok(expected));
    }

    #[test]
    fn what_is_no_challenge_is_named() {
        for (wrong, error) in [
            ("", ProofError::Parameter("challenge")),
            ("challenge=\"00\"", ProofError::Digits("challenge")),
            ("challenge=\"", ProofError::Form),
            ("challenge", ProofError::Form),
            ("challenge=\"00\" x", ProofError::Form),
            (
                "challenge=00, challenge=01",
                ProofError::Parameter("challenge"),
            ),
        ] {
            assert_eq!(challenge(wrong), Err(error), "{wrong}");
        }
        let long = format!("challenge=\"{}\"", "00".repeat(600));
        assert_eq!(
            challenge(&long),
            Err(ProofError::TooLong(SCHEME.len() + 13 + 1200))
        );
        let twice = format!("challenge=\"{HEX}00\"");
        assert_eq!(challenge(&twice), Err(ProofError::Digits("challenge")));
        assert_eq!(
            "Basic realm=x".parse::<Challenge>(),
            Err(ProofError::Scheme)
        );
    }

    #[test]
    fn a_proof_is_this_cards_to_this_challenge() {
        let key = |byte| SessionKey::derive(&Key::from_bytes(&[byte; 16]).unwrap(), Mode::DEFAULT);
        let iccid: Iccid = "8988374172470184089".parse().unwrap();
        let proof = Proof {
            iccid,
            response: key(1).sign(&[7; 16], &iccid),
        };
        let received: Proof = proof.to_string().parse().unwrap();
        assert!(received == proof);
        assert!(received.verify(&key(1), &Challenge([7; 16])));
        assert!(!received.verify(&key(1), &Challenge([8; 16])));
        assert!(!received.verify(&key(2), &Challenge([7; 16])));
        let other = Proof {
            iccid: "8988374172470184088".parse().unwrap(),
            ..received.clone()
        };
        assert!(!other.verify(&key(1), &Challenge([7; 16])));
        assert!(!format!("{received:?}").contains(&hex::encode(received.response)));
    }
}
