//! The figures: what each is called, counts, and is wanted to be, and how a verdict comes of an interval.

use nudge_engine::Archetype;
use nudge_store::{JobFigures, RequestFigures, Tally};
use serde::Serialize;

use super::statistics::{Interval, Moments, Promotion, quantile, quantile_interval, share_interval};

/// Fewest observations from which a mean is judged: below, a few of them decide it.
const JUDGED_MEAN: i64 = 30;
/// Dollars in a cent, seconds in a millisecond.
const CENT: f64 = 0.01;
const MILLI: f64 = 0.001;

/// A figure's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FigureKey {
    /// Share of the decided that followed the default.
    FollowRate,
    /// Share of decisions after which a request was sent.
    SubmittedRate,
    /// Share of the answered that were accepted.
    AcceptedRate,
    /// Mean price of what came about.
    AverageTransactionValue,
    /// Median price of what came about.
    MedianTransactionValue,
    /// What the platform receives by the ledger.
    PlatformIncome,
    /// The fees that were told.
    PlatformFees,
    /// The platform's income a transaction.
    IncomePerTransaction,
    /// Median time from decision to choice.
    TimeToDecision,
    /// Net promoter score.
    NetPromoterScore,
    /// P95 of the time that recommendations took.
    RecommendationTimeP95,
    /// Share of requests that failed.
    ErrorRate,
    /// P95 of the time that requests took.
    ResponseTimeP95,
    /// Runs of the job that ended as they should.
    JobRuns,
    /// Share of people of an archetype.
    ArchetypeShare,
}

impl FigureKey {
    /// The figures of decisions, in the order of a report.
    pub const OF_DECISIONS: &'static [Self] = &[
        Self::FollowRate,
        Self::SubmittedRate,
        Self::AcceptedRate,
        Self::AverageTransactionValue,
        Self::MedianTransactionValue,
        Self::PlatformIncome,
        Self::PlatformFees,
        Self::IncomePerTransaction,
        Self::TimeToDecision,
        Self::NetPromoterScore,
        Self::RecommendationTimeP95,
    ];

    /// Its name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::FollowRate => "Follow rate",
            Self::SubmittedRate => "Requests submitted",
            Self::AcceptedRate => "Requests accepted",
            Self::AverageTransactionValue => "Average transaction value",
            Self::MedianTransactionValue => "Median transaction value",
            Self::PlatformIncome => "Platform income (ledger)",
            Self::PlatformFees => "Platform fees (disclosed)",
            Self::IncomePerTransaction => "Income per transaction",
            Self::TimeToDecision => "Time to decision (median)",
            Self::NetPromoterScore => "Net promoter score",
            Self::RecommendationTimeP95 => "Recommendation time (P95)",
            Self::ErrorRate => "Error rate",
            Self::ResponseTimeP95 => "Response time (P95)",
            Self::JobRuns => "Job runs completed",
            Self::ArchetypeShare => "Share of people",
        }
    }

    /// What it is, in one sentence.
    pub const fn definition(self) -> &'static str {
        match self {
            Self::FollowRate => {
                "Of the decisions in which the user has chosen, the share in which the pre-selected type was chosen last."
            }
            Self::SubmittedRate => "Of all decisions, the share after which a request was sent.",
            Self::AcceptedRate => {
                "Of the requests that the roommate accepted, declined or let expire, the share accepted."
            }
            Self::AverageTransactionValue => {
                "Mean price of the buyouts and crashes that came about, as the decision showed it. A swap has no price."
            }
            Self::MedianTransactionValue => "The median of the same prices.",
            Self::PlatformIncome => {
                "Sum of platformReceives over what came about: what requesters pay less what roommates receive."
            }
            Self::PlatformFees => "Sum of platformFee over what came about: the fee that was told.",
            Self::IncomePerTransaction => "Mean of platformReceives over what came about, swaps included.",
            Self::TimeToDecision => "Median time from a decision to the choice that counts.",
            Self::NetPromoterScore => {
                "Share of scores of 9 and 10 less share of scores of 0 to 6, times 100."
            }
            Self::RecommendationTimeP95 => {
                "The time from request to decision that 95 of 100 decisions did not exceed."
            }
            Self::ErrorRate => "Of all logged requests, the share answered with 5xx.",
            Self::ResponseTimeP95 => "The time that 95 of 100 logged requests did not exceed.",
            Self::JobRuns => "Of the recalculation runs that ended, the share that completed.",
            Self::ArchetypeShare => "Of the people with a stored archetype, the share of this one.",
        }
    }

    /// The unit of its value.
    pub const fn unit(self) -> Unit {
        match self {
            Self::FollowRate
            | Self::SubmittedRate
            | Self::AcceptedRate
            | Self::ErrorRate
            | Self::JobRuns
            | Self::ArchetypeShare => Unit::Share,
            Self::AverageTransactionValue
            | Self::MedianTransactionValue
            | Self::PlatformIncome
            | Self::PlatformFees
            | Self::IncomePerTransaction => Unit::Dollars,
            Self::TimeToDecision => Unit::Seconds,
            Self::NetPromoterScore => Unit::Points,
            Self::RecommendationTimeP95 | Self::ResponseTimeP95 => Unit::Milliseconds,
        }
    }

    /// What `n` counts.
    pub const fn counted(self) -> &'static str {
        match self {
            Self::FollowRate | Self::TimeToDecision => "decided",
            Self::SubmittedRate | Self::RecommendationTimeP95 => "decisions",
            Self::AcceptedRate => "answered",
            Self::AverageTransactionValue | Self::MedianTransactionValue => "priced transactions",
            Self::PlatformIncome | Self::PlatformFees | Self::IncomePerTransaction => "transactions",
            Self::NetPromoterScore => "scores",
            Self::ErrorRate | Self::ResponseTimeP95 => "requests",
            Self::JobRuns => "runs",
            Self::ArchetypeShare => "people",
        }
    }

    /// How its interval is made.
    pub const fn method(self) -> Option<&'static str> {
        match self {
            Self::FollowRate
            | Self::SubmittedRate
            | Self::AcceptedRate
            | Self::ErrorRate
            | Self::ArchetypeShare => Some("Wilson"),
            Self::AverageTransactionValue | Self::IncomePerTransaction => Some("Student's t"),
            Self::PlatformIncome | Self::PlatformFees => Some("compound Poisson"),
            Self::MedianTransactionValue
            | Self::TimeToDecision
            | Self::RecommendationTimeP95
            | Self::ResponseTimeP95 => Some("order statistics"),
            Self::NetPromoterScore => Some("adjusted Wald"),
            Self::JobRuns => None,
        }
    }
}

/// The unit of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// 0 to 1.
    Share,
    /// Dollars.
    Dollars,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// −100 to 100.
    Points,
}

/// What a figure is wanted to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Target {
    /// Greater than a value.
    Above {
        /// The value.
        value: f64,
    },
    /// Less than a value.
    Below {
        /// The value.
        value: f64,
    },
    /// Within a band.
    Between {
        /// Its lower end.
        low: f64,
        /// Its upper end.
        high: f64,
    },
    /// Greater than in the span of the same length before.
    AboveBefore,
    /// Not less than in the span of the same length before.
    NotBelowBefore,
    /// Every run completed.
    AllCompleted,
}

/// Whether a target is met, as far as the data can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The whole interval is where it is wanted.
    Met,
    /// None of the interval is.
    NotMet,
    /// Part of it is, or there is none: such data come up either way.
    NotEnoughData,
}

impl Verdict {
    /// The words for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "not met",
            Self::NotEnoughData => "not enough data",
        }
    }

    fn of(interval: Option<Interval>, target: Target) -> Self {
        let Some(Interval { low, high }) = interval else { return Self::NotEnoughData };
        let (met, missed) = match target {
            Target::Above { value } => (low > value, high <= value),
            Target::Below { value } => (high < value, low >= value),
            Target::Between { low: least, high: most } => {
                (low >= least && high <= most, high < least || low > most)
            }
            // The interval is that of the difference.
            Target::AboveBefore => (low > 0.0, high <= 0.0),
            Target::NotBelowBefore => (low >= 0.0, high < 0.0),
            // Judged by what is counted.
            Target::AllCompleted => (false, false),
        };
        match (met, missed) {
            (true, _) => Self::Met,
            (false, true) => Self::NotMet,
            (false, false) => Self::NotEnoughData,
        }
    }
}

/// The same figure in the span of the same length before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// Its value then.
    pub value: f64,
    /// What it was of.
    pub n: i64,
    /// The interval of now less then.
    pub difference: Option<Interval>,
}

/// A figure with everything that has to be said of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// Its name.
    pub key: FigureKey,
    /// Its name for people.
    pub label: &'static str,
    /// What it is.
    pub definition: &'static str,
    /// The unit of value and interval.
    pub unit: Unit,
    /// The value; none of nothing.
    pub value: Option<f64>,
    /// Size of the sample.
    pub n: i64,
    /// What was counted.
    pub counted: &'static str,
    /// 95 %.
    pub interval: Option<Interval>,
    /// How the interval is made.
    pub method: Option<&'static str>,
    /// The value of the span before, where the target is one of comparison.
    pub before: Option<Before>,
    /// What it is wanted to be.
    pub target: Option<Target>,
    /// Whether it is.
    pub verdict: Option<Verdict>,
}

impl Figure {
    fn new(key: FigureKey, value: Option<f64>, n: i64, interval: Option<Interval>) -> Self {
        Self {
            key,
            label: key.label(),
            definition: key.definition(),
            unit: key.unit(),
            value,
            n,
            counted: key.counted(),
            interval,
            method: interval.and(key.method()),
            before: None,
            target: None,
            verdict: None,
        }
    }

    fn share(key: FigureKey, of: i64, n: i64) -> Self {
        Self::new(key, (n > 0).then(|| of as f64 / n as f64), n, share_interval(of, n))
    }

    fn aimed_at(mut self, target: Option<Target>) -> Self {
        self.verdict = target.map(|target| Verdict::of(self.interval, target));
        self.target = target;
        self
    }

    fn compared(mut self, target: Target, before: Option<Before>, judged: bool) -> Self {
        let difference = before.as_ref().filter(|_| judged).and_then(|before| before.difference);
        self.verdict = Some(Verdict::of(difference, target));
        self.target = Some(target);
        self.before = before;
        self
    }
}

/// Whose figures they are, which decides the targets.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Everybody's: the guide's targets, and the span before to compare with.
    All(&'a Tally),
    /// Those of an archetype.
    Archetype(Archetype),
    /// Those of another part: the guide has no target for it.
    Part,
}

/// Makes a figure of decisions.
pub fn figure(key: FigureKey, tally: &Tally, scope: Scope<'_>) -> Figure {
    let overall = |target: Target| matches!(scope, Scope::All(_)).then_some(target);
    let above = |value| Target::Above { value };
    let below = |value| Target::Below { value };
    let moments = |tally: &Tally| match key {
        FigureKey::AverageTransactionValue => Moments::of(&tally.price_cents, CENT),
        FigureKey::PlatformFees => Moments::of(&tally.fee_cents, CENT),
        _ => Moments::of(&tally.income_cents, CENT),
    };
    match key {
        FigureKey::FollowRate => {
            let target = match scope {
                Scope::All(_) => Some(above(0.65)),
                Scope::Archetype(Archetype::BigSpender) => Some(above(0.75)),
                Scope::Archetype(_) | Scope::Part => None,
            };
            Figure::share(key, tally.followed, tally.decided).aimed_at(target)
        }
        FigureKey::SubmittedRate => {
            Figure::share(key, tally.submitted, tally.decisions).aimed_at(overall(above(0.80)))
        }
        FigureKey::AcceptedRate => {
            Figure::share(key, tally.accepted, tally.answered).aimed_at(overall(above(0.70)))
        }
        FigureKey::AverageTransactionValue => {
            let moments = moments(tally);
            let interval = moments.and_then(|m| m.mean_interval());
            Figure::new(key, moments.map(|m| m.mean), tally.price_cents.total(), interval)
        }
        FigureKey::MedianTransactionValue => {
            let value = quantile(&tally.price_cents, 0.5).map(|cents| cents * CENT);
            let interval = scaled(quantile_interval(&tally.price_cents, 0.5), CENT);
            Figure::new(key, value, tally.price_cents.total(), interval)
        }
        FigureKey::PlatformIncome | FigureKey::PlatformFees => {
            let moments = moments(tally);
            let (value, n) = moments.map_or((0.0, 0), |m| (m.total(), m.n));
            Figure::new(key, Some(value), n, moments.map(|m| m.total_interval()))
        }
        FigureKey::IncomePerTransaction => {
            let now = moments(tally);
            let interval = now.and_then(|m| m.mean_interval());
            let figure = Figure::new(key, now.map(|m| m.mean), tally.income_cents.total(), interval);
            let Scope::All(before) = scope else { return figure };
            let then = moments(before);
            let many = |moments: Option<Moments>| moments.is_some_and(|m| m.n >= JUDGED_MEAN);
            let before = then.map(|then| Before {
                value: then.mean,
                n: then.n,
                difference: now.and_then(|now| now.difference(&then)),
            });
            figure.compared(Target::AboveBefore, before, many(now) && many(then))
        }
        FigureKey::TimeToDecision => {
            let value = quantile(&tally.decision_ms, 0.5).map(|ms| ms * MILLI);
            let interval = scaled(quantile_interval(&tally.decision_ms, 0.5), MILLI);
            Figure::new(key, value, tally.decision_ms.total(), interval).aimed_at(overall(below(30.0)))
        }
        FigureKey::NetPromoterScore => {
            let now = Promotion::of(&tally.scores);
            let figure = Figure::new(key, now.score(), now.n(), now.interval());
            let Scope::All(before) = scope else { return figure };
            let then = Promotion::of(&before.scores);
            let before =
                then.score().map(|value| Before { value, n: then.n(), difference: now.difference(&then) });
            figure.compared(Target::NotBelowBefore, before, true)
        }
        FigureKey::RecommendationTimeP95 => {
            let counts = &tally.response_ms;
            let interval = quantile_interval(counts, 0.95);
            Figure::new(key, quantile(counts, 0.95), counts.total(), interval).aimed_at(overall(below(300.0)))
        }
        FigureKey::ErrorRate
        | FigureKey::ResponseTimeP95
        | FigureKey::JobRuns
        | FigureKey::ArchetypeShare => Figure::new(key, None, 0, None),
    }
}

fn scaled(interval: Option<Interval>, unit: f64) -> Option<Interval> {
    interval.map(|interval| Interval { low: interval.low * unit, high: interval.high * unit })
}

/// Makes the share of requests that failed.
pub fn error_rate(requests: &RequestFigures) -> Figure {
    Figure::share(FigureKey::ErrorRate, requests.failed, requests.requests)
        .aimed_at(Some(Target::Below { value: 0.01 }))
}

/// Makes the P95 of what requests took.
pub fn response_time(requests: &RequestFigures) -> Figure {
    let counts = &requests.response_ms;
    let value = quantile(counts, 0.95);
    Figure::new(FigureKey::ResponseTimeP95, value, counts.total(), quantile_interval(counts, 0.95))
        .aimed_at(Some(Target::Below { value: 300.0 }))
}

/// Makes the figure of the job: met when runs have ended and none has failed.
pub fn job_runs(job: &JobFigures) -> Figure {
    let ended = job.completed + job.failed;
    let value = (ended > 0).then(|| job.completed as f64 / ended as f64);
    let verdict = match (job.completed, job.failed) {
        (_, 1..) => Verdict::NotMet,
        (1.., _) => Verdict::Met,
        _ => Verdict::NotEnoughData,
    };
    Figure {
        target: Some(Target::AllCompleted),
        verdict: Some(verdict),
        ..Figure::new(FigureKey::JobRuns, value, ended, None)
    }
}

/// Makes the share of people of an archetype, beside the guide's band.
pub fn archetype_share(archetype: Archetype, people: i64, all: i64) -> Figure {
    let (low, high) = match archetype {
        Archetype::BigSpender => (0.15, 0.20),
        Archetype::HighFlexibility => (0.20, 0.25),
        Archetype::AverageUser => (0.55, 0.65),
    };
    Figure::share(FigureKey::ArchetypeShare, people, all).aimed_at(Some(Target::Between { low, high }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_given_only_where_the_whole_interval_agrees() {
        let verdict = |low, high, target| Verdict::of(Some(Interval { low, high }), target);
        let above = Target::Above { value: 0.65 };
        assert_eq!(verdict(0.66, 0.70, above), Verdict::Met);
        assert_eq!(verdict(0.60, 0.65, above), Verdict::NotMet);
        assert_eq!(verdict(0.60, 0.70, above), Verdict::NotEnoughData);
        assert_eq!(verdict(0.65, 0.70, above), Verdict::NotEnoughData, "65 % is not above 65 %");
        let below = Target::Below { value: 30.0 };
        assert_eq!(verdict(1.0, 29.9, below), Verdict::Met);
        assert_eq!(verdict(30.0, 31.0, below), Verdict::NotMet);
        assert_eq!(verdict(29.0, 30.0, below), Verdict::NotEnoughData);
        let band = Target::Between { low: 0.15, high: 0.20 };
        assert_eq!(verdict(0.15, 0.20, band), Verdict::Met);
        assert_eq!(verdict(0.21, 0.30, band), Verdict::NotMet);
        assert_eq!(verdict(0.14, 0.16, band), Verdict::NotEnoughData);
        assert_eq!(verdict(0.1, 2.0, Target::AboveBefore), Verdict::Met);
        assert_eq!(verdict(-2.0, -0.1, Target::NotBelowBefore), Verdict::NotMet);
        assert_eq!(verdict(-1.0, 1.0, Target::NotBelowBefore), Verdict::NotEnoughData);
        assert_eq!(Verdict::of(None, above), Verdict::NotEnoughData);
    }

    #[test]
    fn undecided_decisions_are_in_no_follow_rate() {
        let tally = Tally { decisions: 100, decided: 40, followed: 30, submitted: 20, ..Tally::default() };
        let follow = figure(FigureKey::FollowRate, &tally, Scope::Part);
        assert_eq!((follow.value, follow.n, follow.verdict), (Some(0.75), 40, None));
        let submitted = figure(FigureKey::SubmittedRate, &tally, Scope::Part);
        assert_eq!((submitted.value, submitted.n), (Some(0.2), 100));
    }

    #[test]
    fn only_the_guides_targets_are_judged() {
        let tally = Tally { decided: 1_000, followed: 700, ..Tally::default() };
        let verdict = |scope| figure(FigureKey::FollowRate, &tally, scope).verdict;
        let nothing = Tally::default();
        assert_eq!(verdict(Scope::All(&nothing)), Some(Verdict::Met));
        assert_eq!(verdict(Scope::Archetype(Archetype::BigSpender)), Some(Verdict::NotMet));
        assert_eq!(verdict(Scope::Archetype(Archetype::AverageUser)), None);
        assert_eq!(verdict(Scope::Part), None);
    }

    #[test]
    fn an_empty_span_has_no_values_and_no_verdicts_but_a_sum_of_nothing() {
        let empty = Tally::default();
        for key in FigureKey::OF_DECISIONS {
            let figure = figure(*key, &empty, Scope::All(&empty));
            let is_sum = matches!(key, FigureKey::PlatformIncome | FigureKey::PlatformFees);
            assert_eq!(figure.value, is_sum.then_some(0.0), "{key:?}");
            assert_eq!((figure.n, figure.interval), (0, None), "{key:?}");
            assert!(figure.verdict.is_none_or(|v| v == Verdict::NotEnoughData), "{key:?}");
        }
        assert_eq!(job_runs(&JobFigures::default()).verdict, Some(Verdict::NotEnoughData));
        assert_eq!(error_rate(&RequestFigures::default()).value, None);
    }

    #[test]
    fn one_failed_run_is_one_too_many() {
        let run = |completed, failed| {
            let figure = job_runs(&JobFigures { completed, failed, ..JobFigures::default() });
            (figure.value, figure.verdict.unwrap())
        };
        assert_eq!(run(7, 0), (Some(1.0), Verdict::Met));
        assert_eq!(run(3, 1), (Some(0.75), Verdict::NotMet));
    }

    #[test]
    fn income_is_compared_with_the_span_before_from_thirty_transactions_on() {
        let of = |cents: i64, n: i64| Tally {
            income_cents: [(cents, n), (cents + 2, n)].into_iter().collect(),
            ..Tally::default()
        };
        let verdict = |now: &Tally, then: &Tally| {
            figure(FigureKey::IncomePerTransaction, now, Scope::All(then)).verdict.unwrap()
        };
        assert_eq!(verdict(&of(700, 20), &of(600, 20)), Verdict::Met);
        assert_eq!(verdict(&of(500, 20), &of(600, 20)), Verdict::NotMet);
        assert_eq!(verdict(&of(700, 20), &of(600, 10)), Verdict::NotEnoughData, "twenty are too few");
        assert_eq!(verdict(&of(700, 20), &Tally::default()), Verdict::NotEnoughData);
    }
}
