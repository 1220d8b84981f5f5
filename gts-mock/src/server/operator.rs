//! What operators wish, carried out: prepared by the engine, stored, and only then in effect.

use std::sync::MutexGuard;

use protocol::msg::Object;

use super::{
    core::{Core, lock},
    journal::Refusal,
};
use crate::{
    engine::{Durability, Engine, Prepared, QueueRefused},
    store::{ChainRecord, Change, IdentityRecord, MessageRecord, StoreError},
};

/// How many expired messages are withdrawn at a time.
const EXPIRE_BATCH: usize = 1000;

/// Why an operator's wish is not granted.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It cannot be.
    #[error(transparent)]
    Refused(#[from] QueueRefused),
    /// It could not be stored.
    #[error("it could not be stored, and has no effect: {0}")]
    NotStored(StoreError),
    /// It is written and takes effect, but a power cut could still lose it.
    #[error(
        "it is written but could not be synced yet, so a power cut may lose it; it takes effect once it is: {0}"
    )]
    NotSynced(StoreError),
}

impl From<Refusal> for OperatorError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotWritten(error) => Self::NotStored(error),
            Refusal::NotSynced(error) => Self::NotSynced(error),
        }
    }
}

impl Core {
    /// Queues a message; when this returns, it is on disk and waits its turn.
    pub fn queue(
        &self,
        reference: &str,
        objects: &[Object<'_>],
        expires_in: Option<u64>,
    ) -> Result<MessageRecord, OperatorError> {
        let _operator = lock(&self.operator);
        let mut engine = self.engine();
        let Prepared { message, changes } =
            engine.prepare(reference, objects, expires_in, self.now())?;
        match self.store(engine, &changes) {
            Ok(()) => self.engine().offer(message.clone()),
            Err(refusal) => return Err(self.not_queued(message, refusal)),
        }
        tracing::info!(reference, id = message.id, "message queued");
        Ok(message)
    }

    /// A message that is written, but not synced, waits for that; any other is forgotten.
    fn not_queued(&self, message: MessageRecord, refusal: Refusal) -> OperatorError {
        let mut engine = self.engine();
        match &refusal {
            Refusal::NotWritten(_) => engine.abandon(&message),
            Refusal::NotSynced(_) => {
                engine.hold(message.subscription);
                lock(&self.journal).hold(&[message.subscription]);
                engine.offer(message);
            }
        }
        refusal.into()
    }

    /// Cancels a message that waits or is on offer.
    pub fn cancel(&self, reference: &str, id: u32) -> Result<MessageRecord, OperatorError> {
        let _operator = lock(&self.operator);
        let mut engine = self.engine();
        let Prepared { message, changes } = engine.cancel(reference, id, self.now())?;
        let stored = self.store_withdrawals(engine, &[message.subscription], changes);
        stored.map_err(OperatorError::NotSynced)?;
        tracing::info!(reference, id, state = %message.state, "message cancelled");
        Ok(message)
    }

    /// Withdraws messages whose time has come.
    pub fn expire(&self) {
        let _operator = lock(&self.operator);
        let mut engine = self.engine();
        let expired = engine.expire(self.now(), EXPIRE_BATCH);
        if expired.is_empty() {
            return;
        }
        tracing::info!(count = expired.len(), "messages expired");
        let subscriptions: Vec<_> = expired.iter().map(|one| one.message.subscription).collect();
        let changes = expired.into_iter().flat_map(|one| one.changes).collect();
        // A failure is logged by the journal, and written later.
        let _ = self.store_withdrawals(engine, &subscriptions, changes);
    }

    /// The next message of each goes on offer only when the withdrawal is on disk.
    fn store_withdrawals(
        &self,
        engine: MutexGuard<'_, Engine>,
        subscriptions: &[u32],
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let mut journal = lock(&self.journal);
        drop(engine);
        journal.hold(subscriptions);
        self.write(&mut journal, changes, Durability::Synced)?;
        let released = journal.released();
        drop(journal);
        self.release(&released);
        Ok(())
    }

    /// Takes subscriptions that `check` has found to fit the engine as it is.
    pub fn import<E: From<OperatorError>>(
        &self,
        check: impl FnOnce(&Engine) -> Result<Vec<(IdentityRecord, ChainRecord)>, E>,
    ) -> Result<usize, E> {
        let _operator = lock(&self.operator);
        let engine = self.engine();
        let subscriptions = check(&engine)?;
        let changes = subscriptions.iter().flat_map(|(identity, chain)| {
            [
                Change::Identity(identity.clone()),
                Change::Chain(chain.clone()),
            ]
        });
        let changes: Vec<Change> = changes.collect();
        let stored = self.store(engine, &changes);
        if let Err(Refusal::NotWritten(error)) = stored {
            return Err(OperatorError::NotStored(error).into());
        }
        let mut engine = self.engine();
        let count = subscriptions.len();
        subscriptions
            .into_iter()
            .for_each(|(identity, chain)| engine.add(&identity, chain));
        tracing::info!(count, "subscriptions imported");
        stored.map_err(OperatorError::from)?;
        Ok(count)
    }

    fn store(&self, engine: MutexGuard<'_, Engine>, changes: &[Change]) -> Result<(), Refusal> {
        let mut journal = lock(&self.journal);
        drop(engine);
        let stored = journal.write_or_refuse(changes);
        self.note(&journal);
        stored
    }
}
