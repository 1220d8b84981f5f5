//! Puts a card from one place into another virtual reader, and tells what any client does with it.
//!
//! Owns both connections and bringing them back: a reader or a card that goes is waited for, until it is stopped.
//! Refuses to know what commands mean. The reader is vsmartcard's vpcd (`src/vpcd/vpcd.c` there: frames of length:2 and
//! body, one byte is a control code).

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags};

use super::tap::Passed;
use crate::card::{Atr, CardError, CardPort, Power, Wait, poll_until};

/// How long a reader may take for the rest of a frame.
const FRAME_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries, at first and at most.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const POWER_OFF: u8 = 0;
const POWER_ON: u8 = 1;
const RESET: u8 = 2;
const GIVE_ATR: u8 = 4;

/// Who is told what happens.
pub trait Witness {
    /// Something has passed. An error ends the relay: what is not recorded is not to happen.
    fn passed(&mut self, passed: Passed) -> io::Result<()>;
    /// One of both ends has come or gone.
    fn told(&mut self, what: &str);
}

/// A card, the reader it is put into, and who watches.
pub struct Relay<'a> {
    /// Where the card is.
    pub card: &'a mut dyn CardPort,
    /// The virtual reader, `HOST:PORT`.
    pub reader: &'a str,
    /// Becomes readable when it is to end.
    pub stop: BorrowedFd<'a>,
    /// Who watches.
    pub witness: &'a mut dyn Witness,
}

/// Why a connection is over.
enum Over {
    Stopped,
    Card(CardError),
    Reader(io::Error),
    Record(io::Error),
}

impl From<CardError> for Over {
    fn from(error: CardError) -> Self {
        match error {
            CardError::Interrupted => Self::Stopped,
            error => Self::Card(error),
        }
    }
}

/// Pauses that grow as long as nothing works, and what was told last.
struct Patience {
    pause: Duration,
    told: String,
}

impl Patience {
    fn new() -> Self {
        Self {
            pause: PAUSE,
            told: String::new(),
        }
    }

    fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

impl Relay<'_> {
    /// Relays until it is stopped. An error means that the recording failed.
    pub fn run(&mut self) -> io::Result<()> {
        let mut patience = Patience::new();
        loop {
            let why = match self.once(&mut patience) {
                Over::Stopped => return Ok(()),
                Over::Record(error) => return Err(error),
                Over::Card(error) => format!("the card: {error}"),
                Over::Reader(error) => format!("the reader at {}: {error}", self.reader),
            };
            // The reader's client finds the card gone, and whatever it held in RAM is.
            self.card.release(false);
            if patience.told != why {
                self.witness.told(&format!("{why}; waiting for it"));
                patience.told = why;
            }
            let wait = Wait::new(self.stop, Some(patience.next()));
            if matches!(wait.for_nothing(""), CardError::Interrupted) {
                return Ok(());
            }
        }
    }

    /// From one coming together to the next coming apart.
    fn once(&mut self, patience: &mut Patience) -> Over {
        let joined = self.join();
        let (mut atr, mut reader) = match joined {
            Ok(joined) => joined,
            Err(over) => return over,
        };
        *patience = Patience::new();
        let place = self.card.place();
        self.witness.told(&format!(
            "the card in {place} is in the reader at {}",
            self.reader
        ));
        loop {
            if let Err(over) = self.frame(&mut atr, &mut reader) {
                return over;
            }
        }
    }

    /// The card first: a reader that is connected to has a card.
    fn join(&mut self) -> Result<(Atr, TcpStream), Over> {
        let atr = self.card.connect(&Wait::new(self.stop, None))?;
        let reader = TcpStream::connect(self.reader).map_err(Over::Reader)?;
        reader
            .set_nodelay(true)
            .and_then(|()| reader.set_read_timeout(Some(FRAME_LIMIT)))
            .map_err(Over::Reader)?;
        Ok((atr, reader))
    }

    /// One frame of the reader, and what it asks for.
    fn frame(&mut self, atr: &mut Atr, reader: &mut TcpStream) -> Result<(), Over> {
        self.wait(reader)?;
        let body = frame(reader).map_err(Over::Reader)?;
        match body[..] {
            [POWER_OFF] => {}
            [POWER_ON] => *atr = self.power(Power::Cycle)?,
            [RESET] => *atr = self.power(Power::Reset)?,
            [GIVE_ATR] => answer(reader, atr.as_bytes()).map_err(Over::Reader)?,
            _ => {
                let got = self.card.hold()?.transmit(&body);
                let told = got.as_ref().cloned().map_err(ToString::to_string);
                self.passed(Passed::Command(body, told))?;
                answer(reader, &got?).map_err(Over::Reader)?;
            }
        }
        Ok(())
    }

    fn power(&mut self, how: Power) -> Result<Atr, Over> {
        let atr = self.card.power(how)?;
        self.passed(Passed::Power(how, atr.as_bytes().to_vec()))?;
        Ok(atr)
    }

    fn passed(&mut self, passed: Passed) -> Result<(), Over> {
        self.witness.passed(passed).map_err(Over::Record)
    }

    /// Until the reader wants something, or one of both is gone.
    fn wait(&mut self, reader: &TcpStream) -> Result<(), Over> {
        loop {
            let mut fds: Vec<PollFd<'_>> =
                [Some(self.stop), Some(reader.as_fd()), self.card.removal()]
                    .into_iter()
                    .flatten()
                    .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                    .collect();
            poll_until(&mut fds, None).map_err(Over::Reader)?;
            let ready = |at: usize| fds.get(at).is_some_and(|fd| fd.any().unwrap_or(false));
            let (stopped, asked, removed) = (ready(0), ready(1), ready(2));
            if stopped {
                return Err(Over::Stopped);
            }
            if removed {
                self.card.check()?;
            }
            if asked {
                return Ok(());
            }
        }
    }
}

/// The next frame's body.
fn frame(reader: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    // Length and body come apart; acknowledging at once spares 40 ms a frame.
    drop(socket2::SockRef::from(&*reader).set_tcp_quickack(true));
    reader.read_exact(&mut length).map_err(gone)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes(length))];
    drop(socket2::SockRef::from(&*reader).set_tcp_quickack(true));
    reader.read_exact(&mut body).map_err(gone)?;
    Ok(body)
}

fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "it has closed its connection")
        }
        io::ErrorKind::WouldBlock => io::Error::other("it stopped in the middle of a frame"),
        _ => error,
    }
}

fn answer(reader: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let length = u16::try_from(body.len()).map_err(|_| {
        io::Error::other("an answer of over 65,535 bytes does not fit into a frame")
    })?;
    reader.write_all(&[&length.to_be_bytes(), body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut patience = Patience::new();
        let pauses: Vec<_> = (0..7).map(|_| patience.next().as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
