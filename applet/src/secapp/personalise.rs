//! What makes a card a subscription's: derives what the card keeps from K, and forgets K.
//!
//! The operator's data arrives with a new image, or by STORE DATA in a secure channel.

use protocol::{
    card::{Statistics, StatusWord, tag},
    chain::{Link, RecoveryLink, SessionKey, concealed_uid},
    identity::{Iccid, Mode, Uid},
    key::Key,
    tlv,
};
use zeroize::Zeroizing;

use super::{
    SecApp, keys,
    state::{CHAIN, Chain, OUTCOME, PROFILE, Profile},
};
use crate::{
    apdu::Command,
    nvm::{Store, TransactionError},
    runtime::{Env, LIFE_CYCLE, LifeCycle},
    scp03::Level,
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

/// What an operator gives a card.
pub struct Personalisation {
    /// The ICCID.
    pub iccid: Iccid,
    /// K. It is not stored.
    pub key: Key,
    /// The mode, the same as at the server.
    pub mode: Mode,
    /// The first identity.
    pub first: FirstIdentity,
}

impl Personalisation {
    /// `UID_1`.
    pub fn uid_1(&self) -> Uid {
        match self.first {
            FirstIdentity::Iccid => self.iccid.into(),
            FirstIdentity::Concealed => concealed_uid(&self.key, &self.iccid, self.mode),
            FirstIdentity::Uid(uid) => uid,
        }
    }

    fn profile(&self) -> Profile {
        Profile {
            iccid: self.iccid,
            mode: self.mode,
            uid_1: self.uid_1(),
            session_key: SessionKey::derive(&self.key, self.mode),
        }
    }

    fn chain(&self) -> Chain {
        let uid_1 = self.uid_1();
        Chain {
            link: Link::first(&self.key, uid_1, self.mode),
            recovery: RecoveryLink::first(&self.key, uid_1, self.mode),
            resends: 0,
            statistics: Statistics::default(),
        }
    }
}

/// Writes a subscription into a card's memory, in one transaction.
pub fn personalise(store: &mut Store, with: &Personalisation) -> Result<(), TransactionError> {
    let space = store.space(&super::aid());
    store.begin()?;
    let written = (|| {
        store.put(space, PROFILE, &with.profile().encode())?;
        store.put(space, CHAIN, &with.chain().encode())?;
        store.remove(space, OUTCOME)?;
        store.put(space, LIFE_CYCLE, &[LifeCycle::PERSONALISED.byte()])
    })();
    match written {
        Ok(()) => store.commit(),
        Err(error) => store.abort().and(Err(error)),
    }
}

/// Longest data of STORE DATA in all its blocks, in bytes.
const LONGEST: usize = 512;
/// P1 of STORE DATA, bit 8: the last block (GlobalPlatform Card Specification 2.3, 11.11.2.1).
const LAST_BLOCK: u8 = 0x80;
/// The first identity is concealed.
const CONCEALED: [u8; 1] = [0x01];

/// Blocks of STORE DATA that have come.
#[derive(Default)]
pub(super) struct Blocks {
    next: u8,
    data: Zeroizing<Vec<u8>>,
}

impl Blocks {
    /// Takes a block; all of the data when it was the last one. Blocks are numbered from 0 without a gap.
    fn take(
        &mut self,
        p1: u8,
        number: u8,
        block: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StatusWord> {
        if number == 0 {
            *self = Self::default();
        }
        if number != self.next {
            *self = Self::default();
            return Err(StatusWord::WRONG_P1P2);
        }
        if self.data.len() + block.len() > LONGEST {
            *self = Self::default();
            return Err(StatusWord::WRONG_LENGTH);
        }
        self.data.extend_from_slice(block);
        self.next = self.next.wrapping_add(1);
        let last = p1 & LAST_BLOCK != 0;
        Ok(last.then(|| core::mem::take(self).data))
    }
}

impl SecApp {
    /// STORE DATA: only signed and encrypted, and only while the application is not blocked.
    pub(super) fn store_data(
        &mut self,
        env: &mut Env<'_>,
        command: &Command<'_>,
    ) -> Result<(), StatusWord> {
        if !env.security_level().covers(Level::C_DEC_C_MAC) {
            return Err(StatusWord::SECURITY_STATUS);
        }
        let Some(data) = self.blocks.take(command.p1, command.p2, command.data)? else {
            return Ok(());
        };
        let with = decode(env, &data)?;
        replace(env, &with)?;
        *self = Self::default();
        Ok(())
    }
}

/// `E8 { 5A ICCID, D0 K under the DEK, D1 mode, D2 first identity }`.
fn decode(env: &Env<'_>, data: &[u8]) -> Result<Personalisation, StatusWord> {
    let body = tlv::find(data, tag::PERSONALISATION)
        .ok()
        .flatten()
        .ok_or(StatusWord::WRONG_DATA)?;
    let field = |tag| tlv::find(body, tag).map_err(|_| StatusWord::WRONG_DATA);
    let iccid = field(tag::ICCID)?.and_then(|iccid| Iccid::from_bytes(iccid.try_into().ok()?).ok());
    let mode = match field(tag::GIVEN_MODE)? {
        Some([mode]) => Mode::from_byte(*mode).ok(),
        _ => None,
    };
    let key = env.decrypt_secret(field(tag::KEY)?.ok_or(StatusWord::WRONG_DATA)?)?;
    let first = match field(tag::FIRST_IDENTITY)? {
        None => FirstIdentity::Iccid,
        Some(one) if one == CONCEALED => FirstIdentity::Concealed,
        Some(uid) => FirstIdentity::Uid(Uid(uid.try_into().map_err(|_| StatusWord::WRONG_DATA)?)),
    };
    Ok(Personalisation {
        iccid: iccid.ok_or(StatusWord::WRONG_DATA)?,
        key: Key::from_bytes(&key).map_err(|_| StatusWord::WRONG_DATA)?,
        mode: mode.ok_or(StatusWord::WRONG_DATA)?,
        first,
    })
}

/// Whatever the card was before, it is this subscription's now, with nothing of the old one left.
fn replace(env: &mut Env<'_>, with: &Personalisation) -> Result<(), StatusWord> {
    env.begin()?;
    env.put(PROFILE, &with.profile().encode())?;
    env.put(CHAIN, &with.chain().encode())?;
    env.remove(OUTCOME)?;
    keys::remove_all(env)?;
    env.set_life_cycle(LifeCycle::PERSONALISED)?;
    env.commit()
}
