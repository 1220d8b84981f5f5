//! What is known of a running child: its lines, its end.
//!
//! Owns the threads that read its pipes and wait for it, and the rule that keeps a signal from
//! reaching a stranger: the child is reaped only under the lock that signals are sent under, so its
//! id cannot have been used again.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::DEADLINE;

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    /// The sign in front of the stream's lines in a log.
    pub(super) fn mark(self) -> char {
        match self {
            Self::Out => '|',
            Self::Err => '!',
        }
    }
}

/// One line of a process's output, without its line end.
pub(super) struct Line {
    pub(super) stream: Stream,
    pub(super) text: String,
}

/// A child process being watched.
pub(super) struct Watch {
    pid: Pid,
    id: u32,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: Vec<Line>,
    open_pipes: usize,
    status: Option<ExitStatus>,
}

impl Watch {
    /// Watches `child`, whose standard output and standard error are pipes.
    pub(super) fn over(mut child: Child) -> Arc<Self> {
        let id = child.id();
        let pid = Pid::from_raw(i32::try_from(id).expect("Linux process ids are below 2^22"));
        let state = State {
            lines: Vec::new(),
            open_pipes: 2,
            status: None,
        };
        let watch = Arc::new(Self {
            pid,
            id,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        watch.read(
            Stream::Out,
            child.stdout.take().expect("standard output is a pipe"),
        );
        watch.read(
            Stream::Err,
            child.stderr.take().expect("standard error is a pipe"),
        );
        let reaper = Arc::clone(&watch);
        std::thread::spawn(move || reaper.reap(child));
        watch
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The first line from number `from` on that `pick` takes, and the number of the line after it;
    /// or why there is none.
    pub(super) fn find<T>(
        &self,
        from: usize,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<(T, usize), String> {
        let end = Instant::now() + DEADLINE;
        let mut state = self.lock();
        let mut next = from;
        loop {
            while let Some(line) = state.lines.get(next) {
                next += 1;
                if let Some(found) = pick(&line.text) {
                    return Ok((found, next));
                }
            }
            if state.open_pipes == 0 {
                return Err(format!("it has closed its output, {}", state.ending()));
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return Err(format!("waited {DEADLINE:?}"));
            };
            state = self.wait(state, left);
        }
    }

    /// Waits for line number `number`; `None` when the output closes before it.
    pub(super) fn line(&self, number: usize) -> Option<String> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.get(number) {
                return Some(line.text.clone());
            }
            if state.open_pipes == 0 {
                return None;
            }
            state = match self.changed.wait(state) {
                Ok(state) => state,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
    }

    /// Waits until the process has ended.
    pub(super) fn wait_exit(&self, limit: Duration) -> Option<ExitStatus> {
        self.wait_until(limit, |state| state.status)
    }

    /// Waits until the process has ended and both its pipes are read to the end.
    pub(super) fn wait_all_said(&self, limit: Duration) -> Option<ExitStatus> {
        self.wait_until(limit, |state| {
            state.status.filter(|_| state.open_pipes == 0)
        })
    }

    /// Sends a signal if the process has not ended.
    pub(super) fn signal(&self, signal: Signal) {
        let state = self.lock();
        if state.status.is_none() {
            // Not reaped while we hold the lock, so the id is still its own; a process that has just
            // ended and waits to be reaped takes signals without effect.
            let _ = signal::kill(self.pid, signal);
        }
    }

    pub(super) fn with_lines<T>(&self, look: impl FnOnce(&[Line]) -> T) -> T {
        look(&self.lock().lines)
    }

    fn read(self: &Arc<Self>, stream: Stream, pipe: impl Read + Send + 'static) {
        let watch = Arc::clone(self);
        std::thread::spawn(move || {
            for bytes in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                watch.change(|state| state.lines.push(Line { stream, text }));
            }
            watch.change(|state| state.open_pipes -= 1);
        });
    }

    fn reap(&self, mut child: Child) {
        // WNOWAIT: learn of the end, but leave the id taken until the lock is held.
        while let Err(nix::errno::Errno::EINTR) = waitid(
            Id::Pid(self.pid),
            WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT,
        ) {}
        self.change(|state| state.status = child.wait().ok());
    }

    fn wait_until<T>(&self, limit: Duration, ready: impl Fn(&State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(value) = ready(&state) {
                return Some(value);
            }
            let left = end.checked_duration_since(Instant::now())?;
            state = self.wait(state, left);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, limit) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}

impl State {
    fn ending(&self) -> String {
        match self.status {
            Some(status) => format!("{status}"),
            None => "and has not ended".to_owned(),
        }
    }
}
