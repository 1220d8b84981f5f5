//! SecApp: holds a subscription's identity and keys, makes its polls and judges the responses.
//!
//! ```text
//! GET-UID           exchange.rs   the poll to be sent
//! PROCESS-RESPONSE  exchange.rs   what came back: accepted in one transaction, or refused
//! GET DATA          data.rs       outcome, statistics, public keys, ICCID
//! SIGN-SESSION      below         proof for an OTA session
//! INTERNAL AUTHENTICATE  keys.rs  a key made on the card signs a challenge
//! STORE DATA        personalise.rs  identity and key, in a secure channel
//! ```
//!
//! Owns the meaning of its commands (`docs/card-interface.md`) and what of them is durable. Refuses to know
//! channels, lengths of APDUs, and how memory is made durable.

mod data;
mod exchange;
mod keys;
mod personalise;
mod state;

use protocol::card::{self, StatusWord, get_uid, ins, tag};
use protocol::{identity::Mode, tlv};

pub use personalise::{FirstIdentity, Personalisation, personalise};
pub use state::{Chain, Profile, inspect};

use crate::{
    aid::Aid,
    apdu::Command,
    runtime::{Applet, Application, DATA_LIMIT, Env, Form, LifeCycle, is_setup},
};
use state::State;

/// How long the challenge of SIGN-SESSION is, in bytes; that of INTERNAL AUTHENTICATE has 16 to 64.
const CHALLENGE: usize = 16;
const LONGEST_CHALLENGE: usize = 64;
/// The longest block of STORE DATA, in bytes: one short command.
const LONGEST_BLOCK: usize = 255;

/// SecApp, to be put on a card.
///
/// # Panics
///
/// Never: its AID has 8 bytes.
pub fn application() -> Application {
    Application {
        aid: aid(),
        make: || Box::new(SecApp::default()),
        default_selected: false,
    }
}

/// SecApp's AID.
#[expect(clippy::expect_used, reason = "8 bytes are between 5 and 16")]
pub fn aid() -> Aid {
    Aid::new(&card::AID).expect("8 bytes are an AID")
}

/// The applet; its fields are RAM.
#[derive(Default)]
struct SecApp {
    /// A copy of the persistent state, read at the first command.
    state: Option<State>,
    /// Whether a poll is open: one was made and no response accepted since.
    polling: bool,
    /// Responses refused since the last commit. They are not worth a write each: anybody can cause them.
    refused: u32,
    /// What has come of STORE DATA's blocks.
    blocks: personalise::Blocks,
}

impl SecApp {
    /// The state; 6985 while the card is not personalised.
    fn state<'a>(&'a mut self, env: &Env<'_>) -> Result<&'a State, StatusWord> {
        if self.state.is_none() {
            self.state = State::read(env)?;
        }
        self.state.as_ref().ok_or(StatusWord::CONDITIONS)
    }

    fn fci(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        let life_cycle = env.life_cycle();
        let mode = self.state(env).ok().map(|state| state.profile.mode);
        tlv::put_with(env.answer(), tag::FCI, |fci| {
            tlv::put(fci, tag::DF_NAME, &card::AID);
            tlv::put_with(fci, tag::PROPRIETARY, |own| {
                proprietary(own, mode, life_cycle)
            });
        });
        Ok(())
    }

    fn sign_session(&mut self, env: &mut Env<'_>, challenge: &[u8]) -> Result<(), StatusWord> {
        let challenge = challenge.first_chunk().ok_or(StatusWord::WRONG_LENGTH)?;
        let profile = &self.state(env)?.profile;
        let signature = profile.session_key.sign(challenge, &profile.iccid);
        env.answer().extend_from_slice(&signature);
        Ok(())
    }
}

/// Mode is absent while the card is not personalised.
fn proprietary(out: &mut Vec<u8>, mode: Option<Mode>, life_cycle: LifeCycle) {
    tlv::put(out, tag::VERSION, &[card::VERSION]);
    if let Some(mode) = mode {
        tlv::put(out, tag::MODE, &[mode.byte()]);
    }
    tlv::put(out, tag::LIFE_CYCLE, &[life_cycle.byte()]);
}

impl Applet for SecApp {
    fn select(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        self.fci(env)
    }

    fn form(&self, command: &Command<'_>) -> Result<Form, StatusWord> {
        if !command.class.proprietary {
            return Err(StatusWord::CLASS);
        }
        let (ins, p1, p2) = (command.ins, command.p1, command.p2);
        match (ins, p1, p2) {
            (ins::GET_UID, get_uid::AS_IT_STANDS | get_uid::AFTER_SILENCE, 0) => Ok(Form::NO_DATA),
            (ins::PROCESS_RESPONSE, 0, 0) => Ok(Form::data(1, DATA_LIMIT)),
            (ins::SIGN_SESSION, 0, 0) => Ok(Form::data(CHALLENGE, CHALLENGE)),
            (ins::INTERNAL_AUTHENTICATE, 0, _) => Ok(Form::data(CHALLENGE, LONGEST_CHALLENGE)),
            (ins::GET_DATA, ..) => Ok(Form::NO_DATA),
            (ins::STORE_DATA, ..) => Ok(Form::data(1, LONGEST_BLOCK)),
            (ins::INITIALIZE_UPDATE, _, 0) => Ok(Form::one(1, CHALLENGE)),
            (ins::EXTERNAL_AUTHENTICATE, _, 0) => Ok(Form::one(1, 2 * CHALLENGE)),
            (ins::GET_UID | ins::PROCESS_RESPONSE | ins::SIGN_SESSION, ..)
            | (
                ins::INTERNAL_AUTHENTICATE | ins::INITIALIZE_UPDATE | ins::EXTERNAL_AUTHENTICATE,
                ..,
            ) => Err(StatusWord::WRONG_P1P2),
            _ => Err(StatusWord::INS),
        }
    }

    fn process(&mut self, env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord> {
        if is_setup(command) {
            return env.process_security(&aid(), command);
        }
        if env.life_cycle().is_locked() {
            return Err(StatusWord::CONDITIONS);
        }
        match command.ins {
            ins::GET_UID => self.get_uid(env, command.p1 == get_uid::AFTER_SILENCE),
            ins::PROCESS_RESPONSE => self.process_response(env, command.data),
            ins::SIGN_SESSION => self.sign_session(env, command.data),
            ins::INTERNAL_AUTHENTICATE => internal_authenticate(env, command.p2, command.data),
            ins::GET_DATA => self.get_data(env, command.p1p2()),
            ins::STORE_DATA => self.store_data(env, command),
            _ => Err(StatusWord::INS),
        }
    }
}

fn internal_authenticate(env: &mut Env<'_>, slot: u8, challenge: &[u8]) -> Result<(), StatusWord> {
    let signature = keys::sign(env, slot, challenge)?;
    env.answer().extend_from_slice(&signature);
    Ok(())
}
