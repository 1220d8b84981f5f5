//! When to poll: interval, jitter, floor and ceiling, quiet window, events.
//!
//! Owns the arithmetic and how messages change it. Refuses to know clocks and dice: both are handed in.
//! Governed by objects `A7`, `85` and `86` of MSG.

use std::time::Duration;

use fastrand::Rng;
use protocol::msg::{Events, Factor, PollingRules, QuietWindow};
use serde::{Deserialize, Serialize};

/// A schedule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Seconds between polls.
    pub interval: u32,
    /// How far a poll may stray from the interval, in percent of it, 0 to 100.
    pub jitter: u8,
    /// The shortest interval in seconds that messages may lead to, at least 1.
    pub floor: u32,
    /// The longest interval in seconds that messages may lead to.
    pub ceiling: u32,
    /// What else makes the device poll.
    pub events: Events,
    /// When it is to be silent.
    pub quiet: Option<QuietWindow>,
}

const DAY_MILLIS: u64 = 24 * 3600 * 1000;

impl Default for Schedule {
    /// Hourly ± 10 %, between a minute and a week, on every event.
    fn default() -> Self {
        Self {
            interval: 3600,
            jitter: 10,
            floor: 60,
            ceiling: 7 * 24 * 3600,
            events: Events(Events::POWER_ON | Events::NETWORK_CHANGE | Events::HOST_REQUEST),
            quiet: None,
        }
    }
}

/// What messages have changed of a schedule; the rest is the terminal's own configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Seconds between polls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<u32>,
    /// Percent of the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<u8>,
    /// Shortest interval in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<u32>,
    /// Longest interval in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<u32>,
    /// Bits of object `94`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u8>,
    /// Start and length in minutes of the UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<(u16, u16)>,
}

impl Rules {
    /// The schedule in force: `own` with these changes.
    pub fn over(&self, own: Schedule) -> Schedule {
        let floor = self.floor.unwrap_or(own.floor).max(1);
        let ceiling = self.ceiling.unwrap_or(own.ceiling).max(floor);
        let quiet = match self.quiet {
            Some((start, length)) => Some(QuietWindow { start, length }),
            None => own.quiet,
        };
        Schedule {
            interval: self.interval.unwrap_or(own.interval).clamp(floor, ceiling),
            jitter: self.jitter.unwrap_or(own.jitter).min(100),
            floor,
            ceiling,
            events: self.events.map_or(own.events, Events),
            quiet: quiet.filter(|window| window.length > 0),
        }
    }

    /// Polling rules (`A7`): what is absent stays as it was. A new floor above the old ceiling takes
    /// the ceiling with it, and the other way round.
    pub fn set(&mut self, own: Schedule, rules: &PollingRules) {
        let before = self.over(own);
        self.interval = rules.interval.or(self.interval);
        self.jitter = rules.jitter.or(self.jitter);
        self.events = rules.events.map(|events| events.0).or(self.events);
        self.quiet = rules
            .quiet
            .map(|quiet| (quiet.start, quiet.length))
            .or(self.quiet);
        self.floor = rules.floor.or(self.floor);
        self.ceiling = rules.ceiling.or(self.ceiling);
        let (floor, ceiling) = (rules.floor, rules.ceiling);
        if floor.is_some_and(|floor| floor > before.ceiling) && ceiling.is_none() {
            self.ceiling = floor;
        } else if ceiling.is_some_and(|ceiling| ceiling < before.floor) && floor.is_none() {
            self.floor = ceiling;
        }
    }

    /// Object `85`: poll more often, within floor and ceiling.
    pub fn raise(&mut self, own: Schedule, factor: Factor) {
        self.scale(own, |interval| factor.raise(interval));
    }

    /// Object `86`: poll less often, within floor and ceiling.
    pub fn lower(&mut self, own: Schedule, factor: Factor) {
        self.scale(own, |interval| factor.lower(interval));
    }

    fn scale(&mut self, own: Schedule, scaled: impl FnOnce(u64) -> u64) {
        let now = self.over(own);
        let interval = u32::try_from(scaled(now.interval.into())).unwrap_or(u32::MAX);
        self.interval = Some(interval.clamp(now.floor, now.ceiling));
    }
}

impl Schedule {
    /// How long until the next poll: the interval, strayed by up to `jitter` percent to either side,
    /// and at least a second.
    pub fn next(&self, rng: &mut Rng) -> Duration {
        let interval = u64::from(self.interval) * 1000;
        let span = interval * u64::from(self.jitter) / 100;
        let millis = interval - span + rng.u64(0..=2 * span);
        Duration::from_millis(millis.max(1000))
    }

    /// The longest that [`Schedule::next`] can be, and a quiet window after it.
    pub fn longest(&self) -> Duration {
        let interval = u64::from(self.interval) * 2;
        let quiet = self.quiet.map_or(0, |window| u64::from(window.length) * 60);
        Duration::from_secs(interval + quiet)
    }

    /// How long to be silent yet at this time in POSIX seconds; zero outside the quiet window. Polls
    /// that it held back do not all leave at its end: they spread over a jitter's width, as far as the
    /// day reaches.
    pub fn quiet(&self, wall: u64, rng: &mut Rng) -> Duration {
        let Some(window) = self.quiet else {
            return Duration::ZERO;
        };
        let left = window.remaining(wall);
        if left == 0 {
            return Duration::ZERO;
        }
        let jitter = u64::from(self.interval) * u64::from(self.jitter) * 10;
        let open = DAY_MILLIS.saturating_sub(u64::from(window.length) * 60_000);
        Duration::from_secs(left) + Duration::from_millis(rng.u64(0..=jitter.min(open / 2)))
    }

    /// The shortest time between a poll and one that an event asks for.
    pub fn floor(&self) -> Duration {
        Duration::from_secs(self.floor.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use proptest::prelude::{any, prop_assert, proptest};

    fn own() -> Schedule {
        Schedule {
            interval: 600,
            jitter: 0,
            floor: 60,
            ceiling: 3600,
            ..Schedule::default()
        }
    }

    #[test]
    fn faster_and_slower_stay_within_floor_and_ceiling() {
        let mut rules = Rules::default();
        rules.raise(own(), Factor::DEFAULT);
        assert_eq!(rules.over(own()).interval, 300);
        rules.raise(own(), Factor::new(u16::MAX).unwrap());
        assert_eq!(rules.over(own()).interval, 60);
        rules.lower(own(), Factor::DEFAULT);
        assert_eq!(rules.over(own()).interval, 120);
        rules.lower(own(), Factor::new(u16::MAX).unwrap());
        assert_eq!(rules.over(own()).interval, 3600);
    }

    #[test]
    fn what_polling_rules_leave_out_stays_as_it_was() {
        let mut rules = Rules::default();
        rules.set(
            own(),
            &PollingRules {
                interval: Some(120),
                ..PollingRules::default()
            },
        );
        rules.set(
            own(),
            &PollingRules {
                jitter: Some(5),
                ..PollingRules::default()
            },
        );
        let schedule = rules.over(own());
        assert_eq!(
            (schedule.interval, schedule.jitter, schedule.floor),
            (120, 5, 60)
        );
    }

    #[test]
    fn a_floor_above_the_ceiling_takes_it_along() {
        let mut rules = Rules::default();
        rules.set(
            own(),
            &PollingRules {
                floor: Some(7200),
                ..PollingRules::default()
            },
        );
        let schedule = rules.over(own());
        assert_eq!(
            (schedule.floor, schedule.ceiling, schedule.interval),
            (7200, 7200, 7200)
        );
        rules.set(
            own(),
            &PollingRules {
                ceiling: Some(30),
                ..PollingRules::default()
            },
        );
        let schedule = rules.over(own());
        assert_eq!(
            (schedule.floor, schedule.ceiling, schedule.interval),
            (30, 30, 30)
        );
    }

    #[test]
    fn an_interval_outside_the_bounds_is_brought_back() {
        let mut rules = Rules::default();
        rules.set(
            own(),
            &PollingRules {
                interval: Some(1),
                ..PollingRules::default()
            },
        );
        assert_eq!(rules.over(own()).interval, 60);
    }

    const HOUR: u64 = 3600;

    fn quiet(start: u16, length: u16) -> Schedule {
        Schedule {
            quiet: Some(QuietWindow { start, length }),
            ..own()
        }
    }

    #[test]
    fn a_quiet_window_over_midnight_is_silent_on_both_sides() {
        let schedule = quiet(23 * 60, 120);
        let mut rng = Rng::with_seed(1);
        let mut left = |wall| schedule.quiet(wall, &mut rng).as_secs();
        let day = 20_000 * 24 * HOUR;
        assert_eq!(left(day + 23 * HOUR - 1), 0);
        assert_eq!(left(day + 23 * HOUR), 2 * HOUR);
        assert_eq!(left(day + 24 * HOUR), HOUR);
        assert_eq!(left(day + 25 * HOUR - 1), 1);
        assert_eq!(left(day + 25 * HOUR), 0);
    }

    #[test]
    fn a_quiet_window_of_no_length_is_none() {
        let mut rules = Rules {
            quiet: Some((0, 60)),
            ..Rules::default()
        };
        assert!(rules.over(own()).quiet.is_some());
        let off = PollingRules {
            quiet: Some(QuietWindow {
                start: 0,
                length: 0,
            }),
            ..PollingRules::default()
        };
        rules.set(own(), &off);
        assert_eq!(rules.over(own()).quiet, None);
    }

    proptest! {
        #[test]
        fn the_next_poll_is_within_jitter_of_the_interval(
            interval in 1u32.., jitter in 0u8..=100, seed: u64,
        ) {
            let schedule = Schedule { interval, jitter, floor: 1, ceiling: u32::MAX, ..own() };
            let next = schedule.next(&mut Rng::with_seed(seed)).as_millis();
            let (interval, jitter) = (u128::from(interval) * 1000, u128::from(jitter));
            prop_assert!(next >= (interval - interval * jitter / 100).max(1000));
            prop_assert!(next <= (interval + interval * jitter / 100).max(1000));
            prop_assert!(next <= schedule.longest().as_millis());
        }

        #[test]
        fn any_rules_in_any_order_leave_a_schedule_that_holds_together(
            steps in proptest::collection::vec(any::<(Option<u32>, Option<u32>, Option<u32>, bool, u16)>(), 0..20),
        ) {
            let mut rules = Rules::default();
            for (interval, floor, ceiling, up, factor) in steps {
                let asked = PollingRules { interval, floor, ceiling, ..PollingRules::default() };
                if let Ok(asked) = asked.check() {
                    rules.set(own(), &asked);
                }
                if let Some(factor) = Factor::new(factor) {
                    if up { rules.raise(own(), factor) } else { rules.lower(own(), factor) }
                }
                let schedule = rules.over(own());
                prop_assert!(1 <= schedule.floor && schedule.floor <= schedule.interval);
                prop_assert!(schedule.interval <= schedule.ceiling);
            }
        }
    }
}
