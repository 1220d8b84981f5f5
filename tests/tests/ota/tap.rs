//! A tap on the way between a virtual reader and its card: it counts what the card executes, and breaks the way on cue.
//!
//! Owns vsmartcard's frames (`docs/terminal.md`, Cards). Listens for the card, calls the reader.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

/// Where the way breaks at one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The card never gets it.
    Before,
    /// The card executes it; its answer gets no further.
    After,
}

#[derive(Default)]
struct State {
    /// Challenges of SIGN-SESSION on other channels than the basic one, as far as the card has got them.
    executed: Vec<Vec<u8>>,
    /// Commands so far, those that were cut off included.
    seen: usize,
    cut: Option<(usize, Cut)>,
    swallow: bool,
    ways: Vec<TcpStream>,
}

/// The tap.
pub(crate) struct Tap {
    state: Arc<Mutex<State>>,
    cuts: Receiver<()>,
    pub(crate) port: u16,
}

impl Tap {
    /// Between the card that calls this tap and the reader on `reader`; breaks at the n-th command of a string, from 0.
    pub(crate) fn before(reader: u16, cut: Option<(usize, Cut)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            cut,
            ..State::default()
        }));
        let (sender, cuts) = mpsc::channel();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for card in listener.incoming().map_while(Result::ok) {
                // Without a reader the card is turned away, and calls again.
                if let Ok(reader) = TcpStream::connect((Ipv4Addr::LOCALHOST, reader)) {
                    connect(&shared, &sender, &card, &reader);
                }
            }
        });
        Self { state, cuts, port }
    }

    /// Waits until the way has been broken.
    pub(crate) fn await_cut(&self) {
        let patience = e2e::process::DEADLINE;
        self.cuts
            .recv_timeout(patience)
            .expect("the way is broken by now");
    }

    /// Takes the card out of the reader; it comes back by itself.
    pub(crate) fn pull(&self) {
        for way in self.state.lock().unwrap().ways.drain(..) {
            let _ = way.shutdown(Shutdown::Both);
        }
    }

    /// What the card has executed.
    pub(crate) fn executed(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().executed.clone()
    }
}

fn connect(state: &Arc<Mutex<State>>, cuts: &Sender<()>, card: &TcpStream, reader: &TcpStream) {
    let copy = |stream: &TcpStream| stream.try_clone().unwrap();
    {
        let mut state = state.lock().unwrap();
        state.swallow = false;
        state.ways.extend([copy(card), copy(reader)]);
    }
    let (down, up) = ((copy(reader), copy(card)), (copy(card), copy(reader)));
    let (shared, cuts) = (Arc::clone(state), cuts.clone());
    pump(down, move |frame| command(&shared, &cuts, frame));
    let shared = Arc::clone(state);
    pump(up, move |_| {
        !std::mem::take(&mut shared.lock().unwrap().swallow)
    });
}

/// Hands frames on as long as `pass` lets them; the end of one way is that of the other.
fn pump(
    (mut from, mut to): (TcpStream, TcpStream),
    mut pass: impl FnMut(&[u8]) -> bool + Send + 'static,
) {
    thread::spawn(move || {
        while let Ok(frame) = read(&mut from) {
            if pass(&frame[2..]) && to.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// length:2 and body.
fn read(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 2];
    from.read_exact(&mut frame)?;
    let length = usize::from(u16::from_be_bytes([frame[0], frame[1]]));
    frame.resize(2 + length, 0);
    from.read_exact(&mut frame[2..])?;
    Ok(frame)
}

/// Whether the card gets this.
fn command(state: &Mutex<State>, cuts: &Sender<()>, body: &[u8]) -> bool {
    let &[class, 0x44, _, _, 16, ref rest @ ..] = body else {
        return true;
    };
    if class & 0x03 == 0 {
        return true;
    }
    let mut state = state.lock().unwrap();
    let number = state.seen;
    state.seen += 1;
    let cut = state
        .cut
        .filter(|(at, _)| *at == number)
        .map(|(_, cut)| cut);
    if cut != Some(Cut::Before) {
        state.executed.push(rest[..16].to_vec());
    }
    state.swallow = cut == Some(Cut::After);
    if cut.is_some() {
        cuts.send(()).unwrap();
    }
    cut != Some(Cut::Before)
}
