//! A program on a terminal: keys in, a screen out.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};
use std::time::Instant;

use e2e::binaries;
use e2e::process::DEADLINE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

/// `reader-bridge` on a pseudo-terminal of 80 columns.
pub(crate) struct Terminal {
    keyboard: File,
    child: Child,
    /// Everything that was shown, control characters included.
    shown: String,
    seen: usize,
}

pub(crate) const TAB: &str = "\t";
pub(crate) const ENTER: &str = "\r";
pub(crate) const UP: &str = "\x1b[A";
pub(crate) const LEFT: &str = "\x1b[D";
pub(crate) const END: &str = "\x05";
pub(crate) const END_OF_FILE: &str = "\x04";

/// The last thing that an editor asks of a terminal before a line (bracketed paste).
const PASTE_ON: &str = "\x1b[?2004h";

impl Terminal {
    /// Starts it. The kernel ends it with the test.
    pub(crate) fn start(prepare: impl FnOnce(&mut Command)) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).unwrap();
        let end = |fd: &OwnedFd| fd.try_clone().unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binaries::built("reader-bridge"))
            .env("TERM", "xterm")
            .stdin(end(&pair.slave))
            .stdout(end(&pair.slave))
            .stderr(pair.slave);
        prepare(&mut command);
        let child = command.spawn().unwrap();
        Self {
            keyboard: pair.master.into(),
            child,
            shown: String::new(),
            seen: 0,
        }
    }

    /// Waits until a line can be typed: what comes before the terminal is set up for it is thrown away.
    #[track_caller]
    pub(crate) fn ready(&mut self) {
        self.expect(PASTE_ON);
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &[&str]) {
        self.keyboard.write_all(keys.concat().as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, after what was waited for before.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(
                Instant::now() < end && self.read(end),
                "never showed {text:?}: {:?}",
                &self.shown[self.seen..]
            );
        }
    }

    /// Everything that was shown until the program ended, and its exit code.
    #[track_caller]
    pub(crate) fn end(mut self) -> (String, i32) {
        let end = Instant::now() + DEADLINE;
        while self.read(end) {
            assert!(Instant::now() < end, "it does not end: {:?}", self.shown);
        }
        let code = self.child.wait().unwrap().code().unwrap();
        (std::mem::take(&mut self.shown), code)
    }

    /// More of the screen; `false` if nobody holds it any more, or nothing comes.
    fn read(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap();
        let mut fds = [PollFd::new(self.keyboard.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, left).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        // EIO: the other end is closed (pty(7)).
        let length = self.keyboard.read(&mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..length]);
        self.shown.push_str(&text);
        length > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
