//! The agent of one card: what is to be done because of messages, one thing after the other.
//!
//! Owns the order of jobs, attempts and their delays, and the card's comings and goings. The exchange with a server
//! is in `exchange`, the execution of a command string in `strand`, the hook program in `hook`.

use std::{collections::VecDeque, time::Duration};

use fastrand::Rng;
use protocol::{
    card::AID,
    identity::Iccid,
    remote::{self, Aid, Challenge, PublicKey},
};

use super::{
    agenda::{Agenda, HookCall, Job, Journal, KeyMade},
    channel::Channel,
    event::Deed,
    io::{Action, Input, Options, Wish},
    strand::Strand,
};
use crate::session::Now;

/// More sessions than this do not wait for one card.
const MAX_JOBS: usize = 32;
/// While a session waits for a time of the wall clock, that clock is looked at so often: somebody may set it.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// The agent.
#[derive(Debug)]
pub struct Agent {
    pub(super) options: Options,
    /// Absent where the card's ICCID is none.
    pub(super) iccid: Option<Iccid>,
    pub(super) agenda: Agenda,
    pub(super) state: State,
    pub(super) channel: Channel,
    /// The card is there.
    pub(super) card: bool,
    /// The session at hand was cut: its next request may have reached the server before.
    pub(super) resume: bool,
    /// A challenge that is not answered yet.
    pub(super) challenge: Option<Challenge>,
    /// Challenges to the request at hand.
    pub(super) challenges: u8,
    /// The card's proof, and the origin that it is for.
    pub(super) proof: Option<(url::Origin, String)>,
    /// Number of the request under way.
    pub(super) request: u64,
    pub(super) hook_runs: bool,
    pub(super) rng: Rng,
    out: VecDeque<Action>,
}

/// What is being waited for.
#[derive(Debug)]
pub(super) enum State {
    /// Something to do.
    Idle,
    /// The card.
    NoCard,
    /// Public keys from the card.
    Keys(Vec<PublicKey>),
    /// The card's signature.
    Signing,
    /// The server's answer.
    Posting,
    /// The card's answers to a command string.
    Running(Strand),
    /// The card's answer to the closing of the channel.
    Closing,
}

impl Agent {
    /// The agent of the card with this ICCID, with what is still to be done. `seed` is for jitter.
    pub fn new(options: Options, iccid: Option<Iccid>, mut agenda: Agenda, seed: u64) -> Self {
        if !options.hook {
            agenda.hooks.clear();
        }
        let mut rng = Rng::with_seed(seed);
        Self {
            resume: false,
            // Answers that come late, for an agent before this one, have other numbers.
            request: rng.u64(..u64::MAX / 2),
            options,
            iccid,
            agenda,
            state: State::Idle,
            channel: Channel::default(),
            card: false,
            challenge: None,
            challenges: 0,
            proof: None,
            hook_runs: false,
            rng,
            out: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Message(wish) => self.enter(wish, now),
            Input::CardReady => self.card_ready(now),
            Input::CardGone => self.card_gone(now),
            Input::Answered(answer) => self.answered(answer, now),
            Input::Signed(signed) => self.signed(signed, now),
            Input::Key(key) => self.key_read(key, now),
            Input::Http(number, result) => self.http(number, result, now),
            Input::Hook(result) => self.hook_ended(result),
            Input::Time => self.time(now),
            Input::NetworkChange => self.hurry(|_| true, now),
        }
    }

    /// What to do next; to be asked until there is nothing more, in order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// The next thing to do if it is one that may stand between two commands to a card that is held.
    pub fn next_while_held(&mut self) -> Option<Action> {
        match self.out.front()? {
            Action::Save(_) | Action::Tell(_) | Action::Transmit(_) => self.out.pop_front(),
            _ => None,
        }
    }

    /// The next thing to do if it is a promise to be kept before anything else happens.
    pub fn next_promise(&mut self) -> Option<Action> {
        match self.out.front()? {
            Action::Save(_) | Action::Tell(_) => self.out.pop_front(),
            _ => None,
        }
    }

    /// When to come back with [`Input::Time`], if nothing happens before.
    pub fn deadline(&self, now: Now) -> Option<Duration> {
        if !matches!(self.state, State::Idle) {
            return None;
        }
        let times = self.agenda.jobs.iter().map(|job| {
            let at = u64::from(job.at.unwrap_or(0)).saturating_sub(now.wall);
            let at = now.mono + Duration::from_secs(at).min(CLOCK_CHECK);
            at.max(job.retry_at.unwrap_or_default())
        });
        times.min()
    }

    /// Whether nothing is under way and nothing due; what waits for a time or another attempt may wait on.
    pub fn is_settled(&self, now: Now) -> bool {
        let idle = matches!(self.state, State::Idle);
        idle && !self.hook_runs
            && self.out.is_empty()
            && !self.agenda.jobs.iter().any(|job| is_due(job, now))
    }

    fn enter(&mut self, wish: Wish, now: Now) {
        if wish.id.is_some_and(|id| id <= self.agenda.last) {
            return;
        }
        let (hooks, jobs) = (self.agenda.hooks.len(), self.agenda.jobs.len());
        if self.options.hook {
            self.agenda.hooks.push(HookCall {
                id: wish.id,
                at: now.wall,
                message: wish.message.clone(),
            });
        }
        if let Some(id) = wish.id {
            self.enter_jobs(id, wish);
        }
        if (hooks, jobs) != (self.agenda.hooks.len(), self.agenda.jobs.len()) {
            self.save();
        }
        self.next_hook();
        // Whoever asks again may know that the server is back.
        let new: Vec<_> = self.agenda.jobs[jobs..]
            .iter()
            .map(|job| job.url.clone())
            .collect();
        self.hurry(|job| new.contains(&job.url), now);
    }

    /// What waits after a failure is tried at once.
    fn hurry(&mut self, which: impl Fn(&Job) -> bool, now: Now) {
        for job in self.agenda.jobs.iter_mut().filter(|job| which(job)) {
            job.retry_at = None;
        }
        self.time(now);
    }

    /// Keys go with a session of the same message that opens at once; otherwise to the default server, or else they
    /// are only told of.
    fn enter_jobs(&mut self, id: u32, wish: Wish) {
        let mut keys: Vec<_> = wish
            .keys
            .iter()
            .map(|(algorithm, slot)| KeyMade::new(*algorithm, *slot))
            .collect();
        for wanted in wish.sessions {
            let with = if wanted.at.is_none() {
                std::mem::take(&mut keys)
            } else {
                Vec::new()
            };
            self.enter_job(id, Some(wanted.url), wanted.at, with);
        }
        if !keys.is_empty() {
            let url = self
                .options
                .policy
                .default
                .as_ref()
                .map(ToString::to_string);
            self.enter_job(id, url, None, keys);
        }
        self.agenda.last = id;
    }

    fn enter_job(
        &mut self,
        message: u32,
        url: Option<String>,
        at: Option<u32>,
        keys: Vec<KeyMade>,
    ) {
        if self.agenda.jobs.len() >= MAX_JOBS {
            return self.tell(Deed::OtaFailed {
                message_id: message,
                url: url.unwrap_or_default(),
                why: format!("{MAX_JOBS} sessions wait already"),
                attempt: 0,
                retry_in_ms: None,
            });
        }
        self.agenda.jobs.push(Job {
            message,
            url,
            at,
            keys,
            attempts: 0,
            journal: None,
            retry_at: None,
        });
    }

    fn card_ready(&mut self, now: Now) {
        self.card = true;
        self.next_hook();
        match self.state {
            State::NoCard => {
                self.state = State::Idle;
                self.go_on(now);
            }
            State::Idle => self.proceed(now),
            _ => {}
        }
    }

    fn card_gone(&mut self, now: Now) {
        self.card = false;
        self.channel.lost();
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(strand) => self.cut(&strand, now),
            State::Keys(_) | State::Signing => self.state = State::NoCard,
            State::Closing => self.proceed(now),
            other => self.state = other,
        }
    }

    fn time(&mut self, now: Now) {
        if matches!(self.state, State::Idle) {
            self.proceed(now);
        }
    }

    /// The job at hand, while the state is not Idle.
    pub(super) fn job(&mut self) -> Option<&mut Job> {
        self.agenda.jobs.first_mut()
    }

    /// The session at hand, once it has begun.
    pub(super) fn journal(&mut self) -> Option<&mut Journal> {
        self.job().and_then(|job| job.journal.as_mut())
    }

    /// Who the session is with, for `X-Admin-From`.
    pub(super) fn name(&self) -> String {
        // SecApp's AID has eight bytes, and without an ICCID no session begins.
        match (Aid::new(&AID), self.iccid) {
            (Ok(aid), Some(iccid)) => remote::Agent { iccid, aid }.to_string(),
            _ => String::new(),
        }
    }

    pub(super) fn save(&mut self) {
        self.out.push_back(Action::Save(self.agenda.clone()));
    }

    pub(super) fn tell(&mut self, deed: Deed) {
        self.out.push_back(Action::Tell(deed));
    }

    pub(super) fn push(&mut self, action: Action) {
        self.out.push_back(action);
    }
}

/// Whether its times have come.
pub(super) fn is_due(job: &Job, now: Now) -> bool {
    job.at.is_none_or(|at| u64::from(at) <= now.wall)
        && job.retry_at.is_none_or(|at| at <= now.mono)
}
