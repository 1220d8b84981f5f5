//! Sleeping until one of several file descriptors has something to say.

use std::{io, os::fd::BorrowedFd};

use nix::poll::{PollFd, PollFlags};

use crate::card::poll_until;

/// Returns when one of `fds` is readable.
pub(super) fn wait<'a>(fds: impl IntoIterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    let mut fds: Vec<_> = fds
        .into_iter()
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    poll_until(&mut fds, None)
}
