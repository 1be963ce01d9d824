//! What decisions add up to, by day, archetype, urgency, default and audience: the rows that reports are made of.
//!
//! A [`Tally`] is a sum. A decision adds `Tally::of_decision` when it is made, and what comes of it later adds the
//! difference of two `Tally::of_outcome`. Sums do not depend on the order in which they are made, so the stored cells
//! plus what has not been folded into them yet are the decisions, exactly, at any moment:
//!
//! - New decisions need no mark: one engine numbers them as they arrive, the other notes the ids of each commit.
//! - A change of the columns that outcomes fill is noted with the columns before and after, in its own transaction.
//! - [`crate::Store::fold_report`] moves what was noted into the cells; [`crate::Store::report_cells`] reads cells and
//!   what is not in them, in one state of the database.
//!
//! Where next: `sqlite/report.rs` and `postgres/report.rs`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use nudge_engine::{Archetype, TransactionType, UrgencyLevel};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::outcome::Outcome;

/// For whom a default was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Somebody whose own facts were used.
    Personalized,
    /// Somebody who is known and got the neutral default: opted out, outside the rollout, facts that could not be read.
    Neutral,
    /// An anonymous caller.
    Anonymous,
}

impl Audience {
    /// Every audience.
    pub const ALL: &'static [Self] = &[Self::Personalized, Self::Neutral, Self::Anonymous];

    /// Gives the word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Personalized => "personalized",
            Self::Neutral => "neutral",
            Self::Anonymous => "anonymous",
        }
    }

    pub(crate) fn of(personalized: bool, anonymous: bool) -> Self {
        match (personalized, anonymous) {
            (true, _) => Self::Personalized,
            (false, false) => Self::Neutral,
            (false, true) => Self::Anonymous,
        }
    }
}

/// A word that is no audience.
#[derive(Debug, thiserror::Error)]
#[error("an unknown audience")]
pub struct UnknownAudience;

impl std::str::FromStr for Audience {
    type Err = UnknownAudience;

    fn from_str(word: &str) -> Result<Self, UnknownAudience> {
        Self::ALL.iter().copied().find(|audience| audience.as_str() == word).ok_or(UnknownAudience)
    }
}

/// What the decisions of a cell have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    /// The day on which they were made, UTC.
    pub day: Date,
    /// The requester's archetype as used.
    pub archetype: Archetype,
    /// The night's urgency.
    pub urgency: UrgencyLevel,
    /// The pre-selected type.
    pub default: TransactionType,
    /// For whom.
    pub audience: Audience,
}

/// How often each value came up. Values below 1,000 are exact; of greater ones three digits are kept, cut off below, so
/// that they are at most 1 % too small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<i64, i64>);

impl Counts {
    /// Cuts a value to the digits that are kept.
    pub fn kept(value: i64) -> i64 {
        let mut unit = 1;
        while value / unit >= 1_000 {
            unit *= 10;
        }
        value / unit * unit
    }

    /// Counts a value, cut to the digits that are kept.
    fn add_cut(&mut self, value: i64, times: i64) {
        self.add(Self::kept(value), times);
    }

    /// Counts a value as it is.
    fn add(&mut self, value: i64, times: i64) {
        let count = self.0.entry(value).or_default();
        *count += times;
        if *count == 0 {
            self.0.remove(&value);
        }
    }

    fn add_all(&mut self, other: &Self, sign: i64) {
        for (value, times) in &other.0 {
            self.add(*value, sign * times);
        }
    }

    /// Lists the values with the number of times, in ascending order of the values.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().map(|(value, times)| (*value, *times))
    }

    /// Counts the observations.
    pub fn total(&self) -> i64 {
        self.0.values().sum()
    }

    /// Says whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(i64, i64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (i64, i64)>>(values: I) -> Self {
        let mut counts = Self::default();
        for (value, times) in values {
            counts.add(value, times);
        }
        counts
    }
}

/// Stored as one flat list: value, times, value, times.
impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().flat_map(|(value, times)| [value, times]))
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flat = Vec::<i64>::deserialize(deserializer)?;
        Ok(flat.chunks_exact(2).map(|pair| (pair.first().copied(), pair.last().copied())).fold(
            Self::default(),
            |mut counts, pair| {
                if let (Some(value), Some(times)) = pair {
                    counts.add(value, times);
                }
                counts
            },
        ))
    }
}

/// What decisions and their outcomes add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    /// Decisions made.
    pub decisions: i64,
    /// Of these the user has chosen in.
    pub decided: i64,
    /// The default was chosen.
    pub followed: i64,
    /// A request was sent.
    pub submitted: i64,
    /// The roommate accepted, declined, or let it expire.
    pub answered: i64,
    /// The roommate accepted.
    pub accepted: i64,
    /// Came about: accepted and not taken back.
    pub completed: i64,
    /// Came about as a swap, which has no price.
    pub swaps: i64,
    /// Milliseconds from request to decision.
    #[serde(skip_serializing_if = "Counts::is_empty")]
    pub response_ms: Counts,
    /// Milliseconds from decision to choice, three digits.
    #[serde(skip_serializing_if = "Counts::is_empty")]
    pub decision_ms: Counts,
    /// Prices of what came about and has one, in cents.
    #[serde(skip_serializing_if = "Counts::is_empty")]
    pub price_cents: Counts,
    /// What the platform receives of what came about, in cents: the ledger's side.
    #[serde(skip_serializing_if = "Counts::is_empty")]
    pub income_cents: Counts,
    /// The fee that was told, of what came about, in cents.
    #[serde(skip_serializing_if = "Counts::is_empty")]
    pub fee_cents: Counts,
    /// Scores given, 0 to 10.
    #[serde(skip_serializing_if = "Counts::is_empty")]
    pub scores: Counts,
}

impl Tally {
    /// What a decision adds when it is made.
    pub(crate) fn of_decision(response_time_ms: i64) -> Self {
        let mut tally = Self { decisions: 1, ..Self::default() };
        tally.response_ms.add_cut(response_time_ms.max(0), 1);
        tally
    }

    /// What came of a decision adds. `options` are the three as answered, JSON.
    pub(crate) fn of_outcome(outcome: &Outcome, options: Option<&str>) -> Self {
        let mut tally = Self {
            decided: outcome.followed_recommendation.is_some().into(),
            followed: (outcome.followed_recommendation == Some(true)).into(),
            submitted: outcome.request_submitted.into(),
            answered: outcome.request_accepted.is_some().into(),
            accepted: (outcome.request_accepted == Some(true)).into(),
            completed: outcome.final_transaction_type.is_some().into(),
            swaps: (outcome.final_transaction_type == Some(TransactionType::Swap)).into(),
            ..Self::default()
        };
        if let Some(seconds) = outcome.time_to_decision_seconds {
            tally.decision_ms.add_cut((seconds.max(0.0) * 1_000.0).round() as i64, 1);
        }
        if let Some(score) = outcome.nps_score {
            tally.scores.add(score.into(), 1);
        }
        let terms = outcome
            .final_transaction_type
            .and_then(|kind| options.and_then(|options| Terms::of(options, kind)).map(|terms| (kind, terms)));
        if let Some((kind, terms)) = terms {
            if kind != TransactionType::Swap {
                tally.price_cents.add(cents(terms.price), 1);
            }
            tally.income_cents.add(cents(terms.platform_receives), 1);
            tally.fee_cents.add(cents(terms.platform_fee), 1);
        }
        tally
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.add_all(other, 1);
    }

    fn add_all(&mut self, other: &Self, sign: i64) {
        self.decisions += sign * other.decisions;
        self.decided += sign * other.decided;
        self.followed += sign * other.followed;
        self.submitted += sign * other.submitted;
        self.answered += sign * other.answered;
        self.accepted += sign * other.accepted;
        self.completed += sign * other.completed;
        self.swaps += sign * other.swaps;
        self.response_ms.add_all(&other.response_ms, sign);
        self.decision_ms.add_all(&other.decision_ms, sign);
        self.price_cents.add_all(&other.price_cents, sign);
        self.income_cents.add_all(&other.income_cents, sign);
        self.fee_cents.add_all(&other.fee_cents, sign);
        self.scores.add_all(&other.scores, sign);
    }
}

/// What a type cost as it was answered, in dollars.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terms {
    price: f64,
    platform_fee: f64,
    platform_receives: f64,
}

impl Terms {
    /// Finds the terms of a type among the options; `None` where they are not told.
    fn of(options: &str, kind: TransactionType) -> Option<Self> {
        let options: Vec<serde_json::Value> = serde_json::from_str(options).ok()?;
        let found = options
            .into_iter()
            .find(|option| option.get("type").and_then(serde_json::Value::as_str) == Some(kind.as_str()))?;
        serde_json::from_value(found).ok()
    }
}

fn cents(dollars: f64) -> i64 {
    (dollars * 100.0).round() as i64
}

/// A change of the columns that outcomes fill, as noted.
#[derive(Debug)]
pub(crate) struct Change {
    before: Option<Outcome>,
    after: Outcome,
}

impl Change {
    /// Writes a change down as it is noted: before and after. `None` where nothing has changed.
    pub(crate) fn noted(
        before: &Outcome,
        after: &Outcome,
        table: &'static str,
    ) -> Result<Option<(Option<String>, String)>, StoreError> {
        if before == after {
            return Ok(None);
        }
        let text = |outcome: &Outcome| {
            serde_json::to_string(outcome)
                .map_err(|error| StoreError::Refused { table, detail: error.to_string() })
        };
        let before = (*before != Outcome::default()).then(|| text(before)).transpose()?;
        Ok(Some((before, text(after)?)))
    }

    /// Reads a change as noted.
    pub(crate) fn read(before: Option<&str>, after: &str) -> Result<Self, serde_json::Error> {
        let before = before.map(serde_json::from_str).transpose()?;
        Ok(Self { before, after: serde_json::from_str(after)? })
    }

    /// Says whether the options have to be known.
    pub(crate) fn needs_options(&self) -> bool {
        let came_about = |outcome: &Outcome| outcome.final_transaction_type.is_some();
        came_about(&self.after) || self.before.as_ref().is_some_and(came_about)
    }

    /// What it adds.
    pub(crate) fn tally(&self, options: Option<&str>) -> Tally {
        let mut tally = Tally::of_outcome(&self.after, options);
        if let Some(before) = &self.before {
            tally.add_all(&Tally::of_outcome(before, options), -1);
        }
        tally
    }
}

/// Cells under way, by key.
#[derive(Debug, Default)]
pub(crate) struct Cells(BTreeMap<CellKey, Tally>);

impl Cells {
    pub(crate) fn add(&mut self, key: CellKey, tally: &Tally) {
        self.0.entry(key).or_default().add(tally);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &CellKey> {
        self.0.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CellKey, &Tally)> {
        self.0.iter()
    }

    /// Gives the cells, without those in which nothing is left.
    pub(crate) fn into_vec(self) -> Vec<(CellKey, Tally)> {
        let empty = Tally::default();
        self.0.into_iter().filter(|(_, tally)| *tally != empty).collect()
    }
}

/// What a fold has moved into the cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// New decisions.
    pub decisions: usize,
    /// Changes of what came of decisions.
    pub changes: usize,
    /// Whether there was more than was asked for, or somebody else folds.
    pub more: bool,
}

/// The first moment of a day, UTC.
pub(crate) fn midnight(day: Date) -> Timestamp {
    TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX)
}

/// The day of a moment, UTC.
pub(crate) fn day_of(at: Timestamp) -> Date {
    at.to_zoned_datetime(TimeZone::UTC).date()
}

/// The day after.
pub(crate) fn after(day: Date) -> Date {
    day.tomorrow().unwrap_or(Date::MAX)
}

/// What the log of requests says of a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFigures {
    /// Requests answered.
    pub requests: i64,
    /// Answered with 4xx: refused, mostly for what was asked.
    pub refused: i64,
    /// Answered with 5xx: our errors.
    pub failed: i64,
    /// Milliseconds that answers took, three digits.
    pub response_ms: Counts,
}

impl RequestFigures {
    pub(crate) fn add(&mut self, status: i64, response_time_ms: i64, times: i64) {
        self.requests += times;
        match status {
            400..=499 => self.refused += times,
            500.. => self.failed += times,
            _ => {}
        }
        self.response_ms.add_cut(response_time_ms.max(0), times);
    }
}

/// What the log of runs says of a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFigures {
    /// Runs that began.
    pub runs: i64,
    /// Ended as they should.
    pub completed: i64,
    /// Gave up.
    pub failed: i64,
    /// Users that failed in the runs that completed.
    pub failed_users: i64,
    /// Until when the decisions of the database are simulated, if they are: whenever that was.
    pub simulated_until: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = r#"[
      {"type":"buyout","price":225,"platformFee":3,"totalCost":228,"roommateReceives":222,"platformReceives":6},
      {"type":"swap","price":0,"platformFee":5,"totalCost":5,"roommateReceives":0,"platformReceives":5},
      {"type":"crash"}]"#;

    fn completed(kind: TransactionType) -> Outcome {
        Outcome {
            user_selected: Some(kind),
            followed_recommendation: Some(true),
            time_to_decision_seconds: Some(12.3456),
            request_submitted: true,
            request_accepted: Some(true),
            final_transaction_type: Some(kind),
            nps_score: Some(9),
        }
    }

    #[test]
    fn greater_values_keep_three_digits() {
        let kept: Vec<_> = [0, 999, 1_000, 1_234, 29_999, 30_000, 604_800_000].map(Counts::kept).into();
        assert_eq!(kept, [0, 999, 1_000, 1_230, 29_900, 30_000, 604_000_000]);
    }

    #[test]
    fn what_came_about_is_counted_at_the_terms_of_its_option() {
        let buyout = Tally::of_outcome(&completed(TransactionType::Buyout), Some(OPTIONS));
        assert_eq!((buyout.completed, buyout.swaps), (1, 0));
        assert_eq!(buyout.price_cents.iter().collect::<Vec<_>>(), [(22_500, 1)]);
        assert_eq!(buyout.income_cents.iter().collect::<Vec<_>>(), [(600, 1)]);
        assert_eq!(buyout.fee_cents.iter().collect::<Vec<_>>(), [(300, 1)]);
        assert_eq!(buyout.decision_ms.iter().collect::<Vec<_>>(), [(12_300, 1)]);
        let swap = Tally::of_outcome(&completed(TransactionType::Swap), Some(OPTIONS));
        assert_eq!((swap.completed, swap.swaps), (1, 1));
        assert!(swap.price_cents.is_empty(), "a swap has no price");
        assert_eq!(swap.income_cents.iter().collect::<Vec<_>>(), [(500, 1)]);
        let untold = Tally::of_outcome(&completed(TransactionType::Crash), Some(OPTIONS));
        assert_eq!((untold.completed, untold.income_cents.total()), (1, 0));
    }

    #[test]
    fn changes_add_up_to_the_last_state_in_any_order() {
        let states = [
            Outcome::default(),
            Outcome { followed_recommendation: Some(false), ..Outcome::default() },
            Outcome { final_transaction_type: None, ..completed(TransactionType::Buyout) },
            completed(TransactionType::Buyout),
        ];
        let mut changes: Vec<Tally> = states
            .windows(2)
            .map(|pair| {
                let (before, after) = Change::noted(&pair[0], &pair[1], "t").unwrap().unwrap();
                Change::read(before.as_deref(), &after).unwrap().tally(Some(OPTIONS))
            })
            .collect();
        changes.reverse();
        let mut sum = Tally::default();
        changes.iter().for_each(|change| sum.add(change));
        assert_eq!(sum, Tally::of_outcome(&states[3], Some(OPTIONS)));
        assert!(Change::noted(&states[3], &states[3], "t").unwrap().is_none());
    }

    #[test]
    fn a_tally_survives_being_stored() {
        let mut tally = Tally::of_decision(7);
        tally.add(&Tally::of_outcome(&completed(TransactionType::Buyout), Some(OPTIONS)));
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
        assert!(text.contains(r#""responseMs":[7,1]"#), "{text}");
    }
}
