//! Header fields of a session and their values.
//!
//! Governed by GlobalPlatform Card Specification 2.2, Amendment B 1.1.3, 3.4.1 (requests) and 3.4.2 (answers); the
//! form of `//se-id/ICCID/…` by GlobalPlatform Secure Element Remote Application Management 1.0. Names of fields
//! are compared without regard to case (RFC 9110, 5.1).

use core::{fmt, str::FromStr};

use alloc::vec::Vec;

use crate::identity::{Iccid, IccidError};

/// In every request and answer, with [`PROTOCOL_VALUE`].
pub const PROTOCOL: &str = "X-Admin-Protocol";
/// The one version of the protocol.
pub const PROTOCOL_VALUE: &str = "globalplatform-remote-admin/1.0";
/// In every request: an [`Agent`].
pub const FROM: &str = "X-Admin-From";
/// In an answer: where the next request goes.
pub const NEXT_URI: &str = "X-Admin-Next-URI";
/// In an answer with commands: whom they are for, see [`target`].
pub const TARGET: &str = "X-Admin-Targeted-Application";
/// In a request after commands: a [`ScriptStatus`].
pub const SCRIPT_STATUS: &str = "X-Admin-Script-Status";
/// `true` in a request that is sent again, or after a session was cut.
pub const RESUME: &str = "X-Admin-Resume";
/// Our own. In every request: the id of the message that opened the session, decimal.
pub const MESSAGE: &str = "X-GTS-Message";
/// Our own. In a request with answers: the way to the card broke while it had this command, counted from 1.
pub const SCRIPT_CUT: &str = "X-GTS-Script-Cut";

/// Content types.
pub mod media {
    /// A command string (Amendment B, 3.4.2).
    pub const COMMANDS: &str = "application/vnd.globalplatform.card-content-mgt;version=1.0";
    /// Its answer (Amendment B, 3.4.1).
    pub const ANSWERS: &str =
        "application/vnd.globalplatform.card-content-mgt-response;version=1.0";
    /// Our own: public keys made on the card, see [`super::super::PublicKey`].
    pub const PUBLIC_KEYS: &str = "application/vnd.gts.public-keys;version=1.0";
}

/// Whether a `Content-Type` names this one of [`media`]: type and version the same, case and white space aside
/// (RFC 9110, 8.3.1); other parameters do not matter.
pub fn is_media_type(value: &str, expected: &str) -> bool {
    match (split(value), split(expected)) {
        (Some((kind, version)), Some((expected, expected_version))) => {
            kind.eq_ignore_ascii_case(expected) && version == expected_version
        }
        _ => false,
    }
}

/// Type and version.
fn split(value: &str) -> Option<(&str, &str)> {
    let mut parts = value.split(';');
    let kind = parts.next()?.trim();
    let version = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_version = name.trim().eq_ignore_ascii_case("version");
        is_version.then(|| value.trim().trim_matches('"'))
    })?;
    Some((kind, version))
}

/// What became of the last command string as a whole (Amendment B, 3.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptStatus {
    /// It was executed, as far as its answer tells.
    Ok,
    /// There is no such application.
    UnknownApplication,
    /// The application is no security domain.
    NotASecurityDomain,
    /// The application takes no commands in this session.
    SecurityError,
}

impl ScriptStatus {
    const ALL: [Self; 4] = [
        Self::Ok,
        Self::UnknownApplication,
        Self::NotASecurityDomain,
        Self::SecurityError,
    ];

    /// The field's value.
    pub const fn value(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::UnknownApplication => "unknown-application",
            Self::NotASecurityDomain => "not-a-security-domain",
            Self::SecurityError => "security-error",
        }
    }
}

/// A header field's value that is not of its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No script status.
    #[error("no script status: ok, unknown-application, not-a-security-domain or security-error")]
    Status,
    /// An agent that does not name an SE and an application.
    #[error("not of the form //se-id/ICCID/…;//aa-id/aid/RID/PIX")]
    Agent,
    /// An agent's ICCID.
    #[error("//se-id/ICCID/…: {0}")]
    Iccid(#[from] IccidError),
    /// An AID.
    #[error("//aid/RID/PIX: {0}")]
    Aid(#[from] AidError),
}

impl FromStr for ScriptStatus {
    type Err = FieldError;

    fn from_str(value: &str) -> Result<Self, FieldError> {
        let found = Self::ALL.into_iter().find(|status| status.value() == value);
        found.ok_or(FieldError::Status)
    }
}

/// An application identifier of 5 to 16 bytes (ISO/IEC 7816-4:2020, 12.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Aid(Vec<u8>);

/// Why something is no AID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AidError {
    /// Another length.
    #[error("an AID has 5 to 16 bytes, this one has {0}")]
    Length(usize),
    /// Not hexadecimal digits, or not a RID of ten of them and a slash.
    #[error("write ten hexadecimal digits (RID), a slash, and up to 22 (PIX)")]
    Form,
}

/// Bytes of an AID that name its provider (ISO/IEC 7816-4:2020, 12.3.4.1).
const RID: usize = 5;

impl Aid {
    /// Takes 5 to 16 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, AidError> {
        if (RID..=16).contains(&bytes.len()) {
            Ok(Self(bytes.to_vec()))
        } else {
            Err(AidError::Length(bytes.len()))
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `F047545341/505001`.
impl FromStr for Aid {
    type Err = AidError;

    fn from_str(text: &str) -> Result<Self, AidError> {
        let (rid, pix) = text.split_once('/').ok_or(AidError::Form)?;
        if rid.len() != 2 * RID {
            return Err(AidError::Form);
        }
        let mut bytes = hex::decode(rid).map_err(|_| AidError::Form)?;
        bytes.extend(hex::decode(pix).map_err(|_| AidError::Form)?);
        Self::new(&bytes)
    }
}

impl fmt::Display for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rid, pix) = self.0.split_at(RID);
        write!(f, "{}/{}", hex::encode_upper(rid), hex::encode_upper(pix))
    }
}

impl fmt::Debug for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aid({self})")
    }
}

const AID_PREFIX: &str = "//aid/";

/// Reads `//aid/RID/PIX`.
pub fn target(value: &str) -> Result<Aid, AidError> {
    value
        .strip_prefix(AID_PREFIX)
        .ok_or(AidError::Form)?
        .parse()
}

/// Writes `//aid/RID/PIX`.
pub fn target_value(aid: &Aid) -> alloc::string::String {
    alloc::format!("{AID_PREFIX}{aid}")
}

/// Who a session is with: the card, and the application on it that answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The card.
    pub iccid: Iccid,
    /// The application.
    pub aid: Aid,
}

const SE_PREFIX: &str = "//se-id/ICCID/";
const AGENT_PREFIX: &str = "//aa-id/aid/";

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SE_PREFIX}{};{AGENT_PREFIX}{}", self.iccid, self.aid)
    }
}

impl FromStr for Agent {
    type Err = FieldError;

    fn from_str(value: &str) -> Result<Self, FieldError> {
        let (card, application) = value.split_once(';').ok_or(FieldError::Agent)?;
        let digits = card
            .trim()
            .strip_prefix(SE_PREFIX)
            .ok_or(FieldError::Agent)?;
        let aid = application.trim().strip_prefix(AGENT_PREFIX);
        Ok(Self {
            iccid: digits.parse()?,
            aid: aid.ok_or(FieldError::Agent)?.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_agent_names_card_and_application() {
        let agent = Agent {
            iccid: "8988374172470184089".parse().unwrap(),
            aid: Aid::new(&crate::card::AID).unwrap(),
        };
        let text = "//se-id/ICCID/8988374172470184089;//aa-id/aid/F047545341/505001";
        assert_eq!(agent.to_string(), text);
        assert_eq!(text.parse(), Ok(agent));
        for wrong in [
            "",
            ";",
            "//se-id/ICCID/8988374172470184089",
            "//se-id/eid/8988374172470184089;//aa-id/aid/F047545341/505001",
            "//se-id/ICCID/89;//aa-id/aid/F047545341/505001",
            "//se-id/ICCID/8988374172470184089;//aa-id/aid/F0475453/505001",
        ] {
            assert!(wrong.parse::<Agent>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_target_is_rid_and_pix() {
        let isd = target("//aid/A000000151/000000").unwrap();
        assert_eq!(isd.as_bytes(), [0xA0, 0, 0, 1, 0x51, 0, 0, 0]);
        assert_eq!(target_value(&isd), "//aid/A000000151/000000");
        assert_eq!(target("//aid/a000000151/").unwrap().as_bytes().len(), 5);
        let long = alloc::format!("//aid/A000000151/{}", "00".repeat(12));
        for wrong in [
            "//aid/A000000151000000",
            "/aid/A000000151/00",
            "//aid/A000000151/0",
            &long,
        ] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn content_types_are_compared_as_http_has_them() {
        for same in [
            media::COMMANDS,
            "Application/VND.globalplatform.card-content-mgt; version=1.0",
            "application/vnd.globalplatform.card-content-mgt ;charset=x; Version=\"1.0\"",
        ] {
            assert!(is_media_type(same, media::COMMANDS), "{same}");
        }
        for other in [
            "",
            "text/html",
            media::ANSWERS,
            "application/vnd.globalplatform.card-content-mgt",
            "application/vnd.globalplatform.card-content-mgt;version=1.1",
        ] {
            assert!(!is_media_type(other, media::COMMANDS), "{other}");
        }
    }

    #[test]
    fn script_statuses_are_amendment_bs() {
        for status in ScriptStatus::ALL {
            assert_eq!(status.value().parse(), Ok(status));
        }
        assert_eq!("OK".parse::<ScriptStatus>(), Err(FieldError::Status));
    }
}
