//! Attempts at a session: its beginning, its next step, its failures and their delays, its end.

use std::time::Duration;

use super::{
    agenda::{Carried, Job, Journal},
    agent::{Agent, State, is_due},
    event::{Deed, Ended},
    policy,
};
use crate::session::Now;

/// Sessions given up whose answers are kept.
const MAX_OWED: usize = 4;
/// The longest delay between attempts.
const MAX_RETRY: Duration = Duration::from_secs(3600);

/// Whether, and when, a session that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// Not: it would fail again.
    Never,
    /// After the usual delay.
    Later,
    /// When the server says, or after the usual delay if that is longer.
    After(Duration),
}

impl Agent {
    /// Takes up the next job that is due. The state is Idle.
    pub(super) fn proceed(&mut self, now: Now) {
        let at = self.agenda.jobs.iter().position(|job| is_due(job, now));
        let Some(at) = at else { return };
        // The job at hand is the first one.
        let job = self.agenda.jobs.remove(at);
        self.agenda.jobs.insert(0, job);
        self.attempt(now);
    }

    /// Begins an attempt at the job at hand.
    fn attempt(&mut self, now: Now) {
        let Some(job) = self.agenda.jobs.first_mut() else {
            return;
        };
        let Some(url) = job.url.clone() else {
            return self.prepare(now);
        };
        job.attempts = job.attempts.saturating_add(1);
        if self.iccid.is_none() {
            let why = "what the card has as its ICCID is none".to_owned();
            return self.fail(why, Retry::Never, now);
        }
        let permitted = policy::parse(&url).and_then(|url| self.options.policy.check(url));
        if let Err(why) = permitted {
            return self.fail(why.to_string(), Retry::Never, now);
        }
        let owed = self.agenda.owed.iter().position(|owed| owed.start == url);
        if let (None, Some(owed)) = (&job.journal, owed) {
            job.journal = Some(self.agenda.owed.remove(owed));
        }
        match &job.journal {
            Some(journal) => {
                self.resume = journal.sent;
                let url = journal.url.clone().unwrap_or(url);
                self.opened(url);
                self.go_on(now);
            }
            None => self.prepare(now),
        }
    }

    fn opened(&mut self, url: String) {
        let (resumed, job) = (self.resume, self.agenda.jobs.first());
        let Some((message_id, attempt)) = job.map(|job| (job.message, job.attempts)) else {
            return;
        };
        self.tell(Deed::OtaOpened {
            message_id,
            url,
            attempt,
            resumed,
        });
    }

    pub(super) fn begin(&mut self, body: Carried, now: Now) {
        self.resume = false;
        let Some(job) = self.job() else { return };
        let Some(url) = job.url.clone() else { return };
        job.journal = Some(Journal::new(&url, body));
        self.opened(url);
        self.post(now);
    }

    /// Takes the session at hand one step further.
    pub(super) fn go_on(&mut self, now: Now) {
        let Some(journal) = self.journal() else {
            return self.prepare(now);
        };
        let (running, next) = (journal.running.is_some(), journal.url.is_some());
        match (running, self.challenge, next) {
            (true, ..) => self.run(now),
            (false, Some(_), _) => self.sign(),
            (false, None, true) => self.post(now),
            (false, None, false) => self.end(Ended::Done, now),
        }
    }

    /// The session at hand makes no progress.
    pub(super) fn fail(&mut self, why: String, retry: Retry, now: Now) {
        let attempts = self.options.attempts;
        let Some(job) = self.agenda.jobs.first() else {
            return;
        };
        let (message_id, attempt) = (job.message, job.attempts);
        let at = job.journal.as_ref().and_then(|journal| journal.url.clone());
        let url = at.or_else(|| job.url.clone()).unwrap_or_default();
        let delay = match retry {
            Retry::Never => None,
            _ if attempt >= attempts => None,
            Retry::Later => Some(self.delay(attempt)),
            Retry::After(asked) => Some(self.delay(attempt).max(asked.min(MAX_RETRY))),
        };
        self.tell(Deed::OtaFailed {
            message_id,
            url,
            why,
            attempt,
            retry_in_ms: delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        });
        self.challenge = None;
        self.challenges = 0;
        match (delay, retry) {
            (Some(delay), _) => self.put_off(now.mono + delay, now),
            (None, Retry::Never) => self.end(Ended::Refused, now),
            (None, _) => self.end(Ended::GivenUp, now),
        }
    }

    /// The job at hand waits until then; others have their turn.
    fn put_off(&mut self, until: Duration, now: Now) {
        let job = self.agenda.jobs.remove(0);
        self.agenda.jobs.push(Job {
            retry_at: Some(until),
            ..job
        });
        self.save();
        self.state = State::Idle;
        self.proceed(now);
    }

    /// Doubles with each attempt, and strays by 20 % so that a fleet does not come back all at once.
    fn delay(&mut self, attempt: u32) -> Duration {
        let doubled = 1u32
            .checked_shl(attempt.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let delay = self.options.retry.saturating_mul(doubled).min(MAX_RETRY);
        delay.mul_f64(0.8 + 0.4 * self.rng.f64())
    }

    /// The session at hand is over.
    pub(super) fn end(&mut self, result: Ended, now: Now) {
        let Some(job) = self.job() else { return };
        let journal = job.journal.take();
        if result == Ended::Done && !job.keys.is_empty() {
            // The session that was taken up again was an older one.
            return self.prepare(now);
        }
        let (scripts, commands) = journal
            .as_ref()
            .map_or((0, 0), |journal| (journal.scripts, journal.commands));
        let message_id = job.message;
        self.tell(Deed::OtaDone {
            message_id,
            result,
            scripts,
            commands,
        });
        self.agenda.jobs.remove(0);
        let owed = journal.filter(|journal| result == Ended::GivenUp && journal.owes_answers());
        self.agenda.owed.extend(owed);
        if self.agenda.owed.len() > MAX_OWED {
            self.agenda.owed.remove(0);
        }
        self.proof = None;
        self.save();
        self.close_channel(now);
    }
}
