//! What the card manager keeps, as persistent objects of its own; the runtime reads keys and options there.
//!
//! ```text
//! 0001  life cycle of the card:1 (the runtime's)
//! 0002  failed authentications since the last good one:4
//! 0003  options                i:1 diversification data:10
//! 0004  issuer's number (tag 42)
//! 0005  card's number (tag 45)
//! 01vv  key set of version vv  see ../scp03/keys.rs
//! ```

use protocol::card::StatusWord;

use crate::{
    nvm::{Store, TransactionError},
    runtime::{Env, LIFE_CYCLE, LifeCycle},
    scp03::{KeySet, Keys, Options},
};

const FAILURES: u16 = 0x0002;
const OPTIONS: u16 = 0x0003;
pub(super) const ISSUER_NUMBER: u16 = 0x0004;
pub(super) const CARD_NUMBER: u16 = 0x0005;
const KEY_SETS: u16 = 0x0100;
const DIVERSIFICATION: usize = 10;

/// How a new card's manager is set up.
#[derive(Clone)]
pub struct Configuration {
    /// i of SCP03.
    pub options: Options,
    /// Version and keys of the first key set; without one nobody can open a session.
    pub keys: Option<(u8, Keys)>,
    /// Key diversification data, which a host may derive the keys from.
    pub diversification: [u8; DIVERSIFICATION],
}

/// Sets up the card manager of a new card, in one transaction.
pub fn configure(store: &mut Store, with: &Configuration) -> Result<(), TransactionError> {
    let space = store.space(&super::aid());
    let options = [&[with.options.byte()][..], &with.diversification].concat();
    store.begin()?;
    let written = (|| {
        store.put(space, LIFE_CYCLE, &[LifeCycle::OP_READY.byte()])?;
        store.put(space, OPTIONS, &options)?;
        if let Some((version, keys)) = &with.keys {
            let set = KeySet {
                keys: keys.clone(),
                sequence: 0,
            };
            store.put(space, object(*version), &set.encode())?;
        }
        Ok(())
    })();
    match written {
        Ok(()) => store.commit(),
        Err(error) => store.abort().and(Err(error)),
    }
}

/// What is to be known of a card's manager without its keys.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The card's state.
    pub life_cycle: LifeCycle,
    /// The versions of its key sets, ascending.
    pub versions: Vec<u8>,
}

/// Looks at the card manager of a memory from outside.
pub fn inspect(store: &mut Store) -> Overview {
    let space = store.space(&super::aid());
    let state = store.get(space, LIFE_CYCLE).and_then(<[u8]>::first);
    let versions = 1..=u8::MAX;
    Overview {
        life_cycle: state.map_or(LifeCycle::OP_READY, |state| LifeCycle::from_byte(*state)),
        versions: versions
            .filter(|version| store.get(space, object(*version)).is_some())
            .collect(),
    }
}

const fn object(version: u8) -> u16 {
    KEY_SETS | version as u16
}

pub(crate) fn options(env: &Env<'_>) -> Options {
    let byte = env.domain_object(OPTIONS).and_then(<[u8]>::first);
    byte.and_then(|i| Options::new(*i))
        .unwrap_or(Options::DEFAULT)
}

pub(crate) fn diversification(env: &Env<'_>) -> [u8; DIVERSIFICATION] {
    let object = env
        .domain_object(OPTIONS)
        .and_then(|object| object.get(1..));
    object
        .and_then(|data| data.try_into().ok())
        .unwrap_or_default()
}

/// The versions that there are, ascending.
pub(super) fn versions(env: &Env<'_>) -> Vec<u8> {
    (1..=u8::MAX)
        .filter(|version| env.domain_object(object(*version)).is_some())
        .collect()
}

/// The key set of a version; 00 stands for the first that there is.
pub(crate) fn key_set(env: &Env<'_>, version: u8) -> Option<(u8, KeySet)> {
    let version = if version == 0 {
        *versions(env).first()?
    } else {
        version
    };
    let set = KeySet::decode(env.domain_object(object(version))?)?;
    Some((version, set))
}

pub(super) fn put_key_set(env: &mut Env<'_>, version: u8, keys: Keys) -> Result<(), StatusWord> {
    env.put(object(version), &KeySet { keys, sequence: 0 }.encode())
}

pub(super) fn remove_key_set(env: &mut Env<'_>, version: u8) -> Result<(), StatusWord> {
    env.remove(object(version))
}

/// Failed authentications since the last good one.
pub(crate) fn failures(env: &Env<'_>) -> u32 {
    let object = env
        .domain_object(FAILURES)
        .and_then(|object| object.try_into().ok());
    object.map_or(0, u32::from_be_bytes)
}

pub(crate) fn count_failure(env: &mut Env<'_>) -> Result<(), StatusWord> {
    let failures = failures(env).saturating_add(1);
    env.put_domain_object(FAILURES, &failures.to_be_bytes())
}

pub(crate) fn forget_failures(env: &mut Env<'_>) -> Result<(), StatusWord> {
    if failures(env) == 0 {
        return Ok(());
    }
    env.put_domain_object(FAILURES, &[0; 4])
}

/// The sequence counter has three bytes (Amendment D, 7.1.1.6).
pub(crate) fn raise_sequence(
    env: &mut Env<'_>,
    version: u8,
    set: &mut KeySet,
) -> Result<(), StatusWord> {
    set.sequence = set.sequence.wrapping_add(1) & 0x00FF_FFFF;
    env.put_domain_object(object(version), &set.encode())
}
