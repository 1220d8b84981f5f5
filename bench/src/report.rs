//! What came of a run.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Counts and latencies.
#[derive(Debug)]
pub struct Report {
    /// Polls made, resends included.
    pub polls: u64,
    /// Responses accepted, each verified as a card verifies it.
    pub accepted: u64,
    /// Messages executed.
    pub messages: u64,
    /// Accepted under a recovery identity.
    pub recovered: u64,
    /// Polls repeated before an answer was accepted.
    pub resends: u64,
    /// Answers lost before the accepted one, as Sent tells.
    pub answers_lost: u64,
    /// Waits that ended without an answer.
    pub timeouts: u64,
    /// Devices given up in an exchange.
    pub given_up: u64,
    /// Datagrams that were not for the device that waited: late, duplicated or wrong.
    pub foreign: u64,
    /// Authentic answers whose Sent cannot be. Never, if the server is right.
    pub impossible_sent: u64,
    /// Polls that the plan's faults lost.
    pub lost_up: u64,
    /// Answers that the plan's faults lost.
    pub lost_down: u64,
    /// Errors of the sockets, ICMP's included.
    pub send_errors: u64,
    /// Times that an exchange was due and no socket was free.
    pub no_socket: u64,
    /// How long it has taken.
    pub elapsed: Duration,
    /// From the first poll of an exchange to its accepted answer, in microseconds.
    latencies: Histogram<u64>,
}

/// A report for programs.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the report")]
pub struct Summary {
    pub polls: u64,
    pub accepted: u64,
    pub messages: u64,
    pub recovered: u64,
    pub resends: u64,
    pub answers_lost: u64,
    pub timeouts: u64,
    pub given_up: u64,
    pub foreign: u64,
    pub impossible_sent: u64,
    pub lost_up: u64,
    pub lost_down: u64,
    pub send_errors: u64,
    pub no_socket: u64,
    pub seconds: f64,
    pub per_second: f64,
    pub latency_us: Latency,
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Default for Report {
    fn default() -> Self {
        // Two digits, a microsecond to an hour; the arguments are a constant that the tests make.
        let latencies = Histogram::new_with_bounds(1, 3_600_000_000, 2);
        Self {
            polls: 0,
            accepted: 0,
            messages: 0,
            recovered: 0,
            resends: 0,
            answers_lost: 0,
            timeouts: 0,
            given_up: 0,
            foreign: 0,
            impossible_sent: 0,
            lost_up: 0,
            lost_down: 0,
            send_errors: 0,
            no_socket: 0,
            elapsed: Duration::ZERO,
            latencies: latencies.unwrap_or_else(|_| unreachable!()),
        }
    }
}

impl Report {
    /// Notes the time of one exchange.
    pub(crate) fn latency(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros);
    }

    /// Exchanges per second.
    pub fn per_second(&self) -> f64 {
        let accepted = u32::try_from(self.accepted).unwrap_or(u32::MAX);
        f64::from(accepted) / self.elapsed.as_secs_f64().max(0.001)
    }

    /// For programs.
    pub fn summary(&self) -> Summary {
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        Summary {
            polls: self.polls,
            accepted: self.accepted,
            messages: self.messages,
            recovered: self.recovered,
            resends: self.resends,
            answers_lost: self.answers_lost,
            timeouts: self.timeouts,
            given_up: self.given_up,
            foreign: self.foreign,
            impossible_sent: self.impossible_sent,
            lost_up: self.lost_up,
            lost_down: self.lost_down,
            send_errors: self.send_errors,
            no_socket: self.no_socket,
            seconds: self.elapsed.as_secs_f64(),
            per_second: self.per_second(),
            latency_us: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: self.latencies.max(),
            },
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let summary = self.summary();
        let latency = &summary.latency_us;
        let counts = [
            ("polls", self.polls),
            ("answers accepted", self.accepted),
            ("messages executed", self.messages),
            ("recovered", self.recovered),
            ("polls repeated", self.resends),
            ("answers lost", self.answers_lost),
            ("timeouts", self.timeouts),
            ("given up", self.given_up),
            ("foreign answers", self.foreign),
            ("impossible Sent", self.impossible_sent),
            ("lost up by plan", self.lost_up),
            ("lost down by plan", self.lost_down),
            ("socket errors", self.send_errors),
            ("no socket free", self.no_socket),
        ];
        let shown = counts.iter().filter(|(_, count)| *count > 0);
        let rows: Vec<String> = shown
            .map(|(name, count)| format!("{name:<20}{count:>12}"))
            .collect();
        format!(
            "{}\n{:<20}{:>12.0} per second for {:.1} s\n{:<20}{:>12} µs median, {} p99, {} p99.9, {} longest",
            rows.join("\n"),
            "exchanges",
            summary.per_second,
            summary.seconds,
            "latency",
            latency.p50,
            latency.p99,
            latency.p999,
            latency.max,
        )
    }
}
