//! Profiles: what an operator writes down for one card.
//!
//! Owns the text form (TOML) and what is wrong with one. Refuses to open files, and never repeats a key: errors name
//! lines, not what stands in them where that could be the key.

use std::{fmt, path::PathBuf, str::FromStr};

use protocol::{
    identity::{Iccid, Mode, Uid},
    key::{Key, KeyTextError},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};

/// The first identity, `UID_1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstIdentity {
    /// The ICCID itself.
    Iccid,
    /// Derived from K and the ICCID, so that the ICCID never travels.
    Concealed,
    /// Ten bytes of the operator's choice.
    Uid(Uid),
}

impl FromStr for FirstIdentity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "iccid" => Ok(Self::Iccid),
            None if text == "concealed" => Ok(Self::Concealed),
            Some(("uid", hex)) => Uid::from_hex(hex)
                .map(Self::Uid)
                .map_err(|error| format!("uid: {error}")),
            _ => Err("write \"iccid\", \"concealed\" or \"uid:\" and 20 hexadecimal digits".into()),
        }
    }
}

/// A profile as it is written down.
pub struct Profile {
    /// The ICCID.
    pub iccid: Iccid,
    /// Where K is.
    pub key: KeySource,
    /// The mode; 3 if none is written.
    pub mode: Mode,
    /// The first identity; the ICCID if none is written.
    pub first: FirstIdentity,
}

/// Where K is.
pub enum KeySource {
    /// In the profile, which is to be its owner's alone.
    Here(Key),
    /// In a file of its own; the path is relative to the profile.
    File(PathBuf),
}

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not TOML, or not of the form.
    #[error("line {line}: {why}")]
    Text {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// Neither key nor key_file, or both.
    #[error("a profile has either key_file = \"FILE\" or key = \"HEX\", this one {0}")]
    Key(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "parsed")]
    iccid: Iccid,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
    #[serde(default = "default_mode", deserialize_with = "mode")]
    mode: Mode,
    #[serde(default = "default_first", deserialize_with = "parsed")]
    first_identity: FirstIdentity,
}

const fn default_mode() -> Mode {
    Mode::DEFAULT
}

const fn default_first() -> FirstIdentity {
    FirstIdentity::Iccid
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    from: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(D::Error::custom)
}

fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<Mode, D::Error> {
    Mode::from_byte(u8::deserialize(from)?).map_err(D::Error::custom)
}

/// A key in text, which no error repeats.
pub struct Secret(Key);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

/// serde's own message for a wrong type tells the value.
const QUOTES: &str = "a key stands in quotes, 32 or 64 hexadecimal digits";

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(QUOTES)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
        Key::from_hex(text)
            .map(Secret)
            .map_err(|error: KeyTextError| E::custom(error))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(QUOTES))
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Secret, E> {
        Err(E::custom(QUOTES))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(QUOTES))
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Secret, E> {
        Err(E::custom(QUOTES))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(QUOTES))
    }
}

impl Profile {
    /// Reads the text of a profile.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        // The error's own form shows the line, and the key may stand in it.
        let written: Written = toml::from_str(text).map_err(|error| ProfileError::Text {
            line: line(text, error.span().map_or(0, |span| span.start)),
            why: error.message().to_owned(),
        })?;
        let key = match (written.key, written.key_file) {
            (Some(Secret(key)), None) => KeySource::Here(key),
            (None, Some(file)) => KeySource::File(file),
            (None, None) => return Err(ProfileError::Key("has neither")),
            (Some(_), Some(_)) => return Err(ProfileError::Key("has both")),
        };
        Ok(Self {
            iccid: written.iccid,
            key,
            mode: written.mode,
            first: written.first_identity,
        })
    }
}

fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: &str = "2b7e151628aed2a6abf7158809cf4f3c";

    fn refused(text: &str) -> String {
        match Profile::parse(text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_left_out_has_its_usual_value() {
        let profile =
            Profile::parse("iccid = \"8988374172470184089\"\nkey_file = \"k.hex\"").unwrap();
        assert_eq!(profile.mode, Mode::DEFAULT);
        assert_eq!(profile.first, FirstIdentity::Iccid);
        assert!(matches!(profile.key, KeySource::File(file) if file.as_os_str() == "k.hex"));
    }

    #[test]
    fn everything_that_can_be_written_is_read() {
        for (first, expected) in [
            ("iccid", FirstIdentity::Iccid),
            ("concealed", FirstIdentity::Concealed),
            (
                "uid:000102030405060708ff",
                FirstIdentity::Uid(Uid([0, 1, 2, 3, 4, 5, 6, 7, 8, 0xFF])),
            ),
        ] {
            let text = format!(
                "# a card\niccid = \"8988374172470184089\"\nkey = \"{K}\"\nmode = 1\nfirst_identity = \"{first}\"\n"
            );
            let profile = Profile::parse(&text).unwrap();
            assert_eq!((profile.first, profile.mode.byte()), (expected, 1));
            assert!(
                matches!(profile.key, KeySource::Here(key) if hex::encode(key.as_bytes()) == K)
            );
        }
    }

    #[test]
    fn a_wrong_profile_is_told_with_its_line_and_what_to_write() {
        let good = "iccid = \"8988374172470184089\"\nkey_file = \"k\"\n";
        for (text, said) in [
            ("key_file = \"k\"\n".to_owned(), "iccid"),
            (
                "iccid = \"89\"\nkey_file = \"k\"".into(),
                "line 1: an ICCID has 18 to 20 digits",
            ),
            ("iccid = \"8988374172470184089\"".into(), "has neither"),
            (format!("{good}key = \"{K}\""), "has both"),
            (format!("{good}mode = 4"), "line 3"),
            (format!("{good}mode = \"3\""), "line 3"),
            (
                format!("{good}first_identity = \"hidden\""),
                "\"concealed\"",
            ),
            (
                format!("{good}first_identity = \"uid:12\""),
                "20 hexadecimal digits",
            ),
            (format!("{good}color = 1"), "unknown field `color`"),
            (format!("{good}mode 3"), "line 3"),
        ] {
            let error = refused(&text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn no_error_repeats_the_key() {
        let digits = "12345678901234567890123456789012";
        for line in [
            format!("key = {K}"),
            format!("key = \"{K}"),
            format!("key = \"{K}0\""),
            format!("key = \"{K}zz\""),
            format!("key = '{K}' '{K}'"),
            format!("key = [\"{K}\"]"),
            format!("key = {{ k = \"{K}\" }}"),
            format!("key = {digits}"),
            "key = 1234567890123456".to_owned(),
            "key = 12345678.90123456".to_owned(),
            format!("\"{K}\""),
            format!("key = \"\"\"\n{K}\n{K}"),
            format!("kye = \"{K}\""),
        ] {
            let text = format!("iccid = \"8988374172470184089\"\n{line}\n");
            let error = refused(&text);
            let longest = error
                .split(|letter: char| !letter.is_ascii_hexdigit())
                .map(str::len)
                .max();
            assert!(longest < Some(8), "{line}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            drop(Profile::parse(&text));
        }
    }
}
