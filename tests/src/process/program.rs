//! What to start, and how: the arguments of one process.
//!
//! Owns the wrapping that ties a child's life to ours, and the one thread that starts children:
//! Linux sends the parent-death signal when the *thread* that forked ends (prctl(2),
//! `PR_SET_PDEATHSIG`), so a test's own thread must not do it.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};

use super::watch::{Stream, Watch};
use super::{DEADLINE, Process};
use crate::binaries;

/// A program and its arguments, ready to be started.
#[derive(Debug)]
#[must_use = "a Program does nothing until started or run"]
pub struct Program {
    name: String,
    command: Command,
}

/// How a program that ran to its end did so.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output, as lines.
    pub stdout: Vec<String>,
    /// Its standard error, as lines.
    pub stderr: Vec<String>,
}

impl Program {
    /// A binary of this workspace, built before.
    ///
    /// # Panics
    ///
    /// When it has not been built.
    #[track_caller]
    pub fn built(name: &str) -> Self {
        Self::new(name, binaries::built(name))
    }

    /// A program of the system, found in `PATH`.
    pub fn system(name: &str) -> Self {
        Self::new(name, PathBuf::from(name))
    }

    fn new(name: &str, path: PathBuf) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(path);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            name: name.to_owned(),
            command,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.command.arg(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Removes a variable from its environment.
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Opens a pipe to its standard input, for [`Process::send_line`]. Without, it reads end of file.
    pub fn talkative(self) -> Self {
        self.stdin(Stdio::piped())
    }

    /// Sets its standard input.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it cannot be started at all. A program that is not there shows as an end with status 127.
    #[track_caller]
    pub fn start(self) -> Process {
        let name = self.name.clone();
        self.try_start().unwrap_or_else(|error| {
            panic!("cannot start {name} by way of setpriv (Debian package util-linux): {error}")
        })
    }

    /// Starts it, and tells why if that fails.
    ///
    /// # Errors
    ///
    /// What the kernel said to fork or exec.
    pub fn try_start(self) -> io::Result<Process> {
        let Self { name, command } = self;
        let mut child = spawn(command)?;
        let stdin = child.stdin.take();
        Ok(Process {
            name,
            watch: Watch::over(child),
            stdin,
            seen: 0,
        })
    }

    /// Starts it and waits for its end.
    ///
    /// # Panics
    ///
    /// As [`Self::start`], and when it does not end by the deadline.
    #[track_caller]
    pub fn run(self) -> Finished {
        let process = self.start();
        let Some(status) = process.watch.wait_all_said(DEADLINE) else {
            panic!(
                "{} still runs or holds its output open after {DEADLINE:?}\n{process}",
                process.name
            )
        };
        Finished {
            status,
            stdout: said(&process.watch, Stream::Out),
            stderr: said(&process.watch, Stream::Err),
        }
    }
}

pub(super) fn said(watch: &Watch, stream: Stream) -> Vec<String> {
    watch.with_lines(|lines| {
        lines
            .iter()
            .filter(|line| line.stream == stream)
            .map(|line| line.text.clone())
            .collect()
    })
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts `command` on the thread that starts all children and lives as long as this process.
fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in taken {
                // The asker waits for the reply, so it is there to take it.
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = mpsc::sync_channel(1);
    starter
        .send((command, reply))
        .expect("the starter's thread never ends: its sender is static");
    child.recv().expect("the starter answers every order")
}
