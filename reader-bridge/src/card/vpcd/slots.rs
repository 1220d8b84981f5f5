//! Many virtual cards on one TCP port, each in a slot of its own.
//!
//! Owns who is let in, and which slot a card gets: the lowest that is free. Slot 0 is there from the beginning and for
//! ever, and waits for cards as any reader does; the others come and go with their cards. Refuses to know what
//! the cards are for.

use std::{
    collections::BTreeSet,
    io,
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{VpcdCard, listen};
use crate::card::{Atr, CardError, CardPort, CardSpec, Held, Power, Wait};

/// The port, and who is in.
pub struct Slots {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    port: u16,
    timeout: Duration,
    /// How many cards there may be at once.
    limit: usize,
    state: Mutex<State>,
    /// Readable when a card waits for slot 0.
    first_comes: EventFd,
}

#[derive(Default)]
struct State {
    /// Slots in use.
    taken: BTreeSet<usize>,
    /// A card for slot 0.
    first: Option<TcpStream>,
}

/// A card that was let in, or not.
pub enum Taken {
    /// To slot 0, which has been told.
    First,
    /// To a slot of its own.
    New(Slot),
    /// There are as many as there may be, this many: it was sent away.
    Full(usize),
}

/// A place for one card. All but slot 0 end with their card.
pub struct Slot {
    shared: Arc<Shared>,
    number: usize,
    card: Option<VpcdCard>,
    /// The card is of no use here. It stays connected, since it would only come again at once.
    refused: bool,
}

impl Slots {
    /// Listens on 127.0.0.1:`port`, any that is free if that is 0, for at most `limit` cards at once. A card
    /// may take `timeout` for one command.
    pub fn listen(port: u16, limit: usize, timeout: Duration) -> Result<Self, CardError> {
        let failed = |error| CardError::io("the virtual readers' socket", error);
        let listener = listen(port)?;
        let first_comes = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let shared = Shared {
            port: listener.local_addr().map_err(failed)?.port(),
            timeout,
            limit,
            state: Mutex::default(),
            first_comes: first_comes.map_err(|error| failed(error.into()))?,
        };
        Ok(Self {
            listener,
            shared: Arc::new(shared),
        })
    }

    /// Slot 0. There is one of it.
    pub fn first(&self) -> Slot {
        Slot::new(&self.shared, 0)
    }

    /// What its cards' slots have in common, in the words of `--card`.
    pub fn place(&self) -> String {
        CardSpec::Vpcd(self.shared.port).to_string()
    }

    /// Readable when a card has come.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes in the next card that has come, if there is one.
    pub fn take(&self) -> io::Result<Option<Taken>> {
        match self.listener.accept() {
            Ok((stream, _)) => self.place_card(stream).map(Some),
            Err(error) if is_none(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn place_card(&self, stream: TcpStream) -> io::Result<Taken> {
        let mut state = self.shared.lock();
        if state.taken.len() >= self.shared.limit {
            return Ok(Taken::Full(self.shared.limit));
        }
        // There are more numbers than cards.
        let number = (0..).find(|number| !state.taken.contains(number));
        let number = number.unwrap_or(usize::MAX);
        state.taken.insert(number);
        if number == 0 {
            state.first = Some(stream);
            drop(state);
            self.shared.first_comes.write(1)?;
            return Ok(Taken::First);
        }
        drop(state);
        let mut slot = Slot::new(&self.shared, number);
        let card = VpcdCard::new(stream, self.shared.timeout);
        slot.card = Some(card.map_err(io::Error::other)?);
        Ok(Taken::New(slot))
    }
}

/// Nobody is there, or the card went before it was taken in (accept(2), "Error handling").
fn is_none(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic, so what is behind it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn new(shared: &Arc<Shared>, number: usize) -> Self {
        Self {
            shared: Arc::clone(shared),
            number,
            card: None,
            refused: false,
        }
    }

    /// Slot 0's next card.
    fn next(&mut self, wait: &Wait<'_>) -> Result<VpcdCard, CardError> {
        loop {
            // Before the look, so that nothing later is missed.
            let _ = self.shared.first_comes.read();
            let first = self.shared.lock().first.take();
            if let Some(stream) = first {
                return VpcdCard::new(stream, self.shared.timeout);
            }
            wait.readable(self.shared.first_comes.as_fd(), None, &self.expectation())?;
        }
    }

    fn expectation(&self) -> String {
        let port = self.shared.port;
        format!(
            "no virtual card has connected to 127.0.0.1:{port} (secapp insert FILE --vpcd 127.0.0.1:{port})"
        )
    }

    /// Gives up the connection. Slot 0 is free for the next card then.
    fn empty(&mut self) {
        self.card = None;
        self.refused = false;
        if self.number == 0 {
            let mut state = self.shared.lock();
            if state.first.is_none() {
                state.taken.remove(&0);
            }
        }
    }

    /// Until the refused card goes by itself.
    fn keep_refused(&mut self, wait: &Wait<'_>) -> Result<(), CardError> {
        if let Some(card) = self.card.as_mut().filter(|_| self.refused) {
            let expected = "no virtual card other than the one that was refused";
            while card.stay_quiet().is_ok() {
                wait.readable(card.fd(), None, expected)?;
            }
            self.empty();
        }
        Ok(())
    }

    fn card(&mut self) -> Result<&mut VpcdCard, CardError> {
        self.card
            .as_mut()
            .ok_or_else(|| CardError::Gone("no virtual card is connected".into()))
    }
}

impl CardPort for Slot {
    fn place(&self) -> String {
        let port = CardSpec::Vpcd(self.shared.port);
        match self.number {
            0 => port.to_string(),
            number => format!("{port}/{number}"),
        }
    }

    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError> {
        self.keep_refused(wait)?;
        if let Some(card) = &mut self.card {
            if card.stay_quiet().is_ok()
                && let Ok(atr) = card.power_cycle()
            {
                return Ok(atr);
            }
            self.empty();
        }
        if self.number > 0 {
            return Err(CardError::Closed("its card has left".into()));
        }
        let mut card = self.next(wait)?;
        let atr = card.power_cycle();
        self.card = Some(card);
        if atr.is_err() {
            self.empty();
        }
        atr
    }

    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError> {
        Ok(Box::new(self.card()?))
    }

    fn removal(&self) -> Option<BorrowedFd<'_>> {
        self.card.as_ref().map(VpcdCard::fd)
    }

    fn check(&mut self) -> Result<(), CardError> {
        let state = self.card()?.stay_quiet();
        if state.is_err() {
            self.empty();
        }
        state
    }

    fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        self.card()?.power(how)
    }

    fn release(&mut self, refused: bool) {
        self.refused = refused;
        if !refused {
            self.empty();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.lock().taken.remove(&self.number);
    }
}
