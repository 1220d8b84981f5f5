//! The engine and the store together: who waits for whom, and what must be on disk before what.
//!
//! Locks are taken in this order: operator, engine, journal. Changes are written in the order of the
//! decisions, because the journal's lock is taken before the engine's is given back; the engine is
//! not locked while the disk works.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use protocol::{msg::Object, response::ResponseDatagram};

use super::journal::Journal;
use crate::{
    engine::{Answer, Durability, Engine, Now, QueueRefused, counters::Dropped},
    store::{ChainRecord, Change, IdentityRecord, MessageRecord, Store, StoreError, SubId, Sync},
};

/// How many expired messages are withdrawn at a time.
const EXPIRE_BATCH: usize = 1000;

/// What workers and operators share.
pub struct Core {
    operator: Mutex<()>,
    engine: Mutex<Engine>,
    journal: Mutex<Journal>,
    /// Something was written since the last sync began.
    unsynced: AtomicBool,
    /// The journal has a backlog, so every answer has to ask it.
    troubled: AtomicBool,
    started: Instant,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Outgoing {
    /// The datagram.
    pub datagram: ResponseDatagram,
    /// The number of the poll in its batch.
    pub to: usize,
}

/// Why an operator's wish is not granted.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It cannot be.
    #[error(transparent)]
    Refused(#[from] QueueRefused),
    /// It could not be stored.
    #[error("it could not be stored: {0}")]
    Store(#[from] StoreError),
}

impl Core {
    /// Puts an engine and the store that it was loaded from together.
    pub fn new(engine: Engine, store: Box<dyn Store>) -> Result<Self, StoreError> {
        Ok(Self {
            operator: Mutex::new(()),
            engine: Mutex::new(engine),
            journal: Mutex::new(Journal::new(store)?),
            unsynced: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            started: Instant::now(),
        })
    }

    /// The present moment.
    pub fn now(&self) -> Now {
        let posix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Now {
            posix,
            monotonic: self.started.elapsed(),
        }
    }

    /// The engine, locked.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.engine)
    }

    /// Decides a batch of datagrams. What the answers rest on is stored when this returns.
    pub fn answer<'a>(
        &self,
        batch: impl Iterator<Item = (&'a [u8], SocketAddr)>,
        outgoing: &mut Vec<Outgoing>,
    ) {
        let now = self.now();
        let mut engine = self.engine();
        let mut answers: Vec<(usize, Answer)> = Vec::new();
        for (number, (datagram, source)) in batch.enumerate() {
            if let Ok(answer) = engine.receive(datagram, source, now) {
                answers.push((number, answer));
            }
        }
        self.store_answers(engine, &mut answers);
        for (to, answer) in answers {
            if let Some(delivery) = answer.delivered {
                tracing::info!(reference = %delivery.reference, id = delivery.id, "message delivered");
            }
            outgoing.push(Outgoing {
                datagram: answer.datagram,
                to,
            });
        }
    }

    /// Stores what a batch rests on, and takes out the answers for which that failed.
    fn store_answers(&self, engine: MutexGuard<'_, Engine>, answers: &mut Vec<(usize, Answer)>) {
        let changed = answers.iter().any(|(_, answer)| !answer.changes.is_empty());
        if !changed && !self.troubled.load(Ordering::Acquire) {
            return;
        }
        let decided = answers.len();
        let durability = answers.iter().map(|(_, answer)| answer.durability).max();
        let changes = answers
            .iter_mut()
            .flat_map(|(_, answer)| std::mem::take(&mut answer.changes));
        let changes: Vec<Change> = changes.collect();
        let mut journal = lock(&self.journal);
        drop(engine);

        // Failures are logged by the journal; the subscriptions concerned are stuck in it.
        let _ = self.write(&mut journal, changes, durability.unwrap_or_default());
        answers.retain(|(_, answer)| !journal.is_stuck(answer.subscription));
        drop(journal);
        let mut engine = self.engine();
        (answers.len()..decided).for_each(|_| engine.counters.note(Dropped::NotStored));
    }

    fn write(
        &self,
        journal: &mut Journal,
        changes: Vec<Change>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.unsynced.store(true, Ordering::Release);
        let written = journal.write(changes, durability);
        self.troubled
            .store(journal.is_troubled(), Ordering::Release);
        written
    }

    /// Counts answers that the network refused.
    pub fn note_not_sent(&self, count: usize) {
        let mut engine = self.engine();
        (0..count).for_each(|_| engine.counters.note(Dropped::NotSent));
    }

    /// Queues a message; when this returns, it is on disk and waits its turn.
    pub fn queue(
        &self,
        reference: &str,
        objects: &[Object<'_>],
        expires_in: Option<u64>,
    ) -> Result<MessageRecord, OperatorError> {
        let _operator = lock(&self.operator);
        let mut engine = self.engine();
        let prepared = engine.prepare(reference, objects, expires_in, self.now())?;
        self.store_for_operator(engine, &prepared.changes)?;
        self.engine().offer(prepared.message.clone());
        tracing::info!(reference, id = prepared.message.id, "message queued");
        Ok(prepared.message)
    }

    /// Cancels a message that waits or is on offer.
    pub fn cancel(&self, reference: &str, id: u32) -> Result<MessageRecord, OperatorError> {
        let _operator = lock(&self.operator);
        let mut engine = self.engine();
        let message = engine.cancel(reference, id, self.now())?;
        self.store_withdrawals(engine, vec![message.clone()])?;
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
        // A failure is logged by the journal, and written later.
        let _ = self.store_withdrawals(engine, expired);
    }

    /// The next message of each goes on offer only when the withdrawal is on disk.
    fn store_withdrawals(
        &self,
        engine: MutexGuard<'_, Engine>,
        messages: Vec<MessageRecord>,
    ) -> Result<(), StoreError> {
        let subscriptions: Vec<SubId> = messages
            .iter()
            .map(|message| message.subscription)
            .collect();
        let mut journal = lock(&self.journal);
        drop(engine);
        journal.hold(&subscriptions);
        let changes = messages.into_iter().map(Change::Message).collect();
        self.write(&mut journal, changes, Durability::Synced)?;
        let released = journal.released();
        drop(journal);
        self.release(&released);
        Ok(())
    }

    fn release(&self, subscriptions: &[SubId]) {
        let mut engine = self.engine();
        subscriptions.iter().for_each(|id| engine.release(*id));
    }

    /// Takes subscriptions that were checked against the engine under the same lock by `check`.
    pub fn import<E: From<StoreError>>(
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
        self.store_for_operator(engine, &changes)?;
        let mut engine = self.engine();
        let count = subscriptions.len();
        subscriptions
            .into_iter()
            .for_each(|(identity, chain)| engine.add(&identity, chain));
        tracing::info!(count, "subscriptions imported");
        Ok(count)
    }

    /// Unlike a promotion, an operator's change that fails is refused, not kept for later.
    fn store_for_operator(
        &self,
        engine: MutexGuard<'_, Engine>,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        let mut journal = lock(&self.journal);
        drop(engine);
        self.unsynced.store(true, Ordering::Release);
        journal.write_or_refuse(changes)
    }

    /// All messages ever queued for a subscription, oldest first. `None`: there is none.
    pub fn messages(&self, reference: &str) -> Result<Option<Vec<MessageRecord>>, StoreError> {
        let id = self
            .engine()
            .subscription(reference)
            .map(|subscription| subscription.id);
        id.map(|id| lock(&self.journal).messages(id)).transpose()
    }

    /// A handle for [`Core::group_commit`].
    pub fn syncer(&self) -> Result<Box<dyn Sync>, StoreError> {
        lock(&self.journal).syncer()
    }

    /// Makes what was written since the last call survive a power cut, while workers go on.
    pub fn group_commit(&self, syncer: &mut dyn Sync) -> Result<(), StoreError> {
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let mut engine = self.engine();
        let round = engine.end_sync_round();
        // What was decided in this round is written once the journal can be locked.
        let journal = lock(&self.journal);
        drop(engine);
        drop(journal);
        let synced = syncer.sync();
        match &synced {
            Ok(()) => self.engine().synced(round),
            Err(_) => self.unsynced.store(true, Ordering::Release),
        }
        synced
    }

    /// Tries again to write what could not be written.
    pub fn retry_backlog(&self) {
        if !self.troubled.load(Ordering::Acquire) {
            return;
        }
        let mut journal = lock(&self.journal);
        if self
            .write(&mut journal, Vec::new(), Durability::Synced)
            .is_ok()
        {
            tracing::info!("the store takes changes again; nothing was lost");
        }
        let released = journal.released();
        drop(journal);
        self.release(&released);
    }

    /// Notes on disk that the server stops in good order.
    pub fn close(&self) -> Result<(), StoreError> {
        lock(&self.journal).close()
    }
}

/// A thread that panicked has left nothing half done behind these locks that would be worse than
/// answering no more.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
