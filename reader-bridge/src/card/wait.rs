//! How long a port may wait, and what may call it away meanwhile.
//!
//! Owns waiting on file descriptors (`poll(2)`). Refuses to know what they belong to.

use std::{
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::CardError;

/// Waits for a card: until a deadline if there is one, and until `interrupt` becomes readable.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    interrupt: BorrowedFd<'a>,
    deadline: Option<Instant>,
}

impl<'a> Wait<'a> {
    /// For at most `limit`, for ever if `None`.
    pub fn new(interrupt: BorrowedFd<'a>, limit: Option<Duration>) -> Self {
        Self {
            interrupt,
            deadline: limit.and_then(|limit| Instant::now().checked_add(limit)),
        }
    }

    /// Waits for something that cannot come: until the deadline, or until it is called away.
    pub fn for_nothing(&self, expected: &str) -> CardError {
        let mut fds = [PollFd::new(self.interrupt, PollFlags::POLLIN)];
        match poll_until(&mut fds, self.deadline) {
            Err(error) => CardError::io("waiting for a card", error),
            Ok(()) if fds[0].any().unwrap_or(false) => CardError::Interrupted,
            Ok(()) => CardError::NoCard(expected.to_owned()),
        }
    }

    /// Returns when `fd` is readable (or closed by its other end), or after `at_most`.
    /// `expected` says what is being waited for.
    pub fn readable(
        &self,
        fd: BorrowedFd<'_>,
        at_most: Option<Duration>,
        expected: &str,
    ) -> Result<(), CardError> {
        let now = Instant::now();
        let limit = at_most.and_then(|limit| now.checked_add(limit));
        let until = [self.deadline, limit].into_iter().flatten().min();
        let mut fds = [
            PollFd::new(self.interrupt, PollFlags::POLLIN),
            PollFd::new(fd, PollFlags::POLLIN),
        ];
        poll_until(&mut fds, until).map_err(|error| CardError::io("waiting for a card", error))?;
        if fds[0].any().unwrap_or(false) {
            return Err(CardError::Interrupted);
        }
        let expired = self.deadline.is_some_and(|end| Instant::now() >= end);
        if expired && !fds[1].any().unwrap_or(false) {
            return Err(CardError::NoCard(expected.to_owned()));
        }
        Ok(())
    }
}

/// `poll(2)` until something happens or `until` has come. Signals do not end it early.
pub(crate) fn poll_until(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    loop {
        match poll(fds, timeout(until)) {
            Ok(0) if until.is_none_or(|end| Instant::now() < end) => {}
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The time left, rounded up to milliseconds; `poll(2)`'s own limit is waited for again.
fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    let left = until.saturating_duration_since(Instant::now());
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
