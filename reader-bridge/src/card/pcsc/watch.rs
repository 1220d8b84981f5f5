//! Watches all PC/SC readers, through restarts of pcscd, for whoever waits for a card.
//!
//! Owns a thread that sleeps in `SCardGetStatusChange`, since that is no file descriptor, and turns
//! what it sees into one. Refuses to connect to cards.

use std::{
    ffi::CString,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pcsc::{Context, Error, PNP_NOTIFICATION, ReaderState, Scope, State};

use crate::card::CardError;

/// One reader, as last seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: CString,
    pub(super) has_card: bool,
    /// pcscd's count of insertions and removals.
    pub(super) events: u32,
}

/// All readers, as last seen.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) readers: Vec<Seen>,
    /// Raised each time that pcscd is reached anew.
    pub(super) service: u32,
    /// Why pcscd cannot be reached.
    pub(super) failure: Option<Error>,
}

/// The watching thread. Ends when dropped.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Mutex<Inner>,
    first: Condvar,
    /// Readable when there is something new.
    changed: EventFd,
}

struct Inner {
    snapshot: Option<Snapshot>,
    /// The context that the thread may be waiting in, to be cancelled.
    context: Option<Context>,
    stopping: bool,
}

/// For how long pcscd may take to name its readers at first.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// How often a pcscd that is not there is looked for. There is no event to wait for.
const SERVICE_RETRY: Duration = Duration::from_millis(500);
/// How long the end of the thread is waited for before it is called again.
const CANCEL_RETRY: Duration = Duration::from_millis(5);

impl Watch {
    /// Starts watching; returns when the readers have been looked at once.
    pub(super) fn start() -> Result<Self, CardError> {
        let changed = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|error| CardError::io("watching the readers", error.into()))?;
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                snapshot: None,
                context: None,
                stopping: false,
            }),
            first: Condvar::new(),
            changed,
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("pcsc-watch".into())
            .spawn(move || theirs.run())
            .map_err(|error| CardError::io("watching the readers", error))?;
        let unseen = |inner: &mut Inner| inner.snapshot.is_none();
        drop(
            shared
                .first
                .wait_timeout_while(shared.lock(), FIRST_LOOK, unseen),
        );
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The readers as last seen.
    pub(super) fn snapshot(&self) -> Snapshot {
        let seen = self.shared.lock().snapshot.clone();
        seen.unwrap_or(Snapshot {
            readers: Vec::new(),
            service: 0,
            failure: Some(Error::Timeout),
        })
    }

    /// Readable when there is something new, until [`Watch::clear`].
    pub(super) fn changed(&self) -> BorrowedFd<'_> {
        self.shared.changed.as_fd()
    }

    /// To be called before [`Watch::snapshot`], so that nothing newer is missed.
    pub(super) fn clear(&self) {
        // Not readable: nothing is new.
        let _ = self.shared.changed.read();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        let Some(thread) = self.thread.take() else {
            return;
        };
        while !thread.is_finished() {
            // SCardCancel ends only a call that is already waiting, so it is repeated.
            if let Some(context) = &self.shared.lock().context {
                let _ = context.cancel();
            }
            self.shared.first.notify_all();
            thread::park_timeout(CANCEL_RETRY);
        }
        drop(thread.join());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is left half-changed under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut service = 0;
        while !self.lock().stopping {
            service += 1;
            let failure = match Context::establish(Scope::System) {
                Ok(context) => {
                    self.lock().context = Some(context.clone());
                    self.follow(&context, service)
                }
                Err(error) => error,
            };
            self.lock().context = None;
            self.publish(Snapshot {
                readers: Vec::new(),
                service,
                failure: Some(failure),
            });
            let inner = self.lock();
            drop(
                self.first
                    .wait_timeout_while(inner, SERVICE_RETRY, |inner| !inner.stopping),
            );
        }
    }

    /// Follows the readers of one pcscd until it fails or the watch ends.
    fn follow(&self, context: &Context, service: u32) -> Error {
        let mut states = vec![ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)];
        loop {
            if let Err(error) = update(context, &mut states) {
                return error;
            }
            if self.lock().stopping {
                return Error::Cancelled;
            }
            match context.get_status_change(None, &mut states) {
                Ok(()) => self.publish(Snapshot {
                    readers: seen(&states),
                    service,
                    failure: None,
                }),
                Err(Error::Timeout | Error::UnknownReader) => {}
                Err(error) => return error,
            }
        }
    }

    fn publish(&self, snapshot: Snapshot) {
        self.lock().snapshot = Some(snapshot);
        self.first.notify_all();
        // Fails only when the counter is full: then it is readable already.
        let _ = self.changed.write(1);
    }
}

/// Drops readers that are gone, adds new ones, and takes what was seen as known.
fn update(context: &Context, states: &mut Vec<ReaderState>) -> Result<(), Error> {
    let names = match context.list_readers_owned() {
        Ok(names) => names,
        Err(Error::NoReadersAvailable) => Vec::new(),
        Err(error) => return Err(error),
    };
    let pnp = PNP_NOTIFICATION();
    states.retain(|state| {
        state.name() == pnp || names.iter().any(|name| name.as_c_str() == state.name())
    });
    for name in names {
        if !states.iter().any(|state| state.name() == name.as_c_str()) {
            states.push(ReaderState::new(name, State::UNAWARE));
        }
    }
    for state in states {
        state.sync_current_state();
    }
    Ok(())
}

fn seen(states: &[ReaderState]) -> Vec<Seen> {
    let pnp = PNP_NOTIFICATION();
    states
        .iter()
        .filter(|state| state.name() != pnp)
        .map(|state| Seen {
            name: state.name().to_owned(),
            has_card: state.event_state().contains(State::PRESENT)
                && !state.event_state().contains(State::MUTE),
            events: state.event_count(),
        })
        .collect()
}
