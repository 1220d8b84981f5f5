//! A store that fails when it is told to, for tests: in memory, shared with the test that made it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Change, MessageRecord, Store, StoreError, SubId, Sync};

/// What the test sees and sets.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    pub(crate) refuse_commits: Arc<AtomicBool>,
    pub(crate) refuse_syncs: Arc<AtomicBool>,
    pub(crate) written: Arc<Mutex<Vec<Change>>>,
}

impl Faults {
    fn check(flag: &AtomicBool) -> Result<(), StoreError> {
        if flag.load(Ordering::SeqCst) {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(StoreError::File {
                path: "faulty".into(),
                source,
            });
        }
        Ok(())
    }
}

impl Store for Faults {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        Self::check(&self.refuse_commits)?;
        self.written.lock().unwrap().extend_from_slice(changes);
        Ok(())
    }

    fn syncer(&self) -> Result<Box<dyn Sync>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn messages(&mut self, _: SubId) -> Result<Vec<MessageRecord>, StoreError> {
        Ok(Vec::new())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Sync for Faults {
    fn sync(&mut self) -> Result<(), StoreError> {
        Self::check(&self.refuse_syncs)
    }
}
