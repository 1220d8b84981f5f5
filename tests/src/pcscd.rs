//! A pcscd of one's own, with virtual readers.
//!
//! Owns a private PC/SC daemon: its readers (vsmartcard's vpcd), their TCP ports, its client socket,
//! its stop and restart. Refuses to touch the machine's own pcscd, its readers and `/run/pcscd`.
//! Needs Debian's packages pcscd and vsmartcard-vpcd, and root or user namespaces.
//!
//! Each vpcd driver gives two slots and keeps its state in static variables, so every further pair
//! of slots needs a copy of the driver under another name. A slot listens on all IPv4 addresses.

mod readers;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fmt, io};

use tempfile::TempDir;

use crate::card_client::CardClient;
use crate::ports::Reservation;
use crate::process::{Process, Program};

/// Most slots that one pcscd serves (`PCSCLITE_MAX_READERS_CONTEXTS` of pcsc-lite 1.9.9).
pub const MAX_SLOTS: usize = 16;

const LAUNCH: &str = include_str!("pcscd/launch.sh");

/// One slot of a virtual reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The reader's name, as PC/SC clients see it.
    pub reader: String,
    /// The TCP port that a virtual card connects to.
    pub port: u16,
}

/// Why a private pcscd could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No more slots than [`MAX_SLOTS`], and at least one.
    #[error("pcscd serves 1 to {MAX_SLOTS} slots, not {0}")]
    Slots(usize),
    /// vpcd's driver is not installed.
    #[error("no vpcd driver at {0}: install Debian's package vsmartcard-vpcd")]
    NoDriver(&'static str),
    /// Neither root nor user namespaces.
    #[error(
        "cannot make a mount namespace for a private pcscd: be root (in a container, with CAP_SYS_ADMIN) or allow \
         user namespaces (sysctl kernel.unprivileged_userns_clone=1); unshare said: {0}"
    )]
    NoNamespace(String),
    /// Files, sockets, processes.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// pcscd ended or did not offer all readers.
    #[error("pcscd does not offer the readers asked for (is the package pcscd installed?): {0}")]
    NotReady(String),
}

/// How the mount namespace is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// `unshare --mount`: needs root.
    Root,
    /// `unshare --user --map-root-user --mount`: any user, where the kernel lets them.
    UserNamespace,
}

/// A private pcscd. Dropping it ends the daemon and removes all its files.
pub struct Pcscd {
    // First, so that it is dropped first: the daemon ends before its files and ports are given up.
    daemon: Option<Process>,
    isolation: Isolation,
    directory: TempDir,
    ports: Reservation,
    /// How many slots are attached.
    attached: usize,
    slots: Vec<Slot>,
}

impl Pcscd {
    /// Starts one with at least `slots` slots (drivers give two each), ready for cards and clients.
    ///
    /// # Panics
    ///
    /// When that fails; the message says why.
    #[must_use]
    #[track_caller]
    pub fn start(slots: usize) -> Self {
        Self::try_start(slots).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts one with at least `slots` slots, isolated in the first way that this machine allows.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn try_start(slots: usize) -> Result<Self, StartError> {
        Self::try_start_in(Isolation::allowed()?, slots)
    }

    /// Starts one with at least `slots` slots, isolated as told.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn try_start_in(isolation: Isolation, slots: usize) -> Result<Self, StartError> {
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(StartError::Slots(slots));
        }
        let pairs = slots.div_ceil(2);
        let directory = tempfile::Builder::new()
            .prefix("pcscd-")
            .tempdir()
            .map_err(io("making a directory"))?;
        let ports = readers::configure(directory.path(), pairs)?;
        let mut pcscd = Self {
            daemon: None,
            isolation,
            directory,
            attached: pairs * readers::SLOTS_OF_A_DRIVER,
            ports,
            slots: Vec::new(),
        };
        pcscd.launch()?;
        Ok(pcscd)
    }

    /// The slots, in the order of their ports.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How it is kept apart from the machine's own.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// The client socket: what `PCSCLITE_CSOCK_NAME` must say for a process to talk to this pcscd.
    /// libpcsclite reads that variable once per process, so a process has one pcscd for its life.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_in(self.directory.path())
    }

    /// Makes `program` a client of this pcscd.
    pub fn client(&self, program: Program) -> Program {
        program.env("PCSCLITE_CSOCK_NAME", self.socket())
    }

    /// Ends the daemon as its service manager would (SIGTERM). Cards lose their connection, clients get
    /// `SCARD_E_NO_SERVICE`, until [`Self::restart`].
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.terminate();
        }
    }

    /// Stops the daemon if it runs and starts it again, with the same socket, ports and reader names.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.launch()
            .unwrap_or_else(|error| panic!("pcscd does not come back: {error}"));
    }

    /// The same with only the first `slots` of its slots (drivers give two each) attached: the readers of the others
    /// have been taken away, or are back.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[track_caller]
    pub fn restart_with(&mut self, slots: usize) {
        self.stop();
        let pairs = |slots: usize| slots.div_ceil(readers::SLOTS_OF_A_DRIVER);
        let all = self.ports.ports().count();
        readers::attach(self.directory.path(), pairs(all), pairs(slots))
            .unwrap_or_else(|error| panic!("readers cannot be attached: {error}"));
        self.attached = pairs(slots) * readers::SLOTS_OF_A_DRIVER;
        self.restart();
    }

    /// The daemon, while it runs: for its log, and for harsher signals than [`Self::stop`].
    pub fn daemon(&mut self) -> Option<&mut Process> {
        self.daemon.as_mut()
    }

    /// Starts the daemon and waits until it answers a client: it does so only after it has opened all its readers.
    fn launch(&mut self) -> Result<(), StartError> {
        let socket = self.listen().map_err(io("opening the client socket"))?;
        let daemon = self.isolation.wrap(self.directory.path(), socket);
        let daemon = daemon
            .try_start()
            .map_err(io("starting pcscd by way of setpriv and unshare"))?;
        self.slots = readers::discover(&mut CardClient::of(self), &self.ports, self.attached)
            .map_err(|why| StartError::NotReady(format!("{why}\n{daemon}")))?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The listening socket. It exists before the daemon does, so a client that comes early waits instead of failing.
    fn listen(&self) -> io::Result<UnixListener> {
        match fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(self.socket())
    }
}

impl fmt::Debug for Pcscd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pcscd")
            .field("slots", &self.slots)
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}

impl Isolation {
    /// The first way that this machine allows.
    ///
    /// # Errors
    ///
    /// [`StartError::NoNamespace`] when it allows none.
    pub fn allowed() -> Result<Self, StartError> {
        if Self::Root.try_out().is_ok() {
            return Ok(Self::Root);
        }
        Self::UserNamespace.try_out().map(|()| Self::UserNamespace)
    }

    /// Tries it out on a program that does nothing.
    ///
    /// # Errors
    ///
    /// [`StartError::NoNamespace`] when this machine does not allow it.
    pub fn try_out(self) -> Result<(), StartError> {
        let mut unshare = Command::new("unshare");
        let output = unshare
            .args(self.flags())
            .arg("true")
            .stdin(Stdio::null())
            .output();
        let output = output.map_err(|error| StartError::NoNamespace(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(StartError::NoNamespace(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }

    fn wrap(self, directory: &Path, socket: UnixListener) -> Program {
        Program::system("unshare")
            .args(self.flags().iter().copied())
            .args(["sh", "-c", LAUNCH, "pcscd-launch"])
            .arg(readers::configurations_in(directory))
            .stdin(OwnedFd::from(socket))
            .without_env("PCSCLITE_FILTER_IGNORE_READER_NAMES")
            .without_env("PCSCLITE_FILTER_EXTEND_READER_NAMES")
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Root => &["--mount", "--propagation", "private"],
            Self::UserNamespace => &[
                "--user",
                "--map-root-user",
                "--mount",
                "--propagation",
                "private",
            ],
        }
    }
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join("pcscd.comm")
}

fn io(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Io { what, error }
}
