//! Lets devices poll: one poll at a time on each of a number of sockets, so that an answer belongs to
//! the device that polled there. Closed loop, or at a given rate.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::UdpSocket};

use crate::{
    device::{Device, Judged},
    report::Report,
};

/// How a fleet is driven.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server is.
    pub server: SocketAddr,
    /// Polls under way at most: the number of sockets.
    pub in_flight: usize,
    /// Exchanges begun per second; as many as the server answers if `None`.
    pub rate: Option<f64>,
    /// Ends after so many accepted responses.
    pub exchanges: Option<u64>,
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// How long an answer is waited for before the poll is repeated with a raised count.
    pub timeout: Duration,
    /// A device that got no answer to so many polls of one exchange is given up for now.
    pub attempts: u32,
    /// Faults of the link.
    pub faults: Faults,
    /// Seed of the faults and of the order of devices.
    pub seed: u64,
}

/// Faults of the link, in percent of the datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Polls that do not leave.
    pub lose_up: u8,
    /// Answers that are not looked at.
    pub lose_down: u8,
    /// Polls that are sent twice.
    pub duplicate: u8,
}

/// A socket and who polls on it.
struct Slot {
    socket: UdpSocket,
    /// The device's number in the fleet.
    device: Option<usize>,
    /// Tells an old deadline from the present one.
    round: u64,
    polls: u32,
    began: Instant,
}

/// A fleet at work.
pub struct Drive<'a> {
    plan: Plan,
    devices: &'a mut [Device],
    slots: Vec<Slot>,
    free: Vec<usize>,
    deadlines: VecDeque<(Instant, usize, u64)>,
    order: Vec<u32>,
    next: usize,
    dice: fastrand::Rng,
    poll: Poll,
    started: Instant,
    begun: u64,
    /// What came of it so far.
    pub report: Report,
}

/// Longest answer, and room to see one that is longer.
const ROOM: usize = 300;
/// How often the loop looks at the clock when nothing happens.
const TICK: Duration = Duration::from_millis(20);

impl<'a> Drive<'a> {
    /// Prepares sockets; nothing is sent before [`Drive::run`].
    pub fn new(plan: Plan, devices: &'a mut [Device]) -> io::Result<Self> {
        let poll = Poll::new()?;
        let in_flight = plan.in_flight.min(devices.len()).max(1);
        let slots: io::Result<Vec<Slot>> = (0..in_flight)
            .map(|number| slot(&poll, plan.server, number))
            .collect();
        let mut dice = fastrand::Rng::with_seed(plan.seed);
        let count = u32::try_from(devices.len()).unwrap_or(u32::MAX);
        let mut order: Vec<u32> = (0..count).collect();
        dice.shuffle(&mut order);
        Ok(Self {
            slots: slots?,
            free: (0..in_flight).collect(),
            deadlines: VecDeque::new(),
            order,
            next: 0,
            dice,
            poll,
            started: Instant::now(),
            begun: 0,
            report: Report::default(),
            devices,
            plan,
        })
    }

    /// Polls until the plan is fulfilled or `stop` is set; `progress` is called about once a second.
    pub fn run(&mut self, stop: &AtomicBool, mut progress: impl FnMut(&Report)) -> io::Result<()> {
        let mut events = Events::with_capacity(self.slots.len());
        self.started = Instant::now();
        let mut told = self.started;
        while !stop.load(Ordering::Relaxed) && !self.is_done() {
            self.begin_exchanges();
            self.wait(&mut events)?;
            let ready: Vec<usize> = events.iter().map(|event| event.token().0).collect();
            ready.into_iter().for_each(|slot| self.read(slot));
            self.expire();
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                self.report.elapsed = self.started.elapsed();
                progress(&self.report);
            }
        }
        self.report.elapsed = self.started.elapsed();
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let limit = if self.plan.rate.is_some() {
            Duration::from_millis(1)
        } else {
            TICK
        };
        match self.poll.poll(events, Some(limit)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            waited => waited,
        }
    }

    fn is_done(&self) -> bool {
        let enough = self
            .plan
            .exchanges
            .is_some_and(|enough| self.report.counts.accepted >= enough);
        let over = self
            .plan
            .duration
            .is_some_and(|limit| self.started.elapsed() >= limit);
        enough || over
    }

    /// As many as there are free sockets, or as the rate allows.
    fn begin_exchanges(&mut self) {
        let due = self.plan.rate.map_or(u64::MAX, |rate| {
            // Truncation is the point: whole exchanges only.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count"
            )]
            let due = (self.started.elapsed().as_secs_f64() * rate) as u64;
            due
        });
        while self.begun < due {
            let Some(slot) = self.free.pop() else {
                self.report.counts.no_socket += u64::from(self.plan.rate.is_some());
                return;
            };
            self.begun += 1;
            let device = self.order[self.next] as usize;
            self.next = (self.next + 1) % self.order.len();
            let now = Instant::now();
            let taken = &mut self.slots[slot];
            (taken.device, taken.polls, taken.began) = (Some(device), 0, now);
            self.send(slot, now);
        }
    }

    fn send(&mut self, number: usize, now: Instant) {
        let slot = &mut self.slots[number];
        let Some(device) = slot.device else { return };
        slot.polls += 1;
        slot.round += 1;
        self.deadlines
            .push_back((now + self.plan.timeout, number, slot.round));
        self.report.counts.polls += 1;
        let poll = self.devices[device].poll();
        if hits(&mut self.dice, self.plan.faults.lose_up) {
            self.report.counts.lost_up += 1;
            return;
        }
        let copies = 1 + usize::from(hits(&mut self.dice, self.plan.faults.duplicate));
        for _ in 0..copies {
            if slot.socket.send(poll.as_bytes()).is_err() {
                self.report.counts.send_errors += 1;
            }
        }
    }

    fn read(&mut self, number: usize) {
        let mut room = [0; ROOM];
        loop {
            let slot = &mut self.slots[number];
            let len = match slot.socket.recv(&mut room) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // ICMP: nobody listens there. The timeout repeats the poll.
                    self.report.counts.send_errors += 1;
                    return;
                }
            };
            if hits(&mut self.dice, self.plan.faults.lose_down) {
                self.report.counts.lost_down += 1;
            } else {
                self.answered(number, &room[..len]);
            }
        }
    }

    fn answered(&mut self, number: usize, datagram: &[u8]) {
        let slot = &mut self.slots[number];
        let Some(device) = slot.device else {
            self.report.counts.foreign += 1;
            return;
        };
        let polls = u16::try_from(slot.polls).unwrap_or(u16::MAX);
        match self.devices[device].judge(datagram) {
            Judged::Foreign => self.report.counts.foreign += 1,
            Judged::ImpossibleSent => self.report.counts.impossible_sent += 1,
            Judged::Accepted {
                sent,
                message,
                recovered,
            } => {
                self.report.counts.accepted += 1;
                self.report.counts.messages += u64::from(message.is_some());
                self.report.counts.recovered += u64::from(recovered);
                self.report.counts.resends += u64::from(polls.saturating_sub(1));
                self.report.counts.answers_lost += u64::from(sent.saturating_sub(1));
                self.report.latency(slot.began.elapsed());
                slot.device = None;
                slot.round += 1;
                self.free.push(number);
            }
        }
    }

    /// Repeats what was not answered in time. The timeout is the same for all, so deadlines come in order.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(&(deadline, number, round)) = self.deadlines.front() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_front();
            let slot = &mut self.slots[number];
            let (Some(device), true) = (slot.device, slot.round == round) else {
                continue;
            };
            self.report.counts.timeouts += 1;
            self.devices[device].raise();
            if slot.polls >= self.plan.attempts {
                self.report.counts.given_up += 1;
                slot.device = None;
                self.free.push(number);
            } else {
                self.send(number, now);
            }
        }
    }
}

fn slot(poll: &Poll, server: SocketAddr, number: usize) -> io::Result<Slot> {
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let any: SocketAddr = any.parse().map_err(io::Error::other)?;
    let mut socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    poll.registry()
        .register(&mut socket, Token(number), Interest::READABLE)?;
    Ok(Slot {
        socket,
        device: None,
        round: 0,
        polls: 0,
        began: Instant::now(),
    })
}

fn hits(dice: &mut fastrand::Rng, percent: u8) -> bool {
    percent > 0 && dice.u8(0..100) < percent
}
