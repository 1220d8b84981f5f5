//! How long to wait for an answer: a timeout that follows the measured round trips (RFC 6298), and
//! exponential backoff with jitter.
//!
//! Owns the estimate. Refuses to know clocks and dice: both are handed in.

use std::time::Duration;

use fastrand::Rng;

/// Bounds of the timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The first one, before any round trip was measured.
    pub initial: Duration,
    /// The shortest, whatever was measured.
    pub min: Duration,
    /// The longest, however often a poll went unanswered.
    pub max: Duration,
}

impl Default for Timeouts {
    /// 2 s at first, 1 s at least (RFC 6298, 2.4), 5 min at most.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(2),
            min: Duration::from_secs(1),
            max: Duration::from_secs(300),
        }
    }
}

/// A timeout strays by so much to either side, in percent, so that devices that lost their server
/// together do not come back together.
const JITTER_PERCENT: u64 = 20;

/// The estimate of one path.
#[derive(Clone, Debug)]
pub struct Backoff {
    bounds: Timeouts,
    /// Smoothed round-trip time and its variation (RFC 6298, 2).
    estimate: Option<(Duration, Duration)>,
}

impl Backoff {
    /// Nothing measured yet.
    pub fn new(bounds: Timeouts) -> Self {
        Self {
            bounds,
            estimate: None,
        }
    }

    /// A round trip without a repetition was measured. Others say nothing (RFC 6298, 3; Karn).
    pub fn measured(&mut self, round_trip: Duration) {
        self.estimate = Some(match self.estimate {
            None => (round_trip, round_trip / 2),
            Some((smoothed, variation)) => {
                let error = smoothed.abs_diff(round_trip);
                ((smoothed * 7 + round_trip) / 8, (variation * 3 + error) / 4)
            }
        });
    }

    /// The path is another one: what was measured no longer counts.
    pub fn forget(&mut self) {
        self.estimate = None;
    }

    /// The timeout before backoff and jitter.
    pub fn base(&self) -> Duration {
        let Timeouts { initial, min, max } = self.bounds;
        let timeout = match self.estimate {
            None => initial,
            Some((smoothed, variation)) => smoothed + variation * 4,
        };
        timeout.max(min).min(max)
    }

    /// How long to wait after a poll that was repeated `resends` times before.
    pub fn timeout(&self, resends: u32, rng: &mut Rng) -> Duration {
        let doubled = 2u32
            .checked_pow(resends)
            .and_then(|factor| self.base().checked_mul(factor));
        let bounded = doubled.unwrap_or(self.bounds.max).min(self.bounds.max);
        let millis = u64::try_from(bounded.as_millis()).unwrap_or(u64::MAX / 1000);
        let span = millis * JITTER_PERCENT / 100;
        Duration::from_millis((millis - span + rng.u64(0..=2 * span)).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use proptest::prelude::{prop_assert, proptest};

    #[test]
    fn the_timeout_doubles_up_to_its_ceiling() {
        let backoff = Backoff::new(Timeouts::default());
        let mut rng = Rng::with_seed(1);
        for (resends, seconds) in [
            (0, 2.0),
            (1, 4.0),
            (2, 8.0),
            (7, 256.0),
            (8, 300.0),
            (4000, 300.0),
        ] {
            let timeout = backoff.timeout(resends, &mut rng).as_secs_f64();
            assert!(
                (seconds * 0.8..=seconds * 1.2).contains(&timeout),
                "{resends}: {timeout}"
            );
        }
    }

    #[test]
    fn the_timeout_follows_measured_round_trips() {
        let mut backoff = Backoff::new(Timeouts::default());
        backoff.measured(Duration::from_secs(4));
        assert_eq!(backoff.base(), Duration::from_secs(12));
        for _ in 0..50 {
            backoff.measured(Duration::from_secs(4));
        }
        assert!(
            backoff.base() < Duration::from_millis(4100),
            "{:?}",
            backoff.base()
        );
        for _ in 0..100 {
            backoff.measured(Duration::from_millis(1));
        }
        assert_eq!(
            backoff.base(),
            Duration::from_secs(1),
            "never under the floor"
        );
    }

    proptest! {
        #[test]
        fn no_timeout_exceeds_the_ceiling_and_its_jitter(resends: u32, seed: u64, trip in 0u64..10_000_000) {
            let mut backoff = Backoff::new(Timeouts::default());
            backoff.measured(Duration::from_millis(trip));
            let timeout = backoff.timeout(resends, &mut Rng::with_seed(seed));
            prop_assert!(timeout >= Duration::from_millis(800) && timeout <= Duration::from_secs(360));
        }
    }
}
