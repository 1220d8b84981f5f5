//! The store against a plain map: whatever is done to both, they agree, over aborts, failures and power cuts.

use std::collections::BTreeMap;

use applet::{
    aid::Aid,
    nvm::{COMMIT_CAPACITY, Store, TearingDevice, WrapKey},
};
use proptest::{collection::vec, prelude::*};
use protocol::key::Key;

use crate::devices::Shared;

#[derive(Clone, Debug)]
enum Act {
    Put(usize, u16, Vec<u8>),
    Remove(usize, u16),
    Begin,
    Commit,
    Abort,
    /// Power is cut and given again.
    Reopen,
    /// Power fails after so many more writes, in the middle of the next, and is given again after that.
    Tear(u64, u64),
}

fn act() -> impl Strategy<Value = Act> {
    let value = vec(any::<u8>(), 0..700);
    prop_oneof![
        6 => (0..2usize, 0..4u16, value).prop_map(|(space, id, value)| Act::Put(space, id, value)),
        2 => (0..2usize, 0..4u16).prop_map(|(space, id)| Act::Remove(space, id)),
        2 => Just(Act::Begin),
        2 => Just(Act::Commit),
        1 => Just(Act::Abort),
        1 => Just(Act::Reopen),
        1 => (0..6u64, 0..513u64).prop_map(|(writes, keep)| Act::Tear(writes, keep)),
    ]
}

type Map = BTreeMap<(usize, u16), Vec<u8>>;

fn aids() -> [Aid; 2] {
    [1, 2].map(|last| Aid::new(&[0xF0, 0, 0, 0, last]).expect("an AID"))
}

fn spaces(store: &mut Store) -> [usize; 2] {
    aids().map(|aid| store.space(&aid))
}

fn content(store: &mut Store) -> Map {
    let spaces = spaces(store);
    let places = (0..2).flat_map(|space| (0..4).map(move |id| (space, id)));
    let found = places
        .filter_map(|(space, id)| Some(((space, id), store.get(spaces[space], id)?.to_vec())));
    found.collect()
}

/// The store under test, and what it should hold.
struct Both {
    memory: Shared,
    wrap: Option<WrapKey>,
    store: Store,
    tear: applet::nvm::TearHandle,
    committed: Map,
    pending: Option<Map>,
    /// What a commit that power has cut may have made of it.
    perhaps: Option<Map>,
}

impl Both {
    fn new(wrapped: bool) -> Self {
        let memory = Shared::blank();
        let key = Key::from_bytes(&[3; 16]).expect("a key");
        let wrap = wrapped.then(|| WrapKey::new(&key));
        Store::format(Box::new(memory.clone()), wrap.clone()).expect("a memory");
        let (store, tear) = Self::open(&memory, wrap.clone());
        Self {
            memory,
            wrap,
            store,
            tear,
            committed: Map::new(),
            pending: None,
            perhaps: None,
        }
    }

    fn open(memory: &Shared, wrap: Option<WrapKey>) -> (Store, applet::nvm::TearHandle) {
        let (device, tear) = TearingDevice::new(memory.clone());
        (
            Store::open(Box::new(device), wrap).expect("a memory recovers"),
            tear,
        )
    }

    fn change(&mut self, space: usize, id: u16, value: Option<Vec<u8>>) {
        let place = spaces(&mut self.store)[space];
        let done = match &value {
            Some(value) => self.store.put(place, id, value),
            None => self.store.remove(place, id),
        };
        let mut next = self
            .pending
            .clone()
            .unwrap_or_else(|| self.committed.clone());
        match value {
            Some(value) => next.insert((space, id), value),
            None => next.remove(&(space, id)),
        };
        match (&mut self.pending, done.is_ok()) {
            (Some(pending), true) => *pending = next,
            (None, true) => self.committed = next,
            (None, false) => self.perhaps = Some(next),
            (Some(_), false) => {}
        }
    }

    fn commit(&mut self) {
        let done = self.store.commit();
        // A commit whose mark is torn has happened all the same.
        let possible = if self.tear.is_torn() {
            done.is_ok() <= self.pending.is_some()
        } else {
            done.is_ok() == self.pending.is_some()
        };
        assert!(possible, "{done:?}");
        match (self.pending.take(), done.is_ok()) {
            (Some(next), true) => self.committed = next,
            (next, _) => self.perhaps = next,
        }
    }

    fn reopen(&mut self) {
        (self.store, self.tear) = Self::open(&self.memory, self.wrap.clone());
        self.pending = None;
        let found = content(&mut self.store);
        match self.perhaps.take() {
            Some(next) if found == next => self.committed = next,
            _ => assert_eq!(found, self.committed),
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Put(space, id, value) => self.change(space, id, Some(value)),
            Act::Remove(space, id) => self.change(space, id, None),
            Act::Begin => {
                assert_eq!(self.store.begin().is_ok(), self.pending.is_none());
                self.pending.get_or_insert_with(|| self.committed.clone());
            }
            Act::Commit => self.commit(),
            Act::Abort => assert_eq!(self.store.abort().is_ok(), self.pending.take().is_some()),
            Act::Reopen => self.reopen(),
            Act::Tear(writes, keep) => self.tear.tear_after(writes, keep),
        }
        if self.tear.is_torn() {
            self.reopen();
        }
        let expected = self.pending.as_ref().unwrap_or(&self.committed);
        assert_eq!(content(&mut self.store), *expected);
    }
}

proptest! {
    #[test]
    fn a_store_is_a_map_that_survives(acts in vec(act(), 1..60), wrapped in any::<bool>()) {
        let mut both = Both::new(wrapped);
        for act in acts {
            both.act(act);
        }
        both.reopen();
    }
}

#[test]
fn a_transaction_that_is_too_large_is_refused_and_the_one_before_it_stands() {
    let mut store = Store::format(Box::new(Shared::blank()), None).expect("a memory");
    let [first, _] = spaces(&mut store);
    store.put(first, 1, b"kept").expect("a small object");
    assert!(store.put(first, 1, &[0; COMMIT_CAPACITY]).is_err());
    assert!(
        !store.in_transaction(),
        "a single write that fails leaves no transaction behind"
    );
    assert_eq!(store.get(first, 1), Some(&b"kept"[..]));
    for id in 2..6 {
        assert_eq!(
            store.put(first, id, &[0; 4000]).is_ok(),
            id < 5,
            "the memory holds three of these"
        );
    }
    assert_eq!(store.get(first, 5), None);
}
