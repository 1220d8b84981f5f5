//! The client of SecApp: the commands of the card interface as calls, their answers as values.
//!
//! Owns composing commands and judging answers. Refuses to know when to send what: that is the
//! session's. Governed by `docs/card-interface.md`; ISO/IEC 7816-4 for SELECT and GET DATA.

pub mod command;

use std::os::fd::BorrowedFd;

use protocol::{
    card::{ObjectError, Outcome, Statistics, StatusWord, VERSION, fixed, required, tag},
    identity::{Iccid, Mode, UID_LEN},
    poll::Poll,
    tlv,
};

use crate::{
    card::{
        Atr, CardError, CardPort, Held, Wait,
        exchange::{Answer, whole_answer},
    },
    session::{Ask, Reply},
};

/// What a card says of itself when SecApp is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Answer to reset.
    pub atr: Atr,
    /// Its ICCID, by which the terminal remembers it.
    pub iccid: [u8; UID_LEN],
    /// The subscription's mode.
    pub mode: Mode,
    /// GlobalPlatform life-cycle state of SecApp.
    pub life_cycle: u8,
}

impl Card {
    /// The ICCID's digits, or its bytes in hexadecimal where it is none.
    pub fn iccid_text(&self) -> String {
        Iccid::from_bytes(self.iccid)
            .map_or_else(|_| hex::encode(self.iccid), |iccid| iccid.to_string())
    }
}

/// Why a card cannot be used, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SecAppError {
    /// The way to the card broke: what it did is not known.
    #[error(transparent)]
    Port(#[from] CardError),
    /// SELECT found no SecApp.
    #[error(
        "this card has no SecApp (SELECT of F047545341505001 answered {0}); secapp new makes a card that has it"
    )]
    NoApplet(StatusWord),
    /// SecApp has no identity yet.
    #[error(
        "SecApp on this card is not personalised; reader-bridge personalise --card CARD --profile FILE does that"
    )]
    Blank,
    /// SecApp answered with another status word than 9000.
    #[error("the card refuses {command}: {status}")]
    Refused {
        /// The command's name.
        command: &'static str,
        /// The answer.
        status: StatusWord,
    },
    /// The answer is not what the card interface says.
    #[error("the card's answer to {command} cannot be understood: {why}")]
    Nonsense {
        /// The command's name.
        command: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// P1 of GET DATA for the public key in the slot that P2 names.
const PUBLIC_KEYS: u32 = 0x0100;

/// A port with SecApp selected on its card.
pub struct SecApp {
    port: Box<dyn CardPort>,
}

impl SecApp {
    /// A client over this port; [`SecApp::open`] is to come first.
    pub fn new(port: Box<dyn CardPort>) -> Self {
        Self { port }
    }

    /// Waits for a card, selects SecApp and reads whose card it is.
    ///
    /// A card without SecApp is refused: the port then waits for another one.
    pub fn open(&mut self, wait: &Wait<'_>) -> Result<Card, SecAppError> {
        let atr = self.port.connect(wait)?;
        let card = self.introduce(atr);
        if !matches!(card, Ok(_) | Err(SecAppError::Port(_))) {
            self.port.release(true);
        }
        card
    }

    fn introduce(&mut self, atr: Atr) -> Result<Card, SecAppError> {
        let mut held = self.port.hold()?;
        let Selected { mode, life_cycle } = select(held.as_mut())?;
        let mode = mode.ok_or(SecAppError::Blank)?;
        let iccid = send(held.as_mut(), "GET DATA 5A", &command::get_data(tag::ICCID))?;
        Ok(Card {
            atr,
            iccid: fixed(&iccid, tag::ICCID).map_err(nonsense("GET DATA 5A"))?,
            mode,
            life_cycle,
        })
    }

    /// GET-UID: the poll to be sent, as it is to be sent. `after_silence`: a poll has gone unanswered.
    pub fn get_uid(&mut self, after_silence: bool) -> Result<(Poll, Vec<u8>), SecAppError> {
        let datagram = self.command("GET-UID", &command::get_uid(after_silence))?;
        let poll = Poll::parse(&datagram).map_err(nonsense("GET-UID"))?;
        Ok((poll, datagram))
    }

    /// PROCESS-RESPONSE: gives an answer, 27 to 255 bytes, to the card.
    pub fn process_response(&mut self, response: &[u8]) -> Result<Outcome, SecAppError> {
        let outcome = self.command("PROCESS-RESPONSE", &command::process_response(response))?;
        Outcome::decode(&outcome).map_err(nonsense("PROCESS-RESPONSE"))
    }

    /// GET DATA 00E1: the last outcome; `None` if nothing was ever accepted.
    pub fn last_outcome(&mut self) -> Result<Option<Outcome>, SecAppError> {
        const COMMAND: &str = "GET DATA E1";
        match self.command(COMMAND, &command::get_data(tag::OUTCOME)) {
            Ok(data) => Outcome::decode(&data).map(Some).map_err(nonsense(COMMAND)),
            Err(SecAppError::Refused {
                status: StatusWord::NO_SUCH_DATA,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// GET DATA 00E7: what the card has counted.
    pub fn statistics(&mut self) -> Result<Statistics, SecAppError> {
        let data = self.command("GET DATA E7", &command::get_data(tag::STATISTICS))?;
        Statistics::decode(&data).map_err(nonsense("GET DATA E7"))
    }

    /// SIGN-SESSION: the card's answer to an OTA server's challenge.
    pub fn sign_session(&mut self, challenge: &[u8; 16]) -> Result<[u8; 16], SecAppError> {
        const COMMAND: &str = "SIGN-SESSION";
        let signature = self.command(COMMAND, &command::sign_session(challenge))?;
        let length = signature.len();
        signature
            .try_into()
            .map_err(|_| format!("{length} bytes, not 16"))
            .map_err(nonsense(COMMAND))
    }

    /// GET DATA 01 slot: the point of the public key in this slot.
    pub fn public_key(&mut self, slot: u8) -> Result<Vec<u8>, SecAppError> {
        const COMMAND: &str = "GET DATA 01 slot";
        let data = self.command(COMMAND, &command::get_data(PUBLIC_KEYS | u32::from(slot)))?;
        let key = required(&data, tag::PUBLIC_KEY).map_err(nonsense(COMMAND))?;
        let point = required(key, tag::POINT).map_err(nonsense(COMMAND))?;
        Ok(point.to_vec())
    }

    /// Puts a session's question. An error means that the way to the card broke, and what the card did
    /// is not known.
    pub fn ask(&mut self, ask: Ask) -> Result<Reply, CardError> {
        let answer = match ask {
            Ask::LastOutcome => self.last_outcome().map(Reply::Outcome),
            Ask::Poll { after_silence } => self
                .get_uid(after_silence)
                .map(|(poll, datagram)| Reply::Poll(poll, datagram)),
            Ask::Process(response) => self
                .process_response(&response)
                .map(|outcome| Reply::Outcome(Some(outcome))),
        };
        match answer {
            Ok(reply) => Ok(reply),
            Err(SecAppError::Port(error)) => Err(error),
            Err(SecAppError::Refused { status, .. } | SecAppError::NoApplet(status)) => {
                Ok(Reply::Refused(status))
            }
            Err(SecAppError::Nonsense { why, .. }) => Ok(Reply::Nonsense(why)),
            Err(blank @ SecAppError::Blank) => Ok(Reply::Nonsense(blank.to_string())),
        }
    }

    /// The port underneath.
    pub fn port(&mut self) -> &mut dyn CardPort {
        self.port.as_mut()
    }

    /// Becomes readable when the card may have gone; [`CardPort::check`] then tells.
    pub fn removal(&self) -> Option<BorrowedFd<'_>> {
        self.port.removal()
    }

    /// One command to SecApp. Where other programs reach the card too, it is selected anew first, in
    /// the same transaction: they may have selected something else, which would take this command
    /// for its own. Selecting closes no poll.
    fn command(&mut self, name: &'static str, command: &[u8]) -> Result<Vec<u8>, SecAppError> {
        let shared = self.port.is_shared();
        let mut held = self.port.hold()?;
        if shared {
            send(held.as_mut(), "SELECT", &command::select_quietly())?;
        }
        send(held.as_mut(), name, command)
    }
}

/// What SELECT tells of SecApp.
pub(crate) struct Selected {
    /// `None`: it is not personalised.
    pub(crate) mode: Option<Mode>,
    /// GlobalPlatform life-cycle state; 0 if the card does not tell.
    pub(crate) life_cycle: u8,
}

/// SELECT SecApp on the card that is held.
pub(crate) fn select(card: &mut dyn Held) -> Result<Selected, SecAppError> {
    let selected = whole_answer(card, &command::select())?;
    if selected.status != StatusWord::OK {
        return Err(SecAppError::NoApplet(selected.status));
    }
    fci(&selected.data).map_err(nonsense("SELECT"))
}

/// One command to what is selected, which must succeed.
pub(crate) fn send(
    card: &mut dyn Held,
    name: &'static str,
    command: &[u8],
) -> Result<Vec<u8>, SecAppError> {
    let Answer { data, status } = whole_answer(card, command)?;
    if status == StatusWord::OK {
        Ok(data)
    } else {
        Err(SecAppError::Refused {
            command: name,
            status,
        })
    }
}

/// `6F { 84 AID, A5 { C1 version:1, C2 mode:1, C3 life-cycle state:1 } }`, without C2 while it is not personalised.
fn fci(data: &[u8]) -> Result<Selected, String> {
    let object = |error: ObjectError| error.to_string();
    let fci = required(data, tag::FCI).map_err(object)?;
    let own = required(fci, tag::PROPRIETARY).map_err(object)?;
    let [version] = fixed(own, tag::VERSION).map_err(object)?;
    if version != VERSION {
        return Err(format!(
            "it speaks version {version} of the card interface, this program version {VERSION}"
        ));
    }
    let mode = match tlv::find(own, tag::MODE).map_err(|error| error.to_string())? {
        None => None,
        Some([mode]) => Some(Mode::from_byte(*mode).map_err(|error| error.to_string())?),
        Some(other) => return Err(format!("its mode has {} bytes, not 1", other.len())),
    };
    // Told for information only: a card may leave it out.
    let life_cycle = tlv::find(own, tag::LIFE_CYCLE).ok().flatten();
    Ok(Selected {
        mode,
        life_cycle: life_cycle
            .and_then(|value| value.first().copied())
            .unwrap_or(0),
    })
}

fn nonsense<E: ToString>(command: &'static str) -> impl FnOnce(E) -> SecAppError {
    move |error| SecAppError::Nonsense {
        command,
        why: error.to_string(),
    }
}
