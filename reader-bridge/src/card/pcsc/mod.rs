//! `pcsc` and `pcsc:NAME`: a card in a PC/SC reader, shared with other programs or not.
//!
//! Owns choosing a card among the readers, connecting to it, and transactions. Refuses to know what
//! the commands mean. PC/SC Workgroup, Part 5, as pcsc-lite implements it.

mod failure;
mod readers;
mod watch;

use std::{ffi::CString, os::fd::BorrowedFd, time::Duration};

use pcsc::{Context, Disposition, Error, Protocol, Protocols, Scope, ShareMode, Transaction};

use super::{Atr, CardError, CardPort, CardSpec, Held, Power, Transport, Wait};
use failure::{card_error, no_service};
pub use readers::Readers;
use watch::{Seen, Snapshot, Watch};

/// Whether other programs reach the card, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// They do, between two sequences of commands (`SCARD_SHARE_SHARED`).
    #[default]
    Shared,
    /// Nobody else does as long as the card is worked with (`SCARD_SHARE_EXCLUSIVE`).
    Exclusive,
}

impl Sharing {
    const fn mode(self) -> ShareMode {
        match self {
            Self::Shared => ShareMode::Shared,
            Self::Exclusive => ShareMode::Exclusive,
        }
    }
}

/// A PC/SC reader, or whichever has a card first.
pub struct PcscPort {
    /// `None`: any.
    name: Option<String>,
    sharing: Sharing,
    watch: Watch,
    card: Option<Connected>,
    refused: Option<Insertion>,
    /// Long enough for any answer: kept, since it is large.
    buffer: Vec<u8>,
}

/// One insertion of a card: another card, or the same one again, is another insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Insertion {
    reader: CString,
    /// pcscd's count of insertions and removals in this reader.
    events: u32,
    /// Counts start anew with every pcscd.
    service: u32,
}

struct Connected {
    insertion: Insertion,
    card: pcsc::Card,
    transport: Transport,
}

/// A card that another program holds is tried again after this time even if pcscd tells of no change.
const BUSY_RETRY: Duration = Duration::from_secs(2);

impl PcscPort {
    /// The reader called `name`, or any. Succeeds without pcscd: [`CardPort::connect`] waits for it.
    pub fn new(name: Option<String>, sharing: Sharing) -> Result<Self, CardError> {
        Ok(Self {
            name,
            sharing,
            watch: Watch::start()?,
            card: None,
            refused: None,
            buffer: vec![0; pcsc::MAX_BUFFER_SIZE_EXTENDED],
        })
    }

    /// The first inserted card that may be the one.
    fn candidate(&self, snapshot: &Snapshot) -> Option<Insertion> {
        let insertion = |seen: &Seen| Insertion {
            reader: seen.name.clone(),
            events: seen.events,
            service: snapshot.service,
        };
        snapshot
            .readers
            .iter()
            .filter(|seen| seen.has_card && self.wants(seen))
            .map(insertion)
            .find(|insertion| self.refused.as_ref() != Some(insertion))
    }

    fn wants(&self, seen: &Seen) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| seen.name.to_bytes() == name.as_bytes())
    }

    fn open(&self, insertion: Insertion) -> Result<(Connected, Atr), Error> {
        let context = Context::establish(Scope::System)?;
        let card = context.connect(&insertion.reader, self.sharing.mode(), Protocols::ANY)?;
        let status = card.status2_owned()?;
        let transport = transport(&status);
        let atr = Atr::parse(status.atr()).map_err(|_| Error::InvalidAtr)?;
        let connected = Connected {
            insertion,
            card,
            transport,
        };
        Ok((connected, atr))
    }

    fn expectation(&self, snapshot: &Snapshot, busy: Option<&CardError>) -> String {
        let names: Vec<_> = snapshot
            .readers
            .iter()
            .map(|seen| format!("{:?}", seen.name.to_string_lossy()))
            .collect();
        let there = names.join(", ");
        match (&snapshot.failure, &self.name, busy) {
            (Some(error), ..) => no_service(*error),
            (None, _, Some(busy)) => busy.to_string(),
            (None, None, _) if names.is_empty() => {
                "no reader is attached (pcsc_scan lists them)".into()
            }
            (None, None, _) => {
                format!("no card that could be used is in any of the readers {there}")
            }
            (None, Some(name), _) if snapshot.readers.iter().any(|seen| self.wants(seen)) => {
                format!("no card that could be used is in reader {name:?}")
            }
            (None, Some(name), _) if names.is_empty() => {
                format!("no reader {name:?}; none is attached at all")
            }
            (None, Some(name), _) => format!("no reader {name:?}; there are {there}"),
        }
    }
}

impl CardPort for PcscPort {
    fn place(&self) -> String {
        let spec = self
            .name
            .clone()
            .map_or(CardSpec::AnyReader, CardSpec::Reader);
        spec.to_string()
    }

    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError> {
        self.card = None;
        loop {
            self.watch.clear();
            let snapshot = self.watch.snapshot();
            let mut busy = None;
            if let Some(insertion) = self.candidate(&snapshot) {
                match self.open(insertion.clone()) {
                    Ok((card, atr)) => {
                        self.card = Some(card);
                        return Ok(atr);
                    }
                    Err(Error::UnresponsiveCard | Error::UnsupportedCard | Error::InvalidAtr) => {
                        self.refused = Some(insertion);
                    }
                    Err(Error::SharingViolation) if self.sharing == Sharing::Exclusive => {
                        let why = "too, and it is wanted exclusively (--exclusive)";
                        busy = Some(CardError::Busy(why.into()));
                    }
                    Err(error) => busy = Some(card_error(error)),
                }
            }
            let retry = busy.is_some().then_some(BUSY_RETRY);
            let expected = self.expectation(&snapshot, busy.as_ref());
            wait.readable(self.watch.changed(), retry, &expected)?;
        }
    }

    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError> {
        let Some(connected) = &mut self.card else {
            return Err(CardError::Gone("no card is connected".into()));
        };
        let transport = connected.transport;
        match connected.card.transaction2() {
            Ok(transaction) => Ok(Box::new(HeldCard {
                transaction,
                transport,
                buffer: &mut self.buffer,
            })),
            Err((_, error)) => Err(card_error(error)),
        }
    }

    fn is_shared(&self) -> bool {
        self.sharing == Sharing::Shared
    }

    fn removal(&self) -> Option<BorrowedFd<'_>> {
        Some(self.watch.changed())
    }

    fn check(&mut self) -> Result<(), CardError> {
        self.watch.clear();
        let snapshot = self.watch.snapshot();
        let Some(connected) = &self.card else {
            return Ok(());
        };
        let ours = &connected.insertion;
        let there =
            |seen: &Seen| seen.has_card && seen.name == ours.reader && seen.events == ours.events;
        if let Some(error) = snapshot.failure {
            return Err(CardError::Gone(no_service(error)));
        }
        if snapshot.service == ours.service && snapshot.readers.iter().any(there) {
            return Ok(());
        }
        let reader = ours.reader.to_string_lossy();
        Err(CardError::Gone(format!("it was taken out of {reader:?}")))
    }

    fn power(&mut self, how: Power) -> Result<Atr, CardError> {
        let Some(connected) = &mut self.card else {
            return Err(CardError::Gone("no card is connected".into()));
        };
        let disposition = match how {
            Power::Reset => Disposition::ResetCard,
            Power::Cycle => Disposition::UnpowerCard,
        };
        let card = &mut connected.card;
        card.reconnect(self.sharing.mode(), Protocols::ANY, disposition)
            .map_err(card_error)?;
        let status = card.status2_owned().map_err(card_error)?;
        connected.transport = transport(&status);
        Atr::parse(status.atr())
    }

    fn release(&mut self, refused: bool) {
        let card = self.card.take();
        if refused {
            self.refused = card.map(|connected| connected.insertion);
        }
    }
}

fn transport(status: &pcsc::CardStatusOwned) -> Transport {
    match status.protocol2() {
        Some(Protocol::T0) => Transport::T0,
        _ => Transport::Apdu,
    }
}

/// A PC/SC transaction; dropping it ends it and leaves the card as it is.
struct HeldCard<'a> {
    transaction: Transaction<'a>,
    transport: Transport,
    buffer: &'a mut [u8],
}

impl Held for HeldCard<'_> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let answer = self.transaction.transmit(command, self.buffer);
        match answer.map_err(card_error)? {
            // vsmartcard's driver answers with nothing where the card went away in mid-command.
            [] => Err(CardError::Gone("its reader gave an empty answer".into())),
            answer => Ok(answer.to_vec()),
        }
    }

    fn transport(&self) -> Transport {
        self.transport
    }
}
