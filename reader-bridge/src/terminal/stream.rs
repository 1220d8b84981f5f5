//! The event stream: whoever connects to `events-PID.sock` reads every event from then on, as `--json` writes it.
//!
//! Owns the subscribers. None of them holds the bridge up: each has a queue of its own, and whoever does not read fast
//! enough is told so at its end and dropped (`docs/terminal.md`, Event stream).

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use super::socket::{self, Listening};
use crate::{
    report::{Form, Reporter, line},
    session::Event,
};

/// What its sockets' names begin with.
const KIND: &str = "events";
/// Events that wait for a subscriber to read; with one more it is dropped.
const QUEUE: usize = 1024;
/// How long a subscriber may not read while its socket is full.
const PATIENCE: Duration = Duration::from_secs(10);
/// More subscribers are turned away.
const MAX_SUBSCRIBERS: usize = 32;

/// The subscribers of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Stream(Arc<Mutex<Vec<SyncSender<Arc<str>>>>>);

/// Its listening end. Ends, and removes its socket, when dropped.
#[derive(Debug)]
pub struct StreamSocket(#[allow(dead_code, reason = "it lives as long as this")] Listening);

impl Stream {
    /// Lets subscribers come, in this directory.
    pub fn listen(&self, directory: &Path) -> io::Result<StreamSocket> {
        let stream = self.clone();
        let each = move |socket| match stream.subscribe(socket) {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "a subscriber is turned away"),
        };
        Listening::new(directory, KIND, each).map(StreamSocket)
    }

    fn subscribe(&self, socket: UnixStream) -> io::Result<()> {
        let mut subscribers = self.lock();
        if subscribers.len() >= MAX_SUBSCRIBERS {
            return Err(io::Error::other("there are too many"));
        }
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        thread::Builder::new()
            .name("subscriber".into())
            .spawn(move || drop(serve(socket, &receiver)))?;
        subscribers.push(sender);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SyncSender<Arc<str>>>> {
        // Nothing that holds the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for Stream {
    fn tell(&self, card: &str, event: &Event) -> io::Result<()> {
        let mut subscribers = self.lock();
        if subscribers.is_empty() {
            return Ok(());
        }
        let line: Arc<str> = line(Form::Json, card, event)?.into();
        // A sender that is dropped is its subscriber's end.
        subscribers.retain(|subscriber| match subscriber.try_send(Arc::clone(&line)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        });
        Ok(())
    }
}

/// Writes what is queued until nothing more comes, and why.
fn serve(mut socket: UnixStream, queue: &Receiver<Arc<str>>) -> io::Result<()> {
    let mut written = 0_u64;
    while let Ok(line) = queue.recv() {
        socket.write_all(line.as_bytes())?;
        written += 1;
    }
    let end = serde_json::json!({
        "event": "stream-ended",
        "events": written,
        "why": "the bridge has ended, or this subscriber did not read fast enough",
    });
    writeln!(socket, "{end}")
}

/// Reads the events of every bridge of this directory until all have ended or `each` fails. How many bridges there were.
pub fn follow(directory: &Path, mut each: impl FnMut(&str) -> io::Result<()>) -> io::Result<usize> {
    let (sender, lines) = mpsc::sync_channel(QUEUE);
    let mut bridges = 0;
    for stream in socket::connect_all(directory, KIND)? {
        let (stream, sender) = (stream?, sender.clone());
        bridges += 1;
        thread::Builder::new()
            .name("bridge".into())
            .spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })?;
    }
    drop(sender);
    for line in lines {
        each(&line)?;
    }
    Ok(bridges)
}
