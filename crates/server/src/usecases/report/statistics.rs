//! Intervals of 95 %, each by a method that an analyst would expect, from how often each value came up.
//!
//! Sources: E. B. Wilson, Probable inference, JASA 22 (1927), for shares; W. J. Conover, Practical Nonparametric
//! Statistics, 3rd edition, 3.2, for quantiles; Student's t and Welch's for means; B. Rocks, Interval estimation for the
//! "Net Promoter Score", The American Statistician 70 (2016), for the score. `docs/REPORT.md` says when each is used.

use nudge_store::Counts;
use serde::Serialize;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

/// The two-sided quantile of the normal distribution for 95 %.
const Z: f64 = 1.959_963_984_540_054;
/// What is left on either side.
const TAIL: f64 = 0.025;
/// From this variance on a binomial distribution counts as normal.
const NORMAL_VARIANCE: f64 = 400.0;

/// An interval that holds the true value in 95 of 100 such samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    fn around(center: f64, half: f64) -> Self {
        Self { low: center - half, high: center + half }
    }
}

/// Number, mean and variance of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// Number of observations.
    pub n: i64,
    /// Their mean.
    pub mean: f64,
    /// Their variance, with n − 1.
    pub variance: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Moments {
    /// Adds up what was counted; `None` of nothing. `unit` is the size of one in the figure's unit.
    pub fn of(counts: &Counts, unit: f64) -> Option<Self> {
        let n = counts.total();
        if n <= 0 {
            return None;
        }
        let sum: i128 = counts.iter().map(|(value, times)| i128::from(value) * i128::from(times)).sum();
        let mean = sum as f64 / n as f64;
        let spread: f64 =
            counts.iter().map(|(value, times)| (value as f64 - mean).powi(2) * times as f64).sum();
        let squares: f64 = counts.iter().map(|(value, times)| (value as f64).powi(2) * times as f64).sum();
        let variance = if n > 1 { spread / (n - 1) as f64 } else { 0.0 };
        Some(Self { n, mean: mean * unit, variance: variance * unit * unit, squares: squares * unit * unit })
    }

    /// The sum.
    pub fn total(&self) -> f64 {
        self.mean * self.n as f64
    }

    /// The interval of the mean, Student's t; `None` of fewer than two.
    pub fn mean_interval(&self) -> Option<Interval> {
        let t = t_quantile((self.n - 1) as f64)?;
        Some(Interval::around(self.mean, t * (self.variance / self.n as f64).sqrt()))
    }

    /// The interval of the sum, where the number of observations is as random as their size (a compound Poisson sum,
    /// whose variance is the sum of the squares).
    pub fn total_interval(&self) -> Interval {
        let interval = Interval::around(self.total(), Z * self.squares.sqrt());
        Interval { low: interval.low.max(0.0), ..interval }
    }

    /// The interval of this mean less another one, Welch's; `None` where one has fewer than two observations.
    pub fn difference(&self, other: &Self) -> Option<Interval> {
        let (a, b) = (self.variance / self.n as f64, other.variance / other.n as f64);
        if self.n < 2 || other.n < 2 {
            return None;
        }
        let difference = self.mean - other.mean;
        if a + b <= 0.0 {
            return Some(Interval::around(difference, 0.0));
        }
        let freedom = (a + b).powi(2) / (a * a / (self.n - 1) as f64 + b * b / (other.n - 1) as f64);
        Some(Interval::around(difference, t_quantile(freedom)? * (a + b).sqrt()))
    }
}

fn t_quantile(freedom: f64) -> Option<f64> {
    if freedom > 10_000.0 {
        return Some(Z);
    }
    StudentsT::new(0.0, 1.0, freedom).ok().map(|t| t.inverse_cdf(1.0 - TAIL))
}

/// The interval of a share, Wilson's; `None` of nothing.
pub fn share_interval(of: i64, n: i64) -> Option<Interval> {
    if n <= 0 {
        return None;
    }
    let (n, p) = (n as f64, of as f64 / n as f64);
    let z2 = Z * Z;
    let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
    let interval = Interval::around(center, half);
    Some(Interval { low: interval.low.max(0.0), high: interval.high.min(1.0) })
}

/// The value below which a share `q` of the observations lies: the median is the mean of the two in the middle, any other
/// quantile the nearest rank. `None` of nothing.
pub fn quantile(counts: &Counts, q: f64) -> Option<f64> {
    let n = counts.total();
    if n <= 0 {
        return None;
    }
    let rank = (q * n as f64).ceil().max(1.0) as i64;
    let value = at_rank(counts, rank)? as f64;
    let median_of_even = (q - 0.5).abs() < f64::EPSILON && n % 2 == 0;
    match median_of_even.then(|| at_rank(counts, rank + 1)).flatten() {
        Some(next) => Some((value + next as f64) / 2.0),
        None => Some(value),
    }
}

/// The interval of a quantile: from one observation to another, whatever the distribution. `None` where the sample is too
/// small for two such observations: below 6 for the median, below 72 for the 95th of 100.
pub fn quantile_interval(counts: &Counts, q: f64) -> Option<Interval> {
    let (low, high) = ranks(counts.total(), q)?;
    Some(Interval { low: at_rank(counts, low)? as f64, high: at_rank(counts, high)? as f64 })
}

/// The ranks between which the quantile lies.
fn ranks(n: i64, q: f64) -> Option<(i64, i64)> {
    let count = u64::try_from(n).ok().filter(|n| *n > 0)?;
    let variance = n as f64 * q * (1.0 - q);
    let (low, high) = if variance > NORMAL_VARIANCE {
        let (center, half) = (n as f64 * q, Z * variance.sqrt());
        ((center - half).floor() as i64, (center + half).ceil() as i64 + 1)
    } else {
        // How many observations lie below the quantile is binomial. The lower rank is the greatest that more than 97.5 %
        // of such numbers reach, the upper the least that at most 2.5 % do.
        let below = Binomial::new(q, count).ok()?;
        (below.inverse_cdf(TAIL) as i64, below.inverse_cdf(1.0 - TAIL) as i64 + 1)
    };
    (low >= 1 && high <= n).then_some((low, high))
}

fn at_rank(counts: &Counts, rank: i64) -> Option<i64> {
    let mut seen = 0;
    counts.iter().find_map(|(value, times)| {
        seen += times;
        (seen >= rank).then_some(value)
    })
}

/// Answers to *how likely would you recommend it*, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Promotion {
    /// 9 and 10.
    pub promoters: i64,
    /// 7 and 8.
    pub passives: i64,
    /// 0 to 6.
    pub detractors: i64,
}

impl Promotion {
    /// Sorts scores.
    pub fn of(scores: &Counts) -> Self {
        let mut promotion = Self::default();
        for (score, times) in scores.iter() {
            match score {
                9.. => promotion.promoters += times,
                7..=8 => promotion.passives += times,
                _ => promotion.detractors += times,
            }
        }
        promotion
    }

    /// Number of answers.
    pub fn n(&self) -> i64 {
        self.promoters + self.passives + self.detractors
    }

    /// The net promoter score, −100 to 100; `None` without an answer.
    pub fn score(&self) -> Option<f64> {
        let n = self.n();
        (n > 0).then(|| 100.0 * (self.promoters - self.detractors) as f64 / n as f64)
    }

    /// Mean and squared standard error of the score after ¾ of an answer is added to promoters and to detractors, and 1½
    /// to the passives: the adjusted Wald method. `None` without an answer.
    fn adjusted(&self) -> Option<(f64, f64)> {
        if self.n() <= 0 {
            return None;
        }
        let n = self.n() as f64 + 3.0;
        let promoters = (self.promoters as f64 + 0.75) / n;
        let detractors = (self.detractors as f64 + 0.75) / n;
        let mean = promoters - detractors;
        Some((100.0 * mean, 10_000.0 * (promoters + detractors - mean * mean) / n))
    }

    /// The interval of the score.
    pub fn interval(&self) -> Option<Interval> {
        let (mean, variance) = self.adjusted()?;
        let interval = Interval::around(mean, Z * variance.sqrt());
        Some(Interval { low: interval.low.max(-100.0), high: interval.high.min(100.0) })
    }

    /// The interval of this score less another one.
    pub fn difference(&self, other: &Self) -> Option<Interval> {
        let ((mean, variance), (mean_before, variance_before)) = (self.adjusted()?, other.adjusted()?);
        Some(Interval::around(mean - mean_before, Z * (variance + variance_before).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[i64]) -> Counts {
        values.iter().map(|value| (*value, 1)).collect()
    }

    #[track_caller]
    fn assert_near(interval: Option<Interval>, low: f64, high: f64, digits: i32) {
        let Some(found) = interval else { panic!("no interval") };
        let half = 0.51 * 10_f64.powi(-digits);
        assert!((found.low - low).abs() < half && (found.high - high).abs() < half, "{found:?}");
    }

    /// R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998),
    /// table I, method 3.
    #[test]
    fn shares_are_those_of_newcombes_table() {
        assert_near(share_interval(81, 263), 0.2553, 0.3662, 4);
        assert_near(share_interval(15, 148), 0.0624, 0.1605, 4);
        assert_near(share_interval(0, 20), 0.0, 0.1611, 4);
        assert_near(share_interval(1, 29), 0.0061, 0.1718, 4);
        assert_eq!(share_interval(0, 0), None);
    }

    /// Ranks as in the usual tables of intervals for the median that hold at least 95 %.
    #[test]
    fn ranks_of_the_median_are_those_of_the_tables() {
        let tabled = [
            (6, (1, 6)),
            (9, (2, 8)),
            (10, (2, 9)),
            (12, (3, 10)),
            (15, (4, 12)),
            (17, (5, 13)),
            (20, (6, 15)),
        ];
        for (n, found) in tabled {
            assert_eq!(ranks(n, 0.5), Some(found), "{n}");
        }
        assert_eq!(ranks(5, 0.5), None, "1 and 5 hold 93.8 %");
        assert_eq!((ranks(71, 0.95), ranks(72, 0.95).is_some()), (None, true));
    }

    /// The example of `ci.median` in the R package statpsych (Bonett), after Snedecor and Cochran.
    #[test]
    fn the_median_and_its_interval_are_those_of_the_example() {
        let sample = counts(&[
            302, 204, 151, 102, 105, 608, 208, 250, 207, 309, 108, 51, 509, 400, 209, 108, 0, 205, 508,
        ]);
        assert_eq!(quantile(&sample, 0.5), Some(207.0));
        assert_eq!(quantile_interval(&sample, 0.5), Some(Interval { low: 108.0, high: 309.0 }));
    }

    #[test]
    fn exact_and_normal_ranks_agree_where_one_takes_over_from_the_other() {
        let n = 1_600;
        let below = Binomial::new(0.5, n).unwrap();
        let low = (0..n).take_while(|rank| below.cdf(*rank) <= TAIL).count() as i64;
        let (normal, _) = ranks(n as i64 + 1, 0.5).unwrap();
        assert!((normal - low).abs() <= 1, "{normal} {low}");
    }

    #[test]
    fn quantiles_are_ranks() {
        let hundred: Counts = (1..=100).map(|value| (value, 1)).collect();
        assert_eq!(quantile(&hundred, 0.95), Some(95.0));
        assert_eq!(quantile(&hundred, 0.5), Some(50.5));
        assert_eq!(quantile(&counts(&[]), 0.5), None);
        assert_eq!(quantile(&counts(&[7]), 0.95), Some(7.0));
    }

    /// NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2: mean 9.261460, standard deviation 0.022789, n 195.
    #[test]
    fn the_mean_has_the_interval_of_the_handbook() {
        let moments = Moments { n: 195, mean: 9.261_460, variance: 0.022_788_81_f64.powi(2), squares: 0.0 };
        assert_near(moments.mean_interval(), 9.258_242, 9.264_679, 5);
        assert_eq!(Moments { n: 1, ..moments }.mean_interval(), None);
    }

    #[test]
    fn moments_are_those_of_the_observations() {
        let moments = Moments::of(&[(200, 3), (500, 1)].into_iter().collect(), 0.01).unwrap();
        assert_eq!((moments.n, moments.mean, moments.total()), (4, 2.75, 11.0));
        assert!((moments.variance - 2.25).abs() < 1e-12 && (moments.squares - 37.0).abs() < 1e-12);
        let interval = moments.total_interval();
        assert_near(Some(interval), 0.0, 22.92, 2);
    }

    #[test]
    fn the_score_counts_promoters_less_detractors() {
        let promotion = Promotion::of(&[(10, 10), (9, 6), (8, 13), (6, 5), (0, 2)].into_iter().collect());
        assert_eq!(promotion, Promotion { promoters: 16, passives: 13, detractors: 7 });
        assert_eq!(promotion.score(), Some(25.0));
        // (16.75 − 7.75) / 39 = .2308; variance .4295 + .1987 − .0533 = .5750; 1.96 · √(.5750/39) = .2380.
        assert_near(promotion.interval(), -0.7, 46.9, 1);
        let all = Promotion { promoters: 50, ..Promotion::default() };
        let interval = all.interval().unwrap();
        assert!(interval.high <= 100.0 && interval.low < 97.0, "{interval:?}");
        assert_eq!(Promotion::default().interval(), None);
        let same = promotion.difference(&promotion).unwrap();
        assert!((same.low + same.high).abs() < 1e-9);
    }

    #[test]
    fn differences_of_means_are_welchs() {
        let a = Moments { n: 20, mean: 10.0, variance: 4.0, squares: 0.0 };
        let b = Moments { n: 10, mean: 8.0, variance: 9.0, squares: 0.0 };
        // ν = 1.1² / (.04/19 + .81/9) = 13.14, t = 2.158, √1.1 = 1.0488.
        assert_near(a.difference(&b), -0.26, 4.26, 2);
    }
}
