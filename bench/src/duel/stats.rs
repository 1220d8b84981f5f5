//! What a series of paired ratios tells: its median, and how far chance may have moved it. Numbers in, numbers out.

use serde::Serialize;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 4000;
/// Parts of a thousand that lie below and above the interval: 95 % lie within.
const TAIL_PER_MILLE: usize = 25;

/// A median and the interval in which it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median of the series.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The median; of an even number of values the mean of the two in the middle. NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// Median and percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 13.3):
/// the series is drawn from itself 4,000 times. The same seed gives the same interval.
pub fn estimate(values: &[f64], seed: u64) -> Estimate {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut drawn = vec![0.0; values.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            drawn.fill_with(|| {
                values
                    .get(dice.usize(..values.len()))
                    .copied()
                    .unwrap_or(0.0)
            });
            drawn.sort_by(f64::total_cmp);
            median_of_sorted(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let tail = RESAMPLES * TAIL_PER_MILLE / 1000;
    Estimate {
        median: median(values),
        low: medians[tail],
        high: medians[RESAMPLES - 1 - tail],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_interval_holds_the_median_and_one_outlier_does_not_move_it() {
        let mut values: Vec<f64> = (0..41).map(|n| 0.80 + f64::from(n) * 0.001).collect();
        let calm = estimate(&values, 1);
        assert!(calm.low <= calm.median && calm.median <= calm.high);
        assert!(calm.high - calm.low < 0.02);
        values[40] = 100.0;
        assert_eq!(estimate(&values, 1).median, calm.median);
        assert!(estimate(&values, 1).high < 0.85);
    }

    #[test]
    fn the_interval_is_the_same_for_the_same_seed_and_a_point_for_equal_values() {
        let values = [1.0, 2.0, 5.0, 3.0, 8.0];
        assert_eq!(estimate(&values, 9), estimate(&values, 9));
        let same = estimate(&[0.9; 40], 3);
        assert_eq!((same.low, same.median, same.high), (0.9, 0.9, 0.9));
    }

    #[test]
    fn the_interval_covers_the_true_median_about_95_times_in_100() {
        let mut dice = fastrand::Rng::with_seed(5);
        let covers = (0..200).filter(|seed| {
            let values: Vec<f64> = (0..40).map(|_| dice.f64()).collect();
            let found = estimate(&values, *seed);
            found.low <= 0.5 && 0.5 <= found.high
        });
        let covers = covers.count();
        assert!((180..=200).contains(&covers), "{covers} of 200");
    }
}
