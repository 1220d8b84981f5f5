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
const PATIENCE: Duration = Duration::from_secs(60);
/// More subscribers are turned away.
const MAX_SUBSCRIBERS: usize = 32;

/// The subscribers of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Stream(Arc<Mutex<Vec<SyncSender<Arc<str>>>>>);

/// Its listening end. Ends, and removes its socket, when dropped.
#[derive(Debug)]
pub struct StreamSocket(Listening);

impl StreamSocket {
    /// The socket.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u64 = 256;

    fn tell(stream: &Stream, number: u64) {
        stream
            .tell("test", &Event::NextPoll { in_ms: number })
            .unwrap();
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_told_and_dropped_and_the_others_miss_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let stream = Stream::default();
        let socket = stream.listen(directory.path()).unwrap();
        let slow = UnixStream::connect(socket.path()).unwrap();
        let fast = UnixStream::connect(socket.path()).unwrap();
        let mut fast = BufReader::new(fast).lines().map_while(Result::ok);
        while stream.lock().len() < 2 {
            thread::yield_now();
        }
        let mut told = 0;
        // Until the slow one's socket and its queue are full.
        while stream.lock().len() == 2 {
            for number in told..told + BATCH {
                tell(&stream, number);
            }
            told += BATCH;
            let last = fast
                .by_ref()
                .take(usize::try_from(BATCH).unwrap())
                .last()
                .unwrap();
            assert!(
                last.contains(&format!("\"in_ms\":{}}}", told - 1)),
                "{last}"
            );
        }
        let lines: Vec<_> = BufReader::new(slow).lines().map_while(Result::ok).collect();
        let end: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        assert_eq!(
            (&end["event"], &end["events"]),
            (&"stream-ended".into(), &(lines.len() - 1).into())
        );
        tell(&stream, told);
        assert!(fast.next().unwrap().contains(&told.to_string()));
    }

    #[test]
    fn more_subscribers_than_there_is_room_for_are_turned_away() {
        let directory = tempfile::tempdir().unwrap();
        let stream = Stream::default();
        let socket = stream.listen(directory.path()).unwrap();
        let mut subscribers = Vec::new();
        for _ in 0..=MAX_SUBSCRIBERS {
            subscribers.push(UnixStream::connect(socket.path()).unwrap());
        }
        // They are taken in their order, so the last is the one that is turned away.
        let last = BufReader::new(subscribers.pop().unwrap()).lines().next();
        assert!(last.is_none());
        assert_eq!(stream.lock().len(), MAX_SUBSCRIBERS);
    }
}
