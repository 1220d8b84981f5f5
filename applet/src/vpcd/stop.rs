//! How a card in a reader is told to stop, whatever it is waiting for.

use std::{
    collections::HashMap,
    net::{Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Told once, obeyed by all who wait: reads end, pauses end.
#[derive(Default)]
pub struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    next: u64,
    streams: HashMap<u64, Arc<TcpStream>>,
}

/// A connection that ends when the stop comes; dropped, it is forgotten.
pub(super) struct Watched<'a> {
    stop: &'a Stop,
    number: u64,
}

impl Stop {
    /// Ends every wait, now and from now on.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        for stream in state.streams.values() {
            // Fails only where the peer has ended it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    /// Whether the stop has come.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Pauses; `true` if the stop has come.
    pub fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, time, |state| !state.stopped);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    /// Watches a connection, which is ended at once if the stop has come before.
    pub(super) fn watch(&self, stream: Arc<TcpStream>) -> Watched<'_> {
        let mut state = self.lock();
        if state.stopped {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let number = state.next;
        state.next += 1;
        state.streams.insert(number, stream);
        Watched { stop: self, number }
    }

    /// No code that holds the lock can panic, so the state behind it is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.stop.lock().streams.remove(&self.number);
    }
}
