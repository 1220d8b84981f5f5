//! The two constructed objects of MSG: polling rules (`A7`) and transport update (`A9`).

use core::{fmt, str};

use alloc::vec::Vec;

use crate::{
    card::ObjectError,
    tlv::{self, Reader},
};

const INTERVAL: u32 = 0x90;
const JITTER: u32 = 0x91;
const FLOOR: u32 = 0x92;
const CEILING: u32 = 0x93;
const EVENTS: u32 = 0x94;
const QUIET_WINDOW: u32 = 0x95;
const ENDPOINT: u32 = 0x96;
const LIFETIME: u32 = 0x97;

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

/// When a device is to poll. What is absent stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollingRules {
    /// `90`: time between polls, in seconds, at least 1.
    pub interval: Option<u32>,
    /// `91`: how far a poll may stray from the interval, in percent of it, 0 to 100.
    pub jitter: Option<u8>,
    /// `92`: the shortest interval that messages may lead to, in seconds.
    pub floor: Option<u32>,
    /// `93`: the longest interval that messages may lead to, in seconds.
    pub ceiling: Option<u32>,
    /// `94`: what else makes the device poll.
    pub events: Option<Events>,
    /// `95`: when it is to be silent.
    pub quiet: Option<QuietWindow>,
}

/// Occasions for a poll besides the interval (`94`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(pub u8);

impl Events {
    /// Bit 0: power-on.
    pub const POWER_ON: u8 = 1;
    /// Bit 1: the network has changed.
    pub const NETWORK_CHANGE: u8 = 2;
    /// Bit 2: the host asks for it.
    pub const HOST_REQUEST: u8 = 4;

    /// Whether all of these bits are set.
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }
}

/// A window of the UTC day without polls (`95`); it may run over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietWindow {
    /// Its beginning, in minutes of the UTC day, 0 to 1,439.
    pub start: u16,
    /// Its length in minutes, 0 (none) to 1,439.
    pub length: u16,
}

/// The triggering server to use from now on (`A9`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportUpdate<'a> {
    /// `96`: host:port; `None` is back to the home server.
    pub endpoint: Option<&'a str>,
    /// `97`: for how long, in seconds; the terminal's own limit is 24 h.
    pub lifetime: Option<u32>,
}

/// Why rules or an endpoint cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Not the objects they should be made of.
    #[error("{0}")]
    Object(#[from] ObjectError),
    /// An interval of 0 s.
    #[error("an interval of 0 s")]
    Interval,
    /// More than 100 %.
    #[error("a jitter of {0} %, at most 100 % makes sense")]
    Jitter(u8),
    /// The shortest interval is longer than the longest.
    #[error("a floor of {floor} s above a ceiling of {ceiling} s")]
    Bounds {
        /// The shortest interval in seconds.
        floor: u32,
        /// The longest interval in seconds.
        ceiling: u32,
    },
    /// A quiet window outside a day of 1,440 minutes, or one that fills it.
    #[error(
        "a quiet window from minute {start} for {length} minutes; both are under {DAY_MINUTES}"
    )]
    QuietWindow {
        /// Its beginning in minutes.
        start: u16,
        /// Its length in minutes.
        length: u16,
    },
    /// Not host:port with a port above 0.
    #[error("the endpoint is not host:port")]
    Endpoint,
}

impl PollingRules {
    /// The rules as they are, if they do not contradict themselves.
    pub fn check(self) -> Result<Self, RulesError> {
        if self.interval == Some(0) {
            return Err(RulesError::Interval);
        }
        if let Some(jitter) = self.jitter.filter(|percent| *percent > 100) {
            return Err(RulesError::Jitter(jitter));
        }
        if let (Some(floor), Some(ceiling)) = (self.floor, self.ceiling)
            && floor > ceiling
        {
            return Err(RulesError::Bounds { floor, ceiling });
        }
        match self.quiet {
            Some(QuietWindow { start, length })
                if start >= DAY_MINUTES || length >= DAY_MINUTES =>
            {
                Err(RulesError::QuietWindow { start, length })
            }
            _ => Ok(self),
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, RulesError> {
        let mut rules = Self::default();
        for object in Reader::new(body) {
            let object = object.map_err(ObjectError::from)?;
            let (tag, value) = (object.tag, object.value);
            match tag {
                INTERVAL => rules.interval = Some(u32::from_be_bytes(sized(tag, value)?)),
                JITTER => rules.jitter = Some(u8::from_be_bytes(sized(tag, value)?)),
                FLOOR => rules.floor = Some(u32::from_be_bytes(sized(tag, value)?)),
                CEILING => rules.ceiling = Some(u32::from_be_bytes(sized(tag, value)?)),
                EVENTS => rules.events = Some(Events(u8::from_be_bytes(sized(tag, value)?))),
                QUIET_WINDOW => rules.quiet = Some(quiet_window(sized(tag, value)?)),
                _ => {}
            }
        }
        rules.check()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_seconds(out, INTERVAL, self.interval);
        if let Some(jitter) = self.jitter {
            tlv::put(out, JITTER, &[jitter]);
        }
        put_seconds(out, FLOOR, self.floor);
        put_seconds(out, CEILING, self.ceiling);
        if let Some(events) = self.events {
            tlv::put(out, EVENTS, &[events.0]);
        }
        if let Some(quiet) = self.quiet {
            let [a, b] = quiet.start.to_be_bytes();
            let [c, d] = quiet.length.to_be_bytes();
            tlv::put(out, QUIET_WINDOW, &[a, b, c, d]);
        }
    }
}

fn put_seconds(out: &mut Vec<u8>, tag: u32, value: Option<u32>) {
    if let Some(seconds) = value {
        tlv::put(out, tag, &seconds.to_be_bytes());
    }
}

fn quiet_window([a, b, c, d]: [u8; 4]) -> QuietWindow {
    QuietWindow {
        start: u16::from_be_bytes([a, b]),
        length: u16::from_be_bytes([c, d]),
    }
}

impl QuietWindow {
    /// Seconds until the window is over; 0 outside it. `posix` is the time in seconds.
    pub fn remaining(&self, posix: u64) -> u64 {
        let day = u64::from(DAY_MINUTES) * 60;
        let start = u64::from(self.start) * 60;
        let into = (posix % day + day - start % day) % day;
        (u64::from(self.length) * 60).saturating_sub(into)
    }
}

impl<'a> TransportUpdate<'a> {
    /// The update as it is, if its endpoint is host:port.
    pub fn check(self) -> Result<Self, RulesError> {
        let well_formed = |endpoint: &str| {
            let (host, port) = endpoint.rsplit_once(':')?;
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let plain = !host.contains([':', '[', ']', ' ']) && !host.is_empty();
            let port: u16 = port.parse().ok()?;
            ((bracketed || plain) && port > 0).then_some(())
        };
        match self.endpoint {
            Some(endpoint) if well_formed(endpoint).is_none() => Err(RulesError::Endpoint),
            _ => Ok(self),
        }
    }

    pub(super) fn decode(body: &'a [u8]) -> Result<Self, RulesError> {
        let mut update = Self {
            endpoint: None,
            lifetime: None,
        };
        for object in Reader::new(body) {
            let object = object.map_err(ObjectError::from)?;
            match object.tag {
                ENDPOINT => {
                    let text = str::from_utf8(object.value).map_err(|_| RulesError::Endpoint)?;
                    update.endpoint = Some(text);
                }
                LIFETIME => {
                    update.lifetime = Some(u32::from_be_bytes(sized(LIFETIME, object.value)?))
                }
                _ => {}
            }
        }
        update.check()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if let Some(endpoint) = self.endpoint {
            tlv::put(out, ENDPOINT, endpoint.as_bytes());
        }
        put_seconds(out, LIFETIME, self.lifetime);
    }
}

fn sized<const N: usize>(tag: u32, value: &[u8]) -> Result<[u8; N], ObjectError> {
    value.try_into().map_err(|_| ObjectError::Length {
        tag,
        len: value.len(),
        expected: N,
    })
}

impl fmt::Display for PollingRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            write!(f, "{separator}{text}")?;
            separator = ", ";
            Ok(())
        };
        if let Some(seconds) = self.interval {
            part(f, format_args!("every {seconds} s"))?;
        }
        if let Some(percent) = self.jitter {
            part(f, format_args!("± {percent} %"))?;
        }
        if let Some(seconds) = self.floor {
            part(f, format_args!("at least {seconds} s"))?;
        }
        if let Some(seconds) = self.ceiling {
            part(f, format_args!("at most {seconds} s"))?;
        }
        if let Some(events) = self.events {
            part(f, format_args!("events {:03b}", events.0))?;
        }
        if let Some(quiet) = self.quiet {
            part(
                f,
                format_args!("quiet from minute {} for {}", quiet.start, quiet.length),
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for TransportUpdate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.endpoint.unwrap_or("the home server"))?;
        match self.lifetime {
            Some(seconds) => write!(f, " for {seconds} s"),
            None => Ok(()),
        }
    }
}
