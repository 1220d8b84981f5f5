//! What the card sits in: a PC/SC reader where one can be had, else the terminal itself.

use e2e::pcscd::{Isolation, Pcscd};
use e2e::ports::Reservation;

use super::Reader;

/// Where the card is put, and how the terminal finds it.
pub(crate) struct Slot {
    pub(crate) pcscd: Option<Pcscd>,
    pub(crate) port: u16,
    /// Kept as long as the port is used.
    _claim: Option<Reservation>,
    pub(crate) card: String,
    pub(crate) words: String,
}

impl Slot {
    /// Finds one of the kind asked for.
    pub(crate) fn find(reader: Reader) -> Result<Self, String> {
        if reader == Reader::Vpcd {
            return Ok(Self::of_terminal(""));
        }
        match Pcscd::try_start(1) {
            Ok(pcscd) => Ok(Self::of_pcscd(pcscd)),
            Err(error) if reader == Reader::Pcscd => Err(error.to_string()),
            Err(error) => Ok(Self::of_terminal(&format!(
                " (no pcscd of our own: {error})"
            ))),
        }
    }

    fn of_pcscd(pcscd: Pcscd) -> Self {
        let slot = pcscd.slots()[0].clone();
        Self {
            port: slot.port,
            card: format!("pcsc:{}", slot.reader),
            words: format!(
                "in the PC/SC reader {:?}; pcscd {}",
                slot.reader,
                isolation(pcscd.isolation())
            ),
            pcscd: Some(pcscd),
            _claim: None,
        }
    }

    fn of_terminal(why: &str) -> Self {
        let claim = Reservation::of(1);
        let port = claim.first();
        Self {
            pcscd: None,
            port,
            _claim: Some(claim),
            card: format!("vpcd:{port}"),
            words: format!("in the terminal itself, which is its virtual reader: no PC/SC{why}"),
        }
    }
}

fn isolation(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Root => "of its own, run as root in a mount namespace",
        Isolation::UserNamespace => "of its own, run without root in a user namespace",
    }
}
