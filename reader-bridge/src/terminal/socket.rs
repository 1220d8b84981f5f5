//! Local sockets in the state directory, which only its owner can enter: one of each kind for a running bridge.
//!
//! Owns their names (`KIND-PID.sock`), their lives, and finding those of running bridges. Refuses to know what is spoken.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
};

use super::wait::wait;

/// After a connection could not be taken, in milliseconds.
const ACCEPT_RETRY: u16 = 500;

/// A socket that is listened on by a thread of its own. Ends, and removes the socket, when dropped.
#[derive(Debug)]
pub(super) struct Listening {
    path: PathBuf,
    /// Readable when it is to end.
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Listens in this directory; `each` is given every connection, one after the other.
    pub(super) fn new(
        directory: &Path,
        kind: &str,
        each: impl FnMut(UnixStream) + Send + 'static,
    ) -> io::Result<Self> {
        let name = format!("{kind}-{}.sock", std::process::id());
        let path = directory.join(&name);
        remove(&path)?;
        let listener = through(directory, &name, |short| UnixListener::bind(short))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(EventFd::new()?);
        let theirs = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(kind.into())
            .spawn(move || accept(&listener, each, &theirs))?;
        Ok(Self {
            path,
            stop,
            thread: Some(thread),
        })
    }

    /// The socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Fails only when the counter is full: then it is readable already.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        drop(remove(&self.path));
    }
}

fn accept(listener: &UnixListener, mut each: impl FnMut(UnixStream), stop: &EventFd) {
    while wait([listener.as_fd(), stop.as_fd()]).is_ok() {
        match listener.accept() {
            Ok((stream, _)) => each(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Out of descriptors, perhaps: it may be better in a moment.
            Err(_) => {
                if readable_within(stop, ACCEPT_RETRY.into()) {
                    return;
                }
            }
        }
        if readable_within(stop, PollTimeout::ZERO) {
            return;
        }
    }
}

fn readable_within(stop: &EventFd, time: PollTimeout) -> bool {
    let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, time).is_ok_and(|ready| ready > 0)
}

/// Connects to the socket of this kind of every bridge of this directory. Sockets of bridges that were killed are
/// removed.
pub(super) fn connect_all(
    directory: &Path,
    kind: &str,
) -> io::Result<impl Iterator<Item = io::Result<UnixStream>>> {
    let prefix = format!("{kind}-");
    let directory = directory.to_owned();
    let entries = fs::read_dir(&directory)?;
    Ok(entries.filter_map(move |entry| match entry {
        Ok(entry) => {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_one = name.starts_with(&prefix) && name.ends_with(".sock");
            is_one
                .then(|| connect(&directory, &name))
                .and_then(Result::transpose)
        }
        Err(error) => Some(Err(error)),
    }))
}

fn connect(directory: &Path, name: &str) -> io::Result<Option<UnixStream>> {
    match through(directory, name, |short| UnixStream::connect(short)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            remove(&directory.join(name)).map(|()| None)
        }
        // It ended just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names a socket by way of its directory's descriptor: a socket's path has at most 107 bytes
/// (unix(7)), a state directory's may have more.
fn through<T>(
    directory: &Path,
    name: &str,
    with: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let directory = File::open(directory)?;
    let short = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    with(Path::new(&short))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
