//! A fleet's polls over months, on a virtual clock: what load a schedule makes, before it is sent out.
//!
//! Owns the simulated cards' lives: power-ons, restarts of their terminals, messages that change the
//! schedule, losses. The times come from the [`Planner`], [`Rules`] and [`Backoff`] that every session
//! uses; cryptography and cards are left out. The same input gives the same result, on every run.

use std::time::Duration;

use fastrand::Rng;
use protocol::msg::Factor;

use super::{Backoff, Now, Planner, Rules, Schedule, Timeouts};

/// What is to be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// How many cards.
    pub cards: u32,
    /// For how many days.
    pub days: u32,
    /// What they poll by, where no message has changed it.
    pub schedule: Schedule,
    /// How long they wait for an answer.
    pub timeouts: Timeouts,
    /// How many polls or answers in a hundred are lost, at most 99.
    pub loss: u8,
    /// How many exchanges in a thousand bring a message that raises or lowers the frequency.
    pub changes: u16,
    /// How often a year a card is powered on anew, and how often its terminal restarts.
    pub restarts: u16,
    /// When it begins, in POSIX seconds.
    pub start: u64,
    /// Of all dice.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Polls that left, resends counted.
    pub polls: u64,
    /// Exchanges that were completed.
    pub exchanges: u64,
    /// Polls in each hour of the UTC day.
    pub hours: [u64; 24],
    /// Polls in the busiest minute of all.
    pub busiest_minute: u32,
    /// Polls that left in the quiet window; there should be none.
    pub in_quiet_window: u64,
    /// Of every poll's card and time: two runs with the same digest were the same.
    pub digest: u64,
}

const DAY: u64 = 24 * 3600;
const YEAR: Duration = Duration::from_secs(365 * DAY);
/// The shortest and longest simulated round trip, in milliseconds.
const ROUND_TRIP: std::ops::RangeInclusive<u64> = 20..=900;

impl Fleet {
    /// Runs it. One card after the other, since none knows of another.
    pub fn run(&self) -> Load {
        let mut tally = Tally::new(self);
        for card in 0..self.cards {
            tally.card = card.into();
            Life::new(self, card).run(&mut tally);
        }
        tally.load
    }

    fn end(&self) -> Duration {
        Duration::from_secs(u64::from(self.days) * DAY)
    }

    fn is_quiet(&self, wall: u64) -> bool {
        self.schedule
            .quiet
            .is_some_and(|quiet| quiet.remaining(wall) > 0)
    }
}

/// Counts polls.
struct Tally<'a> {
    fleet: &'a Fleet,
    load: Load,
    minutes: Vec<u32>,
    card: u64,
}

impl<'a> Tally<'a> {
    fn new(fleet: &'a Fleet) -> Self {
        let minutes = u64::from(fleet.days) * DAY / 60;
        Self {
            fleet,
            load: Load {
                polls: 0,
                exchanges: 0,
                hours: [0; 24],
                busiest_minute: 0,
                in_quiet_window: 0,
                digest: FNV_OFFSET,
            },
            minutes: vec![0; usize::try_from(minutes).unwrap_or(0)],
            card: 0,
        }
    }

    fn poll(&mut self, now: Now) {
        let load = &mut self.load;
        load.polls += 1;
        // Under 24, whatever the time.
        load.hours[usize::try_from(now.wall % DAY / 3600).unwrap_or(0)] += 1;
        load.in_quiet_window += u64::from(self.fleet.is_quiet(now.wall));
        for part in [self.card, now.mono.subsec_nanos().into(), now.wall] {
            load.digest = (load.digest ^ part).wrapping_mul(FNV_PRIME);
        }
        let minute = usize::try_from(now.mono.as_secs() / 60).unwrap_or(usize::MAX);
        if let Some(count) = self.minutes.get_mut(minute) {
            *count += 1;
            load.busiest_minute = load.busiest_minute.max(*count);
        }
    }
}

/// FNV-1a, 64 bits, over words: enough to tell runs apart.
const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01B3;

/// One card's life.
struct Life<'a> {
    fleet: &'a Fleet,
    rng: Rng,
    now: Now,
    planner: Planner,
    backoff: Backoff,
    rules: Rules,
    /// When its next power-on or restart comes.
    next_event: Duration,
    next_poll: u64,
    last_poll: Option<u64>,
}

impl<'a> Life<'a> {
    /// Cards were installed over time: the first polls spread over one interval.
    fn new(fleet: &'a Fleet, card: u32) -> Self {
        // Neighbouring seeds give unrelated sequences after one mixing.
        let mut rng = Rng::with_seed(Rng::with_seed(fleet.seed ^ u64::from(card) << 32).u64(..));
        let first = Duration::from_millis(rng.u64(0..=u64::from(fleet.schedule.interval) * 1000));
        let now = Now {
            mono: Duration::ZERO,
            wall: fleet.start,
        };
        let mut life = Self {
            fleet,
            rng,
            now,
            planner: Planner::new(fleet.schedule, first, None),
            backoff: Backoff::new(fleet.timeouts),
            rules: Rules::default(),
            next_event: Duration::MAX,
            next_poll: fleet.start + first.as_secs(),
            last_poll: None,
        };
        life.plan_event();
        life
    }

    fn run(mut self, tally: &mut Tally<'_>) {
        let end = self.fleet.end();
        loop {
            if self.next_event < self.planner.due() {
                self.go_to(self.next_event);
                self.event();
            } else {
                self.go_to(self.planner.due());
                if self.now.mono >= end {
                    return;
                }
                self.due(tally);
            }
        }
    }

    fn go_to(&mut self, mono: Duration) {
        self.now.mono = self.now.mono.max(mono);
        self.now.wall = self.fleet.start + self.now.mono.as_secs();
    }

    fn wait(&mut self, time: Duration) {
        self.go_to(self.now.mono + time);
    }

    /// A restart of the terminal, which goes on by what it remembers, or a power-on of the card.
    fn event(&mut self) {
        if self.rng.bool() {
            let (next, last) = (Some(self.next_poll), self.last_poll);
            self.planner = Planner::resume(*self.planner.schedule(), next, last, self.now);
        }
        self.planner.event(self.now);
        self.plan_event();
    }

    fn plan_event(&mut self) {
        let restarts = u32::from(self.fleet.restarts);
        self.next_event = if restarts == 0 {
            Duration::MAX
        } else {
            let mean = YEAR / restarts;
            let percent = self.rng.u32(1..=200);
            self.now.mono + mean * percent / 100
        };
    }

    fn due(&mut self, tally: &mut Tally<'_>) {
        let held_back = self.planner.held_back(self.now, &mut self.rng);
        if !held_back.is_zero() {
            return self.planner.postpone(self.now, held_back);
        }
        let mut resends = 0;
        while self.poll_is_lost(tally) {
            let timeout = self.backoff.timeout(resends, &mut self.rng);
            self.wait(timeout);
            self.wait_out_quiet_window();
            if self.now.mono >= self.fleet.end() {
                return;
            }
            resends += 1;
        }
        self.answered(resends);
        tally.load.exchanges += 1;
    }

    fn wait_out_quiet_window(&mut self) {
        loop {
            let held_back = self.planner.held_back(self.now, &mut self.rng);
            if held_back.is_zero() {
                return;
            }
            self.wait(held_back);
        }
    }

    fn poll_is_lost(&mut self, tally: &mut Tally<'_>) -> bool {
        self.planner.polled(self.now);
        self.last_poll = Some(self.now.wall);
        tally.poll(self.now);
        self.rng.u8(0..100) < self.fleet.loss.min(99)
    }

    fn answered(&mut self, resends: u32) {
        let round_trip = Duration::from_millis(self.rng.u64(ROUND_TRIP));
        self.wait(round_trip);
        if resends == 0 {
            self.backoff.measured(round_trip);
        }
        if self.rng.u16(0..1000) < self.fleet.changes {
            self.change();
        }
        let wait = self.planner.plan(self.now, &mut self.rng);
        self.next_poll = self.now.wall + wait.as_secs();
    }

    /// As many messages ask for more polls as for fewer.
    fn change(&mut self) {
        let own = self.fleet.schedule;
        if self.rng.bool() {
            self.rules.raise(own, Factor::DEFAULT);
        } else {
            self.rules.lower(own, Factor::DEFAULT);
        }
        self.planner.follow(self.rules.over(own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::msg::QuietWindow;

    /// A year of 10,000 cards that poll daily, at night only.
    fn year() -> Fleet {
        Fleet {
            cards: 10_000,
            days: 365,
            schedule: Schedule {
                interval: 24 * 3600,
                jitter: 25,
                floor: 3600,
                ceiling: 7 * 24 * 3600,
                quiet: Some(QuietWindow {
                    start: 6 * 60,
                    length: 16 * 60,
                }),
                ..Schedule::default()
            },
            timeouts: Timeouts::default(),
            loss: 5,
            changes: 10,
            restarts: 12,
            start: 1_700_000_000,
            seed: 1,
        }
    }

    #[test]
    fn a_year_of_ten_thousand_cards_keeps_to_its_schedule() {
        let load = year().run();
        assert_eq!(load.in_quiet_window, 0);
        let per_card = load.exchanges / 10_000;
        assert!(
            (250..=450).contains(&per_card),
            "{per_card} exchanges a card"
        );
        let resent = load.polls as f64 / load.exchanges as f64;
        assert!((1.04..1.07).contains(&resent), "{resent} polls an exchange");
        assert!(
            load.hours[6..22].iter().all(|polls| *polls == 0),
            "{:?}",
            load.hours
        );
        // Those that the window held back do not all come at its end.
        assert!(
            load.busiest_minute < 200,
            "{} polls in a minute",
            load.busiest_minute
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_year_and_another_seed_another() {
        let small = Fleet {
            cards: 300,
            ..year()
        };
        assert_eq!(small.run(), small.run());
        let other = Fleet { seed: 2, ..small };
        assert_ne!(small.run().digest, other.run().digest);
    }

    #[test]
    fn without_loss_and_events_a_card_polls_exactly_by_its_interval() {
        let steady = Fleet {
            cards: 1,
            days: 10,
            schedule: Schedule {
                interval: 3600,
                jitter: 0,
                ..Schedule::default()
            },
            loss: 0,
            changes: 0,
            restarts: 0,
            ..year()
        };
        let load = steady.run();
        assert_eq!(load.polls, load.exchanges);
        // Each exchange takes up to 0.9 s besides.
        assert!((238..=240).contains(&load.polls), "{}", load.polls);
    }
}
