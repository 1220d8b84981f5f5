//! The card manager: the issuer security domain of GlobalPlatform Card Specification 2.3.
//!
//! ```text
//! GET DATA     data.rs      card data, key information, numbers of issuer and card
//! STORE DATA   data.rs      those numbers
//! PUT KEY      keys.rs      new keys under the session's DEK
//! GET STATUS   status.rs    life-cycle states of the card and its applications
//! SET STATUS   status.rs    and how they change
//! ```
//!
//! Owns keys and life-cycle states. Refuses to know what applications do.

mod data;
mod keys;
pub(crate) mod objects;
mod status;

use protocol::{
    card::{StatusWord, ins, tag},
    tlv,
};

use crate::{
    aid::Aid,
    apdu::Command,
    runtime::{Applet, Application, Env, Form, LifeCycle, is_setup},
    scp03::Level,
};

pub use keys::FACTORY;
pub use objects::{Configuration, Overview, configure, inspect};

/// The issuer security domain's AID (Card Specification 2.3, H.1.3).
pub const AID: [u8; 8] = [0xA0, 0x00, 0x00, 0x01, 0x51, 0x00, 0x00, 0x00];

/// Instructions of the card manager (Card Specification 2.3, 11).
mod gp {
    pub(super) const PUT_KEY: u8 = 0xD8;
    pub(super) const SET_STATUS: u8 = 0xF0;
    pub(super) const GET_STATUS: u8 = 0xF2;
}

/// The longest challenge of INITIALIZE UPDATE, in bytes.
const CHALLENGE: usize = 16;
/// The longest data of a protected command, in bytes: one short command.
const DATA: usize = 255;
/// How long the longest command is, as the FCI tells (`9F65`).
const LONGEST_COMMAND: u8 = 255;
const MAXIMUM_LENGTH: u32 = 0x9F65;
/// Life-cycle state, in the FCI and in GET STATUS.
const STATE: u32 = 0x9F70;

/// The card manager, to be put on a card; selected after a reset.
pub fn application() -> Application {
    Application {
        aid: aid(),
        make: || Box::new(CardManager),
        default_selected: true,
    }
}

/// The card manager's AID.
#[expect(clippy::expect_used, reason = "8 bytes are between 5 and 16")]
pub fn aid() -> Aid {
    Aid::new(&AID).expect("8 bytes are an AID")
}

struct CardManager;

/// Commands that change something are signed at least.
fn signed(env: &Env<'_>) -> Result<(), StatusWord> {
    if env.security_level().covers(Level::C_MAC) {
        Ok(())
    } else {
        Err(StatusWord::SECURITY_STATUS)
    }
}

impl Applet for CardManager {
    fn install(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        env.set_life_cycle(LifeCycle::OP_READY)
    }

    fn select(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        let state = env.life_cycle();
        tlv::put_with(env.answer(), tag::FCI, |fci| {
            tlv::put(fci, tag::DF_NAME, &AID);
            tlv::put_with(fci, tag::PROPRIETARY, |own| {
                tlv::put(own, MAXIMUM_LENGTH, &[LONGEST_COMMAND]);
                tlv::put(own, STATE, &[state.byte()]);
            });
        });
        Ok(())
    }

    fn form(&self, command: &Command<'_>) -> Result<Form, StatusWord> {
        let (ins, p1, p2) = (command.ins, command.p1, command.p2);
        if !command.class.proprietary && ins != ins::GET_DATA {
            return Err(StatusWord::CLASS);
        }
        match (ins, p1, p2) {
            (ins::INITIALIZE_UPDATE, _, 0) => Ok(Form::one(1, CHALLENGE)),
            (ins::EXTERNAL_AUTHENTICATE, _, 0) => Ok(Form::one(1, 2 * CHALLENGE)),
            (ins::GET_DATA, ..) => Ok(Form::NO_DATA),
            (ins::STORE_DATA, ..) | (gp::PUT_KEY, _, 0x01 | 0x81) => Ok(Form::data(1, DATA)),
            (gp::GET_STATUS, 0x80 | 0x40, 0x02) => Ok(Form::data(2, DATA)),
            (gp::SET_STATUS, 0x80 | 0x40, _) => Ok(Form::data(0, DATA)),
            (ins::INITIALIZE_UPDATE | ins::EXTERNAL_AUTHENTICATE, ..) => {
                Err(StatusWord::WRONG_P1P2)
            }
            (gp::PUT_KEY | gp::GET_STATUS | gp::SET_STATUS, ..) => Err(StatusWord::WRONG_P1P2),
            _ => Err(StatusWord::INS),
        }
    }

    fn process(&mut self, env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord> {
        match command.ins {
            _ if is_setup(command) => env.process_security(&aid(), command),
            ins::GET_DATA => data::get(env, command.p1p2()),
            ins::STORE_DATA => signed(env).and_then(|()| data::store(env, command)),
            gp::PUT_KEY => signed(env).and_then(|()| keys::put(env, command)),
            gp::GET_STATUS => status::get(env, command),
            gp::SET_STATUS => signed(env).and_then(|()| status::set(env, command)),
            _ => Err(StatusWord::INS),
        }
    }
}
