//! When to poll, and how long to wait: `run` and `simulate` share these.

use std::time::Duration;

use clap::Args;
use protocol::msg::QuietWindow;
use reader_bridge::session::{Schedule, Timeouts};

use crate::cli::{exit::Failure, values};

/// How long an answer is waited for.
#[derive(Args)]
#[command(next_help_heading = "Timing")]
pub(in crate::cli) struct Waiting {
    /// First timeout, before round trips were measured; it doubles with each resend.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "2s")]
    timeout: Duration,
    /// Shortest timeout [default: 1s, or --timeout if that is shorter].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    min_timeout: Option<Duration>,
    /// Longest timeout.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "5m")]
    max_timeout: Duration,
}

/// When to poll, as long as no message changes it.
#[derive(Args)]
#[command(next_help_heading = "Schedule")]
pub(in crate::cli) struct Polling {
    /// Time between polls.
    #[arg(long, value_name = "TIME", value_parser = values::seconds, default_value = "1h")]
    interval: u32,
    /// How far a poll may stray from the interval, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    jitter: u8,
    /// Shortest interval that messages may lead to [default: 60s, or --interval if that is shorter].
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    floor: Option<u32>,
    /// Longest interval that messages may lead to [default: 7d, or --interval if that is longer].
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    ceiling: Option<u32>,
    /// When to be silent, a window of the UTC day; it may run over midnight.
    #[arg(long, value_name = "HH:MM-HH:MM", value_parser = values::quiet_window)]
    quiet: Option<QuietWindow>,
}

impl Waiting {
    pub(in crate::cli) fn timeouts(&self) -> Result<Timeouts, Failure> {
        let initial = self.timeout;
        let min = self
            .min_timeout
            .unwrap_or(Timeouts::default().min.min(initial));
        let max = self.max_timeout;
        if initial.is_zero() || min.is_zero() || min > initial || initial > max {
            return Err(Failure::Arguments(format!(
                "--min-timeout {min:?}, --timeout {initial:?} and --max-timeout {max:?}: they must be above 0 and in this order"
            )));
        }
        Ok(Timeouts { initial, min, max })
    }
}

impl Polling {
    pub(in crate::cli) fn schedule(&self) -> Result<Schedule, Failure> {
        let usual = Schedule::default();
        let interval = self.interval;
        let floor = self.floor.unwrap_or(usual.floor.min(interval));
        let ceiling = self.ceiling.unwrap_or(usual.ceiling.max(interval));
        if !(floor..=ceiling).contains(&interval) {
            return Err(Failure::Arguments(format!(
                "--interval {interval}s is not between --floor {floor}s and --ceiling {ceiling}s"
            )));
        }
        Ok(Schedule {
            interval,
            jitter: self.jitter,
            floor,
            ceiling,
            quiet: self.quiet,
            ..usual
        })
    }
}
