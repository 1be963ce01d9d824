//! Scores the signals and names the archetype, with the whole breakdown.

use serde::{Deserialize, Serialize};

use crate::policy::{Policy, Threshold};
use crate::signals::Signals;
use crate::vocabulary::Archetype;

/// The side of a threshold on which a signal has to be for a row to fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The value is above the threshold.
    Above,
    /// The value is below the threshold.
    Below,
}

/// One row of the archetype table, with a user's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScoreRow {
    /// The signal's wire name.
    pub signal: std::borrow::Cow<'static, str>,
    /// The signal's value.
    pub value: f64,
    /// Which side of the threshold the value is on.
    pub side: Side,
    /// The threshold.
    pub threshold: f64,
    /// The points given.
    pub points: f64,
    /// To whom.
    pub archetype: Archetype,
}

impl ScoreRow {
    /// Says whether the value is on the row's side of the threshold; a value that equals it is on neither.
    pub fn fires(&self) -> bool {
        match self.side {
            Side::Above => self.value > self.threshold,
            Side::Below => self.value < self.threshold,
        }
    }

    /// Writes the row as a sentence for people, from its computed values only.
    pub fn text(&self) -> String {
        let side = match self.side {
            Side::Above => "above",
            Side::Below => "below",
        };
        let subject = match &*self.signal {
            "avgTransactionValue" => "Average value of accepted transactions ($)",
            "willingnessToPay" => "Willingness to pay",
            "priceRejectionRate" => "Share of requests rejected at a high price",
            "avgResponseTimeHours" => "Average response time (hours)",
            "acceptanceRate" => "Acceptance rate of received requests",
            "requestFrequencyPerMonth" => "Requests per month",
            "flexibilityScore" => "Flexibility score",
            "accommodationHistory" => "Received requests accepted",
            "reciprocityRatio" => "Accepted received over accepted asked",
            "buyoutPreference" => "Share of buyouts among own requests",
            "swapPreference" => "Share of swaps among own requests",
            other => other,
        };
        let value = self.readable_value();
        format!(
            "{subject} is {value}, {side} {}: +{} {}",
            self.threshold,
            self.points,
            self.archetype.label()
        )
    }

    /// Rounds the value to hundredths, or as far as it takes to stay on its side of the threshold.
    fn readable_value(&self) -> f64 {
        let rounded = |unit: f64| (self.value * unit).round() / unit;
        let on_its_side = |value: &f64| match self.side {
            _ if !value.is_finite() => false,
            Side::Above => *value > self.threshold,
            Side::Below => *value < self.threshold,
        };
        [1e2, 1e4, 1e6].map(rounded).into_iter().find(on_its_side).unwrap_or(self.value)
    }
}

/// The points of each archetype and the rows that gave them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scores {
    /// Total of `big_spender`.
    #[serde(rename = "big_spender")]
    pub big_spender: f64,
    /// Total of `high_flexibility`.
    #[serde(rename = "high_flexibility")]
    pub high_flexibility: f64,
    /// Total of `average_user`.
    #[serde(rename = "average_user")]
    pub average_user: f64,
    /// Every row that fired, in table order.
    pub breakdown: Vec<ScoreRow>,
}

/// What the signals say of a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// The archetype with the most points; a tie goes to the later one.
    pub archetype: Archetype,
    /// 0.4 to 0.95; at most 0.6 for a new user.
    pub confidence: f64,
    /// The whole breakdown.
    pub scores: Scores,
}

impl Classification {
    /// Gives the texts of the first rows that fired, at most five.
    pub fn reasoning(&self) -> Vec<String> {
        self.scores.breakdown.iter().take(5).map(ScoreRow::text).collect()
    }
}

/// A row of the table: signal, its value, and what makes it fire.
type TableRow = (&'static str, f64, Side, Threshold, Archetype);

/// Gives every row of the table with the user's values, in table order, whether it fires or not.
pub fn score_table(signals: &Signals, policy: &Policy) -> [ScoreRow; 18] {
    table(signals, policy).map(score_row)
}

fn score_row((signal, value, side, Threshold { threshold, points }, archetype): TableRow) -> ScoreRow {
    ScoreRow { signal: signal.into(), value, side, threshold, points, archetype }
}

fn table(signals: &Signals, policy: &Policy) -> [TableRow; 18] {
    use Archetype::{BigSpender, HighFlexibility};
    use Side::{Above, Below};
    let (s, t) = (signals, &policy.table);
    [
        (
            "avgTransactionValue",
            s.avg_transaction_value,
            Above,
            t.transaction_value_above_big_spender,
            BigSpender,
        ),
        (
            "avgTransactionValue",
            s.avg_transaction_value,
            Below,
            t.transaction_value_below_high_flexibility,
            HighFlexibility,
        ),
        ("willingnessToPay", s.willingness_to_pay, Above, t.willingness_above_big_spender, BigSpender),
        (
            "willingnessToPay",
            s.willingness_to_pay,
            Below,
            t.willingness_below_high_flexibility,
            HighFlexibility,
        ),
        (
            "priceRejectionRate",
            s.price_rejection_rate,
            Below,
            t.price_rejection_below_big_spender,
            BigSpender,
        ),
        (
            "priceRejectionRate",
            s.price_rejection_rate,
            Above,
            t.price_rejection_above_high_flexibility,
            HighFlexibility,
        ),
        (
            "avgResponseTimeHours",
            s.avg_response_time_hours,
            Above,
            t.response_hours_above_big_spender,
            BigSpender,
        ),
        (
            "avgResponseTimeHours",
            s.avg_response_time_hours,
            Below,
            t.response_hours_below_high_flexibility,
            HighFlexibility,
        ),
        ("acceptanceRate", s.acceptance_rate, Below, t.acceptance_below_big_spender, BigSpender),
        ("acceptanceRate", s.acceptance_rate, Above, t.acceptance_above_high_flexibility, HighFlexibility),
        (
            "requestFrequencyPerMonth",
            s.request_frequency_per_month,
            Above,
            t.frequency_above_big_spender,
            BigSpender,
        ),
        ("flexibilityScore", s.flexibility_score, Below, t.flexibility_below_big_spender, BigSpender),
        (
            "flexibilityScore",
            s.flexibility_score,
            Above,
            t.flexibility_above_high_flexibility,
            HighFlexibility,
        ),
        (
            "accommodationHistory",
            s.accommodation_history,
            Above,
            t.accommodation_above_high_flexibility,
            HighFlexibility,
        ),
        ("reciprocityRatio", s.reciprocity_ratio, Below, t.reciprocity_below_big_spender, BigSpender),
        (
            "reciprocityRatio",
            s.reciprocity_ratio,
            Above,
            t.reciprocity_above_high_flexibility,
            HighFlexibility,
        ),
        ("buyoutPreference", s.buyout_preference, Above, t.buyout_preference_above_big_spender, BigSpender),
        (
            "swapPreference",
            s.swap_preference,
            Above,
            t.swap_preference_above_high_flexibility,
            HighFlexibility,
        ),
    ]
}

/// Classifies a user by their signals.
pub fn classify(signals: &Signals, policy: &Policy) -> Classification {
    use Archetype::{BigSpender, HighFlexibility};
    let mut scores = Scores {
        big_spender: 0.0,
        high_flexibility: 0.0,
        average_user: policy.average_user_points,
        breakdown: Vec::with_capacity(9),
    };
    for row in table(signals, policy).map(score_row) {
        if row.fires() {
            *match row.archetype {
                BigSpender => &mut scores.big_spender,
                HighFlexibility => &mut scores.high_flexibility,
                Archetype::AverageUser => &mut scores.average_user,
            } += row.points;
            scores.breakdown.push(row);
        }
    }
    let (archetype, lead) = winner(&scores);
    let mut confidence = (policy.confidence_base + lead / policy.confidence_points)
        .clamp(policy.confidence_min, policy.confidence_max);
    if signals.is_new() {
        confidence = confidence.min(policy.confidence_new_max);
    }
    Classification { archetype, confidence, scores }
}

/// Finds the archetype with the most points, a tie going to the later one, and its lead over the second.
fn winner(scores: &Scores) -> (Archetype, f64) {
    let mut ranked = [
        (Archetype::BigSpender, scores.big_spender),
        (Archetype::HighFlexibility, scores.high_flexibility),
        (Archetype::AverageUser, scores.average_user),
    ];
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
    (ranked[0].0, ranked[0].1 - ranked[1].1)
}
