//! Personalisation: makes the card in a port a subscription's, in a secure channel.
//!
//! Owns the order of commands and what is believed only after the card has shown it. Refuses to know where keys come
//! from. `docs/card-interface.md`, STORE DATA and SCP03 (GlobalPlatform Card Specification 2.3, 11.11, and Amendment D).
//!
//! ```text
//! SELECT ─ INITIALIZE UPDATE ─ EXTERNAL AUTHENTICATE ─ STORE DATA ─ SELECT ─ GET DATA 5A ─ GET-UID
//! ```
//!
//! All of it is one sequence that nobody else comes between: a SELECT of another program would end the session.

mod profile;

pub use profile::{FirstIdentity, KeySource, Profile, ProfileError, Secret};

use protocol::{
    card::{StatusWord, fixed, tag},
    chain::{Link, concealed_uid},
    identity::{Iccid, Mode, Uid},
    key::Key,
    tlv,
};
use zeroize::Zeroizing;

use crate::{
    card::{Held, exchange::whole_answer},
    scp03::{Scp03Error, Session, StaticKeys, cbc_encrypt},
    secapp::{self, SecAppError, command},
};

/// Life-cycle states of SecApp (GlobalPlatform Card Specification 2.3, 5.3.1).
mod life_cycle {
    pub(super) const PERSONALISED: u8 = 0x0F;
    pub(super) const BLOCKED: u8 = 0x80;
}

/// What a card becomes.
pub struct Subscription {
    /// The ICCID.
    pub iccid: Iccid,
    /// K.
    pub key: Key,
    /// The mode, the same as at the server.
    pub mode: Mode,
    /// The first identity.
    pub first: FirstIdentity,
}

impl Subscription {
    /// `UID_1`.
    pub fn uid_1(&self) -> Uid {
        match self.first {
            FirstIdentity::Iccid => self.iccid.into(),
            FirstIdentity::Concealed => concealed_uid(&self.key, &self.iccid, self.mode),
            FirstIdentity::Uid(uid) => uid,
        }
    }

    /// `E8 { 5A ICCID, D0 K under the DEK, D1 mode, D2 first identity }`.
    fn data(&self, dek: &Key) -> Vec<u8> {
        // A key is of whole blocks.
        let key = cbc_encrypt(dek, [0; 16], self.key.as_bytes()).unwrap_or_default();
        let mut out = Vec::new();
        tlv::put_with(&mut out, tag::PERSONALISATION, |body| {
            tlv::put(body, tag::ICCID, self.iccid.as_bytes());
            tlv::put(body, tag::KEY, &key);
            tlv::put(body, tag::GIVEN_MODE, &[self.mode.byte()]);
            match &self.first {
                FirstIdentity::Iccid => {}
                FirstIdentity::Concealed => tlv::put(body, tag::FIRST_IDENTITY, &[0x01]),
                FirstIdentity::Uid(uid) => tlv::put(body, tag::FIRST_IDENTITY, &uid.0),
            }
        });
        out
    }
}

/// What the session protects. Never less than C-MAC and C-DEC: the card would refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// 03: commands are signed and encrypted.
    Commands,
    /// 13: answers are signed, too.
    AnswersSigned,
    /// 33: answers are signed and encrypted, too.
    #[default]
    Everything,
}

impl Level {
    /// P1 of EXTERNAL AUTHENTICATE (Amendment D, 7.1.2.1).
    pub const fn byte(self) -> u8 {
        match self {
            Self::Commands => 0x03,
            Self::AnswersSigned => 0x13,
            Self::Everything => 0x33,
        }
    }
}

/// What opens the card.
pub struct CardManager {
    /// ENC, MAC and DEK.
    pub keys: StaticKeys,
    /// Which version they are; 00: the card's choice, the lowest that there is.
    pub version: u8,
    /// What the session protects.
    pub level: Level,
}

/// What has been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Version of the keys that opened the session.
    pub key_version: u8,
    /// Another subscription was on the card, and is gone.
    pub replaced: bool,
}

/// Why a card was not personalised, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum PersonaliseError {
    /// The card, before anything was written to it.
    #[error(transparent)]
    Card(#[from] SecAppError),
    /// Its owner has blocked it.
    #[error(
        "SecApp on this card is blocked (life-cycle state {0:02X}); SET STATUS to the card manager gives it back"
    )]
    Blocked(u8),
    /// The card has no keys of this version.
    #[error(
        "the card has no card manager's keys{}: nobody can open a session (GET DATA 00E0 to the card manager lists what it has)",
        version(*.0)
    )]
    NoKeys(u8),
    /// The card's keys are others.
    #[error("the card keys do not open this card (its version {version:02X}): {error}")]
    WrongKeys {
        /// The version that the card named.
        version: u8,
        /// What the host's end saw.
        error: Scp03Error,
    },
    /// The card does not believe the host.
    #[error(
        "the card refuses the card keys (EXTERNAL AUTHENTICATE answered {0}); each failure makes it slower"
    )]
    NotBelieved(StatusWord),
    /// The session could not be set up or kept for another reason.
    #[error("the secure channel failed: {0}")]
    Channel(Scp03Error),
    /// The host has no randomness.
    #[error("no random bytes to be had for the host's challenge: {0}")]
    Entropy(getrandom::Error),
    /// STORE DATA was sent, and what became of it is not known.
    #[error(
        "{0}; the card may be personalised by now or as it was: do it again, a second time replaces the first"
    )]
    InDoubt(String),
    /// The card took the data, and is something else afterwards.
    #[error("the card took the profile but does not show it: {0}")]
    NotShown(String),
}

fn version(version: u8) -> String {
    match version {
        0 => String::new(),
        other => format!(" of version {other:02X}"),
    }
}

/// Personalises the card that is held, and makes sure that it is this subscription's.
///
/// Until STORE DATA is sent the card stays what it was. The card takes the profile whole or not at all.
pub fn personalise(
    card: &mut dyn Held,
    manager: &CardManager,
    with: &Subscription,
) -> Result<Done, PersonaliseError> {
    let before = secapp::select(card)?;
    if before.life_cycle & life_cycle::BLOCKED != 0 {
        return Err(PersonaliseError::Blocked(before.life_cycle));
    }
    let (mut session, key_version) = open_session(card, manager)?;
    store(card, &mut session, with)?;
    confirm(card, with)?;
    Ok(Done {
        key_version,
        replaced: before.life_cycle == life_cycle::PERSONALISED,
    })
}

const COMMAND_INITIALIZE: &str = "INITIALIZE UPDATE";

/// A session, and the version of its keys.
fn open_session(
    card: &mut dyn Held,
    manager: &CardManager,
) -> Result<(Session, u8), PersonaliseError> {
    let mut host = [0; 16];
    getrandom::fill(&mut host).map_err(PersonaliseError::Entropy)?;
    let (host, greeting) = greet(card, manager.version, &host)?;
    let key_version = greeting.get(10).copied().unwrap_or(manager.version);
    let level = manager.level.byte();
    let opened = Session::open(&manager.keys, host, &greeting, level);
    let (session, authenticate) = opened.map_err(|error| match error {
        Scp03Error::Cryptogram => PersonaliseError::WrongKeys {
            version: key_version,
            error,
        },
        other => PersonaliseError::Channel(other),
    })?;
    let answer = whole_answer(card, &authenticate).map_err(SecAppError::Port)?;
    if answer.status != StatusWord::OK {
        return Err(PersonaliseError::NotBelieved(answer.status));
    }
    Ok((session, key_version))
}

/// The host's challenge as long as the card wants it, and the card's answer. A challenge of the wrong length is refused
/// before the card has done anything.
fn greet<'a>(
    card: &mut dyn Held,
    version: u8,
    host: &'a [u8; 16],
) -> Result<(&'a [u8], Vec<u8>), PersonaliseError> {
    let mut status = StatusWord::WRONG_LENGTH;
    for host in [&host[..8], host] {
        let command = command::initialize_update(version, host);
        let answer = whole_answer(card, &command).map_err(SecAppError::Port)?;
        status = answer.status;
        match status {
            StatusWord::OK => return Ok((host, answer.data)),
            StatusWord::WRONG_LENGTH => {}
            StatusWord::NO_SUCH_DATA => return Err(PersonaliseError::NoKeys(version)),
            _ => break,
        }
    }
    Err(PersonaliseError::Card(SecAppError::Refused {
        command: COMMAND_INITIALIZE,
        status,
    }))
}

/// STORE DATA: the one command that changes the card.
fn store(
    card: &mut dyn Held,
    session: &mut Session,
    with: &Subscription,
) -> Result<(), PersonaliseError> {
    let data = Zeroizing::new(with.data(session.dek()));
    let command = Zeroizing::new(command::store_data(&data));
    let protected = session
        .protect(&command)
        .map_err(PersonaliseError::Channel)?;
    let answer = whole_answer(card, &protected)
        .map_err(|error| PersonaliseError::InDoubt(format!("STORE DATA: {error}")))?;
    if answer.status != StatusWord::OK {
        return Err(PersonaliseError::Card(SecAppError::Refused {
            command: "STORE DATA",
            status: answer.status,
        }));
    }
    session
        .open_answer(&answer.data, answer.status.to_bytes())
        .map(drop)
        .map_err(|error| PersonaliseError::InDoubt(format!("STORE DATA: {error}")))
}

/// The card as anybody sees it now. The first poll carries a MAC under `K_1` where the mode says so.
fn confirm(card: &mut dyn Held, with: &Subscription) -> Result<(), PersonaliseError> {
    let in_doubt = |error: SecAppError| PersonaliseError::InDoubt(error.to_string());
    let now = secapp::select(card).map_err(in_doubt)?;
    let iccid =
        secapp::send(card, "GET DATA 5A", &command::get_data(tag::ICCID)).map_err(in_doubt)?;
    let poll = secapp::send(card, "GET-UID", &command::get_uid(false)).map_err(in_doubt)?;
    let expected = Link::first(&with.key, with.uid_1(), with.mode).poll(0);
    let shown = [
        (
            now.life_cycle == life_cycle::PERSONALISED,
            "its life-cycle state",
        ),
        (now.mode == Some(with.mode), "its mode"),
        (
            fixed(&iccid, tag::ICCID).is_ok_and(|iccid| iccid == *with.iccid.as_bytes()),
            "its ICCID",
        ),
        (poll == expected.as_bytes(), "its first poll"),
    ];
    match shown.into_iter().find(|(right, _)| !right) {
        None => Ok(()),
        Some((_, what)) => Err(PersonaliseError::NotShown(format!("{what} is another"))),
    }
}
