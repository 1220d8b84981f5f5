//! One child process, watched.
//!
//! Owns its start, its output as a log of lines that a test waits in, its end. Refuses to know what
//! the program does. Nothing outlives the test: `Drop` ends the process by its id, and the kernel
//! kills it should the test program itself be killed (`setpriv --pdeathsig`, util-linux).

mod program;
mod watch;

use std::fmt;
use std::io::Write as _;
use std::process::{ChildStdin, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

pub use nix::sys::signal::Signal;
pub use program::{Finished, Program};
use watch::{Stream, Watch};

/// How long anything is waited for before the test fails. Generous: it is reached only by a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long a process may take to end after SIGTERM before `Drop` kills it.
const GRACE: Duration = Duration::from_secs(10);

/// A running child process. Dropping it ends it: SIGTERM, and SIGKILL after ten seconds; if the test
/// is failing, its log goes to standard error.
pub struct Process {
    name: String,
    watch: Arc<Watch>,
    stdin: Option<ChildStdin>,
    seen: usize,
}

impl Process {
    /// Waits for the next line, on standard output or standard error, that contains `text`, and
    /// returns it. Each wait begins after the line that the wait before it found.
    ///
    /// # Panics
    ///
    /// When the process closes its output without such a line, or none comes by the deadline.
    #[track_caller]
    pub fn expect_line(&mut self, text: &str) -> String {
        self.expect(&format!("a line with {text:?}"), |line| {
            line.contains(text).then(|| line.to_owned())
        })
    }

    /// Like [`Self::expect_line`], for the next line of which `pick` makes something; `what` names it in the failure.
    ///
    /// # Panics
    ///
    /// As [`Self::expect_line`].
    #[track_caller]
    pub fn expect<T>(&mut self, what: &str, pick: impl FnMut(&str) -> Option<T>) -> T {
        match self.watch.find(self.seen, pick) {
            Ok((found, next)) => {
                self.seen = next;
                found
            }
            Err(why) => panic!("{} never printed {what}: {why}\n{self}", self.name),
        }
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    ///
    /// When it still runs at the deadline.
    #[track_caller]
    pub fn expect_exit(&mut self) -> ExitStatus {
        self.close_stdin();
        self.watch
            .wait_exit(DEADLINE)
            .unwrap_or_else(|| panic!("{} still runs after {DEADLINE:?}\n{self}", self.name))
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    ///
    /// When it does not end by the deadline.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.expect_exit()
    }

    /// Kills with SIGKILL, as a power cut would, and waits for the end.
    ///
    /// # Panics
    ///
    /// When it does not end by the deadline.
    #[track_caller]
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.expect_exit()
    }

    /// Sends a signal; does nothing if the process has ended already.
    pub fn signal(&self, signal: Signal) {
        self.watch.signal(signal);
    }

    /// Writes a line to the process's standard input, which [`Program::talkative`] opened.
    ///
    /// # Panics
    ///
    /// When its standard input is not open or nobody reads it any more.
    #[track_caller]
    pub fn send_line(&mut self, line: &str) {
        let stdin = self
            .stdin
            .as_mut()
            .expect("send_line needs a process started with Program::talkative");
        if let Err(error) = writeln!(stdin, "{line}") {
            panic!("{} does not read {line:?}: {error}\n{self}", self.name);
        }
    }

    /// Closes the process's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Closes the process's standard input and gives it ten seconds to end by itself, without failing if it does not.
    pub fn end_by_eof(&mut self) {
        self.close_stdin();
        self.watch.wait_exit(GRACE);
    }

    /// How many lines so far contain `text`: for promises of "exactly once", after the event that ends the exchange.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.watch
            .with_lines(|lines| lines.iter().filter(|line| line.text.contains(text)).count())
    }

    /// Hands every line, from the first, to `each` as it comes, on a thread of its own; `None` when the output closes.
    pub fn follow(&self, mut each: impl FnMut(Option<&str>) + Send + 'static) {
        let watch = Arc::clone(&self.watch);
        std::thread::spawn(move || {
            let lines = (0..).map_while(|number| watch.line(number));
            lines.for_each(|line| each(Some(&line)));
            each(None);
        });
    }

    /// Its standard output so far, as lines.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        program::said(&self.watch, Stream::Out)
    }

    /// The process's id. It is not used again by the kernel while [`Self::is_running`].
    #[must_use]
    pub fn id(&self) -> u32 {
        self.watch.id()
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.watch.wait_exit(Duration::ZERO).is_none()
    }
}

/// The whole log, a line per line, `|` before standard output and `!` before standard error.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- log of {} (process {})", self.name, self.id())?;
        self.watch.with_lines(|lines| {
            lines
                .iter()
                .try_for_each(|line| writeln!(f, "{} {}", line.stream.mark(), line.text))
        })?;
        write!(f, "--- end of log")
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.close_stdin();
        self.signal(Signal::SIGTERM);
        if self.watch.wait_exit(GRACE).is_none() {
            self.signal(Signal::SIGKILL);
            self.watch.wait_exit(GRACE);
        }
        if std::thread::panicking() {
            show(self);
        }
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the test runner shows what a failed test printed"
)]
fn show(process: &Process) {
    eprintln!("{process}");
}
