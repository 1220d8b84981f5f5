//! Logical channels 0 to 3 and what is selected on each: MANAGE CHANNEL (ISO/IEC 7816-4:2020, 11.1.2).

use protocol::card::StatusWord;

/// How many there are.
pub(super) const COUNT: usize = 4;

/// The basic channel is always open; the others are as the terminal wants them.
pub(super) struct Channels([Channel; COUNT]);

/// One logical channel.
#[derive(Clone, Copy, Default)]
pub(super) struct Channel {
    open: bool,
    /// Place of the selected applet in the registry.
    pub(super) selected: Option<usize>,
}

/// What MANAGE CHANNEL asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Managed {
    /// The card chooses a channel and tells its number.
    OpenAny,
    /// This one.
    Open(u8),
    /// This one is closed.
    Close(u8),
}

impl Managed {
    /// P1: 00 opens, 80 closes. P2: the channel; 00 opens any, or closes that of the command itself.
    pub(super) const fn parse(p1: u8, p2: u8, own: u8) -> Result<Self, StatusWord> {
        match (p1, p2) {
            (0x00, 0) => Ok(Self::OpenAny),
            (0x00, 1..=3) => Ok(Self::Open(p2)),
            (0x80, 0) if own != 0 => Ok(Self::Close(own)),
            (0x80, 1..=3) => Ok(Self::Close(p2)),
            _ => Err(StatusWord::WRONG_P1P2),
        }
    }
}

impl Channels {
    /// After a reset: the basic channel with the default-selected applet.
    pub(super) fn new(default: Option<usize>) -> Self {
        let mut channels = [Channel::default(); COUNT];
        channels[0] = Channel {
            open: true,
            selected: default,
        };
        Self(channels)
    }

    /// 6881 for a channel that does not exist or is not open.
    pub(super) fn get(&self, channel: u8) -> Result<&Channel, StatusWord> {
        let found = self.0.get(usize::from(channel));
        found.filter(|found| found.open).ok_or(StatusWord::CHANNEL)
    }

    /// What is selected on a channel that is open.
    pub(super) fn select(&mut self, channel: u8, applet: Option<usize>) {
        self.0[usize::from(channel)].selected = applet;
    }

    /// Whether an applet is selected on any channel.
    pub(super) fn any_selected(&self, applet: usize) -> bool {
        self.0
            .iter()
            .any(|channel| channel.selected == Some(applet))
    }

    /// A channel to be opened: 6A81 when none is free, 6A86 when this one is open.
    pub(super) fn free(&self, wanted: Managed) -> Result<u8, StatusWord> {
        match wanted {
            Managed::Open(channel) if self.0[usize::from(channel)].open => {
                Err(StatusWord::WRONG_P1P2)
            }
            Managed::Open(channel) | Managed::Close(channel) => Ok(channel),
            Managed::OpenAny => (1u8..)
                .zip(&self.0[1..])
                .find_map(|(number, channel)| (!channel.open).then_some(number))
                .ok_or(StatusWord::FUNCTION),
        }
    }

    pub(super) fn open(&mut self, channel: u8) {
        self.0[usize::from(channel)] = Channel {
            open: true,
            selected: None,
        };
    }

    pub(super) fn close(&mut self, channel: u8) {
        self.0[usize::from(channel)] = Channel::default();
    }
}
