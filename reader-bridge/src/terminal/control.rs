//! The local socket on which a running bridge is asked for polls and for where its cards stand:
//! `reader-bridge poll-now` and `status`.
//!
//! Owns `control-PID.sock` in the state directory, which only its owner can enter, and both ends of
//! what is spoken there: one JSON line with the request, lines with the answer (`docs/terminal.md`).

use std::{
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Mail, PollNowReply, Post, Posts,
    board::{Board, CardStatus},
    socket::{self, Listening},
};

/// How long either end waits for the other, and for cards that are busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// What its sockets' names begin with.
const KIND: &str = "control";
/// The longest line of either side, in bytes.
const MAX_LINE: u64 = 1024 * 1024;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// A poll at once.
    PollNow {
        /// Of this card only.
        #[serde(default)]
        iccid: Option<String>,
    },
    /// Where all cards stand.
    Status,
}

/// One bridge's answer to [`Request::Status`]: its first line; a [`CardStatus`] a line follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its cards, in the order of their places.
    #[serde(skip)]
    pub cards: Vec<CardStatus>,
}

/// The listening end. Ends, and removes its socket, when dropped.
#[derive(Debug)]
pub struct Control(Listening);

impl Control {
    /// Listens in this directory, for the terminals behind `posts`, whose cards are on `board`.
    pub fn listen(directory: &Path, posts: Posts, board: Arc<Board>) -> io::Result<Self> {
        // One at a time: a request takes moments, and cards answer in the time of one command. Whoever asks wrongly
        // or goes away harms nobody but themselves.
        let each = move |stream: UnixStream| match answer(&stream, &posts.all(), &board) {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "a request is not answered"),
        };
        Listening::new(directory, KIND, each).map(Self)
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

fn answer(stream: &UnixStream, posts: &[Post], board: &Board) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = read_line(&mut BufReader::new(stream))?;
    tracing::debug!(?request, "asked on the control socket");
    match request {
        Request::PollNow { iccid } => write_line(stream, &asked_to_poll(posts, iccid.as_ref())),
        Request::Status => write_status(&mut BufWriter::new(stream), board),
    }
}

fn asked_to_poll(posts: &[Post], iccid: Option<&String>) -> Vec<PollNowReply> {
    let (reply, replies) = mpsc::channel();
    for post in posts {
        post.send(Mail::PollNow {
            iccid: iccid.cloned(),
            reply: reply.clone(),
        });
    }
    drop(reply);
    let mut answers = Vec::with_capacity(posts.len());
    while let Ok(answer) = replies.recv_timeout(PATIENCE) {
        answers.push(answer);
    }
    answers
}

fn write_status(out: &mut impl Write, board: &Board) -> io::Result<()> {
    let bridge = BridgeStatus {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        cards: Vec::new(),
    };
    write_line(&mut *out, &bridge)?;
    for card in board.snapshot() {
        write_line(&mut *out, &card)?;
    }
    out.flush()
}

/// Asks every bridge of this directory for polls.
pub fn poll_now(directory: &Path, iccid: Option<&str>) -> io::Result<Vec<PollNowReply>> {
    let request = Request::PollNow {
        iccid: iccid.map(str::to_owned),
    };
    let mut answers = Vec::new();
    each_bridge(directory, &request, |lines| {
        answers.extend(read_line::<Vec<_>>(lines)?);
        Ok(())
    })?;
    Ok(answers)
}

/// Asks every bridge of this directory where its cards stand.
pub fn status(directory: &Path) -> io::Result<Vec<BridgeStatus>> {
    let mut bridges = Vec::new();
    each_bridge(directory, &Request::Status, |lines| {
        let mut bridge: BridgeStatus = read_line(lines)?;
        while !lines.fill_buf()?.is_empty() {
            bridge.cards.push(read_line(lines)?);
        }
        bridges.push(bridge);
        Ok(())
    })?;
    bridges.sort_by_key(|bridge| bridge.pid);
    Ok(bridges)
}

/// Puts `request` to every bridge of this directory. Sockets of bridges that were killed are removed.
fn each_bridge(
    directory: &Path,
    request: &Request,
    mut answered: impl FnMut(&mut BufReader<&UnixStream>) -> io::Result<()>,
) -> io::Result<()> {
    for stream in socket::connect_all(directory, KIND)? {
        let stream = stream?;
        stream.set_read_timeout(Some(PATIENCE * 2))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write_line(&stream, request)?;
        answered(&mut BufReader::new(&stream))?;
    }
    Ok(())
}

fn read_line<T: for<'de> Deserialize<'de>>(lines: &mut BufReader<&UnixStream>) -> io::Result<T> {
    let mut line = String::new();
    lines.take(MAX_LINE).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn write_line<T: Serialize>(mut out: impl Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::{Mailbox, PollNowResult};
    use std::{
        fs,
        os::unix::{ffi::OsStrExt, net::UnixListener},
        thread::{self, JoinHandle},
    };

    /// A terminal that answers every request alike.
    fn terminal() -> (Post, JoinHandle<()>) {
        let mailbox = Mailbox::new().unwrap();
        let post = mailbox.post();
        let thread = thread::spawn(move || {
            loop {
                crate::terminal::wait::wait([mailbox.bell()]).unwrap();
                for mail in mailbox.take() {
                    let Mail::PollNow { iccid, reply } = mail else {
                        return;
                    };
                    let answer = PollNowReply {
                        card: "test".into(),
                        iccid,
                        result: PollNowResult::Polling,
                    };
                    reply.send(answer).unwrap();
                }
            }
        });
        (post, thread)
    }

    #[test]
    fn a_request_reaches_every_terminal_however_long_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a".repeat(120));
        fs::create_dir(&deep).unwrap();
        assert!(deep.as_os_str().as_bytes().len() > 107);
        let (terminals, threads): (Vec<_>, Vec<_>) = (0..3).map(|_| terminal()).unzip();
        let control =
            Control::listen(&deep, terminals.iter().cloned().collect(), Arc::default()).unwrap();
        let answers = poll_now(&deep, Some("8988")).unwrap();
        assert_eq!(answers.len(), 3);
        assert!(
            answers
                .iter()
                .all(|answer| answer.iccid.as_deref() == Some("8988"))
        );
        drop(control);
        assert!(poll_now(&deep, None).unwrap().is_empty());
        terminals.iter().for_each(|post| post.send(Mail::Stop));
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_thousand_cards_are_shown_while_none_of_them_answers() {
        let directory = tempfile::tempdir().unwrap();
        let board = Arc::new(Board::default());
        (0..1000).for_each(|n| board.expect(&format!("vpcd:{n}")));
        let control = Control::listen(directory.path(), Posts::default(), board).unwrap();
        let bridges = status(directory.path()).unwrap();
        assert_eq!(bridges.len(), 1);
        assert_eq!(bridges[0].pid, std::process::id());
        assert_eq!(bridges[0].cards.len(), 1000);
        drop(control);
        assert!(status(directory.path()).unwrap().is_empty());
    }

    #[test]
    fn nonsense_on_the_socket_harms_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let (post, thread) = terminal();
        let control = Control::listen(
            directory.path(),
            Posts::from_iter([post.clone()]),
            Arc::default(),
        )
        .unwrap();
        for nonsense in [
            &b"\n"[..],
            b"{}\n",
            b"\xff\xff\n",
            b"{\"request\":\"format\"}\n",
            b"",
        ] {
            let mut stream = UnixStream::connect(control.path()).unwrap();
            stream.write_all(nonsense).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty());
        }
        assert_eq!(poll_now(directory.path(), None).unwrap().len(), 1);
        post.send(Mail::Stop);
        thread.join().unwrap();
    }

    #[test]
    fn it_ends_even_if_its_directory_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::listen(directory.path(), Posts::default(), Arc::default()).unwrap();
        drop(directory);
        drop(control);
    }

    #[test]
    fn the_socket_of_a_killed_bridge_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("control-1.sock");
        drop(UnixListener::bind(&left).unwrap());
        assert!(poll_now(directory.path(), None).unwrap().is_empty());
        assert!(!left.exists());
    }
}
