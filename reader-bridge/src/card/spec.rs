//! What `--card` takes, the same in every command.
//!
//! Owns the text form of a card's place. Refuses to open anything.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where the card is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardSpec {
    /// `pcsc`: the first card found in any PC/SC reader.
    AnyReader,
    /// `pcsc:NAME`: the card in the reader of this name.
    Reader(String),
    /// `vpcd:PORT`: the bridge is the virtual reader, and a virtual card connects to this TCP port; 0
    /// is any that is free.
    Vpcd(u16),
    /// `image:FILE`: an emulated card in this process.
    Image(PathBuf),
}

/// A text that names no card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardSpecError {
    /// Another word before the colon.
    #[error("{0:?} is not a kind of card; use pcsc, pcsc:\"READER NAME\", vpcd:PORT or image:FILE")]
    Kind(String),
    /// Nothing after the colon.
    #[error("{0}: needs {1} after it")]
    Empty(&'static str, &'static str),
    /// Not a port number.
    #[error("{0:?} is not a TCP port; vpcd takes a number up to 65535, for example vpcd:35963")]
    Port(String),
}

impl FromStr for CardSpec {
    type Err = CardSpecError;

    fn from_str(text: &str) -> Result<Self, CardSpecError> {
        let (kind, rest) = text
            .split_once(':')
            .map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        match (kind, rest) {
            ("pcsc", None) => Ok(Self::AnyReader),
            ("pcsc", Some("")) => Err(CardSpecError::Empty("pcsc:", "a reader's name")),
            ("pcsc", Some(name)) => Ok(Self::Reader(name.to_owned())),
            ("vpcd", Some(port)) => match port.parse() {
                Ok(port) => Ok(Self::Vpcd(port)),
                Err(_) => Err(CardSpecError::Port(port.to_owned())),
            },
            ("vpcd", None) => Err(CardSpecError::Empty("vpcd", ":PORT")),
            ("image", Some("") | None) => Err(CardSpecError::Empty("image", ":FILE")),
            ("image", Some(file)) => Ok(Self::Image(file.into())),
            _ => Err(CardSpecError::Kind(kind.to_owned())),
        }
    }
}

impl fmt::Display for CardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyReader => f.write_str("pcsc"),
            Self::Reader(name) => write!(f, "pcsc:{name}"),
            Self::Vpcd(port) => write!(f, "vpcd:{port}"),
            Self::Image(file) => write!(f, "image:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_card_is_read_and_printed_alike() {
        for text in [
            "pcsc",
            "pcsc:Virtual PCD 00 00",
            "vpcd:35963",
            "image:a:b.img",
        ] {
            assert_eq!(text.parse::<CardSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_card_is_refused_with_what_to_write_instead() {
        for (text, hint) in [
            ("usb", "use pcsc"),
            ("pcsc:", "a reader's name"),
            ("vpcd", ":PORT"),
            ("vpcd:70000", "up to 65535"),
            ("vpcd:card", "up to 65535"),
            ("image", ":FILE"),
        ] {
            let error = text.parse::<CardSpec>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
