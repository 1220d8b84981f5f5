//! The hook program: told of each message on its standard input, as one line of JSON.
//!
//! Owns starting it, its time limit, and what is known of its end. It is started directly, never by a shell, and
//! nothing of a message gets into its arguments or its environment. It has a process group of its own, so that its end
//! can be brought about with all that it has started.

use std::{
    io::{self, Read, Write},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use serde::Serialize;

use crate::ota::{HookCall, HookResult};

/// Programs that run at once, for all cards.
const AT_ONCE: usize = 16;
/// So much of the end of what a program wrote to standard error is told, in bytes.
const STDERR: usize = 2048;
/// How long its standard error is waited for after its end: something that it has started may hold it open.
const GRACE: Duration = Duration::from_secs(1);

/// The program, and how long it may take.
#[derive(Clone, Debug)]
pub struct Hook {
    program: PathBuf,
    timeout: Duration,
    slots: Arc<Slots>,
}

/// What the program reads.
#[derive(Serialize)]
struct Told<'a> {
    time: String,
    card: &'a str,
    iccid: &'a str,
    event: &'static str,
    #[serde(flatten)]
    message: &'a serde_json::Value,
}

impl Hook {
    /// A hook program that is killed when it takes longer than `timeout`.
    pub fn new(program: PathBuf, timeout: Duration) -> Self {
        Self {
            program,
            timeout,
            slots: Arc::default(),
        }
    }

    /// Starts it for one message; `done` is called with what became of it, on another thread.
    pub(super) fn start(
        &self,
        call: &HookCall,
        card: &str,
        iccid: &str,
        done: impl FnOnce(HookResult) + Send + 'static,
    ) -> io::Result<()> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(call.at);
        let mut line = serde_json::to_vec(&Told {
            time: humantime::format_rfc3339_seconds(at).to_string(),
            card,
            iccid,
            event: "message",
            message: &call.message,
        })?;
        line.push(b'\n');
        let hook = self.clone();
        thread::Builder::new()
            .name("hook".into())
            .spawn(move || {
                let _slot = hook.slots.take();
                done(hook.run(&line));
            })
            .map(drop)
    }

    fn run(&self, line: &[u8]) -> HookResult {
        let begun = Instant::now();
        let name = self.program.display();
        let silent = |why: String| (why, String::new());
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| silent(format!("{name} cannot be started: {error}")))?;
        let stderr = collect(&mut child);
        tell(&mut child, line.to_vec());
        let ended = self
            .wait(&mut child)
            .map_err(|error| silent(error.to_string()))?;
        let stderr = stderr.recv_timeout(GRACE).unwrap_or_default();
        let why = match ended {
            Some(status) if status.success() => return Ok(begun.elapsed()),
            Some(status) => format!("{name} {}", in_words(status)),
            None => format!("{name} took longer than {:?} and was killed", self.timeout),
        };
        Err((why, stderr))
    }

    /// Its end; `None` if it took too long and was killed.
    fn wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        // A process id always fits.
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let (ended, end) = mpsc::channel();
        let waiter = thread::Builder::new()
            .name("hook-end".into())
            .spawn(move || {
                // Without reaping it, so that its id stays its own as long as somebody may want to kill it.
                let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
                let _ = ended.send(());
            })?;
        let in_time = end.recv_timeout(self.timeout) != Err(RecvTimeoutError::Timeout);
        if !in_time {
            // Fails only if nobody is left in the group.
            let _ = killpg(pid, Signal::SIGKILL);
        }
        drop(waiter.join());
        let status = child.wait()?;
        Ok(in_time.then_some(status))
    }
}

/// On a thread of its own, since it may not read.
fn tell(child: &mut Child, line: Vec<u8>) {
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not want to know has closed it; that is no failure.
        let write = move || drop(stdin.write_all(&line));
        let _ = thread::Builder::new().name("hook-in".into()).spawn(write);
    }
}

/// The end of what it writes to standard error, as text, once that is closed.
fn collect(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stderr) = child.stderr.take() {
        let read = move || {
            let mut end = Vec::new();
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                end.extend_from_slice(&buffer[..length]);
                end.drain(..end.len().saturating_sub(STDERR));
            }
            let _ = sender.send(String::from_utf8_lossy(&end).trim_end().to_owned());
        };
        let _ = thread::Builder::new().name("hook-err".into()).spawn(read);
    }
    receiver
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

/// How many run.
#[derive(Debug, Default)]
struct Slots {
    taken: Mutex<usize>,
    given_back: Condvar,
}

/// One of them; given back when dropped.
struct Slot<'a>(&'a Slots);

impl Slots {
    fn take(&self) -> Slot<'_> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken >= AT_ONCE;
        let mut taken = match self.given_back.wait_while(taken, full) {
            Ok(taken) => taken,
            Err(poisoned) => poisoned.into_inner(),
        };
        *taken += 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.given_back.notify_one();
    }
}
