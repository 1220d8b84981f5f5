//! Finders of places: virtual cards that connect to one port, and readers that are plugged in.
//!
//! Owns when a place is offered to the crew and when it is withdrawn. Refuses to work with cards.

use std::{
    collections::BTreeSet,
    io,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags};

use super::{Finder, Mail, Mailbox, Orders, TerminalError, wait::wait};
use crate::{
    card::{
        CardSpec,
        pcsc::{PcscPort, Readers, Sharing},
        poll_until,
        vpcd::{Slots, Taken},
    },
    report::Reporter,
    session::Event,
};

/// After a connection could not be taken in: out of descriptors, perhaps.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);
/// A terminal that has failed at a reader is started again after this time, even if nothing changes there.
const READER_RETRY: Duration = Duration::from_secs(60);

/// What the search for readers is called in events: no terminal beside it is called so, since `--card pcsc` and
/// `--all-readers` exclude each other.
const SEARCH: &str = "pcsc";

/// Whether to end.
fn told_to_stop(mailbox: &Mailbox) -> bool {
    let mut mail = mailbox.take().into_iter();
    mail.any(|mail| matches!(mail, Mail::Stop))
}

fn waiting(error: io::Error) -> TerminalError {
    TerminalError::System("cannot wait", error)
}

/// Offers a slot to every virtual card that connects. Those beyond the limit are sent away, which is told once
/// until there is room again.
pub fn virtual_cards<'a>(slots: Slots, reporter: &'a dyn Reporter) -> Finder<'a> {
    Box::new(move |mailbox, orders| {
        let mut door = Door {
            place: slots.place(),
            reporter,
            shut: false,
            taken: 0,
        };
        loop {
            wait([slots.fd(), mailbox.bell()]).map_err(waiting)?;
            if told_to_stop(mailbox) {
                return Ok(());
            }
            if let Err(error) = door.let_in(&slots, orders)? {
                door.send_away(&format!("it cannot be taken in: {error}"))?;
                let mut fds = [PollFd::new(mailbox.bell(), PollFlags::POLLIN)];
                poll_until(&mut fds, Instant::now().checked_add(ACCEPT_RETRY)).map_err(waiting)?;
            }
        }
    })
}

/// Where virtual cards come in.
struct Door<'a> {
    place: String,
    reporter: &'a dyn Reporter,
    /// The last one was sent away.
    shut: bool,
    taken: u64,
}

impl Door<'_> {
    /// All that have come. The inner error is the socket's, and may be over in a moment.
    fn let_in(&mut self, slots: &Slots, orders: &Orders) -> Result<io::Result<()>, TerminalError> {
        loop {
            match slots.take() {
                Ok(None) => return Ok(Ok(())),
                Ok(Some(Taken::First)) => self.shut = false,
                Ok(Some(Taken::New(slot))) => {
                    self.shut = false;
                    self.taken += 1;
                    // A slot's number comes again; a card that has left is not the one that comes.
                    let key = format!("{} {}", self.place, self.taken);
                    orders.offer(key, Box::new(move || Ok(Box::new(slot))));
                }
                Ok(Some(Taken::Full(limit))) => self.send_away(&format!(
                    "{limit} cards are connected, and no more are let in (--max-cards)"
                ))?,
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    fn send_away(&mut self, why: &str) -> Result<(), TerminalError> {
        if std::mem::replace(&mut self.shut, true) {
            return Ok(());
        }
        let why = format!("a virtual card is sent away: {why}");
        self.reporter
            .tell(&self.place, &Event::CardRefused { why })
            .map_err(TerminalError::Output)
    }
}

/// Offers every PC/SC reader that `wanted` takes, as long as it is attached. While pcscd does not answer, nothing is
/// withdrawn: its readers come back with it.
pub fn readers<'a>(
    sharing: Sharing,
    wanted: impl Fn(&str) -> bool + Send + 'a,
    reporter: &'a dyn Reporter,
) -> Finder<'a> {
    Box::new(move |mailbox, orders| {
        let all = Readers::watch().map_err(|error| TerminalError::Readers(error.to_string()))?;
        let mut search = Search {
            orders,
            sharing,
            offered: BTreeSet::new(),
            missing: None,
        };
        loop {
            if let Some(why) = search.look(&all, &wanted) {
                let told = reporter.tell(SEARCH, &Event::WaitingForCard { why });
                told.map_err(TerminalError::Output)?;
            }
            if search.missing.is_none() {
                reporter.forget(SEARCH);
            }
            let mut fds =
                [all.changed(), mailbox.bell()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            poll_until(&mut fds, Instant::now().checked_add(READER_RETRY)).map_err(waiting)?;
            if told_to_stop(mailbox) {
                return Ok(());
            }
        }
    })
}

struct Search<'a> {
    orders: &'a Orders,
    sharing: Sharing,
    offered: BTreeSet<String>,
    /// What was told to be missing.
    missing: Option<String>,
}

impl Search<'_> {
    /// Offers what is there, and withdraws what is not. What is newly missing, in words.
    fn look(&mut self, all: &Readers, wanted: &dyn Fn(&str) -> bool) -> Option<String> {
        let missing = match all.names() {
            Err(why) => Some(why),
            Ok(names) => {
                let names: BTreeSet<_> = names.into_iter().filter(|name| wanted(name)).collect();
                self.change(&names);
                names
                    .is_empty()
                    .then(|| "no reader that is wanted is attached (pcsc_scan lists them)".into())
            }
        };
        let news = missing.clone().filter(|_| missing != self.missing);
        self.missing = missing;
        news
    }

    fn change(&mut self, names: &BTreeSet<String>) {
        for gone in self.offered.difference(names) {
            self.orders.withdraw(place(gone), "its reader is gone");
        }
        for name in names {
            let (sharing, reader) = (self.sharing, Some(name.clone()));
            let open = move || Ok(Box::new(PcscPort::new(reader, sharing)?) as Box<_>);
            self.orders.offer(place(name), Box::new(open));
        }
        self.offered.clone_from(names);
    }
}

fn place(reader: &str) -> String {
    CardSpec::Reader(reader.to_owned()).to_string()
}
