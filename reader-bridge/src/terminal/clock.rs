//! The two clocks of a session, and a timer that counts the machine's sleep.
//!
//! Owns `CLOCK_BOOTTIME`: monotonic, and it goes on while the machine is suspended, so that a poll
//! that fell due meanwhile leaves at once.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::{
        time::TimeSpec,
        timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    time::{ClockId, clock_gettime},
};

use crate::session::Now;

/// The time now.
pub(super) fn now() -> io::Result<Now> {
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(Now {
        mono: Duration::from(boot),
        // Before 1970 no clock was ever set: an unset one counts as 1970.
        wall: wall.map_or(0, |since| since.as_secs()),
    })
}

/// Becomes readable at a time of [`Now::mono`].
#[derive(Debug)]
pub(super) struct Timer(TimerFd);

impl Timer {
    /// A timer that is not set.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self(TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags)?))
    }

    /// Sets it; a time that has passed makes it readable at once.
    pub(super) fn set(&self, at: Option<Duration>) -> io::Result<()> {
        let Some(at) = at else {
            return Ok(self.0.unset()?);
        };
        // Zero would unset it.
        let at = TimeSpec::from(at.max(Duration::from_nanos(1)));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        Ok(self.0.set(Expiration::OneShot(at), flags)?)
    }

    /// To be waited for.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
