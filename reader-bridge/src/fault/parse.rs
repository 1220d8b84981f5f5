//! What `--fault` takes: `card:delay=50ms,pull-after=3`, `net:loss=10%,dup=1%`.

use std::{str::FromStr, time::Duration};

use super::{CardFaults, Chance, Faults, MILLION, NetFaults, When, WrongLe};

const CARD: &str = "delay=TIME or delay=TIME-TIME, mute, mute=P%, mute-after=N, 6Cxx, 6Cxx=P%, pull=P%, pull-after=N";
const NET: &str = "loss=P%, dup=P%, reorder=P%, corrupt=P%";
/// Longer than any reader waits.
const LONGEST: Duration = Duration::from_secs(3600);

/// A text that asks for no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Another word before the colon, or no colon.
    #[error(
        "{0:?} is no kind of fault; write card:FAULT,… ({CARD}) or net:FAULT,…, net-up:…, net-down:… ({NET})"
    )]
    Kind(String),
    /// A fault that this kind does not have.
    #[error("{0:?} is no fault of {1}; there are {2}")]
    Unknown(String, &'static str, &'static str),
    /// A value that is none of this fault.
    #[error("{fault}={value}: {expected}")]
    Value {
        /// The fault.
        fault: String,
        /// What was written after `=`, if anything.
        value: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// Two wishes that contradict each other.
    #[error("{0} is given twice")]
    Twice(String),
}

impl FromStr for Faults {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut faults = Self::default();
        faults.add(text)?;
        Ok(faults)
    }
}

impl Faults {
    /// Adds what one `--fault` asks for.
    pub fn add(&mut self, text: &str) -> Result<(), FaultError> {
        let (kind, list) = text.split_once(':').unwrap_or((text, ""));
        for item in list.split(',').map(str::trim) {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (item, None),
            };
            match kind {
                "card" => self.card.add(name, value)?,
                "net" => {
                    self.up.add(name, value)?;
                    self.down.add(name, value)?;
                }
                "net-up" => self.up.add(name, value)?,
                "net-down" => self.down.add(name, value)?,
                _ => return Err(FaultError::Kind(text.to_owned())),
            }
        }
        Ok(())
    }
}

impl CardFaults {
    fn add(&mut self, name: &str, value: Option<&str>) -> Result<(), FaultError> {
        let chance = |value| chance(name, value).map(When::Chance);
        match (name, value) {
            ("delay", value) => once(&mut self.delay, name, delay(value)?),
            ("mute", None) => once(&mut self.mute, name, When::Always),
            ("mute", value) => once(&mut self.mute, name, chance(value)?),
            ("mute-after", value) => once(&mut self.mute, name, after(name, value)?),
            ("pull", value) => once(&mut self.pull, name, chance(value)?),
            ("pull-after", value) => once(&mut self.pull, name, after(name, value)?),
            _ => {
                let asked = wrong_le(name)
                    .ok_or_else(|| FaultError::Unknown(name.to_owned(), "a card", CARD))?;
                let when = value.map_or(Ok(When::Always), |value| chance(Some(value)))?;
                once(&mut self.wrong_le, name, WrongLe { asked, when })
            }
        }
    }
}

impl NetFaults {
    fn add(&mut self, name: &str, value: Option<&str>) -> Result<(), FaultError> {
        let place = match name {
            "loss" => &mut self.loss,
            "dup" => &mut self.dup,
            "reorder" => &mut self.reorder,
            "corrupt" => &mut self.corrupt,
            _ => return Err(FaultError::Unknown(name.to_owned(), "the network", NET)),
        };
        if *place != Chance::default() {
            return Err(FaultError::Twice(name.to_owned()));
        }
        *place = chance(name, value)?;
        Ok(())
    }
}

fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), FaultError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(FaultError::Twice(name.to_owned())),
    }
}

fn wrong(fault: &str, value: Option<&str>, expected: &'static str) -> FaultError {
    FaultError::Value {
        fault: fault.to_owned(),
        value: value.unwrap_or_default().to_owned(),
        expected,
    }
}

/// `10%`, `0.5%`.
fn chance(fault: &str, value: Option<&str>) -> Result<Chance, FaultError> {
    let percent = value.and_then(|text| text.strip_suffix('%')?.parse::<f64>().ok());
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    let Some(percent) = percent else {
        return Err(wrong(fault, value, "write a percentage from 0% to 100%"));
    };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a million, as just checked"
    )]
    let millionths = (percent / 100.0 * f64::from(MILLION)).round() as u32;
    Ok(Chance(millionths))
}

fn after(fault: &str, value: Option<&str>) -> Result<When, FaultError> {
    let count = value.and_then(|text| text.parse().ok());
    count
        .map(When::After)
        .ok_or_else(|| wrong(fault, value, "write a number of commands"))
}

/// `50ms`, `10ms-2s`.
fn delay(value: Option<&str>) -> Result<std::ops::RangeInclusive<Duration>, FaultError> {
    let range = || {
        let text = value?;
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let time = |text: &str| humantime::parse_duration(text).ok();
        let (from, to) = (time(from)?, time(to)?);
        (from <= to && to <= LONGEST).then_some(from..=to)
    };
    range().ok_or_else(|| {
        wrong(
            "delay",
            value,
            "write a time up to an hour, or the shortest and the longest: 50ms, 10ms-2s",
        )
    })
}

/// `6Cxx` asks for the Le that was given, `6C14` for 14.
fn wrong_le(name: &str) -> Option<Option<u8>> {
    let digits = name
        .strip_prefix("6C")
        .or_else(|| name.strip_prefix("6c"))?;
    if digits.eq_ignore_ascii_case("xx") {
        return Some(None);
    }
    let hex = digits.len() == 2 && digits.chars().all(|c| c.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_asked_for_alone_and_together() {
        let faults: Faults = "card:delay=10ms-2s, mute-after=4,6C14=25%,pull=0.5%"
            .parse()
            .unwrap();
        let card = CardFaults {
            delay: Some(Duration::from_millis(10)..=Duration::from_secs(2)),
            mute: Some(When::After(4)),
            wrong_le: Some(WrongLe {
                asked: Some(0x14),
                when: When::Chance(Chance(250_000)),
            }),
            pull: Some(When::Chance(Chance(5_000))),
        };
        assert_eq!(faults.card, card);
        let mut faults: Faults = "net:loss=10%,dup=1%".parse().unwrap();
        faults.add("net-down:corrupt=100%").unwrap();
        assert_eq!(
            (faults.up.loss, faults.down.loss),
            (Chance(100_000), Chance(100_000))
        );
        assert_eq!(
            (faults.up.corrupt, faults.down.corrupt),
            (Chance(0), Chance(1_000_000))
        );
        for alone in [
            "card:mute",
            "card:6Cxx",
            "card:6cXX=3%",
            "card:pull-after=0",
            "card:delay=1s",
        ] {
            assert!(alone.parse::<Faults>().unwrap().has_card(), "{alone}");
        }
        assert!(!faults.has_card() && faults.has_net());
    }

    #[test]
    fn what_is_no_fault_is_refused_with_what_to_write() {
        for (text, part) in [
            ("", "card:FAULT"),
            ("loss=10%", "card:FAULT"),
            ("disk:slow", "card:FAULT"),
            ("card", "\"\" is no fault of a card; there are delay=TIME"),
            ("card:dely=1s", "\"dely\" is no fault of a card"),
            ("card:6Cx", "no fault of a card"),
            ("card:6C+1", "no fault of a card"),
            ("card:delay", "delay=: write a time"),
            ("card:delay=5", "delay=5: write a time"),
            ("card:delay=2s-1s", "write a time"),
            ("card:pull", "pull=: write a percentage"),
            (
                "card:pull-after=x",
                "pull-after=x: write a number of commands",
            ),
            ("card:mute=10", "mute=10: write a percentage"),
            ("card:mute,mute-after=3", "mute-after is given twice"),
            ("net:", "\"\" is no fault of the network; there are loss"),
            ("net:loss=101%", "0% to 100%"),
            ("net:loss=-1%", "0% to 100%"),
            ("net:loss=NaN%", "0% to 100%"),
            ("net:loss=0.1", "write a percentage"),
            ("net:loss=1%,loss=2%", "loss is given twice"),
        ] {
            let told = text.parse::<Faults>().unwrap_err().to_string();
            assert!(told.contains(part), "{text}: {told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(card|net|net-up)?:?([-a-z6C0-9=%,.]|mute|delay=|loss=){0,20}") {
            drop(text.parse::<Faults>());
        }
    }
}
