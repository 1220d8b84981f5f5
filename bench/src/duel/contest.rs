//! The rounds of a duel: each gives every target one slice, in an order drawn anew.
//!
//! A slice's clock is read before its first poll and again when its last answer has been verified and the target has had
//! time to do what it has put off (group commit): that work is the answers' too.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use super::{
    Failure,
    devices::{Devices, Polls, Then, Verdict},
    meter::{Meter, udp_drops},
    order::turns,
    report::{Outcome, Scenario},
    server::Server,
    target::Target,
    volley::{Aim, Generator, Volley},
};
use crate::wire::Inbox;

/// What is measured, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the polls are.
    pub scenario: Scenario,
    /// Subscriptions of the server.
    pub devices: u32,
    /// Rounds that count.
    pub rounds: usize,
    /// Polls of a slice.
    pub polls: usize,
    /// How they are sent.
    pub aim: Aim,
    /// From the last answer to the second reading of the clock, at least.
    pub settle: Duration,
    /// Seed of every order.
    pub seed: u64,
    /// Threads of each target: for the report.
    pub workers: usize,
}

/// What one slice took.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// CPU time of the target for one answer (or one poll dropped), in nanoseconds.
    pub nanos: f64,
    /// From the first poll to the last answer.
    pub wall: Duration,
    /// Part of that time in which the target ran.
    pub busy: f64,
    /// How often it went to sleep, for a thousand answers.
    pub sleeps: f64,
    /// Datagrams lost: without an answer, or dropped by the kernel.
    pub lost: u64,
}

/// One slice of each target.
pub type Round = [Slice; 3];

/// A target and the sockets that are connected to it.
struct Lane {
    meter: Meter,
    port: u16,
    generator: Generator,
}

/// A duel under way.
pub struct Contest<'a> {
    plan: Plan,
    /// The server, echo A, echo B.
    lanes: [Lane; 3],
    server: &'a Server,
    devices: Devices,
    dummies: Volley,
    replies: Inbox,
    verified: u64,
    stop: &'a AtomicBool,
}

impl<'a> Contest<'a> {
    /// Connects to a server whose subscriptions are `devices`, and to two echoes.
    pub fn new(
        plan: Plan,
        server: &'a Server,
        echoes: &[Target; 2],
        mut devices: Devices,
        stop: &'a AtomicBool,
    ) -> Result<Self, Failure> {
        let lane = |target: &Target| {
            Ok::<_, Failure>(Lane {
                meter: target.meter,
                port: target.address.port(),
                generator: Generator::connect(target.address, plan.aim)?,
            })
        };
        let lanes = [
            lane(server.target()?)?,
            lane(&echoes[0])?,
            lane(&echoes[1])?,
        ];
        let dummies = devices.dummies(plan.polls);
        Ok(Self {
            plan,
            lanes,
            server,
            devices,
            dummies,
            replies: Inbox::default(),
            verified: 0,
            stop,
        })
    }

    /// How many devices poll in a run of this plan.
    pub fn touched(plan: &Plan) -> u64 {
        let slices = plan.rounds + spare(plan.rounds);
        (slices * plan.polls) as u64
    }

    /// Runs all rounds; `progress` is told how many are done.
    pub fn run(mut self, mut progress: impl FnMut(usize)) -> Result<Outcome, Failure> {
        if self.devices.ring() < self.plan.polls as u64 {
            return Err(Failure::Usage(format!(
                "{} devices cannot make {} different polls in a slice: take fewer --polls",
                self.plan.devices, self.plan.polls
            )));
        }
        self.warm()?;
        let before = self.counted()?;
        let (mut rounds, mut void) = (Vec::new(), 0);
        for number in 0.. {
            let round = self.round(number)?;
            if round.iter().any(|slice| slice.lost > 0) {
                void += 1;
                if void > spare(self.plan.rounds) {
                    return Err(Failure::Lost(void));
                }
                continue;
            }
            rounds.push(round);
            progress(rounds.len());
            if rounds.len() == self.plan.rounds {
                break;
            }
        }
        self.check_counted(before, rounds.len())?;
        Ok(Outcome::new(&self.plan, &rounds, void, self.verified))
    }

    /// Every device that will be timed has one exchange before, so that each timed poll is a promotion. All go
    /// first, so that by its turn the server has long had to do with others.
    fn warm(&mut self) -> Result<(), Failure> {
        let mut left = self.devices.ring();
        while left > 0 {
            let count =
                usize::try_from(left).map_or(self.plan.polls, |left| left.min(self.plan.polls));
            let numbers = self.devices.take(count);
            self.exchange(&numbers, Then::Accept)?;
            left -= count as u64;
        }
        for number in [1, 2] {
            self.lanes[number]
                .generator
                .fire(&self.dummies, &mut self.replies, self.stop)?;
        }
        Ok(())
    }

    /// An exchange off the clock.
    fn exchange(&mut self, numbers: &[u32], then: Then) -> Result<Verdict, Failure> {
        let polls = self.devices.polls(numbers);
        let lane = &mut self.lanes[0];
        lane.generator
            .fire(&polls.volley, &mut self.replies, self.stop)?;
        self.verify(&polls, then)
    }

    fn verify(&mut self, polls: &Polls, then: Then) -> Result<Verdict, Failure> {
        let wires = self.lanes[0].generator.wires();
        let verdict = self.devices.verify(polls, &self.replies, wires, then);
        verdict.check(self.replies.len())?;
        self.verified += verdict.right;
        Ok(verdict)
    }

    fn round(&mut self, number: u64) -> Result<Round, Failure> {
        let mut slices = [None; 3];
        for turn in turns(3, number, self.plan.seed) {
            let polls = if turn == 0 {
                Some(self.prepare()?)
            } else {
                None
            };
            slices[turn] = Some(self.slice(turn, polls.as_ref())?);
        }
        // Every turn is one of the three, and each comes once.
        Ok(slices.map(|slice| slice.unwrap_or_else(|| unreachable!())))
    }

    /// The polls of the server's next slice, with what has to happen before.
    fn prepare(&mut self) -> Result<Polls, Failure> {
        if self.plan.scenario == Scenario::Miss {
            return Ok(self.devices.misses(self.plan.polls));
        }
        let numbers = self.devices.take(self.plan.polls);
        match self.plan.scenario {
            Scenario::Repeat => drop(self.exchange(&numbers, Then::Lose)?),
            Scenario::Message => self.offer_messages(&numbers)?,
            Scenario::Answer | Scenario::Miss => {}
        }
        Ok(self.devices.polls(&numbers))
    }

    /// Each device gets a message and accepts it, so that its next poll proves a delivery.
    fn offer_messages(&mut self, numbers: &[u32]) -> Result<(), Failure> {
        for number in numbers {
            self.server
                .queue(&self.devices.fleet().profile(*number).reference)?;
        }
        let verdict = self.exchange(numbers, Then::Accept)?;
        if verdict.messages < numbers.len() as u64 {
            let (got, of) = (verdict.messages, numbers.len());
            let error = format!(
                "only {got} of {of} devices were given the message that was queued for them"
            );
            return Err(Failure::Unmeasured(error));
        }
        Ok(())
    }

    /// One slice of one target. `polls`: the server's; an echo has its own.
    fn slice(&mut self, turn: usize, polls: Option<&Polls>) -> Result<Slice, Failure> {
        let lane = &mut self.lanes[turn];
        let volley = polls.map_or(&self.dummies, |polls| &polls.volley);
        let drops = lane.drops()?;
        let (cpu, sleeps) = (lane.meter.cpu()?, lane.meter.sleeps()?);
        let wall = lane.generator.fire(volley, &mut self.replies, self.stop)?;
        let over = Instant::now();
        let at_once = lane.meter.cpu()?.saturating_sub(cpu);
        let slept = lane.meter.sleeps()?.saturating_sub(sleeps);
        let dropped = lane.drops()?.saturating_sub(drops);
        let (answers, lost) = match polls {
            Some(polls) => self.check(polls)?,
            None => check_echo(volley, &self.replies, lane.generator.wires())?,
        };
        std::thread::sleep(self.plan.settle.saturating_sub(over.elapsed()));
        let cpu = self.lanes[turn].meter.cpu()?.saturating_sub(cpu);
        Ok(Slice {
            nanos: cpu.as_secs_f64() * 1e9 / answers as f64,
            wall,
            busy: at_once.as_secs_f64() / wall.as_secs_f64(),
            sleeps: slept as f64 * 1000.0 / answers as f64,
            lost: lost + dropped,
        })
    }

    /// Verifies the server's answers; how many polls were dealt with, and how many answers are missing.
    fn check(&mut self, polls: &Polls) -> Result<(u64, u64), Failure> {
        let verdict = self.verify(polls, Then::Accept)?;
        let answers = match self.plan.scenario {
            // The polls between are paid for by those that were dropped: there are few.
            Scenario::Miss => polls.volley.len() as u64 - verdict.right,
            _ => verdict.right,
        };
        Ok((answers.max(1), verdict.missing))
    }

    /// What the server itself counts of what is timed.
    fn counted(&self) -> Result<u64, Failure> {
        match self.plan.scenario {
            Scenario::Answer => self.server.counter("promotions"),
            Scenario::Message => self.server.counter("delivered"),
            Scenario::Repeat => self.server.counter("answered"),
            Scenario::Miss => self.server.dropped("unknown_identity"),
        }
    }

    /// The server has to agree that it did what was timed.
    fn check_counted(&self, before: u64, rounds: usize) -> Result<(), Failure> {
        let counted = self.counted()?.saturating_sub(before);
        let timed = (rounds * self.plan.polls) as u64;
        // Who lost an answer in a round that does not count polls again under the same identity.
        let least = timed - timed / 100;
        if counted < least {
            let error = format!(
                "{timed} polls were timed as {}, but the server counts {counted}: see its status",
                self.plan.scenario.name()
            );
            return Err(Failure::Unmeasured(error));
        }
        Ok(())
    }
}

impl Lane {
    /// Datagrams dropped by the kernel on either side.
    fn drops(&self) -> std::io::Result<u64> {
        let ours = self.generator.ports()?.into_iter();
        ours.chain([self.port]).map(udp_drops).sum()
    }
}

/// Rounds that may be lost.
const fn spare(rounds: usize) -> usize {
    rounds / 4 + 1
}

/// An echo has to return what was sent, on each wire in the order of sending; how many came, and how many are missing.
fn check_echo(volley: &Volley, replies: &Inbox, wires: usize) -> Result<(u64, u64), Failure> {
    let mut sent: Vec<Vec<usize>> = vec![Vec::new(); wires];
    (0..volley.len()).for_each(|at| sent[volley.wire(at, wires)].push(at));
    let mut sent: Vec<_> = sent.into_iter().map(Vec::into_iter).collect();
    let answers = replies.len() as u64;
    let missing = (volley.answers() as u64).saturating_sub(answers);
    let same = |(wire, reply): (usize, &[u8])| {
        let poll = sent[wire]
            .next()
            .map(|at| &volley.polls[at * volley.each..][..volley.each]);
        poll.is_some_and(|poll| poll.iter().eq(reply.iter().take(poll.len())))
    };
    let right = replies.iter().map(same).filter(|same| *same).count() as u64;
    if missing == 0 && right < answers {
        let wrong = answers - right;
        return Err(Failure::Wrong { wrong, answers });
    }
    Ok((answers.max(1), missing))
}
