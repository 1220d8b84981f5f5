//! The time of the next poll: the schedule applied to a clock.
//!
//! Owns when a poll is due, what brings it forward, and what holds it back. Refuses to know cards and
//! servers, so that a year of it runs in no time: see
//! [`simulate`](super::simulate).

use std::time::Duration;

use fastrand::Rng;

use super::{io::Now, schedule::Schedule};

/// When one card polls.
#[derive(Clone, Debug)]
pub struct Planner {
    schedule: Schedule,
    due: Duration,
    /// Somebody asked for this poll: no quiet window holds it back.
    wanted: bool,
    last_poll: Option<Duration>,
}

impl Planner {
    /// By this schedule, with the next poll due at `due` and the last one at `last_poll`, both in the
    /// time of [`Now::mono`].
    pub const fn new(schedule: Schedule, due: Duration, last_poll: Option<Duration>) -> Self {
        Self {
            schedule,
            due,
            wanted: false,
            last_poll,
        }
    }

    /// After a restart: with the next and the last poll as remembered, in POSIX seconds. However the
    /// clock was set meanwhile, the next poll is no further away than the schedule can ask for.
    pub fn resume(schedule: Schedule, next: Option<u64>, last: Option<u64>, now: Now) -> Self {
        let wait = next.map_or(Duration::ZERO, |next| {
            Duration::from_secs(next.saturating_sub(now.wall)).min(schedule.longest())
        });
        let since = last.map(|last| Duration::from_secs(now.wall.saturating_sub(last)));
        let last_poll = since.and_then(|since| now.mono.checked_sub(since));
        Self::new(schedule, now.mono + wait, last_poll)
    }

    /// The schedule in force.
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Another schedule from now on; what is due already stays so.
    pub const fn follow(&mut self, schedule: Schedule) {
        self.schedule = schedule;
    }

    /// When the next poll is due, in the time of [`Now::mono`].
    pub const fn due(&self) -> Duration {
        self.due
    }

    /// For how long the quiet window holds back a poll that is due now; zero if it may leave.
    pub fn held_back(&self, now: Now, rng: &mut Rng) -> Duration {
        if self.wanted {
            Duration::ZERO
        } else {
            self.schedule.quiet(now.wall, rng)
        }
    }

    /// The poll that is due waits this much longer.
    pub fn postpone(&mut self, now: Now, wait: Duration) {
        self.due = now.mono + wait;
    }

    /// A poll leaves.
    pub const fn polled(&mut self, now: Now) {
        self.last_poll = Some(now.mono);
    }

    /// An exchange is over: plans the next poll, and returns how long it is until then.
    pub fn plan(&mut self, now: Now, rng: &mut Rng) -> Duration {
        let mut wait = self.schedule.next(rng);
        wait += self
            .schedule
            .quiet(now.wall.saturating_add(wait.as_secs()), rng);
        self.wanted = false;
        self.due = now.mono + wait;
        wait
    }

    /// Somebody wants a poll, at once.
    pub const fn request(&mut self, now: Now) {
        self.due = now.mono;
        self.wanted = true;
    }

    /// An event asks for a poll: now, but not sooner after the last one than the floor allows.
    pub fn event(&mut self, now: Now) {
        let floor = self.schedule.floor();
        let earliest = self
            .last_poll
            .map_or(now.mono, |last| (last + floor).max(now.mono));
        self.due = self.due.min(earliest);
    }

    /// What was polled before a restart is unanswered: no need to wait.
    pub fn hurry(&mut self, now: Now) {
        self.due = self.due.min(now.mono);
    }
}
