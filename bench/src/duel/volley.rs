//! The generator: sends polls that were made before in a window, and keeps every answer for later. It looks at no
//! answer while the clock runs, and never sleeps: a generator that sleeps has to be woken by whom it measures.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::Failure;
use crate::wire::{BATCH, Batch, Inbox, Wire};

/// How long nothing may arrive before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Datagrams to be sent in one go.
pub struct Volley {
    /// One after the other, each of `each` bytes.
    pub polls: Vec<u8>,
    /// Length of a poll in bytes.
    pub each: usize,
    /// Polls of one run on one wire.
    pub run: usize,
    /// Only the last poll of each run is answered; all are if false.
    pub marked: bool,
}

/// How datagrams are sent.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// Sockets, each with a port of its own.
    pub wires: usize,
    /// Datagrams under way at most.
    pub window: usize,
    /// Whether to use `UDP_SEGMENT`.
    pub segments: bool,
}

/// Sockets that are connected to one target.
pub struct Generator {
    wires: Vec<Wire>,
    batch: Batch,
    window: usize,
    patience: Duration,
}

impl Volley {
    /// A volley of which every poll is answered.
    pub fn answered(polls: Vec<u8>, each: usize) -> Self {
        Self {
            polls,
            each,
            run: BATCH,
            marked: false,
        }
    }

    /// How many polls.
    pub fn len(&self) -> usize {
        self.polls.len() / self.each
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.polls.is_empty()
    }

    /// Whether this poll is to be answered.
    pub fn is_answered(&self, at: usize) -> bool {
        !self.marked || (at + 1).is_multiple_of(self.run) || at + 1 == self.len()
    }

    /// How many answers are to come.
    pub fn answers(&self) -> usize {
        if self.marked {
            self.len().div_ceil(self.run)
        } else {
            self.len()
        }
    }

    /// The wire of a poll, of so many.
    pub fn wire(&self, at: usize, wires: usize) -> usize {
        at / self.run % wires
    }

    /// How many polls the target has taken for certain, once it has given so many answers.
    fn taken(&self, answers: usize) -> usize {
        if self.marked {
            (answers * self.run).min(self.len())
        } else {
            answers
        }
    }

    fn bytes(&self, from: usize, count: usize) -> &[u8] {
        &self.polls[from * self.each..(from + count) * self.each]
    }
}

impl Generator {
    /// Connects the wires.
    pub fn connect(server: SocketAddr, aim: Aim) -> io::Result<Self> {
        let wires = (0..aim.wires.max(1)).map(|_| Wire::connect(server, aim.segments));
        Ok(Self {
            wires: wires.collect::<io::Result<_>>()?,
            batch: Batch::default(),
            window: aim.window.max(1),
            patience: PATIENCE,
        })
    }

    /// How long nothing may arrive before what is missing counts as lost; 1.5 s unless told.
    pub const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// How many wires.
    pub fn wires(&self) -> usize {
        self.wires.len()
    }

    /// The ports of the wires.
    pub fn ports(&self) -> io::Result<Vec<u16>> {
        self.wires.iter().map(Wire::port).collect()
    }

    /// Sends a volley and takes the answers into `replies` until all have come, or none comes any more. Returns
    /// the time from the first poll to the last answer.
    pub fn fire(
        &mut self,
        volley: &Volley,
        replies: &mut Inbox,
        stop: &AtomicBool,
    ) -> Result<Duration, Failure> {
        self.drain()?;
        replies.clear();
        let began = Instant::now();
        let (mut sent, mut last) = (0, began);
        while replies.len() < volley.answers() {
            sent += self.send(volley, sent, replies.len())?;
            if self.receive(replies)? > 0 {
                last = Instant::now();
            } else if last.elapsed() > self.patience {
                break;
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::Stopped);
            }
        }
        Ok(last.duration_since(began))
    }

    /// A batch, if the window has room for all of it.
    fn send(&mut self, volley: &Volley, sent: usize, answers: usize) -> io::Result<usize> {
        let in_run = volley.run - sent % volley.run;
        let batch = in_run.min(BATCH).min(volley.len() - sent);
        let under_way = sent.saturating_sub(volley.taken(answers));
        if batch == 0 || (under_way > 0 && under_way + batch > self.window) {
            return Ok(0);
        }
        let wire = volley.wire(sent, self.wires.len());
        self.wires[wire].send(&mut self.batch, volley.bytes(sent, batch), volley.each)
    }

    fn receive(&mut self, replies: &mut Inbox) -> io::Result<usize> {
        let mut count = 0;
        for (number, wire) in self.wires.iter().enumerate() {
            count += wire.receive(&mut self.batch, |datagram| replies.push(number, datagram))?;
        }
        Ok(count)
    }

    /// Throws away what a volley before has left behind.
    fn drain(&mut self) -> io::Result<()> {
        for wire in &self.wires {
            while wire.receive(&mut self.batch, |_| ())? > 0 {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duel::echo::{Echo, Wait};

    fn generator(wires: usize, window: usize) -> Generator {
        let echo = Echo::bind(([127, 0, 0, 1], 0).into(), 2, 29, Wait::Poll).unwrap();
        let server = echo.address().unwrap();
        std::thread::spawn(move || echo.run());
        let aim = Aim {
            wires,
            window,
            segments: true,
        };
        Generator::connect(server, aim).unwrap()
    }

    fn numbered(count: u32) -> Vec<u8> {
        (0..count)
            .flat_map(|number| {
                let mut poll = [0; 20];
                poll[..4].copy_from_slice(&number.to_be_bytes());
                poll
            })
            .collect()
    }

    #[test]
    fn every_poll_of_a_volley_comes_back_once() {
        let (mut replies, stop) = (Inbox::default(), AtomicBool::new(false));
        let volley = Volley::answered(numbered(1000), 20);
        generator(3, 128)
            .fire(&volley, &mut replies, &stop)
            .unwrap();
        let mut came: Vec<u32> = replies
            .iter()
            .map(|(wire, reply)| {
                assert_eq!(reply.len(), 29);
                let number = u32::from_be_bytes(reply[..4].try_into().unwrap());
                assert_eq!(volley.wire(number as usize, 3), wire);
                number
            })
            .collect();
        came.sort_unstable();
        assert!(came.into_iter().eq(0..1000));
    }

    #[test]
    fn a_marked_volley_expects_one_answer_per_run() {
        let volley = Volley {
            run: 256,
            marked: true,
            ..Volley::answered(numbered(600), 20)
        };
        let marks: Vec<usize> = (0..600).filter(|at| volley.is_answered(*at)).collect();
        assert_eq!(marks, [255, 511, 599]);
        assert_eq!(
            (volley.answers(), volley.taken(2), volley.taken(3)),
            (3, 512, 600)
        );
    }

    #[test]
    fn a_stopped_volley_ends() {
        let stop = AtomicBool::new(true);
        let volley = Volley::answered(numbered(100_000), 20);
        let fired = generator(1, 64).fire(&volley, &mut Inbox::default(), &stop);
        assert!(matches!(fired, Err(Failure::Stopped)));
    }
}
