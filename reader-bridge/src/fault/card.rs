//! A card that does wrong what it was asked to.
//!
//! Owns which command is struck by what ([`Plan`], without I/O), and what the terminal then sees ([`Faulty`]). Refuses to
//! know what commands mean.

use std::{thread, time::Duration};

use super::{CardFaults, Tell, When};
use crate::card::{Atr, Between, CardError, CardPort, Held, Interposed, Power, Wait};

/// What becomes of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The answer comes so much later.
    pub delay: Duration,
    /// And something else happens in its place.
    pub strike: Option<Strike>,
}

/// What happens in the place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The command is executed, and nothing comes back.
    Mute,
    /// 6CXX; the command is not executed.
    WrongLe(u8),
    /// The card is gone before it gets the command.
    Pull,
}

/// Decides, command by command.
#[derive(Debug)]
pub struct Plan {
    faults: CardFaults,
    random: fastrand::Rng,
    /// Commands since the beginning.
    commands: u64,
    /// Commands since the card got power.
    powered: u64,
    pulled: bool,
    /// The command that was answered 6CXX: with the right Le it goes through.
    asked: Option<[u8; HEADER]>,
}

const HEADER: usize = 4;

impl Plan {
    /// The same faults for the same seed and the same commands.
    pub fn new(faults: CardFaults, seed: u64) -> Self {
        Self {
            faults,
            random: fastrand::Rng::with_seed(seed),
            commands: 0,
            powered: 0,
            pulled: false,
            asked: None,
        }
    }

    /// The card has lost what it had in RAM; a mute one speaks again.
    pub fn power(&mut self) {
        self.powered = 0;
        self.asked = None;
    }

    /// What becomes of this command.
    pub fn command(&mut self, command: &[u8]) -> Decision {
        self.commands += 1;
        self.powered += 1;
        let delay = self.delay();
        let pull = self.pulls();
        let mute = self.strikes(self.faults.mute, self.powered);
        let wrong_le = self.wrong_le(command);
        let strike = match (pull, mute) {
            (true, _) => Some(Strike::Pull),
            (false, true) => Some(Strike::Mute),
            (false, false) => wrong_le.map(Strike::WrongLe),
        };
        Decision { delay, strike }
    }

    fn delay(&mut self) -> Duration {
        let Some(range) = &self.faults.delay else {
            return Duration::ZERO;
        };
        let (from, to) = (micros(*range.start()), micros(*range.end()));
        Duration::from_micros(self.random.u64(from..=to.max(from)))
    }

    /// After so many commands it happens once.
    fn pulls(&mut self) -> bool {
        let after = matches!(self.faults.pull, Some(When::After(_)));
        let strikes = self.strikes(self.faults.pull, self.commands) && !(after && self.pulled);
        self.pulled |= strikes;
        strikes
    }

    fn strikes(&mut self, when: Option<When>, commands: u64) -> bool {
        match when {
            None => false,
            Some(When::Always) => true,
            Some(When::Chance(chance)) => chance.strikes(&mut self.random),
            Some(When::After(count)) => commands > count,
        }
    }

    /// Only a command that says how much it wants can be told to want something else, and only once: whoever repeats it
    /// has done what was asked.
    fn wrong_le(&mut self, command: &[u8]) -> Option<u8> {
        let fault = self.faults.wrong_le?;
        let strikes = self.strikes(Some(fault.when), self.powered);
        let header = command.first_chunk().copied()?;
        let repeated = self.asked.take() == Some(header);
        let le = le(command)?;
        if repeated || !strikes {
            return None;
        }
        self.asked = Some(header);
        Some(fault.asked.unwrap_or(le))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The Le of a short command of case 2 or 4 (ISO/IEC 7816-3:2006, 12.1.3).
fn le(command: &[u8]) -> Option<u8> {
    match command {
        [_, _, _, _, le] => Some(*le),
        [_, _, _, _, lc, data @ ..] if *lc > 0 && data.len() == usize::from(*lc) + 1 => {
            data.last().copied()
        }
        _ => None,
    }
}

/// Any port, with faults.
pub type FaultyPort = Interposed<Faulty>;

/// Makes the faults happen.
pub struct Faulty {
    plan: Plan,
    /// How long whoever waits for a mute card waits.
    patience: Duration,
    tell: Tell,
}

impl FaultyPort {
    /// Lets what `plan` decides happen to the commands for `inner`. A mute card is given up after `patience`.
    pub fn faulty(inner: Box<dyn CardPort>, plan: Plan, patience: Duration, tell: Tell) -> Self {
        Self::new(
            inner,
            Faulty {
                plan,
                patience,
                tell,
            },
        )
    }
}

impl Between for Faulty {
    fn connect(&mut self, card: &mut dyn CardPort, wait: &Wait<'_>) -> Result<Atr, CardError> {
        let atr = card.connect(wait)?;
        self.plan.power();
        Ok(atr)
    }

    fn power(&mut self, card: &mut dyn CardPort, how: Power) -> Result<Atr, CardError> {
        let atr = card.power(how)?;
        self.plan.power();
        Ok(atr)
    }

    fn transmit(&mut self, card: &mut dyn Held, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let decision = self.plan.command(command);
        self.told(&decision, command);
        match decision.strike {
            Some(Strike::Pull) => Err(CardError::Gone("pulled, as --fault asks".to_owned())),
            Some(Strike::WrongLe(le)) => Ok(vec![0x6C, le]),
            Some(Strike::Mute) => {
                card.transmit(command)?;
                thread::sleep(self.patience);
                Err(CardError::Mute(self.patience.as_secs()))
            }
            None => {
                let answer = card.transmit(command);
                thread::sleep(decision.delay);
                answer
            }
        }
    }
}

impl Faulty {
    /// Tells the header only: what follows may be a secret.
    fn told(&mut self, decision: &Decision, command: &[u8]) {
        let what = match decision.strike {
            Some(Strike::Pull) => "the card is pulled before".to_owned(),
            Some(Strike::Mute) => "the card is mute after".to_owned(),
            Some(Strike::WrongLe(le)) => format!("the card answers 6C{le:02X} to"),
            None if decision.delay.is_zero() => return,
            None => format!("the card takes {:?} longer for", decision.delay),
        };
        let header = &command[..command.len().min(HEADER)];
        (self.tell)(format!("{what} {}", hex::encode_upper(header)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Faults;

    const POLL: &[u8] = &[0x80, 0x40, 0x00, 0x00, 0x00];

    fn plan(spec: &str, seed: u64) -> Plan {
        Plan::new(spec.parse::<Faults>().unwrap().card, seed)
    }

    fn strikes(plan: &mut Plan, commands: usize) -> Vec<Option<Strike>> {
        (0..commands).map(|_| plan.command(POLL).strike).collect()
    }

    #[test]
    fn the_same_seed_strikes_the_same_commands_and_another_one_others() {
        let spec = "card:delay=1ms-9ms,mute=10%,6Cxx=20%,pull=5%";
        let run = |seed| {
            let mut plan = plan(spec, seed);
            (0..200).map(|_| plan.command(POLL)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let struck = run(7).into_iter().filter_map(|decision| decision.strike);
        let struck: Vec<_> = struck.collect();
        for kind in [Strike::Mute, Strike::Pull, Strike::WrongLe(0)] {
            assert!(struck.contains(&kind), "{kind:?} never strikes");
        }
    }

    #[test]
    fn a_card_is_pulled_once_after_so_many_commands() {
        let mut plan = plan("card:pull-after=2", 1);
        let expected = [None, None, Some(Strike::Pull), None, None];
        assert_eq!(strikes(&mut plan, 5), expected);
    }

    #[test]
    fn a_mute_card_speaks_again_when_it_has_lost_power() {
        let mut plan = plan("card:mute-after=1", 1);
        assert_eq!(
            strikes(&mut plan, 3),
            [None, Some(Strike::Mute), Some(Strike::Mute)]
        );
        plan.power();
        assert_eq!(strikes(&mut plan, 2), [None, Some(Strike::Mute)]);
    }

    #[test]
    fn a_length_is_asked_for_once_and_only_where_there_is_one() {
        let mut exact = plan("card:6C14", 1);
        let mut same = plan("card:6Cxx", 1);
        for (command, asked) in [
            (&POLL[..4], None),
            (&[0x00, 0xA4, 0x04, 0x0C, 1, 0xA0], None),
            (POLL, Some(0)),
            (&[0x00, 0xA4, 0x04, 0x00, 1, 0xA0, 0x09], Some(0x09)),
        ] {
            assert_eq!(same.command(command).strike, asked.map(Strike::WrongLe));
            let first = exact.command(command).strike;
            assert_eq!(first, asked.map(|_| Strike::WrongLe(0x14)));
            assert_eq!(exact.command(command).strike, None, "the repetition");
            same.command(command);
        }
    }

    #[test]
    fn a_delay_of_a_range_stays_in_it() {
        let mut plan = plan("card:delay=2ms-3ms", 3);
        for _ in 0..100 {
            let delay = plan.command(POLL).delay;
            assert!((Duration::from_millis(2)..=Duration::from_millis(3)).contains(&delay));
        }
    }
}
