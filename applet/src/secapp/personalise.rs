//! What makes a card a subscription's: derives what the card keeps from K, and forgets K.

use protocol::{
    card::Statistics,
    chain::{Link, RecoveryLink, SessionKey, concealed_uid},
    identity::{Iccid, Mode, Uid},
    key::Key,
};

use super::state::{CHAIN, Chain, LIFE_CYCLE, LifeCycle, OUTCOME, PROFILE, Profile};
use crate::nvm::{Store, TransactionError};

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
        store.put(space, LIFE_CYCLE, &[LifeCycle::Personalised.byte()])
    })();
    match written {
        Ok(()) => store.commit(),
        Err(error) => store.abort().and(Err(error)),
    }
}
