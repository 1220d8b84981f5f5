//! What a bad link does to each datagram. Decides and remembers; sends nothing and reads no clock.

use std::time::Duration;

/// Faults of the link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Percent of polls that do not arrive.
    pub lose_up: u8,
    /// Percent of answers that do not arrive.
    pub lose_down: u8,
    /// Percent of datagrams, either way, that arrive twice.
    pub duplicate: u8,
    /// Percent of datagrams, either way, that are overtaken by others.
    pub reorder: u8,
    /// For how long one that is overtaken is held up.
    pub hold: Duration,
    /// The link is dead for so long from the start.
    pub outage: Duration,
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at once.
    Arrives,
    /// It never arrives.
    Lost,
    /// It arrives, and a copy of it.
    Doubled,
    /// It arrives after this time.
    Held(Duration),
}

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A poll.
    Up,
    /// An answer.
    Down,
}

impl Faults {
    /// What becomes of the next datagram that goes this way, so long after the start.
    pub fn fate(&self, way: Way, since_start: Duration, dice: &mut fastrand::Rng) -> Fate {
        let lost = match way {
            Way::Up => self.lose_up,
            Way::Down => self.lose_down,
        };
        if since_start < self.outage || hits(dice, lost) {
            Fate::Lost
        } else if hits(dice, self.duplicate) {
            Fate::Doubled
        } else if hits(dice, self.reorder) {
            Fate::Held(self.hold)
        } else {
            Fate::Arrives
        }
    }
}

fn hits(dice: &mut fastrand::Rng, percent: u8) -> bool {
    percent > 0 && dice.u8(0..100) < percent
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_millis(5);

    fn count(faults: Faults, way: Way, fate: Fate) -> usize {
        let mut dice = fastrand::Rng::with_seed(1);
        let fates = (0..10_000).map(|_| faults.fate(way, HOLD, &mut dice));
        fates.filter(|one| *one == fate).count()
    }

    #[test]
    fn a_good_link_carries_everything_at_once() {
        assert_eq!(count(Faults::default(), Way::Up, Fate::Arrives), 10_000);
    }

    #[test]
    fn faults_hit_as_often_as_they_were_asked_to() {
        let faults = Faults {
            lose_up: 10,
            lose_down: 50,
            duplicate: 20,
            reorder: 30,
            hold: HOLD,
            outage: Duration::ZERO,
        };
        let near =
            |found: usize, expected: usize| assert!(found.abs_diff(expected) < 200, "{found}");
        near(count(faults, Way::Up, Fate::Lost), 1000);
        near(count(faults, Way::Down, Fate::Lost), 5000);
        near(count(faults, Way::Up, Fate::Doubled), 1800);
        near(count(faults, Way::Up, Fate::Held(HOLD)), 2160);
    }

    #[test]
    fn nothing_arrives_during_an_outage_and_everything_afterwards() {
        let faults = Faults {
            outage: Duration::from_secs(1),
            ..Faults::default()
        };
        let mut dice = fastrand::Rng::with_seed(1);
        let mut at = |ms| faults.fate(Way::Up, Duration::from_millis(ms), &mut dice);
        assert_eq!(
            (at(0), at(999), at(1000)),
            (Fate::Lost, Fate::Lost, Fate::Arrives)
        );
    }
}
